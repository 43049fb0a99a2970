"""A move's rows as evidence, and the signed statements that the ledger keeps."""

from __future__ import annotations

import hashlib

import pytest

from rekeyd.domain.errors import ClaimLostError, UnknownJobError
from rekeyd.ledger.port import Checkpoint, JobClaim, Ledger, ObjectOutcome, ObjectRow
from tests.contract.ledger.stories import (
    admit,
    begin_pause,
    bodies,
    carry,
    claimed,
    copy_of,
    dedicated,
    dedicating,
    list_all,
    running,
    version,
    versions,
    work,
)


async def rows_of(ledger: Ledger, claim: JobClaim, at_once: int = 3) -> list[str]:
    names: list[str] = []
    after: str | None = None
    while page := await ledger.evidence_rows(claim, after, at_once):
        assert len(page) <= at_once
        names += [row.object.source.key for row in page]
        after = names[-1]
    return names


async def test_rows_come_in_the_order_of_their_keys_bytes_however_many_at_a_time(ledger: Ledger) -> None:
    names = ["b", "a", "ä", "Z", "a/b", "a-b", "￿", "\U0001f511"]
    claim = await dedicated(ledger, [version(name) for name in names])
    expected = sorted((f"tenants/acme/{name}" for name in names), key=lambda key: key.encode())

    for at_once in (1, 3, 100):
        assert await rows_of(ledger, claim, at_once) == expected


async def test_a_row_has_all_that_is_evidence(ledger: Ledger) -> None:
    gone, kept = version("a"), version("b")
    claim = await dedicated(ledger, [gone, kept])
    while await ledger.plan_retirement(claim):

        def outcome(row: ObjectRow) -> ObjectOutcome:
            if row.source == kept:
                return ObjectOutcome(row.source, "remaining", "it is locked")
            return ObjectOutcome(row.source, "deleted", request_ids=("request-1", "request-2"))

        await work(ledger, outcome, "retire")

    first, second = await ledger.evidence_rows(claim, None, 10)
    assert (first.object.source, first.object.target, first.object.state) == (gone, copy_of(gone), "deleted")
    assert (first.evidence, first.request_ids, first.reason) == (
        "streamed/read",
        ("request-1", "request-2"),
        "",
    )
    assert first.object.crc64nvme is not None
    assert (second.object.state, second.reason, second.request_ids) == ("remaining", "it is locked", ())
    (recorded,) = [body for body in await bodies(ledger) if body["action"] == "source.deleted"]
    assert recorded["requests"] == ["request-1", "request-2"]


async def test_what_the_source_no_longer_held_at_the_switch_is_no_evidence(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(3))
    await carry(ledger)
    paused = await begin_pause(ledger, claim)
    await list_all(ledger, claim, versions(2), paused.epoch)
    await carry(ledger)
    await ledger.switch(claim, dedicating(paused.epoch))

    assert len(await rows_of(ledger, claim)) == 2
    assert await ledger.known_states(claim, [each.key for each in [*versions(4), version("other")]]) == {
        versions(3)[0].key: "verified",
        versions(3)[1].key: "verified",
        versions(3)[2].key: "dropped",
    }


async def test_whoever_has_lost_the_claim_gets_and_records_nothing(ledger: Ledger) -> None:
    claim = await dedicated(ledger, versions(1))
    await ledger.release_job(claim)

    for call in (
        ledger.evidence_rows(claim, None, 1),
        ledger.known_states(claim, ["a"]),
        ledger.record_certificate(claim, "{}"),
    ):
        with pytest.raises(ClaimLostError):
            await call
    assert await ledger.certificate(claim.job.id) is None


async def test_a_job_has_the_certificate_that_was_recorded_first(ledger: Ledger, other: Ledger) -> None:
    claim = await running(ledger)
    assert await ledger.certificate("job-1") is None
    assert await ledger.tenant_certificates("acme", 10) == []

    assert await ledger.record_certificate(claim, '{"first":"ü"}') == '{"first":"ü"}'
    assert await ledger.record_certificate(claim, '{"second":1}') == '{"first":"ü"}'

    assert await other.certificate("job-1") == '{"first":"ü"}'
    issued = [body for body in await bodies(ledger) if body["action"] == "certificate.issued"]
    digest = hashlib.sha256('{"first":"ü"}'.encode()).hexdigest()
    assert [(body["job"], body["tenant"], body["sha256"]) for body in issued] == [("job-1", "acme", digest)]
    with pytest.raises(UnknownJobError):
        await ledger.certificate("nobody")


async def test_the_latest_certificates_are_the_tenants_own_the_oldest_first(ledger: Ledger) -> None:
    await ledger.record_certificate(await running(ledger, "job-1", "acme"), "first")
    second = await running(ledger, "job-2", "globex")
    await ledger.record_certificate(second, "another's")
    assert await ledger.tenant_certificates("acme", 10) == ["first"]

    await ledger.cancel_job("job-1", "an operator")
    assert await ledger.tenant_certificates("globex", 10) == ["another's"]
    assert await ledger.certificate("job-1") == "first"
    await ledger.finish_job(second, "completed", None)
    await ledger.record_certificate(await running(ledger, "job-3", "globex"), "a later one")
    assert await ledger.tenant_certificates("globex", 10) == ["another's", "a later one"]
    assert await ledger.tenant_certificates("globex", 1) == ["a later one"]


async def test_checkpoints_are_numbered_without_gaps_and_are_on_record(ledger: Ledger, other: Ledger) -> None:
    assert await ledger.last_checkpoint() is None
    assert not await ledger.record_checkpoint(Checkpoint(2, "two"), "daemon-1")
    assert await ledger.record_checkpoint(Checkpoint(1, "one"), "daemon-1")
    assert not await other.record_checkpoint(Checkpoint(1, "another one"), "daemon-2")
    assert await other.record_checkpoint(Checkpoint(2, "two"), "daemon-2")

    assert await ledger.last_checkpoint() == Checkpoint(2, "two")
    assert list(await ledger.checkpoints(0, 10)) == [Checkpoint(1, "one"), Checkpoint(2, "two")]
    assert list(await ledger.checkpoints(0, 1)) == [Checkpoint(1, "one")]
    assert list(await ledger.checkpoints(1, 10)) == [Checkpoint(2, "two")]
    recorded = [body for body in await bodies(ledger) if body["action"] == "audit.checkpoint"]
    assert [(body["number"], body["sha256"], body["tenant"]) for body in recorded] == [
        (1, hashlib.sha256(b"one").hexdigest(), None),
        (2, hashlib.sha256(b"two").hexdigest(), None),
    ]


async def test_a_checkpoint_is_unwritten_until_it_is_noted(ledger: Ledger) -> None:
    for number in (1, 2):
        await ledger.record_checkpoint(Checkpoint(number, str(number)), "daemon-1")

    assert list(await ledger.unwritten_checkpoints(1)) == [Checkpoint(1, "1")]
    await ledger.note_written(1)
    assert list(await ledger.unwritten_checkpoints(10)) == [Checkpoint(2, "2")]


async def test_the_heads_are_those_of_the_trail(ledger: Ledger) -> None:
    assert await ledger.audit_heads() == {}
    await admit(ledger)
    await claimed(ledger)

    records = [record async for record in ledger.audit_records("main")]
    assert await ledger.audit_heads() == {"main": (records[-1].sequence, records[-1].hash)}
