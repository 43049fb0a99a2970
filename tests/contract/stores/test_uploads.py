"""Uploads in parts: nothing shows before it is completed, and then all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from awscrt.checksums import combine_crc64nvme, crc64nvme

from rekeyd.domain.errors import (
    InterruptedTransferError,
    NotFoundError,
    PreconditionError,
    StoreError,
)
from rekeyd.domain.objects import Attributes, ByteSpan, Encryption
from rekeyd.stores.content import BytesContent, ReadContent
from rekeyd.stores.port import IfAbsent, IfMatches, Part, Upload, Written
from tests.contract.stores.conftest import Stand
from tests.contract.stores.test_writing import EVERYTHING, Chunks

PARTS = (bytes(range(256)) * 20_480, b"second" * 873_814, b"end")
DATA = b"".join(PARTS)
"""Two parts of the least size that S3 takes, and a short last one."""


async def begin(stand: Stand, name: str, attributes: Attributes = EVERYTHING) -> Upload:
    return await stand.store.begin_upload(
        stand.bucket, stand.prefix + name, attributes, under=stand.under, claim=stand.claim
    )


async def put_parts(stand: Stand, upload: Upload) -> list[Part]:
    return [
        await stand.store.put_part(upload, number, BytesContent(data), claim=stand.claim)
        for number, data in enumerate(PARTS, 1)
    ]


async def complete(stand: Stand, upload: Upload, parts: list[Part], **about: object) -> Written:
    arguments: dict[str, object] = {"condition": IfAbsent(), "crc64nvme": crc64nvme(DATA), **about}
    return await stand.store.complete_upload(upload, parts, claim=stand.claim, **arguments)  # type: ignore[arg-type]


async def test_an_upload_is_published_as_a_whole(stand: Stand) -> None:
    upload = await begin(stand, "a")
    parts = await put_parts(stand, upload)
    assert await stand.listed() == []
    assert await stand.store.list_uploads(stand.bucket, stand.prefix) == [upload]

    written = await complete(stand, upload, parts)

    head = await stand.store.head(stand.bucket, stand.prefix + "a")
    assert head.version.size_bytes == len(DATA)
    assert head.version.etag == written.etag
    assert head.encryption == Encryption("aws:kms", stand.key_arn) or stand.kind == "moto"
    assert head.attributes.headers == EVERYTHING.headers
    assert head.attributes.metadata == EVERYTHING.metadata
    assert head.attributes.storage_class == "STANDARD_IA"
    assert await stand.store.read_tags(stand.bucket, head.version) == EVERYTHING.tags
    assert await stand.content(head.version) == DATA
    assert [replace(listed, modified=None) for listed in await stand.listed()] == [head.version]
    assert await stand.store.list_uploads(stand.bucket, stand.prefix) == []


async def test_the_checksum_is_of_the_full_object(stand: Stand) -> None:
    upload = await begin(stand, "a")
    parts = await put_parts(stand, upload)
    written = await complete(stand, upload, parts)

    with stand.guarantees("echoes_part_checksum"):
        assert [part.crc64nvme for part in parts] == [crc64nvme(data) for data in PARTS]
        combined = combine_crc64nvme(crc64nvme(PARTS[0]), crc64nvme(PARTS[1]), len(PARTS[1]))
        combined = combine_crc64nvme(combined, crc64nvme(PARTS[2]), len(PARTS[2]))
        assert written.crc64nvme == combined == crc64nvme(DATA)
    head = await stand.store.head(stand.bucket, stand.prefix + "a")
    assert head.crc64nvme == crc64nvme(DATA)


async def test_a_wrong_checksum_at_complete_publishes_nothing(stand: Stand) -> None:
    upload = await begin(stand, "a")
    parts = await put_parts(stand, upload)

    with stand.guarantees("checked_complete"):
        with pytest.raises((InterruptedTransferError, StoreError)):
            await complete(stand, upload, parts, crc64nvme=1)
        assert await stand.listed() == []


async def test_complete_is_conditional(stand: Stand) -> None:
    first = await stand.put("a", b"first")
    upload = await begin(stand, "a")
    parts = await put_parts(stand, upload)

    with pytest.raises(PreconditionError):
        await complete(stand, upload, parts, condition=IfAbsent())
    assert (await stand.version("a")).etag == first.etag
    with stand.guarantees("conditional_complete"):
        with pytest.raises(PreconditionError):
            await complete(stand, upload, parts, condition=IfMatches("0" * 32))
        assert (await stand.version("a")).etag == first.etag
        await complete(stand, upload, parts, condition=IfMatches(first.etag))
        assert (await stand.version("a")).size_bytes == len(DATA)


async def test_an_aborted_upload_leaves_nothing(stand: Stand) -> None:
    upload = await begin(stand, "a")
    parts = await put_parts(stand, upload)

    await stand.store.abort_upload(upload, claim=stand.claim)
    await stand.store.abort_upload(upload, claim=stand.claim)

    assert await stand.store.list_uploads(stand.bucket, stand.prefix) == []
    assert await stand.listed() == []
    with stand.guarantees("reports_upload"), pytest.raises(NotFoundError):
        await complete(stand, upload, parts)
    assert await stand.listed() == []


async def test_a_part_that_is_written_again_is_replaced(stand: Stand) -> None:
    upload = await begin(stand, "a")
    await stand.store.put_part(upload, 1, BytesContent(b"wrong" * 1_100_000), claim=stand.claim)
    parts = await put_parts(stand, upload)

    await complete(stand, upload, parts)

    assert await stand.content(await stand.version("a")) == DATA


@pytest.mark.parametrize("given", [[b"x" * 100], [b"x" * 300_000, b"y"]], ids=["fewer", "more"])
async def test_a_part_of_another_length_is_no_part(stand: Stand, given: list[bytes]) -> None:
    upload = await begin(stand, "a")

    with pytest.raises(InterruptedTransferError):
        await stand.store.put_part(upload, 1, Chunks(300_000, given), claim=stand.claim)

    await complete(stand, upload, await put_parts(stand, upload))
    assert await stand.content(await stand.version("a")) == DATA


async def test_reads_flow_into_parts(stand: Stand) -> None:
    await stand.put("source", DATA)
    source = await stand.version("source")
    upload = await begin(stand, "a", Attributes())
    spans = [ByteSpan(0, 6_000_000), ByteSpan(6_000_000, len(DATA))]

    parts = [
        await stand.store.put_part(
            upload, number, ReadContent(stand.store, stand.bucket, source, span), claim=stand.claim
        )
        for number, span in enumerate(spans, 1)
    ]
    await complete(stand, upload, parts)

    assert await stand.content(await stand.version("a")) == DATA


async def test_parts_are_made_within_the_store(stand: Stand) -> None:
    await stand.put("source", DATA)
    source = await stand.version("source")
    upload = await begin(stand, "a", Attributes())
    spans = [ByteSpan(0, 6_000_000), ByteSpan(6_000_000, len(DATA))]

    parts = [
        await stand.store.copy_part(
            upload, number, source_bucket=stand.bucket, source=source, span=span, claim=stand.claim
        )
        for number, span in enumerate(spans, 1)
    ]
    await complete(stand, upload, parts)

    head = await stand.store.head(stand.bucket, stand.prefix + "a")
    assert await stand.content(head.version) == DATA
    assert head.crc64nvme == crc64nvme(DATA)


async def test_a_part_is_made_of_the_pinned_version_only(stand: Stand) -> None:
    await stand.put("source", DATA)
    source = await stand.version("source")
    await stand.put("source", DATA[::-1], condition=IfMatches(source.etag))
    upload = await begin(stand, "a", Attributes())

    with stand.guarantees("pinned_copy"), pytest.raises(PreconditionError):
        await stand.store.copy_part(
            upload,
            1,
            source_bucket=stand.bucket,
            source=source,
            span=ByteSpan(0, 6_000_000),
            claim=stand.claim,
        )


async def test_a_part_is_made_of_an_encrypted_object(stand: Stand) -> None:
    await stand.put("source", DATA, under=stand.under)
    source = await stand.version("source")
    upload = await begin(stand, "a", Attributes())

    with stand.guarantees("part_of_encrypted"):
        await stand.store.copy_part(
            upload,
            1,
            source_bucket=stand.bucket,
            source=source,
            span=ByteSpan(0, 6_000_000),
            claim=stand.claim,
        )


async def test_uploads_are_listed_by_prefix(stand: Stand) -> None:
    begun = [await begin(stand, name, Attributes()) for name in ("x/a b+c", "x/ü", "y/a")]

    assert set(await stand.store.list_uploads(stand.bucket, stand.prefix + "x/")) == set(begun[:2])
