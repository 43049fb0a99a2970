"""Put: conditions, atomic publication, checksums, attributes, encryption."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from awscrt.checksums import crc64nvme

from rekeyd.domain.errors import (
    ClaimLostError,
    InterruptedTransferError,
    NotFoundError,
    PreconditionError,
    StoreError,
    StoreRefusedError,
    UnavailableError,
)
from rekeyd.domain.objects import Attributes, Encryption, ObjectVersion
from rekeyd.stores.content import ReadContent
from rekeyd.stores.port import IfAbsent, IfMatches
from tests.contract.stores.conftest import Stand
from tests.doubles.claim import Claim

EVERYTHING = Attributes(
    headers={
        "cache-control": "max-age=5, no-transform",
        "content-disposition": 'attachment; filename="a b.txt"',
        "content-encoding": "gzip",
        "content-language": "de, en",
        "content-type": "text/x-thing; charset=utf-8",
        "expires": "Wed, 21 Oct 2026 07:28:00 GMT",
    },
    metadata={"plain": "a value", "encoded": "=?UTF-8?B?w6k=?=", "x-1": "1"},
    tags={"name": "value", "a b+c=d": ":/ @_.-+=", "empty": ""},
    storage_class="STANDARD_IA",
)


@dataclass
class Chunks:
    """A content that declares one size and gives what it is told to."""

    size_bytes: int
    given: Sequence[bytes | Exception]
    left: int = 0

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[AsyncIterator[bytes]]:
        try:
            yield self._chunks()
        finally:
            self.left += 1

    async def _chunks(self) -> AsyncGenerator[bytes]:
        for chunk in self.given:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


async def put_content(stand: Stand, name: str, content: Chunks) -> None:
    await stand.store.put(
        stand.bucket,
        stand.prefix + name,
        content,
        Attributes(),
        condition=IfAbsent(),
        under=None,
        crc64nvme=None,
        claim=stand.claim,
    )


async def test_what_is_put_is_read(stand: Stand) -> None:
    for name, data in {"empty": b"", "small": b"\x00\xff data", "large": bytes(range(256)) * 9000}.items():
        written = await stand.put(name, data)
        head = await stand.store.head(stand.bucket, stand.prefix + name)

        assert head.version == ObjectVersion(stand.prefix + name, len(data), written.etag)
        assert await stand.content(head.version) == data


async def test_absent_means_absent(stand: Stand) -> None:
    await stand.put("a", b"first")

    with pytest.raises(PreconditionError):
        await stand.put("a", b"second", condition=IfAbsent())

    assert await stand.content(await stand.version("a")) == b"first"


async def test_only_the_matching_version_is_overwritten(stand: Stand) -> None:
    first = await stand.put("a", b"first")
    second = await stand.put("a", b"second", condition=IfMatches(first.etag))

    with pytest.raises(PreconditionError):
        await stand.put("a", b"third", condition=IfMatches(first.etag))

    version = await stand.version("a")
    assert version.etag == second.etag
    assert await stand.content(version) == b"second"


async def test_an_absent_object_matches_nothing(stand: Stand) -> None:
    with pytest.raises((PreconditionError, NotFoundError)):
        await stand.put("a", condition=IfMatches("00000000000000000000000000000000"))

    assert await stand.listed() == []


async def test_a_checksum_that_is_sent_is_stored(stand: Stand) -> None:
    crc = crc64nvme(b"data")
    await stand.put("a", b"data", crc64nvme=crc)

    with stand.guarantees("stores_checksum"):
        assert (await stand.store.head(stand.bucket, stand.prefix + "a")).crc64nvme == crc
    with stand.guarantees("stores_checksum"):
        async with stand.store.read(stand.bucket, await stand.version("a")) as stream:
            assert stream.head.crc64nvme == crc


async def test_a_checksum_is_computed_where_none_is_sent(stand: Stand) -> None:
    await stand.put("a", b"data")

    with stand.guarantees("computes_checksum"):
        assert (await stand.store.head(stand.bucket, stand.prefix + "a")).crc64nvme == crc64nvme(b"data")


async def test_a_wrong_checksum_publishes_nothing(stand: Stand) -> None:
    with stand.guarantees("checked_put"):
        with pytest.raises(InterruptedTransferError):
            await stand.put("a", b"data", crc64nvme=1)
        assert await stand.listed() == []


@pytest.mark.parametrize(
    "given",
    [
        [b"x" * 700_000],
        [b"x" * 700_000, b"y" * 700_000],
        [b"x" * 1_000_000, b"y"],
        [],
        [b"x" * 1_000_000, InterruptedTransferError("read", "bad at the end")],
        [b"x" * 500_000, InterruptedTransferError("read", "bad in the middle")],
    ],
    ids=["fewer", "more", "one-more", "none", "fails-at-its-end", "fails"],
)
async def test_a_content_of_another_length_publishes_nothing(
    stand: Stand, given: list[bytes | Exception]
) -> None:
    content = Chunks(1_000_000, given)

    with pytest.raises(InterruptedTransferError):
        await put_content(stand, "a", content)

    assert content.left == 1
    assert await stand.listed() == []


async def test_a_content_that_should_be_empty_is(stand: Stand) -> None:
    await put_content(stand, "empty", Chunks(0, [b""]))
    with pytest.raises(InterruptedTransferError):
        await put_content(stand, "more", Chunks(0, [b"x"]))

    assert [listed.size_bytes for listed in await stand.listed()] == [0]


async def test_a_failed_put_leaves_what_stood_before(stand: Stand) -> None:
    first = await stand.put("a", b"first")

    with pytest.raises(InterruptedTransferError):
        await stand.store.put(
            stand.bucket,
            stand.prefix + "a",
            Chunks(10, [b"12345"]),
            Attributes(),
            condition=IfMatches(first.etag),
            under=None,
            crc64nvme=None,
            claim=stand.claim,
        )

    version = await stand.version("a")
    assert (version.etag, await stand.content(version)) == (first.etag, b"first")


async def test_a_read_flows_into_a_put(stand: Stand) -> None:
    data = bytes(range(256)) * 12_000
    await stand.put("source", data)
    content = ReadContent(stand.store, stand.bucket, await stand.version("source"))

    await stand.store.put(
        stand.bucket,
        stand.prefix + "target",
        content,
        Attributes(),
        condition=IfAbsent(),
        under=None,
        crc64nvme=crc64nvme(data),
        claim=stand.claim,
    )

    assert await stand.content(await stand.version("target")) == data


async def test_a_source_that_changed_is_said_by_the_put_that_reads_it(stand: Stand) -> None:
    await stand.put("source", b"x" * 1_000_000)
    version = await stand.version("source")
    content = ReadContent(stand.store, stand.bucket, version)
    await stand.put("source", b"y" * 1_000_000, condition=IfMatches(version.etag))

    with pytest.raises(PreconditionError):
        await stand.store.put(
            stand.bucket,
            stand.prefix + "target",
            content,
            Attributes(),
            condition=IfAbsent(),
            under=None,
            crc64nvme=None,
            claim=stand.claim,
        )

    with pytest.raises(NotFoundError):
        await stand.version("target")


async def test_attributes_come_back(stand: Stand) -> None:
    await stand.put("a", attributes=EVERYTHING)

    head = await stand.store.head(stand.bucket, stand.prefix + "a")
    assert head.attributes.headers == EVERYTHING.headers
    assert head.attributes.metadata == EVERYTHING.metadata
    assert head.attributes.storage_class == "STANDARD_IA"
    assert head.tag_count == 3
    assert await stand.store.read_tags(stand.bucket, head.version) == EVERYTHING.tags
    async with stand.store.read(stand.bucket, head.version) as stream:
        assert stream.head.attributes == head.attributes


async def test_metadata_in_plain_utf_8_comes_back(stand: Stand) -> None:
    with stand.guarantees("raw_metadata"):
        await stand.put("a", attributes=Attributes(metadata={"name": "naïve ☃"}))
        head = await stand.store.head(stand.bucket, stand.prefix + "a")
        assert head.attributes.metadata == {"name": "naïve ☃"}


async def test_tags_in_any_script_come_back(stand: Stand) -> None:
    with stand.guarantees("unicode_tags"):
        await stand.put("a", attributes=Attributes(tags={"größe": "☃ 1"}))
        assert await stand.store.read_tags(stand.bucket, await stand.version("a")) == {"größe": "☃ 1"}


async def test_nothing_is_added_to_an_object(stand: Stand) -> None:
    await stand.put("a")

    head = await stand.store.head(stand.bucket, stand.prefix + "a")
    assert head.attributes == Attributes({"content-type": "binary/octet-stream"})
    assert head.tag_count == 0
    assert await stand.store.read_tags(stand.bucket, head.version) == {}


async def test_a_header_that_is_not_carried_is_refused(stand: Stand) -> None:
    with pytest.raises(StoreRefusedError):
        await stand.put("a", attributes=Attributes(headers={"x-amz-acl": "public-read"}))


async def test_the_key_is_reported(stand: Stand) -> None:
    await stand.put("a", under=stand.under)

    head = await stand.store.head(stand.bucket, stand.prefix + "a")
    assert head.encryption == Encryption("aws:kms", stand.key_arn)


async def test_an_etag_is_no_hash_of_the_content(stand: Stand) -> None:
    with stand.guarantees("odd_etag"):
        written = await stand.put("a", b"data", under=stand.under)
        assert written.etag != "8d777f385d3dfec8815d20f7496026dc"


async def test_nothing_is_written_or_read_without_the_key(stand: Stand) -> None:
    await stand.put("a", under=stand.under)
    version = await stand.version("a")
    await stand.disable_key()

    with stand.guarantees("needs_key"):
        with pytest.raises(StoreError):
            await stand.content(version)
        with pytest.raises(StoreError):
            await stand.put("b", under=stand.under)
        with pytest.raises(NotFoundError):
            await stand.version("b")

    await stand.enable_key()
    assert await stand.content(version) == b"data"


async def test_a_bucket_that_is_absent_is_said(stand: Stand) -> None:
    stand.bucket = "no-such-bucket"

    for call in (stand.put("a"), stand.listed(), stand.version("a")):
        with pytest.raises(NotFoundError):
            await call


async def test_a_call_does_not_begin_past_its_deadline(stand: Stand) -> None:
    stand.claim = Claim(seconds=-1)

    with pytest.raises(ClaimLostError):
        await stand.put("a")

    assert stand.claim.asked == 1
    assert await stand.listed() == []


async def test_a_call_is_given_up_at_its_deadline(stand: Stand) -> None:
    class Endless(Chunks):
        async def _chunks(self) -> AsyncGenerator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.05)

    content = Endless(1_000_000, [])
    stand.claim = Claim(seconds=0.3)

    with pytest.raises(UnavailableError) as error:
        await put_content(stand, "a", content)

    assert error.value.outcome_unknown
    assert content.left == 1
    assert await stand.listed() == []
