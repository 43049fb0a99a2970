"""Claims on the loop's clock, outcomes on their way into the ledger, and the first of several to end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from rekeyd.domain.errors import ClaimLostError, LedgerError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.jobs.claims import KeptClaim
from rekeyd.jobs.recorder import OutcomeRecorder
from rekeyd.jobs.run import first_of
from rekeyd.ledger.port import SEGMENT_OBJECTS_MAX, ObjectLedger, ObjectOutcome, SegmentClaim

LEASE = 1.8
CALL = 0.6


class Renewals:
    """A ledger's answers to renewals: None for a success, the last one for all that follow."""

    def __init__(self, *answers: Exception | None) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self) -> None:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is not None:
            raise answer


def kept(renew: Renewals | None = None, *, age: float = 0.0) -> KeptClaim:
    return KeptClaim(
        renew or Renewals(None),
        asked_at=asyncio.get_running_loop().time() - age,
        lease_seconds=LEASE,
        call_seconds_max=CALL,
    )


async def test_a_call_may_start_while_the_claim_outlives_it() -> None:
    now = asyncio.get_running_loop().time()
    assert now + CALL <= kept(age=LEASE - CALL - 0.05).call_deadline() <= now + CALL + 0.05


@pytest.mark.parametrize("age", [LEASE - CALL + 0.001, LEASE, 10 * LEASE])
async def test_no_call_starts_that_the_claim_does_not_outlive(age: float) -> None:
    with pytest.raises(ClaimLostError):
        kept(age=age).call_deadline()


async def test_no_call_starts_once_the_claim_is_ended() -> None:
    claim = kept()
    claim.call_deadline()
    claim.end()
    with pytest.raises(ClaimLostError):
        claim.call_deadline()


async def test_a_claim_that_is_kept_outlives_its_lease() -> None:
    renew = Renewals(None)
    claim = kept(renew)
    keeping = asyncio.create_task(claim.keep())
    for _ in range(8):
        await asyncio.sleep(LEASE / 4)
        claim.call_deadline()
    keeping.cancel()
    assert renew.asked >= 3


async def test_one_renewal_in_vain_is_made_good_by_the_next() -> None:
    claim = kept(Renewals(LedgerError("away"), None))
    keeping = asyncio.create_task(claim.keep())
    await asyncio.sleep(LEASE * 1.2)
    claim.call_deadline()
    assert not keeping.done()
    keeping.cancel()


async def test_renewals_always_in_vain_lose_the_claim_in_its_time() -> None:
    claim = kept(Renewals(LedgerError("away")))
    began = asyncio.get_running_loop().time()
    with pytest.raises(ClaimLostError, match="in time"):
        await claim.keep()
    assert asyncio.get_running_loop().time() - began < LEASE * 1.8
    with pytest.raises(ClaimLostError):
        claim.call_deadline()


async def test_a_renewal_that_is_refused_ends_the_claim_at_once() -> None:
    claim = kept(Renewals(ClaimLostError("taken over")))
    with pytest.raises(ClaimLostError, match="taken over"):
        await claim.keep()
    with pytest.raises(ClaimLostError):
        claim.call_deadline()


async def test_a_renewal_counts_from_before_it_was_asked_for() -> None:
    """However long its answer takes, our end is never later than the database's."""
    asked = asyncio.Event()

    async def slow() -> None:
        asked.set()
        await asyncio.sleep(LEASE * 0.9)

    claim = KeptClaim(
        slow, asked_at=asyncio.get_running_loop().time(), lease_seconds=LEASE, call_seconds_max=CALL
    )
    keeping = asyncio.create_task(claim.keep())
    await asked.wait()
    await asyncio.sleep(LEASE * 0.95)
    with pytest.raises(ClaimLostError):
        claim.call_deadline()
    keeping.cancel()


async def test_what_was_begun_may_be_given_up_after_others_ended_the_claim_while_its_lease_lasts() -> None:
    claim = kept(Renewals(ClaimLostError("cancelled")))
    with pytest.raises(ClaimLostError, match="cancelled"):
        await claim.keep()
    with pytest.raises(ClaimLostError):
        claim.call_deadline()
    assert claim.closing_deadline() > asyncio.get_running_loop().time()
    with pytest.raises(ClaimLostError):
        kept(age=LEASE).closing_deadline()


async def test_a_claim_is_settled_once_no_call_under_it_can_act_any_more() -> None:
    claim = kept()
    assert claim.is_settled()
    deadline = claim.call_deadline()
    claim.unanswered(deadline)
    claim.unanswered(deadline - 1)  # an earlier one changes nothing
    assert not claim.is_settled()
    await claim.settle()
    assert claim.is_settled()
    assert asyncio.get_running_loop().time() > deadline


def outcome(number: int) -> ObjectOutcome:
    return ObjectOutcome(ObjectVersion(f"{number:05}", 1, "etag"), "dropped")


class Ledger:
    """Notes what is recorded, slowly, and may fail."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.batches: list[Sequence[ObjectOutcome]] = []
        self._error = error

    async def record_outcomes(self, claim: SegmentClaim, outcomes: Sequence[ObjectOutcome]) -> None:
        self.batches.append(outcomes)
        await asyncio.sleep(0.01)
        if self._error is not None:
            raise self._error

    def recorder(self) -> OutcomeRecorder:
        return OutcomeRecorder(cast("ObjectLedger", self), cast("SegmentClaim", None))

    @property
    def recorded(self) -> list[ObjectOutcome]:
        return [each for batch in self.batches for each in batch]


async def test_what_gathers_while_a_commit_is_under_way_shares_the_next_one() -> None:
    ledger = Ledger()
    async with ledger.recorder() as recorder:
        recorder.add(outcome(0))
        await asyncio.sleep(0.005)
        for number in range(1, 2 * SEGMENT_OBJECTS_MAX):
            recorder.add(outcome(number))
    assert ledger.recorded == [outcome(number) for number in range(2 * SEGMENT_OBJECTS_MAX)]
    assert [len(batch) for batch in ledger.batches] == [1, SEGMENT_OBJECTS_MAX, SEGMENT_OBJECTS_MAX - 1]


async def test_nothing_to_record_commits_nothing() -> None:
    ledger = Ledger()
    async with ledger.recorder():
        await asyncio.sleep(0)
    assert ledger.batches == []


async def test_a_commit_that_fails_is_raised_by_the_next_outcome() -> None:
    async def work() -> None:
        async with Ledger(error=ClaimLostError("taken over")).recorder() as recorder:
            recorder.add(outcome(0))
            await asyncio.sleep(0.03)
            recorder.add(outcome(1))
            pytest.fail("it was not raised")

    with pytest.raises(ClaimLostError, match="taken over"):
        await work()


async def test_a_commit_that_fails_last_is_raised_on_leaving() -> None:
    with pytest.raises(LedgerError, match="away"):
        async with Ledger(error=LedgerError("away")).recorder() as recorder:
            recorder.add(outcome(0))


@pytest.mark.parametrize("error", [None, LedgerError("away")])
async def test_the_works_own_error_is_the_one_that_is_raised_and_what_was_done_is_recorded(
    error: Exception | None,
) -> None:
    ledger = Ledger(error=error)

    async def work() -> None:
        async with ledger.recorder() as recorder:
            recorder.add(outcome(0))
            raise LookupError("the work")

    with pytest.raises(LookupError, match="the work"):
        await work()
    assert ledger.recorded == [outcome(0)]


async def test_what_was_done_before_a_cancellation_is_recorded() -> None:
    ledger = Ledger()

    async def work() -> None:
        async with ledger.recorder() as recorder:
            recorder.add(outcome(0))
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ledger.recorded == [outcome(0)]


async def _after(seconds: float, result: str, ended: list[str] | None = None) -> str:
    try:
        await asyncio.sleep(seconds)
    finally:
        if ended is not None:
            ended.append(result)
    return result


async def _fails(seconds: float) -> str:
    await asyncio.sleep(seconds)
    raise LookupError("this one")


async def test_the_first_to_end_gives_the_result_and_the_others_have_ended() -> None:
    ended: list[str] = []
    first = await first_of(_after(10, "slow", ended), _after(0.01, "fast"), _after(10, "slower", ended))
    assert first == "fast"
    assert ended == ["slow", "slower"]


async def test_the_first_to_fail_gives_its_error() -> None:
    ended: list[str] = []
    with pytest.raises(LookupError, match="this one"):
        await first_of(_after(10, "slow", ended), _fails(0.01))
    assert ended == ["slow"]


async def test_of_several_that_have_ended_the_first_one_named_counts() -> None:
    assert await first_of(_after(0, "story"), _fails(0)) == "story"


async def test_cancelled_all_are_cancelled_and_awaited() -> None:
    ended: list[str] = []
    waiting = asyncio.create_task(first_of(_after(10, "a", ended), _after(10, "b", ended)))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == ["a", "b"]
