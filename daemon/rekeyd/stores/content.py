"""Contents: bytes at hand, and bytes that are read from a store while they are written to another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rekeyd.domain.objects import ByteSpan, ObjectVersion
from rekeyd.stores.port import ObjectStore


@dataclass(frozen=True, slots=True)
class BytesContent:
    """Bytes at hand. Adapters may take them as a whole, from `data`."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return len(self.data)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Give the bytes in one chunk, or none where there are none."""
        yield self._chunks()

    async def _chunks(self) -> AsyncGenerator[bytes]:
        if self.data:
            yield self.data


@dataclass(frozen=True, slots=True)
class ReadContent:
    """A span of exactly one object version, or the whole of it, read anew at each opening.

    The read's own errors come out of it: PreconditionError where the version was replaced,
    InterruptedTransferError where the bytes end early.
    """

    store: ObjectStore
    bucket: str
    version: ObjectVersion
    span: ByteSpan | None = None
    """None for the whole object."""

    @property
    def size_bytes(self) -> int:
        """How many bytes each opening gives."""
        return self.version.size_bytes if self.span is None else self.span.size_bytes

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open the read; leaving gives it up."""
        async with self.store.read(self.bucket, self.version, self.span) as stream:
            yield stream.chunks()
