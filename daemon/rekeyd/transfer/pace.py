"""The bound on the bytes that rekeyd holds in memory for objects on their way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """A fixed number of bytes that may be in flight, handed out first come, first served.

    First come, first served even where a later, smaller request would fit: a large one never starves.
    """

    def __init__(self, bytes_max: int) -> None:
        """`bytes_max` is at least 1."""
        self._bytes_max = bytes_max
        self._free_bytes = bytes_max
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def bytes_in_flight(self) -> int:
        """How many bytes are handed out."""
        return self._bytes_max - self._free_bytes

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold `size_bytes` of the budget; more than all of it counts as all of it."""
        held_bytes = min(size_bytes, self._bytes_max)
        await self._take(held_bytes)
        try:
            yield
        finally:
            self._give_back(held_bytes)

    async def _take(self, size_bytes: int) -> None:
        if not self._waiting and size_bytes <= self._free_bytes:
            self._free_bytes -= size_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._grant()  # who waited behind us may fit
            else:
                self._give_back(size_bytes)  # it was granted just as we were cancelled
            raise

    def _give_back(self, size_bytes: int) -> None:
        self._free_bytes += size_bytes
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            size_bytes, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
            elif size_bytes <= self._free_bytes:
                self._waiting.popleft()
                self._free_bytes -= size_bytes
                turn.set_result(None)
            else:
                return
