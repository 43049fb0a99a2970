"""Claims kept alive: renewed while work goes on, and asked before each mutating call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Never

import structlog

from rekeyd.domain.errors import ClaimLostError, LedgerError

log = structlog.get_logger()

RENEWALS_IN_TIME = 3
"""A claim is renewed so many times within the part of its lease in which a call may still start.

So one renewal may fail, or be late, and still no call is refused.
"""


class KeptClaim:
    """A claim on the event loop's clock: how long it is certain to last, counted from before it was asked for.

    The database's lease began no earlier than our asking, so this end is never later than the database's,
    as long as both clocks run equally fast.
    """

    def __init__(
        self,
        renew: Callable[[], Awaitable[None]],
        *,
        asked_at: float,
        lease_seconds: float,
        call_seconds_max: float,
    ) -> None:
        """`asked_at` is the loop's time before the claim was asked for; `renew` extends it in the ledger.

        A lease is longer than a call.
        """
        self._renew = renew
        self._lease_seconds = lease_seconds
        self._renewed_after_seconds = (lease_seconds - call_seconds_max) / RENEWALS_IN_TIME
        self._call_seconds_max = call_seconds_max
        self._ends_at = asked_at + lease_seconds
        self._ended = False

    def call_deadline(self) -> float:
        """See LiveClaim: the deadline of a mutating call that starts now; the claim outlives it."""
        deadline = asyncio.get_running_loop().time() + self._call_seconds_max
        if self._ended or deadline > self._ends_at:
            raise ClaimLostError("the claim doesn't outlive a call that would start now")
        return deadline

    def end(self) -> None:
        """From now on no mutating call starts under this claim."""
        self._ended = True

    async def keep(self) -> Never:
        """Renew until cancelled. Raises ClaimLostError once it is lost, or can't be renewed in time."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._renewed_after_seconds)
            asked_at = loop.time()
            try:
                await self._renew()
            except ClaimLostError:
                self.end()
                raise
            except LedgerError as error:
                log.warning("claim_not_renewed", error=str(error))
                if loop.time() >= self._ends_at:
                    raise ClaimLostError("the claim couldn't be renewed in time") from error
            else:
                self._ends_at = asked_at + self._lease_seconds
