"""Loading a tenant into the vendor's shared bucket, as a backup service would, and remembering what was sent."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from rekeyd.demo.dataset import Item

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 8 * 1024**2
"""What is larger is sent in parts of this size."""

LOADS_MAX = 16

HEADER_FIELDS: dict[str, str] = {
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "content-type": "ContentType",
    "expires": "Expires",
}
"""The names under which botocore takes the headers of an object."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was sent of one object."""

    size_bytes: int
    sha256: str
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: Mapping[str, str]


async def load(
    s3: S3Client, bucket: str, prefix: str, items: Sequence[Item], loaded_one: Callable[[Loaded], None]
) -> dict[str, Loaded]:
    """Load every item below the prefix; gives what was sent, by the item's own key.

    At most `LOADS_MAX` objects are under way, each with one part in memory.
    """
    loaded: dict[str, Loaded] = {}
    left = iter(items)

    async def work() -> None:
        for item in left:
            loaded[item.key] = await _load_one(s3, bucket, prefix + item.key, item)
            loaded_one(loaded[item.key])

    async with asyncio.TaskGroup() as group:
        for _ in range(LOADS_MAX):
            group.create_task(work())
    return loaded


async def _load_one(s3: S3Client, bucket: str, key: str, item: Item) -> Loaded:
    digest = hashlib.sha256()
    parts = item.content.parts(PART_BYTES)
    if item.content.size_bytes <= PART_BYTES:
        body = b"".join(parts)
        digest.update(body)
        size_bytes = len(body)
        await s3.put_object(
            Bucket=bucket, Key=key, Body=body, ChecksumAlgorithm=item.checksum, **_attributes(item)
        )
    else:
        size_bytes = await _load_in_parts(s3, bucket, key, item, _hashed(parts, digest.update))
    return Loaded(size_bytes, digest.hexdigest(), item.headers, item.metadata, item.tags)


async def _load_in_parts(s3: S3Client, bucket: str, key: str, item: Item, parts: Iterator[bytes]) -> int:
    upload = await s3.create_multipart_upload(
        Bucket=bucket,
        Key=key,
        ChecksumAlgorithm="CRC64NVME",
        ChecksumType="FULL_OBJECT",
        **_attributes(item),
    )
    completed: list[CompletedPartTypeDef] = []
    size_bytes = 0
    # Reading, making and hashing 8 MiB would keep the loop from everything else.
    while (body := await asyncio.to_thread(next, parts, None)) is not None:
        number = len(completed) + 1
        part = await s3.upload_part(
            Bucket=bucket,
            Key=key,
            UploadId=upload["UploadId"],
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm="CRC64NVME",
        )
        completed.append({"PartNumber": number, "ETag": part["ETag"]})
        size_bytes += len(body)
    await s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload["UploadId"], MultipartUpload={"Parts": completed}
    )
    return size_bytes


def _hashed(parts: Iterator[bytes], update: Callable[[bytes], None]) -> Iterator[bytes]:
    for part in parts:
        update(part)
        yield part


def _attributes(item: Item) -> dict[str, Any]:
    attributes: dict[str, Any] = {HEADER_FIELDS[name]: value for name, value in item.headers.items()}
    if item.metadata:
        attributes["Metadata"] = dict(item.metadata)
    if item.tags:
        attributes["Tagging"] = urlencode(item.tags)
    return attributes
