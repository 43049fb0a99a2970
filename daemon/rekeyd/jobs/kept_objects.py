"""Objects of rekeyd's own that are kept, under `.rekeyd/` in a target: written over exactly what was seen there."""

from __future__ import annotations

from rekeyd.domain.errors import PreconditionError, StoreError
from rekeyd.domain.objects import Attributes, ObjectVersion
from rekeyd.jobs.claims import KeptClaim
from rekeyd.jobs.own_objects import Ground
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import IfAbsent, IfMatches, ObjectStore
from rekeyd.transfer.checksum import crc64nvme
from rekeyd.transfer.route import head_or_none

KEPT_BYTES_MAX = 64 * 1024**2
"""The longest such object that is read whole."""


async def keep_object(ground: Ground, key: str, data: bytes, content_type: str, kept: KeptClaim) -> None:
    """Have exactly these bytes stand under the key; what stands there already isn't written again.

    A lost answer, and a refusal that may be due to a call of our own, is settled by reading once that call's deadline
    has passed. Raises StoreError where something else stands there then, or nothing does.
    """
    head = await head_or_none(ground.objects, ground.bucket, key)
    if head is not None and await _equals(ground, head.version, data):
        return
    try:
        await ground.objects.put(
            ground.bucket,
            key,
            BytesContent(data),
            Attributes({"content-type": content_type}),
            condition=IfAbsent() if head is None else IfMatches(head.version.etag),
            under=ground.under,
            crc64nvme=crc64nvme(data),
            claim=ground.claim,
        )
    except StoreError as error:
        if not (error.outcome_unknown or error.after_unknown or isinstance(error, PreconditionError)):
            raise
        await kept.settle()
        head = await head_or_none(ground.objects, ground.bucket, key)
        if head is None or not await _equals(ground, head.version, data):
            raise


async def read_kept(objects: ObjectStore, bucket: str, key: str) -> bytes | None:
    """What stands there; None for nothing, or for more than such an object has."""
    head = await head_or_none(objects, bucket, key)
    if head is None or head.version.size_bytes > KEPT_BYTES_MAX:
        return None
    return await _read(objects, bucket, head.version)


async def _read(objects: ObjectStore, bucket: str, version: ObjectVersion) -> bytes:
    async with objects.read(bucket, version) as stream:
        return b"".join([chunk async for chunk in stream.chunks()])


async def _equals(ground: Ground, version: ObjectVersion, data: bytes) -> bool:
    return version.size_bytes == len(data) and await _read(ground.objects, ground.bucket, version) == data
