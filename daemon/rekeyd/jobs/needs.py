"""What in a dedicated bucket still needs a key that was archived. Reads only, under nobody's claim."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.objects import ObjectHead, ObjectVersion, parse_time
from rekeyd.jobs.census import Looked, look_at_all
from rekeyd.jobs.tools import Store
from rekeyd.stores.port import Upload

_SHOWN_MAX = 3


async def check_unneeded(
    store: Store, bucket: str, key_ref: str, key_arn: str, archived_at: float, at_once_max: int
) -> int:
    """Look at every version in the bucket, rekeyd's own included but for keys' canaries; gives how many there are.

    `archived_at` is in seconds since 1970: what is written later isn't under the key, but for uploads begun before.
    Raises ConflictError naming what needs the key, StoreError.
    """
    described = await store.buckets.describe(bucket)
    if described is None:
        return 0
    uploads = await store.objects.list_uploads(bucket, "")
    before = [upload.key for upload in uploads if _may_be_under(upload, archived_at)]
    if before:
        raise ConflictError(
            f"{len(before)} uploads to {bucket} were begun before {key_ref} was archived, and aren't finished: "
            f"{_shown(before)}. Abort them, or wait until they expire"
        )
    under = _Under(key_arn)
    looked = Looked(store.objects, bucket, versioned=described.versioning != "off")
    too_long = await look_at_all(looked, asyncio.Semaphore(at_once_max), at_once_max, under.note)
    if too_long:
        raise ConflictError(
            f"{bucket} has histories that are too long to be looked at: {_shown(list(too_long))}"
        )
    if under.count:
        raise ConflictError(
            f"{under.count} versions in {bucket} are under {key_ref} still: {_shown(under.found)}. Older ones go when "
            "they expire, or are deleted"
        )
    return under.looked_at


@dataclass(slots=True)
class _Under:
    """What was seen of a bucket, and what of it needs the key."""

    key_arn: str
    looked_at: int = 0
    found: list[str] = field(default_factory=list)
    """Keys of objects, the first ones."""
    count: int = 0

    def note(self, version: ObjectVersion, head: ObjectHead | None, *, current: bool) -> None:
        """See `rekeyd.jobs.census.Note`. What its writer's own key protects doesn't need this one."""
        self.looked_at += 1
        if head is None or head.encryption.key != self.key_arn:
            return
        self.count += 1
        if len(self.found) < _SHOWN_MAX:
            self.found.append(version.key if current else f"{version.key} (an older version)")


def _may_be_under(upload: Upload, archived_at: float) -> bool:
    """An upload keeps the key with which it was begun; the store may say that in whole seconds, or not at all."""
    try:
        return upload.begun_at is None or parse_time(upload.begun_at).timestamp() < archived_at
    except ValueError:
        return True


def _shown(names: list[str]) -> str:
    return ", ".join(repr(each) for each in names[:_SHOWN_MAX])
