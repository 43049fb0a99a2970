"""Locks, archives and foreign keys: what can't be deleted, and what can't be read."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from datetime import UTC, datetime

import pytest
from awscrt.checksums import crc64nvme

from rekeyd.domain.errors import ArchivedError, CustomerKeyError, StoreRefusedError
from rekeyd.domain.objects import Attributes, ByteSpan, ObjectLock, ObjectVersion
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import OLDER_LEFT, IfAbsent, IfMatches, Written
from tests.contract.stores.conftest import Stand
from tests.patience import HANG_SECONDS

CUSTOMER_KEY = bytes(range(32))


def until(seconds: float) -> str:
    """A time so far ahead, in whole seconds: SeaweedFS keeps no fraction."""
    return datetime.fromtimestamp(int(time.time() + seconds), UTC).isoformat()


DAY_SECONDS = 86_400.0
LOCKS = {
    "governance": lambda: ObjectLock("GOVERNANCE", until(DAY_SECONDS)),
    "compliance": lambda: ObjectLock("COMPLIANCE", until(DAY_SECONDS)),
    "held": lambda: ObjectLock(legal_hold=True),
    "both": lambda: ObjectLock("GOVERNANCE", until(DAY_SECONDS), legal_hold=True),
}


async def locked(stand: Stand, name: str, lock: ObjectLock | None) -> ObjectVersion:
    written = await stand.put(name, b"data", attributes=Attributes(lock=lock))
    return ObjectVersion(stand.prefix + name, 4, written.etag, written.version_id)


async def lock_of(stand: Stand, version: ObjectVersion) -> ObjectLock | None:
    return (await stand.store.head(stand.bucket, version.key, version.version_id)).attributes.lock


async def copied(stand: Stand, source: ObjectVersion, **about: object) -> Written:
    arguments: dict[str, object] = {
        "source_bucket": stand.bucket,
        "source": source,
        "condition": IfAbsent(),
        "under": stand.under,
        "claim": stand.claim,
        **about,
    }
    return await stand.store.copy(stand.bucket, stand.prefix + "copy", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", LOCKS)
async def test_a_locked_version_stays(locking: Stand, kind: str) -> None:
    lock = LOCKS[kind]()
    version = await locked(locking, "a", lock)
    other = await locked(locking, "b", None)

    assert await lock_of(locking, version) == lock
    async with locking.store.read(locking.bucket, version) as stream:
        assert stream.head.attributes.lock == lock
    for batch in ([version], [version, other]):
        outcomes = await locking.store.delete(locking.bucket, batch, claim=locking.claim)
        assert [outcome.result for outcome in outcomes] == ["failed", "deleted"][: len(batch)]
        assert outcomes[0].detail
    assert await locking.content(version) == b"data"


async def test_an_unlocked_version_has_no_lock(locking: Stand) -> None:
    assert await lock_of(locking, await locked(locking, "a", None)) is None


@pytest.mark.parametrize("others", [0, 1])
async def test_nothing_newer_than_a_locked_version_is_deleted(locking: Stand, others: int) -> None:
    first = await locked(locking, "a", ObjectLock(legal_hold=True))
    written = await locking.put("a", b"next", condition=IfMatches(first.etag))
    second = ObjectVersion(first.key, 4, written.etag, written.version_id)
    more = [await locked(locking, f"b{number}", None) for number in range(others)]

    outcomes = await locking.store.delete(locking.bucket, [first, second, *more], claim=locking.claim)

    assert [outcome.result for outcome in outcomes] == ["failed", "failed", *["deleted"] * others]
    assert outcomes[1].detail == OLDER_LEFT
    assert await locking.history("a") == (first, second)


async def test_a_lock_lets_a_version_be_hidden_and_replaced(locking: Stand) -> None:
    version = await locked(locking, "a", ObjectLock(legal_hold=True))

    await locking.store.hide(
        locking.bucket, version.key, condition=IfMatches(version.etag), claim=locking.claim
    )
    await locking.put("a", b"next")

    assert await locking.content(version) == b"data"


async def test_a_version_goes_once_its_retention_is_over(locking: Stand) -> None:
    version = await locked(locking, "a", ObjectLock("COMPLIANCE", until(3)))
    (first,) = await locking.store.delete(locking.bucket, [version], claim=locking.claim)
    assert first.result == "failed"

    async with asyncio.timeout(HANG_SECONDS):
        while True:
            (outcome,) = await locking.store.delete(locking.bucket, [version], claim=locking.claim)
            if outcome.result == "deleted":
                break
            await asyncio.sleep(0.2)

    assert await locking.history("a") == ()


async def test_a_lock_that_cannot_be_is_refused(versioned: Stand, locking: Stand) -> None:
    with locking.guarantees("timely_locks"), pytest.raises(StoreRefusedError):
        await locked(locking, "a", ObjectLock("GOVERNANCE", "2001-01-01T00:00:00Z"))
    locking.bucket = locking.bucket.removesuffix("-locking")
    with pytest.raises(StoreRefusedError):
        await locked(locking, "a", ObjectLock(legal_hold=True))


@pytest.mark.parametrize("crc", [None, crc64nvme(b"data")], ids=["unknown", "known"])
async def test_a_lock_needs_no_checksum_of_ours(locking: Stand, crc: int | None) -> None:
    lock = ObjectLock("GOVERNANCE", until(DAY_SECONDS))

    written = await locking.put("a", b"data", attributes=Attributes(lock=lock), crc64nvme=crc)

    version = ObjectVersion(locking.prefix + "a", 4, written.etag, written.version_id)
    assert await lock_of(locking, version) == lock


async def test_a_copy_has_the_lock_that_it_is_given(locking: Stand) -> None:
    source = await locked(locking, "a", None)
    lock = ObjectLock("GOVERNANCE", until(DAY_SECONDS), legal_hold=True)

    with locking.guarantees("locked_copy"):
        written = await copied(locking, source, lock=lock)
        copy = ObjectVersion(locking.prefix + "copy", 4, written.etag, written.version_id)
        assert await lock_of(locking, copy) == lock


async def test_a_copy_can_be_locked_as_its_source_is(locking: Stand) -> None:
    lock = ObjectLock("GOVERNANCE", until(DAY_SECONDS), legal_hold=True)
    source = await locked(locking, "a", lock)

    with locking.guarantees("locked_alike"):
        await copied(locking, source, lock=lock)
        head = await locking.store.head(locking.bucket, locking.prefix + "copy")
        assert head.attributes.lock == lock


async def test_a_copy_with_other_attributes_has_their_lock(locking: Stand) -> None:
    source = await locked(locking, "a", None)
    lock = ObjectLock("GOVERNANCE", until(DAY_SECONDS))

    with locking.guarantees("locked_copy"):
        await copied(locking, source, attributes=Attributes(metadata={"a": "b"}, lock=lock))
        head = await locking.store.head(locking.bucket, locking.prefix + "copy")
        assert (head.attributes.metadata, head.attributes.lock) == ({"a": "b"}, lock)


async def test_a_copy_is_not_locked_by_itself(locking: Stand) -> None:
    source = await locked(locking, "a", ObjectLock(legal_hold=True))

    with locking.guarantees("unlocked_copy"):
        await copied(locking, source)
        head = await locking.store.head(locking.bucket, locking.prefix + "copy")
        assert head.attributes.lock is None


async def test_an_upload_is_locked_from_its_beginning(locking: Stand) -> None:
    lock = ObjectLock("GOVERNANCE", until(DAY_SECONDS), legal_hold=True)
    key = locking.prefix + "a"
    upload = await locking.store.begin_upload(
        locking.bucket, key, Attributes(lock=lock), under=locking.under, claim=locking.claim
    )
    part = await locking.store.put_part(upload, 1, BytesContent(b"data"), claim=locking.claim)
    written = await locking.store.complete_upload(
        upload, [part], condition=IfAbsent(), crc64nvme=None, claim=locking.claim
    )

    with locking.guarantees("locked_upload"):
        version = ObjectVersion(key, 4, written.etag, written.version_id)
        assert await lock_of(locking, version) == lock


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
async def test_what_lies_in_an_archive_is_said_and_not_read(stand: Stand, storage_class: str) -> None:
    attributes = Attributes(metadata={"a": "b"}, tags={"t": "1"}, storage_class=storage_class)
    await stand.put("a", b"data", attributes=attributes)

    head = await stand.store.head(stand.bucket, stand.prefix + "a")
    assert head.archived
    assert (head.attributes.storage_class, head.attributes.metadata) == (storage_class, {"a": "b"})
    with stand.guarantees("tags_in_archives"):
        assert await stand.store.read_tags(stand.bucket, head.version) == {"t": "1"}
    with stand.guarantees("archives"):
        for span in (None, ByteSpan(0, 1)):
            with pytest.raises(ArchivedError):
                await stand.content(head.version, span)
        with pytest.raises(ArchivedError):
            await copied(stand, head.version)


@pytest.mark.parametrize("storage_class", ["STANDARD_IA", "GLACIER_IR", "INTELLIGENT_TIERING"])
async def test_other_classes_are_read(stand: Stand, storage_class: str) -> None:
    await stand.put("a", b"data", attributes=Attributes(storage_class=storage_class))

    head = await stand.store.head(stand.bucket, stand.prefix + "a")
    assert (head.archived, head.attributes.storage_class) == (False, storage_class)
    assert await stand.content(head.version) == b"data"


async def test_what_needs_a_key_that_comes_with_the_request_is_said_to(stand: Stand) -> None:
    key = stand.prefix + "a"
    await stand.put_by_sdk(
        stand.bucket,
        key,
        b"data",
        SSECustomerAlgorithm="AES256",
        SSECustomerKey=base64.b64encode(CUSTOMER_KEY).decode(),
        SSECustomerKeyMD5=base64.b64encode(
            hashlib.md5(CUSTOMER_KEY, usedforsecurity=False).digest()
        ).decode(),
    )
    (listed,) = await stand.listed()

    with stand.guarantees("customer_keys"):
        with pytest.raises(CustomerKeyError):
            await stand.store.head(stand.bucket, key)
        with pytest.raises(CustomerKeyError):
            await stand.content(listed)
        with pytest.raises(StoreRefusedError):
            await copied(stand, listed)


async def test_what_is_encrypted_twice_is_said_to(stand: Stand) -> None:
    key = stand.prefix + "a"
    await stand.put_by_sdk(stand.bucket, key, b"data", ServerSideEncryption="aws:kms:dsse")

    with stand.guarantees("double_encryption"):
        assert (await stand.store.head(stand.bucket, key)).encryption.algorithm == "aws:kms:dsse"
