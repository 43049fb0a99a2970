"""Where a move's objects come from, where they go, and with what means they are carried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from rekeyd.domain.errors import NotFoundError
from rekeyd.domain.objects import Location, ObjectHead
from rekeyd.stores.port import ObjectStore
from rekeyd.transfer.checksum import Reading
from rekeyd.transfer.plan import PlanLimits


@dataclass(frozen=True, slots=True)
class Route:
    """One move's two ends, and what holds for every object on the way."""

    source: ObjectStore
    source_location: Location
    target: ObjectStore
    target_location: Location
    key_arn: str
    """The customer key under which everything in the target lies."""
    target_checks_checksums: bool
    """The target was seen to refuse a PUT whose checksum is wrong: it looks at what it is sent."""
    read_back: bool
    """Every target byte is read again, whatever the target reports."""

    @property
    def server_side(self) -> bool:
        """Whether one store holds both ends, and can copy without the bytes passing through us."""
        return self.source.name == self.target.name

    def target_key(self, source_key: str) -> str:
        """The key in the target of what has `source_key` in the source: below the prefix all is the same."""
        assert source_key.startswith(self.source_location.prefix), "a key outside the source"
        return self.target_location.prefix + source_key[len(self.source_location.prefix) :]


@dataclass(frozen=True, slots=True)
class Means:
    """The bounds within which objects are carried, shared by all that are under way."""

    limits: PlanLimits
    reading: Reading
    parts_in_flight_max: int
    """The most parts of one object at a time."""
    now: Callable[[], datetime]
    """The time of day, in UTC: locks end at one."""
    object_attempts_max: int
    """After so many attempts in vain, each with its own retries, an object is `failed`."""


async def head_or_none(
    store: ObjectStore, bucket: str, key: str, version_id: str | None = None
) -> ObjectHead | None:
    """What stands under the key now, or the version of this id; None where nothing does."""
    try:
        return await store.head(bucket, key, version_id)
    except NotFoundError:
        return None
