"""Claims kept alive: renewed while work goes on, and asked before each mutating call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Never

import structlog

from rekeyd.domain.errors import ClaimLostError, LedgerError

log = structlog.get_logger()

RENEWALS_IN_TIME = 3
"""A claim is renewed so many times within the part of its lease in which a call may still start.

So one renewal may fail, or be late, and still no call is refused.
"""

_CLOCK_STEP_SECONDS = 0.001
"""A deadline has passed once the clock is beyond it, not at it."""


class KeptClaim:
    """A claim on the event loop's clock: how long it is certain to last, counted from before it was asked for.

    The database's lease began no earlier than our asking, so this end is never later than the database's,
    as long as both clocks run equally fast.

    It remembers the calls that got no answer, which may take effect until their deadlines. Until then it isn't
    given up: whoever claimed the work next could read the target, find nothing there, and be wrong a moment later.
    That the object has been verified since changes nothing: once its copy is swept, the condition holds anew.
    Where we can't wait, the lease runs out by itself, later than any such deadline.
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
        self._acting_until = -math.inf
        """The latest deadline of a call that got no answer."""

    def call_deadline(self) -> float:
        """See LiveClaim: the deadline of a mutating call that starts now; the claim outlives it."""
        if self._ended:
            raise ClaimLostError("the claim was ended")
        return self.closing_deadline()

    def closing_deadline(self) -> float:
        """See LiveClaim: a cancelled job's uploads are still to be aborted."""
        deadline = asyncio.get_running_loop().time() + self._call_seconds_max
        if deadline > self._ends_at:
            raise ClaimLostError("the claim doesn't outlive a call that would start now")
        return deadline

    def unanswered(self, deadline: float) -> None:
        """See LiveClaim."""
        self._acting_until = max(self._acting_until, deadline)

    def is_settled(self) -> bool:
        """Whether no call made under this claim can take effect any more."""
        return asyncio.get_running_loop().time() > self._acting_until

    async def settle(self) -> None:
        """Wait until it is: what is read then is what the calls have left."""
        while not self.is_settled():  # noqa: ASYNC110 - only time settles it
            await asyncio.sleep(self._acting_until - asyncio.get_running_loop().time() + _CLOCK_STEP_SECONDS)

    def end(self) -> None:
        """From now on no mutating call starts under this claim, but for those that give up what was begun."""
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
