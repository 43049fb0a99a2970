"""Copies within a store."""

from __future__ import annotations

import pytest
from awscrt.checksums import crc64nvme

from rekeyd.domain.errors import NotFoundError, PreconditionError
from rekeyd.domain.objects import Encryption, ObjectVersion
from rekeyd.stores.port import IfAbsent, IfMatches, WriteCondition, Written
from tests.contract.stores.conftest import Stand
from tests.contract.stores.test_writing import EVERYTHING


async def copy(
    stand: Stand, name: str, source: ObjectVersion, condition: WriteCondition | None = None
) -> Written:
    return await stand.store.copy(
        stand.bucket,
        stand.prefix + name,
        source_bucket=stand.bucket,
        source=source,
        condition=condition or IfAbsent(),
        under=stand.under,
        storage_class="STANDARD_IA",
        claim=stand.claim,
    )


async def test_all_of_an_object_is_copied(stand: Stand) -> None:
    await stand.put("a b+ü%", b"data" * 1000, attributes=EVERYTHING)

    written = await copy(stand, "copy", await stand.version("a b+ü%"))

    head = await stand.store.head(stand.bucket, stand.prefix + "copy")
    assert head.version.etag == written.etag
    assert head.attributes.headers == EVERYTHING.headers
    assert head.attributes.metadata == EVERYTHING.metadata
    assert head.attributes.storage_class == "STANDARD_IA"
    assert await stand.store.read_tags(stand.bucket, head.version) == EVERYTHING.tags
    assert head.encryption == Encryption("aws:kms", stand.key_arn)
    assert await stand.content(head.version) == b"data" * 1000


async def test_a_copy_has_the_checksum_of_its_source(stand: Stand) -> None:
    await stand.put("a", b"data", crc64nvme=crc64nvme(b"data"))

    await copy(stand, "copy", await stand.version("a"))

    head = await stand.store.head(stand.bucket, stand.prefix + "copy")
    assert head.crc64nvme == crc64nvme(b"data")
    # It says nothing of the copied bytes, and the store says that it doesn't.
    assert not stand.store.computes_copied_checksums


async def test_a_copy_is_conditional(stand: Stand) -> None:
    await stand.put("a", b"data")
    stands = await stand.put("target", b"other")
    source = await stand.version("a")

    with stand.guarantees("conditional_copy"):
        for condition in (IfAbsent(), IfMatches("0" * 32)):
            with pytest.raises(PreconditionError):
                await copy(stand, "target", source, condition)
        assert (await stand.version("target")).etag == stands.etag
    await copy(stand, "target", source, IfMatches((await stand.version("target")).etag))
    assert await stand.content(await stand.version("target")) == b"data"


async def test_only_the_pinned_version_is_copied(stand: Stand) -> None:
    await stand.put("a", b"first")
    first = await stand.version("a")
    await stand.put("a", b"other", condition=IfMatches(first.etag))

    with stand.guarantees("pinned_copy"):
        with pytest.raises(PreconditionError):
            await copy(stand, "copy", first)
        with pytest.raises(NotFoundError):
            await stand.version("copy")


async def test_what_is_gone_is_not_copied(stand: Stand) -> None:
    with pytest.raises(NotFoundError):
        await copy(stand, "copy", ObjectVersion(stand.prefix + "a", 4, "0" * 32))


async def test_a_copy_is_readable_with_the_key_only(stand: Stand) -> None:
    await stand.put("a", b"data")
    await copy(stand, "copy", await stand.version("a"))
    await stand.disable_key()

    with stand.guarantees("needs_key"), pytest.raises(Exception, match=r".+"):
        await stand.content(await stand.version("copy"))
    assert await stand.content(await stand.version("a")) == b"data"
