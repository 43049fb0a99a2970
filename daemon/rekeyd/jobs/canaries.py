"""Canaries: objects of rekeyd's own in dedicated buckets, by which is shown whether the tenant's data can be read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from rekeyd.domain.errors import AccessDeniedError, KeyUnusableError, StoreError
from rekeyd.domain.objects import KEY_CANARIES, Location, ObjectVersion
from rekeyd.jobs.preflight import holds_tenant_objects
from rekeyd.jobs.provision import CANARY_KEY
from rekeyd.jobs.tools import Store
from rekeyd.transfer.route import head_or_none

Readability = Literal[
    "empty",  # there is no bucket, or nothing of the tenant's in it
    "readable",  # its canary was read
    "unreadable",  # reading it fails, for want of the key or by the bucket's policy
    "unknown",  # the store says nothing, or the canary is gone
]


def key_canary(key_arn: str) -> str:
    """The key, in a dedicated bucket, of the canary that lies under this KMS key, whatever the default is."""
    return KEY_CANARIES + hashlib.sha256(key_arn.encode()).hexdigest()[:16]


async def readability(store: Store, location: Location, key_arns: Sequence[str] = ()) -> Readability:
    """Whether what lies in a dedicated bucket can be read just now, by trying. Reads only; nothing is repeated.

    Tried are the bucket's canary and those of the keys. One that can be read is enough to call it `readable`, one of
    which nobody knows enough to call it `unknown`.
    """
    seen = await _bucket_canary(store, location)
    for key_arn in key_arns:
        if seen in ("readable", "unknown", "empty"):
            break
        of_key = await _key_canary(store, location.bucket, key_canary(key_arn))
        seen = of_key or seen
    return seen


async def _key_canary(store: Store, bucket: str, key: str) -> Readability | None:
    """None where the key has none."""
    try:
        head = await head_or_none(store.objects_once, bucket, key)
    except AccessDeniedError:
        return "unreadable"
    except StoreError:
        return "unknown"
    return None if head is None else await _reading(store, bucket, head.version)


async def _bucket_canary(store: Store, location: Location) -> Readability:
    objects, bucket = store.objects_once, location.bucket
    try:
        if await store.buckets.describe(bucket) is None:
            return "empty"
        head = await head_or_none(objects, bucket, CANARY_KEY)
        if head is None:
            return "unknown" if await holds_tenant_objects(store, location) else "empty"
    except AccessDeniedError:
        return "unreadable"
    except StoreError:
        return "unknown"
    return await _reading(store, bucket, head.version)


async def _reading(store: Store, bucket: str, canary: ObjectVersion) -> Readability:
    objects = store.objects_once
    try:
        async with objects.read(bucket, canary) as stream:
            async for _ in stream.chunks():
                pass
    except (AccessDeniedError, KeyUnusableError):
        return "unreadable"
    except StoreError:
        # SeaweedFS answers 500 where the key service refuses. Where it answers all else, that is what it was.
        return "unknown" if store.is_aws else await _answers(store, bucket)
    return "readable"


async def _answers(store: Store, bucket: str) -> Readability:
    try:
        await store.objects_once.head(bucket, CANARY_KEY)
    except StoreError:
        return "unknown"
    return "unreadable"
