"""PlacementLedger."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.tenant import PlacementRecord, end_pause, in_effect
from rekeyd.ledger.port import JobClaim, Ledger, ObjectOutcome
from tests.contract.ledger.stories import (
    SHORT,
    TTL,
    actions,
    admit,
    begin_pause,
    bodies,
    carry,
    claimed,
    dedicated,
    dedicating,
    list_all,
    pausing,
    running,
    segment,
    target_of,
    until,
    verified,
    version,
    versions,
    work,
)


async def paused(ledger: Ledger) -> tuple[JobClaim, int]:
    claim = await running(ledger)
    return claim, (await begin_pause(ledger, claim)).epoch


async def stored(ledger: Ledger) -> PlacementRecord:
    record, _ = await ledger.placement("acme")
    assert record is not None
    return record


async def test_the_databases_time_goes_on(ledger: Ledger) -> None:
    began = await ledger.now()
    assert began > 1_700_000_000

    async def later() -> bool:
        return await ledger.now() > began

    await until(later)
    assert await ledger.now() < began + 60


async def test_nobody_knows_an_unknown_tenant(ledger: Ledger) -> None:
    record, at = await ledger.placement("nobody")
    assert record is None
    assert at <= await ledger.now()


async def test_a_step_is_taken_from_the_record_and_the_time(ledger: Ledger) -> None:
    claim = await running(ledger)
    before = await ledger.now()

    changed = await begin_pause(ledger, claim, 30)

    assert (changed.phase, changed.epoch) == ("paused", 1)
    assert changed.pause_ends_at is not None
    assert before + 30 <= changed.pause_ends_at <= await ledger.now() + 30
    assert await stored(ledger) == changed


async def test_what_a_step_raises_is_raised_and_nothing_is_changed(ledger: Ledger) -> None:
    claim, _ = await paused(ledger)
    before = await stored(ledger), await actions(ledger)

    with pytest.raises(ConflictError):
        await ledger.change_placement(claim, pausing())

    assert (await stored(ledger), await actions(ledger)) == before


async def test_a_step_that_goes_nowhere_is_no_change(ledger: Ledger) -> None:
    claim = await running(ledger)
    before = await stored(ledger), await actions(ledger)

    await ledger.change_placement(claim, end_pause)

    assert (await stored(ledger), await actions(ledger)) == before


async def test_the_epoch_never_falls_nor_stays_when_the_phase_changes(ledger: Ledger) -> None:
    claim, _ = await paused(ledger)
    for wrong in (
        lambda record, _: replace(record, epoch=0),
        lambda record, _: replace(record, phase="shared", pause_ends_at=None),
    ):
        with pytest.raises(ConflictError):
            await ledger.change_placement(claim, wrong)


async def test_a_pause_past_its_deadline_is_over_whoever_died(ledger: Ledger, other: Ledger) -> None:
    claim = await running(ledger)
    first = await begin_pause(ledger, claim, SHORT)

    async def over() -> bool:
        record, now = await other.placement("acme")
        assert record is not None
        assert record == in_effect(first, now), "as soon as it is over, and no sooner"
        return record.phase == "shared"

    await until(over)
    (*_, returned) = [body for body in await bodies(ledger) if body["action"] == "placement.changed"]
    assert (returned["outcome"], returned["epoch"], returned["job"]) == ("shared", first.epoch + 1, None)
    again = await begin_pause(ledger, claim)
    assert again.epoch == first.epoch + 2


async def test_concurrent_steps_follow_one_another(ledger: Ledger) -> None:
    claim = await running(ledger)

    await asyncio.gather(
        *(
            ledger.change_placement(claim, lambda record, _: replace(record, epoch=record.epoch + 1))
            for _ in range(20)
        )
    )

    assert (await stored(ledger)).epoch == 20


async def test_the_key_state_is_the_jobs_keys(ledger: Ledger) -> None:
    claim = await running(ledger)
    await ledger.set_key_state(claim, "active")
    await ledger.set_key_state(claim, "active")

    assert (await stored(ledger)).key_state == "active"
    (record,) = [body for body in await bodies(ledger) if body["action"] == "key.state"]
    assert (record["outcome"], record["former"]) == ("active", "pending")


async def test_the_switch_publishes_the_target_and_nobody_writes_yet(ledger: Ledger) -> None:
    claim, epoch = await paused(ledger)
    await list_all(ledger, claim, versions(3), epoch)
    await carry(ledger)

    record = await ledger.switch(claim, dedicating(epoch))

    assert await stored(ledger) == record
    assert (record.phase, record.epoch, record.target) == ("dedicated", epoch + 2, target_of("acme"))
    assert record.writes_from is None
    assert (await actions(ledger))[-2:] == ["placement.changed", "placement.proposed"]
    proposed = (await ledger.known_control(claim)).proposed
    assert proposed is not None
    assert (proposed.phase, proposed.epoch, proposed.returns_epoch) == ("dedicated", epoch + 2, None)


async def test_writing_is_opened_one_time_to_live_from_a_time_after_the_switch(ledger: Ledger) -> None:
    claim, epoch = await paused(ledger)
    await list_all(ledger, claim, versions(3), epoch)
    await carry(ledger)
    with pytest.raises(ConflictError, match="paused"):
        await ledger.open_writes(claim, TTL)
    switched = await ledger.switch(claim, dedicating(epoch))
    before = await ledger.now()

    opened = await ledger.open_writes(claim, TTL)

    assert opened == await stored(ledger) == replace(switched, writes_from=opened.writes_from)
    assert opened.writes_from is not None
    assert before + TTL <= opened.writes_from <= await ledger.now() + TTL
    assert await ledger.open_writes(claim, 2 * TTL) == opened, "once"
    assert (await ledger.known_control(claim)).written_epoch == opened.epoch


async def test_switching_again_gives_the_same(ledger: Ledger) -> None:
    claim = await dedicated(ledger, versions(1))
    before = await stored(ledger), await actions(ledger)

    assert await ledger.switch(claim, dedicating(1)) == before[0]
    assert (await stored(ledger), await actions(ledger)) == before


async def test_a_job_amid_its_switch_is_not_cancelled(ledger: Ledger) -> None:
    """Its tenant's writers would wait for nobody."""
    claim, epoch = await paused(ledger)
    await list_all(ledger, claim, [], epoch)
    await ledger.switch(claim, dedicating(epoch))
    with pytest.raises(ConflictError, match="switch"):
        await ledger.cancel_job("job-1", "operator")

    await ledger.open_writes(claim, TTL)
    assert (await ledger.cancel_job("job-1", "operator")).state == "cancelled"


async def test_excluded_with_a_reason_and_dropped_objects_do_not_hinder_the_switch(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(3))
    await carry(ledger)
    epoch = (await begin_pause(ledger, claim)).epoch
    await list_all(ledger, claim, [*versions(2), version("new")], epoch)
    await work(
        ledger,
        lambda row: (
            ObjectOutcome(row.source, "dropped")
            if row.state == "vanished"
            else ObjectOutcome(row.source, "excluded", "a folder marker")
        ),
    )

    assert (await ledger.switch(claim, dedicating(epoch))).phase == "dedicated"


async def no_pause(ledger: Ledger) -> tuple[JobClaim, int]:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    await carry(ledger)
    return claim, 0


async def no_pass(ledger: Ledger) -> tuple[JobClaim, int]:
    return await paused(ledger)


async def pass_before_the_pause(ledger: Ledger) -> tuple[JobClaim, int]:
    claim, _ = await no_pause(ledger)
    return claim, (await begin_pause(ledger, claim)).epoch


async def pass_of_a_former_pause(ledger: Ledger) -> tuple[JobClaim, int]:
    claim, epoch = await paused(ledger)
    await list_all(ledger, claim, versions(1), epoch)
    await carry(ledger)
    await ledger.change_placement(claim, end_pause)
    return claim, (await begin_pause(ledger, claim)).epoch


async def pass_not_listed(ledger: Ledger) -> tuple[JobClaim, int]:
    claim, epoch = await paused(ledger)
    begun = await ledger.begin_pass(claim, epoch)
    await ledger.record_page(claim, begun.number, versions(1), None, "page 2")
    await carry(ledger)
    return claim, epoch


async def segment_open(ledger: Ledger) -> tuple[JobClaim, int]:
    claim, epoch = await paused(ledger)
    await list_all(ledger, claim, versions(1), epoch)
    part = await segment(ledger)
    await ledger.record_outcomes(part, [verified(row.source) for row in await ledger.segment_rows(part)])
    return claim, epoch


async def object_failed(ledger: Ledger) -> tuple[JobClaim, int]:
    claim, epoch = await paused(ledger)
    await list_all(ledger, claim, versions(2), epoch)
    await work(ledger, lambda row: ObjectOutcome(row.source, "failed", "x"))
    return claim, epoch


async def object_stale(ledger: Ledger) -> tuple[JobClaim, int]:
    claim, epoch = await paused(ledger)
    await list_all(ledger, claim, versions(2), epoch)
    await work(
        ledger,
        lambda row: (
            verified(row.source) if row.source.key.endswith("0") else ObjectOutcome(row.source, "stale")
        ),
    )
    return claim, epoch


async def object_not_swept(ledger: Ledger) -> tuple[JobClaim, int]:
    claim, _ = await no_pause(ledger)
    epoch = (await begin_pause(ledger, claim)).epoch
    await list_all(ledger, claim, [], epoch)
    return claim, epoch


async def pause_over(ledger: Ledger) -> tuple[JobClaim, int]:
    claim = await running(ledger)
    epoch = (await begin_pause(ledger, claim, SHORT)).epoch
    await list_all(ledger, claim, versions(1), epoch)
    await carry(ledger)

    async def over() -> bool:
        record, now = await ledger.placement("acme")
        return record is not None and in_effect(record, now).phase == "shared"

    await until(over)
    return claim, epoch


@pytest.mark.parametrize(
    "incomplete",
    [
        no_pause,
        no_pass,
        pass_before_the_pause,
        pass_of_a_former_pause,
        pass_not_listed,
        segment_open,
        object_failed,
        object_stale,
        object_not_swept,
        pause_over,
    ],
)
async def test_nothing_incomplete_is_switched(ledger: Ledger, incomplete: object) -> None:
    claim, epoch = await incomplete(ledger)  # type: ignore[operator]
    before = await stored(ledger), await actions(ledger)

    with pytest.raises(ConflictError):
        await ledger.switch(claim, dedicating(epoch))
    with pytest.raises(ConflictError):
        # Not even by a step that doesn't look.
        await ledger.switch(
            claim, lambda record, _: replace(record, phase="dedicated", epoch=record.epoch + 1)
        )

    assert (await stored(ledger), await actions(ledger)) == before


async def test_a_switch_leads_to_the_jobs_own_target(ledger: Ledger) -> None:
    claim, epoch = await paused(ledger)
    await list_all(ledger, claim, versions(1), epoch)
    await carry(ledger)
    for wrong in (
        lambda record, now: replace(dedicating(epoch)(record, now), target=target_of("rival")),
        lambda record, _: replace(record, epoch=record.epoch + 1),
    ):
        with pytest.raises(ConflictError):
            await ledger.switch(claim, wrong)


async def test_a_job_that_leads_elsewhere_changes_a_dedicated_placement_no_more(ledger: Ledger) -> None:
    await admit(ledger, "job-1")
    await admit(ledger, "job-2", target="s3://byok-elsewhere/")
    claim = await claimed(ledger)
    epoch = (await begin_pause(ledger, claim)).epoch
    await list_all(ledger, claim, [], epoch)
    await ledger.switch(claim, dedicating(epoch))
    await ledger.finish_job(claim, "completed", None)

    late = await claimed(ledger)

    for use in (
        ledger.propose_pause(late),
        ledger.open_writes(late, TTL),
        ledger.change_placement(late, end_pause),
        ledger.switch(late, dedicating(epoch)),
        ledger.begin_pass(late, None),
        ledger.plan_retirement(late),
    ):
        with pytest.raises(ConflictError):
            await use


async def test_a_record_is_never_older_than_its_time(ledger: Ledger, other: Ledger) -> None:
    """Whoever waits one time to live from a commit on has outwaited every record read before it."""
    claim = await running(ledger)
    committed: dict[int, float] = {0: 0.0}
    stop = asyncio.Event()

    async def change() -> None:
        for epoch in range(1, 40):
            await ledger.change_placement(claim, lambda record, _: replace(record, epoch=record.epoch + 1))
            committed[epoch] = await ledger.now()
        stop.set()

    seen: list[tuple[int, float]] = []

    async def read(reader: Ledger) -> None:
        while not stop.is_set():
            record, at = await reader.placement("acme")
            assert record is not None
            seen.append((record.epoch, at))

    await asyncio.gather(change(), read(ledger), read(other))

    assert len({epoch for epoch, _ in seen}) > 5
    assert all(at <= committed[epoch + 1] for epoch, at in seen if epoch + 1 in committed)
