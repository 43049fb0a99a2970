"""A census of a dedicated bucket: every version in it is looked at, and counted by the key under which it lies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rekeyd.domain.errors import CustomerKeyError
from rekeyd.domain.objects import KEY_CANARIES, ObjectHead, ObjectVersion
from rekeyd.jobs.run import JobRun
from rekeyd.stores.port import ObjectStore
from rekeyd.transfer.rekey_plan import RekeyFacts, can_update, plan_rekey
from rekeyd.transfer.route import head_or_none
from rekeyd.transfer.side_by_side import side_by_side

SHOWN_MAX = 20
"""So many keys of objects that stay under a former key are named; all are counted."""


@dataclass(slots=True)
class Under:
    """What lies under one key."""

    current: int = 0
    """Objects as readers see them."""
    lasting: int = 0
    """Those of them that nothing here brings under another key: archived ones, say."""
    noncurrent: int = 0
    """Older versions: copying one would make it the current one."""
    bucket_key: int = 0
    """Versions of either kind that were written with an S3 Bucket Key, where the store says so."""
    bytes: int = 0
    shown: list[str] = field(default_factory=list)
    pending: int = 0
    """Objects that can still be brought to where they should be."""
    older: int = 0
    """Older versions that aren't where they should be."""

    def view(self) -> dict[str, object]:
        """As JSON."""
        return {
            "current": self.current,
            "lasting": self.lasting,
            "noncurrent": self.noncurrent,
            "bucket_key": self.bucket_key,
            "bytes": self.bytes,
            "shown": sorted(self.shown),
        }


@dataclass(slots=True)
class Census:
    """What was counted."""

    facts: RekeyFacts
    by_key: dict[str, Under] = field(default_factory=dict)
    """By the key's ARN; by the algorithm where there is none."""

    def under(self, key_arn: str) -> Under:
        """What lies under this key."""
        return self.by_key.get(key_arn, Under())

    def elsewhere(self, key_arn: str) -> Mapping[str, Under]:
        """What lies under any other."""
        return {key: under for key, under in self.by_key.items() if key != key_arn}

    @property
    def pending(self) -> int:
        """Objects that aren't under the key, or with a Bucket Key, and can be brought there."""
        return sum(under.pending for under in self.by_key.values())

    @property
    def older(self) -> int:
        """Older versions of which the same is true, whether or not they can."""
        return sum(under.older for under in self.by_key.values())

    def add(self, version: ObjectVersion, head: ObjectHead | None, *, current: bool) -> None:
        """Count a version; without a head it tells nothing without the key that its writer has."""
        encryption = None if head is None else head.encryption
        name = "SSE-C" if encryption is None else encryption.key or encryption.algorithm or "none"
        under = self.by_key.setdefault(name, Under())
        under.bytes += version.size_bytes
        under.bucket_key += encryption is not None and encryption.bucket_key
        way = "leave" if head is None else plan_rekey(head, self.facts, current=current).way
        if not current:
            under.noncurrent += 1
            under.older += way != "none"
            return
        under.current += 1
        under.lasting += way == "leave"
        under.pending += way not in ("none", "leave")
        if len(under.shown) < SHOWN_MAX:
            under.shown.append(version.key)


async def take_census(run: JobRun) -> Census:
    """Look at every version that stands in the job's bucket now, rekeyd's own included but for the keys' canaries.

    What is written after the listing has passed it isn't seen. Raises StoreError.
    """
    tools, job = run.tools, run.job
    objects = tools.target_of(job).objects
    updates = can_update(objects.updates_keys_of, job.key.arn)
    census = Census(RekeyFacts(job.key.arn, tools.means.limits, updates=updates, copies_in_place=True))
    bucket = Looked(objects, job.target.bucket, versioned=run.source_versioned)
    await look_at_all(bucket, tools.objects_in_flight, tools.objects_in_flight_max, census.add)
    return census


@dataclass(frozen=True, slots=True)
class Looked:
    """A bucket that is looked at."""

    objects: ObjectStore
    bucket: str
    versioned: bool
    """Whether it keeps versions, or ever has."""


class Note(Protocol):
    """What is done with a version; without a head it tells nothing without the key that its writer has."""

    def __call__(self, version: ObjectVersion, head: ObjectHead | None, *, current: bool) -> None: ...


async def look_at_all(
    bucket: Looked, in_flight: asyncio.Semaphore, at_once_max: int, note: Note
) -> Sequence[str]:
    """Have every version in a bucket noted, but for markers and the keys' canaries. Reads only. Raises StoreError.

    Gives the keys of objects whose histories are too long to be listed: of those nothing was looked at.
    """
    too_long: list[str] = []

    async def look(each: tuple[ObjectVersion, bool]) -> None:
        version, current = each
        async with in_flight:
            try:
                head = await head_or_none(bucket.objects, bucket.bucket, version.key, version.version_id)
            except CustomerKeyError:
                note(version, None, current=current)
                return
        if head is not None:
            note(version, head, current=current)

    async for page in _pages(bucket, too_long):
        if page:
            await side_by_side(page, look, at_once_max=min(at_once_max, len(page)))
    return too_long


async def _pages(bucket: Looked, too_long: list[str]) -> AsyncIterator[Sequence[tuple[ObjectVersion, bool]]]:
    """Versions page by page, each with whether it is its key's current one."""
    after: str | None = None
    while True:
        page: Sequence[ObjectVersion]
        if bucket.versioned:
            histories = await bucket.objects.list_versions_page(bucket.bucket, "", after=after)
            page, after = histories.histories, histories.resume_after
            too_long += histories.too_long
        else:
            listing = await bucket.objects.list_page(bucket.bucket, "", after=after)
            page, after = listing.objects, listing.resume_after
        yield [
            (version, place == 0)
            for each in page
            if not each.key.startswith(KEY_CANARIES)
            for place, version in enumerate(reversed(each.chain))
            if not version.marker
        ]
        if after is None:
            return
