"""The control object as the ledger proposes and knows it, and what may not begin without it."""

from __future__ import annotations

import pytest

from rekeyd.domain.control import ControlDocument, KnownControl
from rekeyd.domain.errors import ConflictError, UnknownJobError
from rekeyd.domain.tenant import end_pause
from rekeyd.ledger.port import JobClaim, Ledger
from tests.contract.ledger.stories import (
    KEY,
    LEASE,
    LONG,
    TTL,
    actions,
    admit,
    begin_pause,
    bodies,
    claimed,
    dedicated,
    dedicating,
    list_all,
    pausing,
    running,
    segment,
    source_of,
    target_of,
    until,
    versions,
)


async def test_a_pause_is_proposed_with_the_audit_heads_of_that_moment(ledger: Ledger) -> None:
    claim = await running(ledger)

    proposed = await ledger.propose_pause(claim)

    records = [record async for record in ledger.audit_records("main")]
    assert proposed == ControlDocument(
        tenant="acme",
        source=str(source_of("acme")),
        target=str(target_of("acme")),
        phase="paused",
        epoch=1,
        returns_epoch=2,
        audit_heads={"main": (records[-1].sequence, records[-1].hash)},
    )
    (body,) = [body for body in await bodies(ledger) if body["action"] == "placement.proposed"]
    assert (body["epoch"], body["returns_epoch"], body["outcome"]) == (1, 2, "paused")
    assert await ledger.known_control(claim) == KnownControl(proposed, None)
    record, _ = await ledger.placement("acme")
    assert record is not None
    assert (record.phase, record.epoch) == ("shared", 0), "nothing has begun yet"


async def test_what_is_proposed_reads_back_as_it_was_written(ledger: Ledger) -> None:
    proposed = await ledger.propose_pause(await running(ledger))
    assert ControlDocument.parse(proposed.text()) == proposed


async def test_a_proposal_that_has_not_begun_is_given_again_word_for_word(ledger: Ledger) -> None:
    claim = await running(ledger)
    first = await ledger.propose_pause(claim)
    await list_all(ledger, claim, versions(1))
    before = await actions(ledger)

    assert (await ledger.propose_pause(claim)).text() == first.text()
    assert await actions(ledger) == before


async def test_a_pause_begins_only_as_it_was_proposed(ledger: Ledger) -> None:
    claim = await running(ledger)
    with pytest.raises(ConflictError, match="not proposed"):
        await ledger.change_placement(claim, pausing())

    proposed = await ledger.propose_pause(claim)
    paused = await ledger.change_placement(claim, pausing())

    assert paused.epoch == proposed.epoch
    assert await ledger.known_control(claim) == KnownControl(proposed, paused.epoch)
    await ledger.change_placement(claim, end_pause)
    with pytest.raises(ConflictError, match="not proposed"):
        await ledger.change_placement(claim, pausing())
    assert (await ledger.propose_pause(claim)).epoch == 3


async def test_a_proposal_for_another_target_is_above_the_one_that_has_not_begun(ledger: Ledger) -> None:
    claim = await running(ledger)
    first = await ledger.propose_pause(claim)
    await ledger.finish_job(claim, "failed", "x")
    await admit(ledger, "job-2", target="s3://byok-elsewhere/")

    other = await ledger.propose_pause(await claimed(ledger))

    assert (first.epoch, other.epoch) == (1, 3)
    assert other.target == "s3://byok-elsewhere/"


async def test_for_a_dedicated_tenant_no_pause_is_proposed(ledger: Ledger) -> None:
    claim = await dedicated(ledger, versions(1))
    with pytest.raises(ConflictError, match="dedicated"):
        await ledger.propose_pause(claim)


async def test_the_heads_are_known_only_with_their_hashes(ledger: Ledger) -> None:
    heads = (await ledger.propose_pause(await running(ledger))).audit_heads
    sequence, record_hash = heads["main"]

    assert await ledger.knows_heads(heads)
    for wrong in (
        {"main": (sequence, "0" * 64)},
        {"main": (sequence + 1, record_hash)},
        heads | {"another": (1, record_hash)},
    ):
        assert not await ledger.knows_heads(wrong)


async def test_distrust_is_on_record_and_is_taken_back(ledger: Ledger) -> None:
    claim = await running(ledger)
    await ledger.trust_placement(claim)
    assert "placement.trusted" not in await actions(ledger)

    for _ in range(2):
        await ledger.distrust_placement(claim, "it is behind")
    record, _ = await ledger.placement("acme")
    assert record is not None
    assert record.distrusted == "it is behind"
    await ledger.trust_placement(claim)

    record, _ = await ledger.placement("acme")
    assert record is not None
    assert record.distrusted is None
    assert (await actions(ledger))[-2:] == ["placement.distrusted", "placement.trusted"]


async def late_with_another_key(ledger: Ledger) -> JobClaim:
    """A job with another key, admitted before the switch of the one before it and claimed after it."""
    await admit(ledger, "job-1")
    claim = await claimed(ledger)
    await admit(ledger, "job-2", key="another")
    epoch = (await begin_pause(ledger, claim)).epoch
    await list_all(ledger, claim, versions(0), epoch)
    await ledger.switch(claim, dedicating(epoch))
    await ledger.open_writes(claim, TTL)
    await ledger.release_job(claim, LONG)
    return await claimed(ledger)


async def test_nothing_is_retired_by_a_job_with_another_key(ledger: Ledger) -> None:
    late = await late_with_another_key(ledger)
    assert late.job.key.arn == KEY + "another"

    for use in (
        ledger.plan_retirement(late),
        ledger.open_writes(late, TTL),
        ledger.change_placement(late, end_pause),
    ):
        with pytest.raises(ConflictError):
            await use
    record, _ = await ledger.placement("acme")
    assert record is not None
    assert record.key_ref == KEY + "acme"


async def test_after_a_cancel_the_next_job_waits_for_segments_although_nobody_held_the_job(
    ledger: Ledger, other: Ledger
) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    began = await ledger.now()
    await segment(ledger, LEASE)
    await ledger.release_job(claim, LONG)
    await ledger.cancel_job("job-1", "operator")
    await admit(ledger, "job-2")
    await admit(ledger, "job-3", "rival")

    assert 0 < await ledger.claims_end_in("job-1") <= LEASE
    assert (await claimed(ledger)).job.id == "job-3", "another tenant's"
    assert await other.claim_job("daemon-2", LONG) is None

    async def claims_have_ended() -> bool:
        return not await ledger.claims_end_in("job-1")

    await until(claims_have_ended)
    assert await ledger.now() >= began + LEASE
    assert (await claimed(other)).job.id == "job-2"


async def test_the_claim_of_the_job_itself_counts_among_those_that_have_to_end(ledger: Ledger) -> None:
    await running(ledger)
    await ledger.cancel_job("job-1", "operator")
    assert LONG / 2 < await ledger.claims_end_in("job-1") <= LONG
    with pytest.raises(UnknownJobError):
        await ledger.claims_end_in("no")
