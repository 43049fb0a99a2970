"""How many calls a store gets at once, fewer when it asks for fewer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from rekeyd.domain.errors import StoreError
from rekeyd.stores.guarded.operation import Answer, Lane, Operation
from rekeyd.stores.port import ObjectStream


@dataclass(frozen=True, slots=True)
class PacePolicy:
    """The most calls of each lane that a store gets at once.

    The lanes are apart, so that a write can always have the read that feeds it. A content must open its read
    while it is being written, never before: then nothing waits in a circle.
    """

    reads_max: int = 64
    writes_max: int = 64
    controls_max: int = 64
    lowered_to: float = 0.5
    """What is left of a lane's limit after the store has asked to slow down."""
    lowered_again_after_seconds: float = 1.0
    """Calls that were under way together are told together: they count once."""


class AdaptiveLimit:
    """A number of permits that falls at once and rises slowly, handed out first come, first served."""

    def __init__(self, most: int, policy: PacePolicy, clock: Callable[[], float]) -> None:
        self._most = most
        self._limit = float(most)
        self._policy = policy
        self._clock = clock
        self._held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lowered_at: float | None = None

    @property
    def permits(self) -> int:
        """How many may be held now."""
        return max(1, int(self._limit))

    @asynccontextmanager
    async def permit(self) -> AsyncGenerator[None]:
        """Hold a permit."""
        await self._take()
        try:
            yield
        finally:
            self._held -= 1
            self._grant()

    def slow_down(self) -> None:
        """The store asks for fewer calls."""
        now = self._clock()
        if self._lowered_at is not None and now - self._lowered_at < self._policy.lowered_again_after_seconds:
            return
        self._lowered_at = now
        self._limit = max(1.0, self._limit * self._policy.lowered_to)

    def went_well(self) -> None:
        """A call succeeded: as many as there are permits make one more."""
        self._limit = min(float(self._most), self._limit + 1.0 / self._limit)
        self._grant()

    async def _take(self) -> None:
        if self._held < self.permits and not self._waiting:
            self._held += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._held -= 1  # it was granted just as we were cancelled
                self._grant()
            elif turn in self._waiting:  # who gave a permit back meanwhile has passed over it
                self._waiting.remove(turn)
            raise

    def _grant(self) -> None:
        while self._waiting and self._held < self.permits:
            turn = self._waiting.popleft()
            if not turn.done():
                self._held += 1
                turn.set_result(None)


class Pace:
    """Limits one store. It sits inside the retries: nobody holds a permit while backing off."""

    def __init__(self, store: str, policy: PacePolicy, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._lanes: Mapping[Lane, AdaptiveLimit] = {
            "read": AdaptiveLimit(policy.reads_max, policy, clock),
            "write": AdaptiveLimit(policy.writes_max, policy, clock),
            "control": AdaptiveLimit(policy.controls_max, policy, clock),
        }

    def permits(self) -> Mapping[Lane, int]:
        """How many calls of each lane the store gets at once now."""
        return {lane: limit.permits for lane, limit in self._lanes.items()}

    async def run(self, operation: Operation, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """See Guard."""
        limit = self._lanes[operation.lane]
        async with limit.permit():
            try:
                answer = await call()
            except StoreError as error:
                self._heed(error, limit)
                raise
            limit.went_well()
            return answer

    @asynccontextmanager
    async def reading(
        self, opened: AbstractAsyncContextManager[ObjectStream]
    ) -> AsyncGenerator[ObjectStream]:
        """See Guard. The permit is held until the stream is left."""
        limit = self._lanes["read"]
        async with limit.permit(), AsyncExitStack() as stack:
            try:
                stream = await stack.enter_async_context(opened)
            except StoreError as error:
                self._heed(error, limit)
                raise
            # What passes through here from now on may be another store's error.
            limit.went_well()
            yield stream

    def _heed(self, error: StoreError, limit: AdaptiveLimit) -> None:
        """Where it is this store that asks to slow down: not the one whose read feeds a write to this."""
        if error.slow_down and error.store in (None, self._store):
            limit.slow_down()
