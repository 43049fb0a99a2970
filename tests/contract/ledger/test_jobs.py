"""JobLedger: claims, holding, ending."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rekeyd.domain.errors import ClaimLostError, ConflictError, RefusedError, UnknownJobError
from rekeyd.domain.job import utc_timestamp
from rekeyd.ledger.port import JobClaim, Ledger, ObjectOutcome
from tests.contract.ledger.stories import (
    LEASE,
    LONG,
    SHORT,
    TTL,
    actions,
    admit,
    begin_pause,
    claimed,
    dedicating,
    ids,
    list_all,
    pausing,
    running,
    segment,
    until,
    verified,
    version,
    versions,
    work,
)

Use = Callable[[Ledger, JobClaim], Awaitable[object]]

USES: dict[str, Use] = {
    "renew_job": lambda ledger, claim: ledger.renew_job(claim),
    "release_job": lambda ledger, claim: ledger.release_job(claim),
    "begin_job": lambda ledger, claim: ledger.begin_job(claim),
    "enter_phase": lambda ledger, claim: ledger.enter_phase(claim, "grace"),
    "record_failed_attempt": lambda ledger, claim: ledger.record_failed_attempt(claim, "x"),
    "hold_job": lambda ledger, claim: ledger.hold_job(claim, "drift", "x", 60),
    "finish_job": lambda ledger, claim: ledger.finish_job(claim, "completed", None),
    "propose_pause": lambda ledger, claim: ledger.propose_pause(claim),
    "change_placement": lambda ledger, claim: ledger.change_placement(claim, pausing()),
    "switch": lambda ledger, claim: ledger.switch(claim, dedicating(1)),
    "open_writes": lambda ledger, claim: ledger.open_writes(claim, TTL),
    "known_control": lambda ledger, claim: ledger.known_control(claim),
    "distrust_placement": lambda ledger, claim: ledger.distrust_placement(claim, "x"),
    "trust_placement": lambda ledger, claim: ledger.trust_placement(claim),
    "set_key_state": lambda ledger, claim: ledger.set_key_state(claim, "active"),
    "current_pass": lambda ledger, claim: ledger.current_pass(claim),
    "begin_pass": lambda ledger, claim: ledger.begin_pass(claim, None),
    "record_page": lambda ledger, claim: ledger.record_page(claim, 1, [], None, None),
    "plan_retirement": lambda ledger, claim: ledger.plan_retirement(claim),
    "failed_objects": lambda ledger, claim: ledger.failed_objects(claim, 1),
    "counts": lambda ledger, claim: ledger.counts(claim),
}


async def expired(ledger: Ledger) -> JobClaim:
    await admit(ledger)
    claim = await claimed(ledger, SHORT)

    async def over() -> bool:
        try:
            await ledger.counts(claim)
        except ClaimLostError:
            return True
        return False

    await until(over)
    return claim


async def taken_over(ledger: Ledger) -> JobClaim:
    late = await expired(ledger)
    await claimed(ledger, holder="daemon-2")
    return late


async def released(ledger: Ledger) -> JobClaim:
    claim = await running(ledger)
    await ledger.release_job(claim)
    return claim


async def cancelled(ledger: Ledger) -> JobClaim:
    claim = await running(ledger)
    await ledger.cancel_job("job-1", "operator")
    return claim


async def finished(ledger: Ledger) -> JobClaim:
    claim = await running(ledger)
    await ledger.finish_job(claim, "failed", "x")
    return claim


async def held(ledger: Ledger) -> JobClaim:
    claim = await running(ledger)
    await ledger.hold_job(claim, "drift", "x", 0)
    return claim


async def resumed(ledger: Ledger) -> JobClaim:
    claim = await held(ledger)
    await ledger.resume_job("job-1", "operator")
    return claim


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("lost", [expired, taken_over, released, cancelled, finished, held, resumed])
async def test_a_claim_that_is_not_in_force_does_nothing(
    ledger: Ledger, use: str, lost: Callable[[Ledger], Awaitable[JobClaim]]
) -> None:
    claim = await lost(ledger)
    before = await ledger.job("job-1"), await actions(ledger)

    with pytest.raises(ClaimLostError):
        await USES[use](ledger, claim)

    assert (await ledger.job("job-1"), await actions(ledger)) == before


async def test_a_claimed_job_runs_and_nobody_else_gets_it(ledger: Ledger, other: Ledger) -> None:
    await admit(ledger)

    claim = await claimed(ledger)

    assert (claim.job.id, claim.holder, claim.lease_seconds) == ("job-1", "daemon-1", LONG)
    assert claim.job.state == "running"
    assert await ledger.job("job-1") == claim.job
    assert await other.claim_job("daemon-2", LONG) is None


async def test_there_may_be_no_job(ledger: Ledger) -> None:
    assert await ledger.claim_job("daemon-1", LONG) is None


async def test_the_next_job_is_by_priority_then_by_age(ledger: Ledger) -> None:
    for job_id, priority in (("a", "low"), ("b", "normal"), ("c", "high"), ("d", "normal")):
        await admit(ledger, job_id, f"tenant-{job_id}", options={"priority": priority})

    assert [(await claimed(ledger)).job.id for _ in range(4)] == ["c", "b", "d", "a"]


async def test_never_two_of_one_tenant_at_a_time(ledger: Ledger) -> None:
    first = await running(ledger)
    await admit(ledger, "job-2")

    assert await ledger.claim_job("daemon-2", LONG) is None
    await ledger.finish_job(first, "completed", None)
    assert (await claimed(ledger)).job.id == "job-2"


async def test_many_claim_at_once_and_none_is_given_twice(ledger: Ledger, other: Ledger) -> None:
    for number in range(12):
        await admit(ledger, f"job-{number}", f"tenant-{number % 6}")

    claims = await asyncio.gather(*(each.claim_job("d", LONG) for each in (ledger, other) * 10))

    given = [claim.job for claim in claims if claim is not None]
    assert len(given) == len({job.id for job in given}) == len({job.tenant for job in given}) == 6


async def test_not_before_is_by_the_databases_clock(ledger: Ledger) -> None:
    now = await ledger.now()
    await admit(ledger, "later", not_before=utc_timestamp(now + 3600))
    await admit(ledger, "soon", "other", not_before=utc_timestamp(now + SHORT))

    async def due() -> bool:
        return await ledger.claim_job("daemon-1", LONG) is not None

    await until(due)  # a claim given before its time would be seen by the time
    assert await ledger.now() >= now + SHORT - 0.001
    assert (await ledger.job("later")).state == "queued"
    assert (await ledger.job("soon")).state == "running"


async def test_an_expired_lease_is_taken_over_with_a_greater_fence(ledger: Ledger, other: Ledger) -> None:
    late = await expired(ledger)

    taken = await claimed(other, holder="daemon-2")

    assert taken.job.id == late.job.id
    assert taken.fence > late.fence
    with pytest.raises(ClaimLostError):
        await ledger.renew_job(late)


async def test_a_renewed_claim_lasts_its_full_length_from_then_on(ledger: Ledger, other: Ledger) -> None:
    await admit(ledger)
    claim = await claimed(ledger, 1.0)
    began = await ledger.now()

    while await ledger.now() < began + 1.5:
        await ledger.renew_job(claim)
        assert await other.claim_job("daemon-2", LONG) is None
        await asyncio.sleep(0.05)


async def test_a_released_job_is_claimed_again_when_it_is_due(ledger: Ledger) -> None:
    claim = await running(ledger)
    await ledger.enter_phase(claim, "grace")
    await ledger.release_job(claim)
    again = await claimed(ledger)
    assert (again.job.state, again.job.phase, again.job.attempts) == ("running", "grace", 0)

    released_at = await ledger.now()
    await ledger.release_job(again, SHORT)

    async def due() -> bool:
        return await ledger.claim_job("daemon-1", LONG) is not None

    await until(due)
    assert await ledger.now() >= released_at + SHORT - 0.001


async def test_a_held_job_is_looked_at_again_and_stays_held_until_it_is_begun(ledger: Ledger) -> None:
    claim = await running(ledger)
    await ledger.hold_job(claim, "key_disabled", "switch it on", 0)

    job = await ledger.job("job-1")
    assert (job.state, job.held_reason, job.error) == ("held", "key_disabled", "switch it on")

    looking = await claimed(ledger)
    assert looking.job.state == "held"
    await ledger.enter_phase(looking, "preflight")
    await ledger.begin_job(looking)

    job = await ledger.job("job-1")
    assert (job.state, job.held_reason, job.error) == ("running", None, None)
    await ledger.begin_job(looking)
    assert (await actions(ledger)).count("job.running") == 2


async def test_a_held_job_is_not_due_before_its_time_nor_ever_without_one(ledger: Ledger) -> None:
    for job_id, recheck in (("job-1", LONG), ("job-2", None)):
        claim = await running(ledger, job_id, f"tenant-{job_id}")
        await ledger.hold_job(claim, "drift", "x", recheck)

    assert await ledger.claim_job("daemon-1", LONG) is None
    await ledger.resume_job("job-2", "operator")
    assert (await claimed(ledger)).job.id == "job-2"


async def test_held_again_for_the_same_reason_is_recorded_once(ledger: Ledger) -> None:
    claim = await running(ledger)
    for reason, error in (
        ("key_disabled", "a"),
        ("key_disabled", "a"),
        ("key_disabled", "b"),
        ("drift", "b"),
    ):
        await ledger.hold_job(claim, reason, error, 0)  # type: ignore[arg-type]
        claim = await claimed(ledger)

    assert (await actions(ledger)).count("job.held") == 3


async def test_holding_ends_the_claims_on_its_segments_and_its_pause(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    part = await segment(ledger, LEASE)
    await begin_pause(ledger, claim)

    await ledger.hold_job(claim, "key_disabled", "x", 0)

    with pytest.raises(ClaimLostError):
        await ledger.segment_rows(part)
    record, _ = await ledger.placement("acme")
    assert record is not None
    assert (record.phase, record.epoch, record.pause_ends_at) == ("shared", 2, None)
    looking = await claimed(ledger)
    assert await ledger.claim_segment("worker-2", LONG) is None, "a held job's segments rest"
    await ledger.begin_job(looking)

    async def given() -> bool:
        again = await ledger.claim_segment("worker-2", LONG)
        return again is not None and again.fence > part.fence

    await until(given)


async def test_the_first_phase_starts_the_clock(ledger: Ledger) -> None:
    claim = await running(ledger)
    assert (await ledger.job("job-1")).started_at is None

    await ledger.enter_phase(claim, "preflight")
    started_at = (await ledger.job("job-1")).started_at
    await ledger.enter_phase(claim, "copy")
    await ledger.enter_phase(claim, "copy")

    job = await ledger.job("job-1")
    assert job.phase == "copy"
    assert job.started_at == started_at is not None
    assert (await actions(ledger)).count("job.phase") == 2


async def test_failed_attempts_count_in_a_row_until_there_is_progress(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(2))

    assert [await ledger.record_failed_attempt(claim, "x") for _ in range(3)] == [1, 2, 3]
    assert ((await ledger.job("job-1")).attempts, (await ledger.job("job-1")).error) == (3, "x")
    await ledger.enter_phase(claim, "copy")
    part = await segment(ledger)
    await ledger.record_outcomes(part, [ObjectOutcome(version("00000"), "listed", "in vain")])
    assert (await ledger.job("job-1")).attempts == 3
    await ledger.record_outcomes(part, [verified(version("00000"))])
    assert (await ledger.job("job-1")).attempts == 0


@pytest.mark.parametrize(
    ("state", "error"), [("completed", None), ("completed", "1 remains"), ("failed", "x")]
)
async def test_a_finished_job_is_over(ledger: Ledger, state: str, error: str | None) -> None:
    claim = await running(ledger)
    await begin_pause(ledger, claim)

    await ledger.finish_job(claim, state, error)  # type: ignore[arg-type]

    job = await ledger.job("job-1")
    assert (job.state, job.error, job.held_reason) == (state, error, None)
    assert job.finished_at is not None
    record, _ = await ledger.placement("acme")
    assert record is not None
    assert record.phase == "shared"
    assert await ledger.claim_job("daemon-1", LONG) is None
    assert (await actions(ledger))[-1] == f"job.{state}"


@pytest.mark.parametrize("end", [held, finished])
async def test_a_resumed_job_is_picked_up_at_once(
    ledger: Ledger, end: Callable[[Ledger], Awaitable[JobClaim]]
) -> None:
    await end(ledger)

    job = await ledger.resume_job("job-1", "operator")

    assert (job.held_reason, job.error, job.attempts, job.finished_at) == (None, None, 0, None)
    assert (await claimed(ledger)).job.state == "running"
    assert (await actions(ledger))[-2] == "job.resumed"


async def test_resuming_forgets_the_attempts_of_failed_objects(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    await work(ledger, lambda row: ObjectOutcome(row.source, "failed", "broken"))
    await ledger.hold_job(claim, "unverified_objects", "x", None)

    await ledger.resume_job("job-1", "operator")

    again = await claimed(ledger)
    await list_all(ledger, again, versions(1))
    (row,) = await ledger.segment_rows(await segment(ledger))
    assert row.attempts == 0


@pytest.mark.parametrize("end", [cancelled, released, resumed])
async def test_only_held_and_failed_jobs_are_resumed(
    ledger: Ledger, end: Callable[[Ledger], Awaitable[JobClaim]]
) -> None:
    await end(ledger)
    with pytest.raises(ConflictError):
        await ledger.resume_job("job-1", "operator")


async def test_cancelling_ends_every_claim_and_the_pause(ledger: Ledger, other: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    part = await segment(ledger)
    await begin_pause(ledger, claim)

    job = await other.cancel_job("job-1", "operator")

    assert job.state == "cancelled"
    assert job.finished_at is not None
    for use in (
        ledger.renew_segment(part),
        ledger.release_segment(part),
        ledger.record_outcomes(part, [verified(version("00000"))]),
        ledger.finish_segment(part),
    ):
        with pytest.raises(ClaimLostError):
            await use
    assert await ledger.claim_segment("worker-1", LONG) is None
    assert await ledger.claim_job("daemon-1", LONG) is None
    record, _ = await ledger.placement("acme")
    assert record is not None
    assert record.phase == "shared"


@pytest.mark.parametrize("looking_again", [False, True])
async def test_what_others_ended_is_claimed_anew_once_the_claim_would_have_ended(
    ledger: Ledger, other: Ledger, *, looking_again: bool
) -> None:
    """Its holder, who doesn't know, may have a call under way: that ends before the claim would have."""
    await admit(ledger)
    if looking_again:
        await ledger.hold_job(await claimed(ledger), "drift", "x", 0)
    began = await ledger.now()
    former = await claimed(other, LEASE)

    if looking_again:
        await ledger.resume_job("job-1", "operator")
    else:
        await ledger.cancel_job("job-1", "operator")
        await admit(ledger, "job-2")

    assert await ledger.claim_job("daemon-2", LONG) is None
    latter: list[JobClaim | None] = []

    async def given() -> bool:
        latter.append(await ledger.claim_job("daemon-2", LONG))
        return latter[-1] is not None

    await until(given)
    assert await ledger.now() >= began + LEASE
    assert latter[-1] is not None
    assert latter[-1].job.id == ("job-1" if looking_again else "job-2")
    for use in USES.values():
        with pytest.raises(ClaimLostError):
            await use(other, former)


async def test_cancelling_again_changes_nothing(ledger: Ledger) -> None:
    await cancelled(ledger)
    before = await ledger.job("job-1"), await actions(ledger)

    assert await ledger.cancel_job("job-1", "operator") == before[0]
    assert (await ledger.job("job-1"), await actions(ledger)) == before


async def test_a_completed_job_is_not_cancelled(ledger: Ledger) -> None:
    await ledger.finish_job(await running(ledger), "completed", None)
    with pytest.raises(ConflictError):
        await ledger.cancel_job("job-1", "operator")


async def test_cancelling_a_waiting_job_leaves_another_ones_pause(ledger: Ledger) -> None:
    claim = await running(ledger)
    await admit(ledger, "job-2")
    paused = await begin_pause(ledger, claim)

    await ledger.cancel_job("job-2", "operator")

    assert (await ledger.placement("acme"))[0] == paused


async def test_unknown_jobs_are_said_to_be(ledger: Ledger) -> None:
    for use in (ledger.job("no"), ledger.resume_job("no", "p"), ledger.cancel_job("no", "p")):
        with pytest.raises(UnknownJobError):
            await use


async def test_jobs_come_newest_first_and_no_more_than_asked(ledger: Ledger) -> None:
    for number in range(4):
        await admit(ledger, f"job-{number}", "acme" if number % 2 else "rival")
    claim = await claimed(ledger)

    assert ids(await ledger.jobs()) == ["job-3", "job-2", "job-1", "job-0"]
    assert ids(await ledger.jobs(limit=2)) == ["job-3", "job-2"]
    assert ids(await ledger.jobs(tenant="acme")) == ["job-3", "job-1"]
    assert ids(await ledger.jobs(state="running")) == [claim.job.id]
    assert ids(await ledger.jobs(state="queued", tenant="rival")) == ["job-2"]
    for limit in (0, 1001):
        with pytest.raises(RefusedError):
            await ledger.jobs(limit=limit)


async def test_the_summary_counts(ledger: Ledger) -> None:
    assert (await ledger.summary()).oldest_queued_at is None
    for number in range(3):
        await admit(ledger, f"job-{number}", f"tenant-{number}")
    await ledger.hold_job(await claimed(ledger), "drift", "x", None)
    claim = await claimed(ledger)
    await ledger.set_key_state(claim, "active")

    summary = await ledger.summary()

    assert summary.jobs == {("migrate", state): 1 for state in ("held", "running", "queued")}
    assert summary.held == {"drift": 1}
    assert summary.keys == {"pending": 2, "active": 1}
    assert summary.oldest_queued_at == (await ledger.job("job-2")).created_at


async def test_a_job_that_is_not_due_waits_for_nobody_and_afterwards_since_then(ledger: Ledger) -> None:
    due_at = await ledger.now() + 1.0
    await admit(ledger, "later", not_before=utc_timestamp(due_at))
    await admit(ledger, "overdue", "other", not_before="2020-01-01T00:00:00Z")
    admitted_at = (await ledger.job("overdue")).created_at

    assert (await ledger.summary()).oldest_queued_at == admitted_at
    await ledger.cancel_job("overdue", "an operator")
    assert (await ledger.summary()).oldest_queued_at is None

    async def due() -> bool:
        return (await ledger.summary()).oldest_queued_at is not None

    await until(due)
    assert (await ledger.summary()).oldest_queued_at == pytest.approx(due_at, abs=0.002)
