"""ObjectLedger: segments, outcomes, retirement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rekeyd.domain.errors import ClaimLostError, ConflictError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.ledger.port import JobClaim, Ledger, ObjectOutcome, ObjectRow, SegmentClaim
from tests.contract.ledger.stories import (
    LEASE,
    LONG,
    SHORT,
    actions,
    admit,
    bodies,
    carry,
    claimed,
    copy_of,
    dedicated,
    list_all,
    running,
    segment,
    until,
    verified,
    version,
    versions,
    work,
)

USES: dict[str, Callable[[Ledger, SegmentClaim], Awaitable[object]]] = {
    "renew_segment": lambda ledger, claim: ledger.renew_segment(claim),
    "release_segment": lambda ledger, claim: ledger.release_segment(claim),
    "segment_rows": lambda ledger, claim: ledger.segment_rows(claim),
    "record_outcomes": lambda ledger, claim: ledger.record_outcomes(claim, [verified(version("00000"))]),
    "finish_segment": lambda ledger, claim: ledger.finish_segment(claim),
}


async def listed(ledger: Ledger, count: int = 2) -> None:
    await list_all(ledger, await running(ledger), versions(count))


async def expired(ledger: Ledger) -> SegmentClaim:
    await listed(ledger)
    claim = await segment(ledger, SHORT)

    async def over() -> bool:
        try:
            await ledger.segment_rows(claim)
        except ClaimLostError:
            return True
        return False

    await until(over)
    return claim


async def taken_over(ledger: Ledger) -> SegmentClaim:
    late = await expired(ledger)
    assert (await segment(ledger, holder="worker-2")).segment_id == late.segment_id
    return late


async def released(ledger: Ledger) -> SegmentClaim:
    await listed(ledger)
    claim = await segment(ledger)
    await ledger.release_segment(claim)
    return claim


async def finished(ledger: Ledger) -> SegmentClaim:
    await listed(ledger)
    claim = await segment(ledger)
    await ledger.finish_segment(claim)
    return claim


async def job_cancelled(ledger: Ledger) -> SegmentClaim:
    await listed(ledger)
    claim = await segment(ledger)
    await ledger.cancel_job("job-1", "operator")
    return claim


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("lost", [expired, taken_over, released, finished, job_cancelled])
async def test_a_claim_that_is_not_in_force_does_nothing(
    ledger: Ledger, use: str, lost: Callable[[Ledger], Awaitable[SegmentClaim]]
) -> None:
    claim = await lost(ledger)
    before = await ledger.job("job-1"), await actions(ledger)

    with pytest.raises(ClaimLostError):
        await USES[use](ledger, claim)

    assert (await ledger.job("job-1"), await actions(ledger)) == before


async def test_a_segments_claim_outlives_a_lapse_of_its_jobs(ledger: Ledger) -> None:
    await admit(ledger)
    claim = await claimed(ledger, 1.0)
    await list_all(ledger, claim, versions(1))
    part = await segment(ledger)
    await ledger.release_job(claim)

    await ledger.record_outcomes(part, [verified(version("00000"))])
    assert await ledger.claim_segment("worker-2", LONG) is None


async def test_only_segments_of_running_jobs_with_a_claim_are_given(ledger: Ledger) -> None:
    assert await ledger.claim_segment("worker-1", LONG) is None
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    await ledger.release_job(claim)
    assert await ledger.claim_segment("worker-1", LONG) is None
    await claimed(ledger)
    assert (await segment(ledger)).job.id == "job-1"


async def test_many_claim_at_once_and_none_is_given_twice(ledger: Ledger, other: Ledger) -> None:
    await listed(ledger, 5_000)

    claims = await asyncio.gather(*(each.claim_segment("w", LONG) for each in (ledger, other) * 6))

    given = [claim.segment_id for claim in claims if claim is not None]
    assert len(given) == len(set(given)) == 5


async def test_an_expired_lease_is_taken_over_with_a_greater_fence(ledger: Ledger, other: Ledger) -> None:
    late = await expired(ledger)
    taken = await segment(other, holder="worker-2")
    assert taken.segment_id == late.segment_id
    assert taken.fence > late.fence


async def test_a_renewed_claim_lasts_its_full_length_from_then_on(ledger: Ledger, other: Ledger) -> None:
    await listed(ledger)
    claim = await segment(ledger, 1.0)
    began = await ledger.now()

    while await ledger.now() < began + 1.5:
        await ledger.renew_segment(claim)
        assert await other.claim_segment("worker-2", LONG) is None
        await asyncio.sleep(0.05)


async def hold(ledger: Ledger, claim: JobClaim) -> None:
    await ledger.hold_job(claim, "drift", "x", 0)


async def fail(ledger: Ledger, claim: JobClaim) -> None:
    await ledger.finish_job(claim, "failed", "x")
    await ledger.resume_job("job-1", "operator")


async def cancel(ledger: Ledger, claim: JobClaim) -> None:
    await ledger.release_job(claim)
    await ledger.cancel_job("job-1", "operator")
    await admit(ledger, "job-2")


@pytest.mark.parametrize("end", [hold, fail, cancel])
async def test_a_segment_whose_claim_others_ended_is_claimed_once_that_would_have_ended(
    ledger: Ledger, other: Ledger, end: Callable[[Ledger, JobClaim], Awaitable[None]]
) -> None:
    """Its holder, who doesn't know, may have a call under way: that ends before the claim would have."""
    claim = await running(ledger)
    await list_all(ledger, claim, versions(2))
    began = await other.now()
    former = await segment(other, LEASE)

    await end(ledger, claim)
    taken: list[JobClaim | None] = []

    async def taken_up() -> bool:
        taken.append(await ledger.claim_job("daemon-2", LONG))
        return taken[-1] is not None

    await until(taken_up)
    again = taken[-1]
    assert again is not None
    await ledger.begin_job(again)
    # Another job of the tenant isn't even begun before that; the same job is.
    if end is not cancel:
        assert await ledger.claim_segment("worker-2", LONG) is None
    for use in USES.values():
        with pytest.raises(ClaimLostError):
            await use(other, former)
    latter: list[SegmentClaim | None] = []

    async def given() -> bool:
        latter.append(await ledger.claim_segment("worker-2", LONG))
        return latter[-1] is not None

    await until(given)
    assert await ledger.now() >= began + LEASE
    assert latter[-1] is not None
    assert (latter[-1].segment_id, latter[-1].job.id) == (former.segment_id, again.job.id)
    assert latter[-1].fence > former.fence
    for use in USES.values():
        with pytest.raises(ClaimLostError):
            await use(other, former)


async def test_moves_take_turns(ledger: Ledger) -> None:
    for number, tenant in enumerate(("acme", "rival")):
        claim = await running(ledger, f"job-{number}", tenant)
        prefix = f"tenants/{tenant}/"
        await list_all(ledger, claim, [ObjectVersion(f"{prefix}{n:05d}", 1, "v1") for n in range(3_000)])

    # Turns are told apart by the database's clock, which may be no finer than a millisecond.
    order = []
    for _ in range(6):
        order.append((await segment(ledger)).job.tenant)
        began = await ledger.now()

        async def later(began: float = began) -> bool:
            return await ledger.now() > began

        await until(later)

    assert order[0::2] == [order[0]] * 3
    assert order[1::2] == [order[1]] * 3
    assert order[0] != order[1]


async def test_outcomes_are_recorded_and_counted(ledger: Ledger) -> None:
    await listed(ledger, 6)
    names = [version(f"{number:05d}") for number in range(6)]
    part = await segment(ledger)

    await ledger.record_outcomes(
        part,
        [
            verified(names[0]),
            ObjectOutcome(names[1], "excluded", "a folder marker"),
            ObjectOutcome(names[2], "failed", "checksums differ", "mismatch"),
            ObjectOutcome(names[3], "listed", "timeout", target=copy_of(names[3])),
            ObjectOutcome(names[4], "dropped"),
        ],
    )

    assert await ledger.segment_rows(part) == [
        ObjectRow(names[3], "listed", 1, copy_of(names[3]), (), None),
        ObjectRow(names[5], "listed", 0, None, (), None),
    ]
    counts = (await ledger.job("job-1")).counts
    assert (counts.objects_listed, counts.objects_verified, counts.objects_excluded) == (5, 1, 1)
    assert (counts.bytes_listed, counts.bytes_verified, counts.objects_deleted) == (50, 10, 0)


async def test_outcomes_recorded_again_change_nothing(ledger: Ledger) -> None:
    await listed(ledger)
    part = await segment(ledger)
    outcomes = [verified(each) for each in versions(2)]

    await ledger.record_outcomes(part, outcomes)
    before = await ledger.job("job-1"), await actions(ledger)
    await ledger.record_outcomes(part, outcomes)
    await ledger.record_outcomes(part, [])

    assert (await ledger.job("job-1"), await actions(ledger)) == before


async def test_an_outcome_of_another_version_is_passed_over(ledger: Ledger) -> None:
    await listed(ledger)
    part = await segment(ledger)

    await ledger.record_outcomes(
        part,
        [verified(version("00000", "v0")), verified(version("nobody")), verified(version("00001"))],
    )

    assert [row.source for row in await ledger.segment_rows(part)] == [version("00000")]


async def test_the_same_version_with_another_size_or_id_is_another_version(ledger: Ledger) -> None:
    await list_all(ledger, await running(ledger), [version("a", "v1", 10, "id-1")])
    part = await segment(ledger)

    await ledger.record_outcomes(
        part, [verified(version("a", "v1", 11, "id-1")), verified(version("a", "v1", 10, "id-2"))]
    )

    assert len(await ledger.segment_rows(part)) == 1


async def test_an_outcome_counts_only_in_the_segment_that_has_the_object(ledger: Ledger) -> None:
    """A late sweeper must not take an object for dropped that came back and is carried."""
    claim = await running(ledger)
    await list_all(ledger, claim, [version("a")])
    await carry(ledger)
    await list_all(ledger, claim, [])
    sweeping = await segment(ledger)
    await list_all(ledger, claim, [version("a")])

    await ledger.record_outcomes(sweeping, [ObjectOutcome(version("a"), "dropped")])

    assert (await ledger.counts(claim)).objects_listed == 1
    await ledger.finish_segment(sweeping)
    carrying = await segment(ledger)
    assert [row.state for row in await ledger.segment_rows(carrying)] == ["listed"]


async def test_a_late_sweep_is_not_taken_for_one_of_the_copy_made_since(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, [version("a")])
    await carry(ledger)
    await list_all(ledger, claim, [])
    late = await segment(ledger)
    await list_all(ledger, claim, [version("a")])
    await carry(ledger)
    await list_all(ledger, claim, [])

    await ledger.record_outcomes(late, [ObjectOutcome(version("a"), "dropped")])

    (row,) = await ledger.segment_rows(await segment(ledger))
    assert (row.state, row.target) == ("vanished", copy_of(version("a")))


async def test_a_changed_object_leaves_the_segment_that_had_its_former_version(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(2))
    former = await segment(ledger)
    await list_all(ledger, claim, [version("00000", "v2"), version("00001")])

    assert [row.source for row in await ledger.segment_rows(former)] == [version("00001")]
    await ledger.record_outcomes(former, [verified(version("00000")), verified(version("00001"))])
    await ledger.finish_segment(former)

    latter = await segment(ledger)
    assert [row.source for row in await ledger.segment_rows(latter)] == [version("00000", "v2")]
    assert (await ledger.counts(claim)).objects_verified == 1


@pytest.mark.parametrize("state", ["deleted", "remaining"])
async def test_what_a_stage_cannot_bring_about_is_a_programming_error(ledger: Ledger, state: str) -> None:
    await listed(ledger)
    part = await segment(ledger)
    for outcome in (
        ObjectOutcome(version("00000"), state, "x"),  # type: ignore[arg-type]
        ObjectOutcome(version("00000"), "excluded"),
        ObjectOutcome(version("00000"), "failed"),
        ObjectOutcome(version("00000"), "verified"),
    ):
        with pytest.raises(ValueError, match=r"carry|without"):
            await ledger.record_outcomes(part, [outcome])
    assert len(await ledger.segment_rows(part)) == 2


async def test_a_checksum_keeps_all_its_64_bits(ledger: Ledger) -> None:
    claim = await running(ledger)
    sums = [0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    await list_all(ledger, claim, versions(len(sums)))
    part = await segment(ledger)
    await ledger.record_outcomes(
        part,
        [ObjectOutcome(each, "listed", crc64nvme=crc) for each, crc in zip(versions(5), sums, strict=True)],
    )

    assert [row.crc64nvme for row in await ledger.segment_rows(part)] == sums


async def test_a_copy_may_stand_under_any_key(ledger: Ledger) -> None:
    await listed(ledger, 1)
    part = await segment(ledger)
    elsewhere = ObjectVersion("quite/elsewhere", 7, "t", "target-id")
    await ledger.record_outcomes(part, [ObjectOutcome(version("00000"), "listed", target=elsewhere)])

    (row,) = await ledger.segment_rows(part)
    assert row.target == elsewhere


async def test_what_a_finished_segment_left_undone_goes_into_a_new_one(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(3))
    part = await segment(ledger)
    await ledger.record_outcomes(
        part, [verified(version("00000")), ObjectOutcome(version("00001"), "listed", "in vain")]
    )

    await ledger.finish_segment(part)

    state = await ledger.current_pass(claim)
    assert state is not None
    assert state.open_segments == 1
    again = await segment(ledger)
    assert again.segment_id != part.segment_id
    assert [(row.source, row.attempts) for row in await ledger.segment_rows(again)] == [
        (version("00001"), 1),
        (version("00002"), 0),
    ]


async def test_a_sweep_in_vain_is_tried_again(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    await carry(ledger)
    await list_all(ledger, claim, [])
    part = await segment(ledger)
    await ledger.record_outcomes(part, [ObjectOutcome(version("00000"), "listed", "timeout")])
    await ledger.finish_segment(part)

    (row,) = await ledger.segment_rows(await segment(ledger))

    assert (row.state, row.attempts, row.target) == ("vanished", 1, copy_of(version("00000")))


async def test_failed_objects_are_told_in_key_order(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(4))
    await work(
        ledger,
        lambda row: (
            verified(row.source)
            if row.source == version("00000")
            else ObjectOutcome(row.source, "failed", f"because of {row.source.key[-1]}")
        ),
    )

    assert await ledger.failed_objects(claim, 2) == [
        (version("00001").key, "because of 1"),
        (version("00002").key, "because of 2"),
    ]


async def test_nothing_is_retired_before_the_tenant_is_dedicated(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    await carry(ledger)
    with pytest.raises(ConflictError):
        await ledger.plan_retirement(claim)


async def test_every_verified_object_comes_into_one_retire_segment(ledger: Ledger) -> None:
    claim = await dedicated(ledger, versions(9_500))

    seen: list[ObjectVersion] = []
    while await ledger.plan_retirement(claim):
        again = await ledger.plan_retirement(claim)
        for _ in range(again):
            part = await segment(ledger)
            rows = await ledger.segment_rows(part)
            seen += await ledger.record_intents(part, [row.source for row in rows])
            await ledger.record_outcomes(part, [ObjectOutcome(row.source, "deleted") for row in rows])
            await ledger.finish_segment(part)

    assert seen == versions(9_500)
    assert await ledger.plan_retirement(claim) == 0
    counts = await ledger.counts(claim)
    assert (counts.objects_listed, counts.objects_verified, counts.objects_deleted) == (9_500,) * 3


async def retiring(ledger: Ledger, count: int = 3) -> SegmentClaim:
    claim = await dedicated(ledger, versions(count))
    assert await ledger.plan_retirement(claim) == 1
    return await segment(ledger)


async def test_intents_are_given_for_exactly_the_verified_versions(ledger: Ledger) -> None:
    part = await retiring(ledger)
    wanted = [version("00000"), version("00001", "v2"), version("nobody"), version("00002")]

    allowed = await ledger.record_intents(part, wanted)

    assert allowed == [version("00000"), version("00002")]
    states = [row.state for row in await ledger.segment_rows(part)]
    assert states == ["retiring", "verified", "retiring"]
    assert await ledger.record_intents(part, wanted * 2) == allowed
    counts = (await ledger.job("job-1")).counts
    assert (counts.objects_verified, counts.objects_deleted) == (3, 0)
    assert (await actions(ledger))[-1] == "source.delete_intended"


async def test_intents_are_for_retire_segments_only(ledger: Ledger) -> None:
    await listed(ledger)
    part = await segment(ledger)
    with pytest.raises(ValueError, match="carry"):
        await ledger.record_intents(part, [version("00000")])


async def test_a_source_that_holds_something_else_remains(ledger: Ledger) -> None:
    part = await retiring(ledger)
    await ledger.record_intents(part, versions(3))

    await ledger.record_outcomes(
        part,
        [
            ObjectOutcome(version("00000"), "deleted"),
            ObjectOutcome(version("00001"), "remaining", "replaced since"),
            ObjectOutcome(version("00002"), "listed", "timeout"),
        ],
    )

    (row,) = await ledger.segment_rows(part)
    assert (row.source, row.state, row.attempts) == (version("00002"), "retiring", 1)
    await ledger.finish_segment(part)
    assert [each.source for each in await ledger.segment_rows(await segment(ledger))] == [version("00002")]
    counts = (await ledger.job("job-1")).counts
    assert (counts.objects_verified, counts.objects_deleted) == (3, 1)


async def test_intents_survive_their_daemon(ledger: Ledger, other: Ledger) -> None:
    first = await dedicated(ledger, versions(3))
    assert await ledger.plan_retirement(first) == 1
    part = await segment(ledger)
    await ledger.record_intents(part, versions(1))
    await ledger.release_segment(part)
    await ledger.release_job(first)
    await ledger.cancel_job("job-1", "operator")

    claim = await running(other, "job-2")

    assert await other.plan_retirement(claim) == 1
    rows = await other.segment_rows(await segment(other))
    assert [row.state for row in rows] == ["retiring", "verified", "verified"]


async def test_batches_are_on_record_with_counts_and_a_digest(ledger: Ledger) -> None:
    part = await retiring(ledger)
    await ledger.record_intents(part, versions(3))
    await ledger.record_outcomes(part, [ObjectOutcome(each, "deleted") for each in versions(3)])
    await ledger.finish_segment(part)

    carried, *_, intended, deleted, done = await bodies_about_objects(ledger)
    assert carried["counts"] == {"verified": [3, 30]}
    assert (intended["objects"], intended["bytes"]) == (3, 30)
    assert deleted["counts"] == {"deleted": [3, 30]}
    assert all(len(body["sha256"]) == 64 for body in (carried, intended, deleted))
    assert (done["action"], done["stage"]) == ("segment.finished", "retire")
    assert {body["actor"] for body in (carried, intended, deleted, done)} == {"worker-1"}


async def bodies_about_objects(ledger: Ledger) -> list[dict[str, Any]]:
    found = {"objects.recorded", "source.delete_intended", "source.deleted", "segment.finished"}
    return [body for body in await bodies(ledger) if body["action"] in found]
