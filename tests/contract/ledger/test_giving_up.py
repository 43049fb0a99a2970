"""JobLedger and ObjectLedger: claims that their own holders give up, settled or not; refusals; the canary."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from rekeyd.domain.errors import ClaimLostError
from rekeyd.ledger.port import JobClaim, Ledger
from tests.contract.ledger.stories import (
    LEASE,
    LONG,
    SHORT,
    admit,
    claimed,
    list_all,
    running,
    segment,
    until,
    versions,
)

End = Callable[[Ledger, JobClaim, bool], Awaitable[None]]


async def release(ledger: Ledger, claim: JobClaim, settled: bool) -> None:
    await ledger.release_job(claim, settled=settled)


async def hold(ledger: Ledger, claim: JobClaim, settled: bool) -> None:
    await ledger.hold_job(claim, "store_unavailable", "no answer", 0, settled=settled)


async def finish(ledger: Ledger, claim: JobClaim, settled: bool) -> None:
    await ledger.finish_job(claim, "failed", "no", settled=settled)


@pytest.mark.parametrize("end", [release, hold, finish])
async def test_a_claim_given_up_unsettled_keeps_its_lease(ledger: Ledger, end: End) -> None:
    await admit(ledger, "job-1")
    claim = await claimed(ledger, LEASE)
    await admit(ledger, "job-2")
    await end(ledger, claim, False)

    with pytest.raises(ClaimLostError):
        await ledger.renew_job(claim)
    assert await ledger.claim_job("daemon-2", LONG) is None

    async def free() -> bool:
        return await ledger.claim_job("daemon-2", LONG) is not None

    await until(free)


@pytest.mark.parametrize("end", [release, hold, finish])
async def test_a_claim_given_up_settled_ends_at_once(ledger: Ledger, end: End) -> None:
    claim = await running(ledger)
    await admit(ledger, "job-2")
    await end(ledger, claim, True)
    assert await ledger.claim_job("daemon-2", LONG) is not None


async def test_a_lease_without_its_claim_lets_nobody_work_on_the_jobs_segments(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    await ledger.release_job(claim, settled=False)
    assert await ledger.claim_segment("worker-1", LONG) is None


async def test_a_refused_segment_waits_and_is_counted(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    for count in (1, 2):
        part = await segment(ledger, holder=f"worker-{count}")
        refused_at = await ledger.now()
        await ledger.refuse_segment(part, "access_denied", f"refused {count}", SHORT, settled=True)
        with pytest.raises(ClaimLostError):
            await ledger.release_segment(part)

        async def due() -> bool:
            again = await ledger.claim_segment("worker-3", LONG)
            if again is not None:
                await ledger.release_segment(again)
            return again is not None

        await until(due)
        assert await ledger.now() >= refused_at + SHORT - 0.001, "not at once"
        assert await ledger.refused_segment(claim, count + 1) is None
        assert await ledger.refused_segment(claim, count) == (
            "access_denied",
            f"worker-{count}: refused {count}",
        )

    await ledger.begin_job(claim)
    assert await ledger.refused_segment(claim, 1) is None


async def test_a_segment_refused_unsettled_keeps_its_lease(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    part = await segment(ledger, LEASE)
    await ledger.refuse_segment(part, "store_unavailable", "no answer", 0, settled=False)
    assert await ledger.claim_segment("worker-2", LONG) is None

    async def free() -> bool:
        return await ledger.claim_segment("worker-2", LONG) is not None

    await until(free)


async def test_the_refusals_of_what_is_done_count_no_more(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    await ledger.refuse_segment(await segment(ledger), "access_denied", "no", 0, settled=True)
    part = await segment(ledger)
    await ledger.finish_segment(part)
    assert await ledger.refused_segment(claim, 1) is None


async def test_the_first_canary_of_a_move_stays(ledger: Ledger) -> None:
    claim = await running(ledger)
    assert await ledger.canary(claim.job) is None
    assert await ledger.keep_canary(claim, "one") == "one"
    assert await ledger.keep_canary(claim, "two") == "one"
    assert await ledger.canary(claim.job) == "one"
    await ledger.finish_job(claim, "failed", "no")

    await admit(ledger, "job-2")
    again = await claimed(ledger)
    assert await ledger.canary(again.job) == "one", "it is the move's"
    with pytest.raises(ClaimLostError):
        await ledger.keep_canary(claim, "three")


async def test_another_target_has_a_canary_of_its_own(ledger: Ledger) -> None:
    claim = await running(ledger)
    await ledger.keep_canary(claim, "one")
    await ledger.finish_job(claim, "failed", "no")
    await admit(ledger, "job-2", target="s3://byok-acme-2/")
    assert await ledger.canary((await claimed(ledger)).job) is None
