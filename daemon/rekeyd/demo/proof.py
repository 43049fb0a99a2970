"""The proof: what the stores hold now, compared with what was loaded.

It asks the stores alone, with its own client, and believes no checksum: every byte is read and hashed
again. The daemon's ledger, code and log have no part in it. A proof that finds a fault says which object.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from rekeyd.demo.load import HEADER_FIELDS, Loaded
from rekeyd.domain.objects import OWN_PREFIX, Encryption, Location

if TYPE_CHECKING:
    from types_aiobotocore_kms import KMSClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef

READS_MAX = 16
CHUNK_BYTES = 1024**2
FAULTS_SHOWN = 5
SAMPLE_SMALL = 20
LARGE_BYTES = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was to be proven, whether it holds, and the first faults where it doesn't."""

    name: str
    claim: str
    checked: int
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it holds. What was compared with nothing proves nothing."""
        return self.checked > 0 and not self.faults


@dataclass(frozen=True, slots=True)
class Found:
    """One object as the store gives it now."""

    content: Loaded
    encryption: Encryption


async def read_all(
    s3: S3Client, location: Location, keys: Collection[str], read_one: Callable[[int], None]
) -> dict[str, Found | str]:
    """Read every object below the location to its last byte. For one that can't be read: why not."""
    found: dict[str, Found | str] = {}
    left = iter(keys)

    async def work() -> None:
        for key in left:
            found[key] = await _read(s3, location, key)
            read_one(len(found))

    async with asyncio.TaskGroup() as group:
        for _ in range(READS_MAX):
            group.create_task(work())
    return found


async def _read(s3: S3Client, location: Location, key: str) -> Found | str:
    name = location.prefix + key
    try:
        answer = await s3.get_object(Bucket=location.bucket, Key=name)
        digest, size_bytes = hashlib.sha256(), 0
        async with answer["Body"] as body:
            async for chunk in body.iter_chunks(CHUNK_BYTES):
                digest.update(chunk)
                size_bytes += len(chunk)
        tags = await _tags(s3, location.bucket, name) if answer.get("TagCount") else {}
    except (BotoCoreError, ClientError) as error:
        return f"can't be read: {error}"
    return Found(
        Loaded(
            size_bytes,
            digest.hexdigest(),
            _headers(answer),
            dict(answer["Metadata"]),
            tags,
        ),
        Encryption(answer.get("ServerSideEncryption", ""), answer.get("SSEKMSKeyId", "")),
    )


async def _tags(s3: S3Client, bucket: str, name: str) -> dict[str, str]:
    tagging = await s3.get_object_tagging(Bucket=bucket, Key=name)
    return {tag["Key"]: tag["Value"] for tag in tagging["TagSet"]}


def _headers(answer: GetObjectOutputTypeDef) -> dict[str, str]:
    # Expires is compared as it was sent: botocore would make a time of it.
    sent = answer["ResponseMetadata"]["HTTPHeaders"]
    return {name: sent[name] for name in HEADER_FIELDS if name in sent}


async def listed(s3: S3Client, location: Location) -> list[str]:
    """Every key below the location, without the location's prefix, as often as it is listed."""
    keys: list[str] = []
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=location.prefix)
    async for page in pages:
        keys += [item["Key"].removeprefix(location.prefix) for item in page.get("Contents", [])]
    return keys


def present_once(keys: Iterable[str], loaded: Collection[str]) -> Finding:
    """Every loaded object is listed in the target once, and nothing but rekeyd's own beside them."""
    counted = Counter(key for key in keys if not key.startswith(OWN_PREFIX))
    faults = [
        *(f"{key}: missing" for key in loaded if key not in counted),
        *(f"{key}: listed {times} times" for key, times in counted.items() if times > 1),
        *(f"{key}: was never loaded" for key in counted if key not in loaded),
    ]
    return _finding("present_once", "every object is in the target once, and nothing else", loaded, faults)


def same_bytes(loaded: Mapping[str, Loaded], found: Mapping[str, Found | str]) -> Finding:
    """Every object's bytes are those that were sent, by SHA-256."""

    def fault(sent: Loaded, there: Loaded) -> str:
        if sent.size_bytes != there.size_bytes:
            return f"{there.size_bytes} bytes, {sent.size_bytes} were loaded"
        return "" if sent.sha256 == there.sha256 else "other bytes than were loaded"

    faults = _compared(loaded, found, lambda sent, there: fault(sent, there.content))
    return _finding("same_bytes", "every byte is as it was loaded (SHA-256)", loaded, faults)


def same_attributes(loaded: Mapping[str, Loaded], found: Mapping[str, Found | str]) -> Finding:
    """Every object's headers, metadata and tags are those that were sent."""

    def fault(sent: Loaded, there: Loaded) -> str:
        pairs = (
            ("headers", sent.headers, there.headers),
            ("metadata", sent.metadata, there.metadata),
            ("tags", sent.tags, there.tags),
        )
        return "; ".join(
            f"{what} {dict(now)}, loaded with {dict(then)}" for what, then, now in pairs if then != now
        )

    faults = _compared(loaded, found, lambda sent, there: fault(sent, there.content))
    return _finding("same_attributes", "headers, metadata and tags are as they were loaded", loaded, faults)


def under_key(
    loaded: Mapping[str, Loaded], found: Mapping[str, Found | str], wanted: Encryption, whose: str
) -> Finding:
    """The store reports, for every object, that it lies under this key."""

    def fault(_sent: Loaded, there: Found) -> str:
        if there.encryption == wanted:
            return ""
        return f"lies under {there.encryption.algorithm or 'nothing'} {there.encryption.key}".rstrip()

    return _finding("under_key", f"every object lies under {whose}", loaded, _compared(loaded, found, fault))


def _compared(
    loaded: Mapping[str, Loaded],
    found: Mapping[str, Found | str],
    fault: Callable[[Loaded, Found], str],
) -> Iterator[str]:
    for key, sent in loaded.items():
        there = found.get(key, "was not looked for")
        said = there if isinstance(there, str) else fault(sent, there)
        if said:
            yield f"{key}: {said}"


async def source_empty(s3: S3Client, source: Location) -> Finding:
    """Nothing of the tenant is left in the source: no object, no former version, no marker."""
    left = await listed(s3, source)
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=source.bucket, Prefix=source.prefix)
    async for page in pages:
        left += [version["Key"] for version in page.get("Versions", [])]
        left += [marker["Key"] for marker in page.get("DeleteMarkers", [])]
    faults = [f"{key}: is still in the source" for key in dict.fromkeys(left)]
    return Finding("source_empty", "the source holds nothing of the tenant", 1, tuple(faults[:FAULTS_SHOWN]))


async def no_unfinished_uploads(s3: S3Client, buckets: Sequence[str]) -> Finding:
    """No multipart upload is left under way: its parts would be stored, paid for and never seen."""
    faults: list[str] = []
    for bucket in buckets:
        pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
        async for page in pages:
            faults += [f"{bucket}: {upload['Key']}" for upload in page.get("Uploads", [])]
    return _finding("no_unfinished_uploads", "no upload is left unfinished", buckets, faults)


async def untouched(
    s3: S3Client, location: Location, loaded: Mapping[str, Loaded], encryption: Encryption
) -> Finding:
    """The other tenant's objects are there as they were loaded, under the encryption that they had."""
    found = await read_all(s3, location, loaded, lambda _count: None)
    parts = (
        present_once(await listed(s3, location), loaded),
        same_bytes(loaded, found),
        same_attributes(loaded, found),
        under_key(loaded, found, encryption, "the vendor's key"),
    )
    faults = [fault for part in parts for fault in part.faults]
    return _finding("neighbour_untouched", "the other tenant's objects are untouched", loaded, faults)


def sample(loaded: Mapping[str, Loaded]) -> dict[str, Loaded]:
    """What is tried with the key disabled: every large object, and small ones from all over the tenant."""
    large = [key for key, sent in loaded.items() if sent.size_bytes > LARGE_BYTES]
    small = sorted(key for key, sent in loaded.items() if sent.size_bytes <= LARGE_BYTES)
    chosen = [*large, *small[:: max(1, len(small) // SAMPLE_SMALL)]]
    return {key: loaded[key] for key in chosen}


async def unreadable_when_disabled(
    s3: S3Client, kms: KMSClient, key_arn: str, target: Location, chosen: Mapping[str, Loaded]
) -> Finding:
    """With the key disabled the store answers no read. `s3` must not retry. The key stays disabled."""
    await kms.disable_key(KeyId=key_arn)
    faults = await _read_all_the_same(s3, target, chosen)
    return _finding("unreadable_when_disabled", "key disabled: no read succeeds", chosen, faults)


async def unreadable_when_revoked(s3: S3Client, target: Location, chosen: Mapping[str, Loaded]) -> Finding:
    """The store answers no read. `s3` must not retry."""
    faults = await _read_all_the_same(s3, target, chosen)
    return _finding("unreadable_when_revoked", "revoked: no read succeeds", chosen, faults)


async def readable_when_reinstated(s3: S3Client, target: Location, chosen: Mapping[str, Loaded]) -> Finding:
    """The same objects are read, byte for byte."""
    found = await read_all(s3, target, chosen, lambda _count: None)
    faults = same_bytes(chosen, found).faults
    return _finding("readable_when_reinstated", "reinstated: every read succeeds", chosen, faults)


async def _read_all_the_same(s3: S3Client, target: Location, chosen: Mapping[str, Loaded]) -> list[str]:
    """What could be read, and shouldn't. An answer that refuses counts, silence doesn't."""
    faults = []
    for key in chosen:
        try:
            answer = await s3.get_object(Bucket=target.bucket, Key=target.prefix + key)
            async with answer["Body"] as body:
                await body.read(1)
        except ClientError:
            continue
        faults.append(f"{key}: was read all the same")
    return faults


async def readable_when_enabled(
    s3: S3Client, kms: KMSClient, key_arn: str, target: Location, chosen: Mapping[str, Loaded]
) -> Finding:
    """With the key enabled again the same objects are read, byte for byte."""
    await kms.enable_key(KeyId=key_arn)
    found = await read_all(s3, target, chosen, lambda _count: None)
    faults = same_bytes(chosen, found).faults
    return _finding("readable_when_enabled", "key enabled again: every read succeeds", chosen, faults)


def _finding(name: str, claim: str, checked: Collection[object], faults: Iterable[str]) -> Finding:
    found = list(faults)
    shown = found[:FAULTS_SHOWN]
    if len(found) > FAULTS_SHOWN:
        shown.append(f"and {len(found) - FAULTS_SHOWN:,} more")
    return Finding(name, claim, len(checked), tuple(shown))
