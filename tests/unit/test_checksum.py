from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekeyd.domain.errors import InterruptedTransferError
from rekeyd.transfer.checksum import ObservedContent, combined_crc64nvme, crc64nvme


def test_the_published_check_value() -> None:
    # CRC-64/NVME of "123456789" (reveng.sourceforge.io, catalogue of parametrised CRC algorithms).
    assert crc64nvme(b"123456789") == 0xAE8B14860A799888


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_parts_combine_to_the_checksum_of_the_whole(parts: list[bytes]) -> None:
    combined = combined_crc64nvme([(crc64nvme(part), len(part)) for part in parts])
    assert combined == crc64nvme(b"".join(parts))


class Chunks:
    """A content that gives other chunks each time."""

    def __init__(self, size_bytes: int, *openings: list[bytes]) -> None:
        self.size_bytes = size_bytes
        self._openings = iter(openings)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        yield self._chunks(next(self._openings))

    async def _chunks(self, chunks: list[bytes]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk


async def _drain(content: ObservedContent) -> bytes:
    async with content.open() as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_each_opening_is_observed_from_its_first_byte_on() -> None:
    content = ObservedContent(Chunks(4, [b"ab", b"cd"], [b"wxyz"]))
    assert await _drain(content) == b"abcd"
    assert content.crc64nvme == crc64nvme(b"abcd")
    assert await _drain(content) == b"wxyz"
    assert content.crc64nvme == crc64nvme(b"wxyz")


@pytest.mark.parametrize("chunks", [[b"abc"], [b"abcde"], []])
async def test_bytes_too_few_or_too_many_are_an_interrupted_transfer(chunks: list[bytes]) -> None:
    content = ObservedContent(Chunks(4, chunks))
    with pytest.raises(InterruptedTransferError):
        await _drain(content)


async def test_what_was_not_drained_has_no_checksum() -> None:
    content = ObservedContent(Chunks(4, [b"ab", b"cd"], [b"ab", b"cd"]))
    await _drain(content)
    async with content.open() as chunks:
        await anext(chunks)
    with pytest.raises(InterruptedTransferError):
        _ = content.crc64nvme
