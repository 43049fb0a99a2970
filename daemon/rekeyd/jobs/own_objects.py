"""Objects of rekeyd's own, under `.rekeyd/`: written over exactly what stands there, and removed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rekeyd.domain.errors import AccessDeniedError, PreconditionError, StoreRefusedError
from rekeyd.domain.objects import Attributes, ObjectHead, ObjectVersion
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import IfAbsent, IfMatches, LiveClaim, ObjectStore, UnderKey
from rekeyd.transfer.checksum import crc64nvme
from rekeyd.transfer.route import head_or_none

_MARK = "rekeyd-own"
"""The metadata by which an object says that it is ours."""

_REMOVALS_MAX = 3
"""So often is looked whether anything is left: a write whose answer was lost may come after the first look."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A bucket, and how rekeyd's own objects are written there."""

    objects: ObjectStore
    bucket: str
    under: UnderKey | None
    """The key that they name, None where they fall to the bucket's default."""
    claim: LiveClaim
    keeps_versions: bool = False
    """Whether removing an object means removing each of its versions."""


def own_attributes() -> Attributes:
    """What travels with an object of ours."""
    return Attributes({"content-type": "text/plain"}, {_MARK: "yes"})


async def write_own(ground: Ground, key: str, data: bytes, *, crc: int | None = None) -> ObjectHead:
    """Write one of our own objects over exactly what stands there. What stands there then.

    `crc` is announced as its checksum; left out, it is the true one.
    """
    head = await head_or_none(ground.objects, ground.bucket, key)
    try:
        await ground.objects.put(
            ground.bucket,
            key,
            BytesContent(data),
            own_attributes(),
            condition=IfAbsent() if head is None else IfMatches(head.version.etag),
            under=ground.under,
            crc64nvme=crc64nvme(data) if crc is None else crc,
            claim=ground.claim,
        )
    except PreconditionError as error:
        if not error.after_unknown:
            raise
        # An earlier sending came through, and its answer didn't: what stands there is what was sent.
    return await ground.objects.head(ground.bucket, key)


async def foreign_of(ground: Ground, keys: Sequence[str]) -> str | None:
    """The first of our keys under which something stands that isn't ours; None where there is none."""
    for key in keys:
        head = await head_or_none(ground.objects, ground.bucket, key)
        if head is not None and _MARK not in head.attributes.metadata:
            return key
    return None


async def abort_own_uploads(ground: Ground, key: str) -> None:
    """Abort every unfinished upload to a key of ours."""
    for upload in await ground.objects.list_uploads(ground.bucket, key):
        if upload.key == key:
            await ground.objects.abort_upload(upload, claim=ground.claim)


async def remove_own(ground: Ground, keys: Sequence[str]) -> None:
    """Remove our objects with all their versions. Raises AccessDeniedError, StoreRefusedError."""
    for key in keys:
        for _ in range(_REMOVALS_MAX):
            versions = await _standing(ground, key)
            if not versions:
                break
            for outcome in await ground.objects.delete(ground.bucket, versions, claim=ground.claim):
                if outcome.result == "failed":
                    raise not_deleted(f"{key!r}: {outcome.detail}")


def not_deleted(detail: str) -> AccessDeniedError | StoreRefusedError:
    """The error that a deletion is whose outcome is `failed`."""
    kind = AccessDeniedError if "AccessDenied" in detail else StoreRefusedError
    return kind("delete", detail)


async def _standing(ground: Ground, key: str) -> list[ObjectVersion]:
    """All that there is under a key, the oldest first."""
    if not ground.keeps_versions:
        head = await head_or_none(ground.objects, ground.bucket, key)
        return [] if head is None else [head.version]
    page = await ground.objects.list_versions_page(ground.bucket, key)
    return [version for newest in page.histories if newest.key == key for version in newest.chain]
