"""A kept claim lets calls start without a gap, and never one that it wouldn't outlive."""

from __future__ import annotations

import asyncio

import pytest

from rekeyd.domain.errors import ClaimLostError, LedgerError
from rekeyd.jobs.claims import KeptClaim

LEASE_SECONDS, CALL_SECONDS_MAX = 3.0, 2.0  # as short a lease as the settings allow for such calls


def kept_claim(failures: set[int]) -> tuple[KeptClaim, list[float]]:
    """A claim asked for just now, and when it was renewed; renewals with these numbers fail."""
    loop = asyncio.get_running_loop()
    renewals: list[float] = []

    async def renew() -> None:
        renewals.append(loop.time())
        if len(renewals) in failures:
            raise LedgerError("busy")

    kept = KeptClaim(
        renew, asked_at=loop.time(), lease_seconds=LEASE_SECONDS, call_seconds_max=CALL_SECONDS_MAX
    )
    return kept, renewals


@pytest.mark.parametrize("failures", [set[int](), {2}])
async def test_calls_start_at_any_time_while_it_is_kept(failures: set[int]) -> None:
    kept, renewals = kept_claim(failures)
    keeping = asyncio.create_task(kept.keep())
    while len(renewals) < 4:
        kept.call_deadline()
        await asyncio.sleep(0.02)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_no_call_starts_that_it_would_not_outlive() -> None:
    kept, _ = kept_claim(set())
    ends_at = asyncio.get_running_loop().time() + LEASE_SECONDS
    assert kept.call_deadline() <= ends_at
    await asyncio.sleep(LEASE_SECONDS - CALL_SECONDS_MAX + 0.01)
    with pytest.raises(ClaimLostError):
        kept.call_deadline()


async def test_one_that_cannot_be_renewed_is_lost() -> None:
    kept, _ = kept_claim(set(range(100)))
    with pytest.raises(ClaimLostError):
        await kept.keep()
