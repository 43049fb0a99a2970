"""Canaries: objects of rekeyd's own in dedicated buckets, by which is shown whether the tenant's data can be read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

from rekeyd.domain.errors import AccessDeniedError, KeyUnusableError, StoreError
from rekeyd.domain.objects import KEY_CANARIES, Location, ObjectHead, ObjectVersion
from rekeyd.jobs.preflight import holds_tenant_objects
from rekeyd.jobs.provision import CANARY_KEY
from rekeyd.jobs.tools import Store
from rekeyd.transfer.route import head_or_none

Readability = Literal[
    "empty",  # there is no bucket, or nothing of the tenant's in it
    "readable",  # its canary was read
    "refused",  # the store refuses us (403): nobody knows yet whether by the refusal, or for some reason of its own
    "unreadable",  # reading it fails for want of the key
    "unknown",  # the store says nothing, or the canary is gone
]


def key_canary(key_arn: str) -> str:
    """The key, in a dedicated bucket, of the canary that lies under this KMS key, whatever the default is."""
    return KEY_CANARIES + hashlib.sha256(key_arn.encode()).hexdigest()[:16]


async def read_canaries(
    store: Store, location: Location, key_arns: Sequence[str]
) -> Mapping[str, Readability]:
    """What comes of reading each canary in a dedicated bucket just now, by what it stands for. Nothing is repeated.

    Tried are the bucket's own canary and, of these keys, each one's that has one.
    """
    bucket = location.bucket
    seen = {bucket: await _bucket_canary(store, location)}
    if seen[bucket] == "empty":
        return seen
    for key_arn in key_arns:
        of_key = await _key_canary(store, bucket, key_canary(key_arn))
        if of_key is not None:
            seen[f"{bucket} under {key_arn}"] = of_key
    return seen


async def _key_canary(store: Store, bucket: str, key: str) -> Readability | None:
    """None where the key has none."""
    found = await _looked_at(store, bucket, key)
    return await _reading(store, bucket, found.version) if isinstance(found, ObjectHead) else found


async def _bucket_canary(store: Store, location: Location) -> Readability:
    bucket = location.bucket
    try:
        if await store.buckets.describe(bucket) is None:
            return "empty"
    except StoreError:
        return "unknown"
    found = await _looked_at(store, bucket, CANARY_KEY)
    if isinstance(found, ObjectHead):
        return await _reading(store, bucket, found.version)
    if found is not None:
        return found
    try:
        return "unknown" if await holds_tenant_objects(store, location) else "empty"
    except StoreError:
        return "unknown"


async def _looked_at(
    store: Store, bucket: str, key: str
) -> ObjectHead | Literal["refused", "unreadable", "unknown"] | None:
    """A canary's head, or why there is none to be had; None where there is no such object."""
    try:
        return await head_or_none(store.objects_once, bucket, key)
    except AccessDeniedError:
        return "refused"
    except KeyUnusableError:
        return "unreadable"
    except StoreError:
        return "unknown"


async def _reading(store: Store, bucket: str, canary: ObjectVersion) -> Readability:
    objects = store.objects_once
    try:
        async with objects.read(bucket, canary) as stream:
            async for _ in stream.chunks():
                pass
    except AccessDeniedError:
        return "refused"
    except KeyUnusableError:
        return "unreadable"
    except StoreError:
        # SeaweedFS answers 500 where the key service refuses. Where it answers all else, that is what it was.
        return "unknown" if store.is_aws else await _answers(store, bucket, canary.key)
    return "readable"


async def _answers(store: Store, bucket: str, key: str) -> Readability:
    try:
        await store.objects_once.head(bucket, key)
    except StoreError:
        return "unknown"
    return "unreadable"
