"""Reads: pinned, exact, or an error."""

from __future__ import annotations

import pytest

from rekeyd.domain.errors import NotFoundError, PreconditionError
from rekeyd.domain.objects import ByteSpan, ObjectVersion
from rekeyd.stores.port import IfMatches
from tests.contract.stores.conftest import Stand


@pytest.mark.parametrize(
    ("first", "end"), [(0, 1), (0, 300_000), (299_999, 300_000), (1, 65_537), (65_536, 131_072)]
)
async def test_a_span_is_exact(stand: Stand, first: int, end: int) -> None:
    data = bytes(range(250)) * 1200
    await stand.put("a", data)
    version = await stand.version("a")

    async with stand.store.read(stand.bucket, version, ByteSpan(first, end)) as stream:
        assert stream.head.version == version
        assert stream.head.crc64nvme is None
        assert b"".join([chunk async for chunk in stream.chunks()]) == data[first:end]


async def test_spans_of_an_encrypted_object_are_exact(stand: Stand) -> None:
    data = bytes(range(250)) * 40_000
    await stand.put("a", data, under=stand.under)
    version = await stand.version("a")

    for first, end in ((0, 17), (4_194_303, 4_194_305), (15, 8_388_609), (9_999_999, 10_000_000)):
        assert await stand.content(version, ByteSpan(first, end)) == data[first:end]


async def test_an_empty_span_is_refused(stand: Stand) -> None:
    await stand.put("a")
    with pytest.raises(ValueError, match="empty"):
        await stand.content(await stand.version("a"), ByteSpan(1, 1))


async def test_a_version_that_was_replaced_is_not_read(stand: Stand) -> None:
    await stand.put("a", b"first")
    first = await stand.version("a")
    await stand.put("a", b"other", condition=IfMatches(first.etag))

    for span in (None, ByteSpan(0, 3)):
        with pytest.raises(PreconditionError):
            await stand.content(first, span)


async def test_a_version_that_is_gone_is_not_read(stand: Stand) -> None:
    await stand.put("a")
    version = await stand.version("a")
    await stand.store.delete(stand.bucket, [version], claim=stand.claim)

    for call in (stand.content(version), stand.version("a"), stand.store.read_tags(stand.bucket, version)):
        with pytest.raises(NotFoundError):
            await call


async def test_a_read_that_is_left_early_harms_nobody(stand: Stand) -> None:
    await stand.put("a", b"x" * 3_000_000)
    version = await stand.version("a")

    for _ in range(20):
        async with stand.store.read(stand.bucket, version) as stream:
            async for chunk in stream.chunks():
                assert chunk
                break

    assert len(await stand.content(version)) == 3_000_000


async def test_an_id_of_no_version_is_not_found(stand: Stand) -> None:
    await stand.put("a")
    with pytest.raises(Exception, match=r".+"):
        await stand.content(ObjectVersion(stand.prefix + "a", 4, "0" * 32, "no-such-version"))
