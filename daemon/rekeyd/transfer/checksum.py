"""CRC64NVME of whole objects: while their bytes flow, combined from parts, or by reading them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from awscrt import checksums

from rekeyd.domain.errors import InterruptedTransferError
from rekeyd.domain.objects import ByteSpan, ObjectVersion
from rekeyd.stores.port import Content, ObjectStore
from rekeyd.transfer.pace import ByteBudget
from rekeyd.transfer.plan import bounded_part_bytes, spans_of
from rekeyd.transfer.side_by_side import side_by_side

T = TypeVar("T")

STREAM_WINDOW_BYTES = 1024**2
"""What one flowing part holds in memory at most: the transport's buffers on both sides."""


class Repeat(Protocol):
    """The one owner of retries, for what only its reader can begin anew."""

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call, again where its error is repeatable, a bounded number of times."""


def crc64nvme(data: bytes, previous: int = 0) -> int:
    """The CRC64NVME of `data`, continuing from that of the bytes before it."""
    return int(checksums.crc64nvme(data, previous))


def combined_crc64nvme(parts: Sequence[tuple[int, int]]) -> int:
    """The CRC of the whole from the parts' (crc, size in bytes), in order; 0 for no parts."""
    whole = 0
    for part_crc, size_bytes in parts:
        whole = int(checksums.combine_crc64nvme(whole, part_crc, size_bytes))
    return whole


class ObservedContent:
    """A content whose CRC64NVME is computed from the very bytes that flow to the store."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._crc: int | None = None

    @property
    def size_bytes(self) -> int:
        """As the content itself."""
        return self._content.size_bytes

    @property
    def crc64nvme(self) -> int:
        """The CRC of the latest opening. Raises InterruptedTransferError where it was not drained.

        A store may answer before it has read all: then what it says is about other bytes.
        """
        if self._crc is None:
            raise InterruptedTransferError("put_part", "the store answered before it had all the bytes")
        return self._crc

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """The content's bytes from the first one on; what was computed before is forgotten."""
        self._crc = None
        async with self._content.open() as chunks:
            yield self._observed(chunks)

    async def _observed(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        crc, seen_bytes = 0, 0
        async for chunk in chunks:
            crc = crc64nvme(chunk, crc)
            seen_bytes += len(chunk)
            if seen_bytes == self.size_bytes:
                # Before the last bytes leave: who has them all need not come back for the end.
                self._crc = crc
            yield chunk
        if seen_bytes != self.size_bytes:
            raise InterruptedTransferError("read", f"{seen_bytes} of {self.size_bytes} bytes came")


@dataclass(frozen=True, slots=True)
class Reading:
    """How objects are read to learn their checksums."""

    part_bytes: int
    parts_in_flight_max: int
    budget: ByteBudget
    repeat: Repeat


async def read_crc64nvme(store: ObjectStore, bucket: str, version: ObjectVersion, reading: Reading) -> int:
    """Compute the CRC of exactly this version by reading all its bytes, large ones in spans side by side."""
    if version.size_bytes <= reading.part_bytes:
        return await _read_span(store, bucket, version, None, reading)
    part_bytes = bounded_part_bytes(version.size_bytes, reading.part_bytes)
    spans = spans_of(version.size_bytes, part_bytes)
    crcs = await side_by_side(
        spans,
        lambda span: _read_span(store, bucket, version, span, reading),
        at_once_max=reading.parts_in_flight_max,
    )
    return combined_crc64nvme([(crc, span.size_bytes) for crc, span in zip(crcs, spans, strict=True)])


async def _read_span(
    store: ObjectStore,
    bucket: str,
    version: ObjectVersion,
    span: ByteSpan | None,
    reading: Reading,
) -> int:
    expected_bytes = version.size_bytes if span is None else span.size_bytes

    async def once() -> int:
        crc, seen_bytes = 0, 0
        async with (
            reading.budget.hold(min(expected_bytes, STREAM_WINDOW_BYTES)),
            store.read(bucket, version, span) as stream,
        ):
            async for chunk in stream.chunks():
                crc = crc64nvme(chunk, crc)
                seen_bytes += len(chunk)
        if seen_bytes != expected_bytes:
            raise InterruptedTransferError("read", f"{seen_bytes} of {expected_bytes} bytes came")
        return crc

    return await reading.repeat(once)
