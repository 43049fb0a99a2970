"""A content on its way into a request's body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from rekeyd.domain.errors import InterruptedTransferError

_SLICE_BYTES = 256 * 1024


class Outflow:
    """An async iterator over a content's chunks that ends well only if there were as many bytes as declared.

    The chunk with the last byte is held back until the content has ended: one that yields too much, or fails at
    its very end (a checksum that doesn't hold, say), leaves the body incomplete, so that the store publishes
    nothing. `failure` is what went wrong: aiohttp would only say that it could not send.
    """

    def __init__(self, operation: str, chunks: AsyncIterator[bytes], size_bytes: int) -> None:
        self._operation = operation
        self._chunks = chunks
        self._left = size_bytes
        self._size_bytes = size_bytes
        self._pending: memoryview | None = None
        self._reading: asyncio.Task[object] | None = None
        self._closed = False
        self.failure: Exception | None = None

    def __aiter__(self) -> Outflow:
        """Itself: a body is sent once."""
        return self

    async def __anext__(self) -> bytes | memoryview:
        """The next bytes. Raises what is in `failure` too."""
        if self._pending is not None:
            return self._slice(self._pending)
        if self._closed or self._left == 0:
            raise StopAsyncIteration
        self._reading = asyncio.current_task()
        try:
            chunk = await self._next_chunk()
        except Exception as error:
            self.failure = error
            raise
        finally:
            self._reading = None
        return chunk if len(chunk) <= 2 * _SLICE_BYTES else self._slice(memoryview(chunk))

    async def check_empty(self) -> None:
        """Raise InterruptedTransferError where the content yields anything."""
        async for chunk in self._chunks:
            if chunk:
                raise self._mismatch("more")

    async def aclose(self) -> None:
        """Stop, and wait until nobody reads from the content any more."""
        self._closed = True
        reading = self._reading
        if reading is not None:
            # aiohttp's writer: it was cancelled with the request, but hasn't run since.
            await asyncio.wait({reading})

    async def _next_chunk(self) -> bytes:
        while True:
            chunk = await self._following()
            if chunk is None:
                raise self._mismatch("fewer")
            if chunk:
                break
        self._left -= len(chunk)
        if self._left < 0 or (self._left == 0 and await self._following()):
            raise self._mismatch("more")
        return chunk

    async def _following(self) -> bytes | None:
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            return None

    def _slice(self, pending: memoryview) -> memoryview:
        # A chunk that is large goes out in slices: one write of it all would stall the event loop.
        self._pending = pending[_SLICE_BYTES:] or None
        return pending[:_SLICE_BYTES]

    def _mismatch(self, what: str) -> InterruptedTransferError:
        return InterruptedTransferError(
            self._operation, f"the content gave {what} than the {self._size_bytes} bytes declared"
        )
