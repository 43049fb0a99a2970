"""What a bucket in memory holds: of each key its history, and on top what readers see. Nothing here waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rekeyd.domain.objects import (
    NULL_VERSION,
    Attributes,
    Encryption,
    ObjectHead,
    ObjectVersion,
)

_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})

Versioning = Literal["off", "enabled", "suspended"]


@dataclass(frozen=True, slots=True)
class Stored:
    """An object, or one version of it."""

    data: bytes
    attributes: Attributes
    encryption: Encryption
    crc64nvme: int | None
    etag: str
    modified: str
    """When it was written, as a listing says it."""
    version_id: str | None = None
    """None for the one that a listing of versions calls `null`."""
    marker: bool = False
    restored: bool = False
    """Of an archived class: it can be read nevertheless."""

    @property
    def archived(self) -> bool:
        """Whether it must be restored before it can be read."""
        return self.attributes.storage_class in _ARCHIVES and not self.restored

    def version(self, key: str) -> ObjectVersion:
        """It under its key."""
        return ObjectVersion(key, len(self.data), self.etag, self.version_id, marker=self.marker)

    def listed(self, key: str) -> ObjectVersion:
        """It as a listing of objects names it, without an id."""
        return replace(self.version(key), version_id=None, modified=self.modified)

    def listed_version(self, key: str) -> ObjectVersion:
        """It as a listing of versions names it."""
        return replace(self.version(key), version_id=self.version_id or NULL_VERSION, modified=self.modified)

    def head(self, key: str, asked_id: str | None) -> ObjectHead:
        """What a store says of it, asked for by an id or without one. Tags are counted, not shown."""
        return ObjectHead(
            version=replace(self.version(key), version_id=self.version_id or asked_id),
            attributes=replace(self.attributes, tags={}),
            tag_count=len(self.attributes.tags),
            encryption=self.encryption,
            crc64nvme=self.crc64nvme,
            archived=self.archived,
        )


class Histories(MutableMapping[str, Stored]):
    """What readers see of a bucket, as a mapping of its current objects, with the histories beneath.

    Setting an item is an unconditional write, deleting one is a delete without a version id: both do with what was
    there as the bucket's versioning has it.
    """

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number
        self._chains: dict[str, list[Stored]] = {}
        self.versioning: Versioning = "off"

    def __getitem__(self, key: str) -> Stored:
        """The current object. Raises KeyError where there is none, or a marker."""
        newest = self._chains[key][-1]
        if newest.marker:
            raise KeyError(key)
        return newest

    def __setitem__(self, key: str, stored: Stored) -> None:
        """Write it."""
        self.write(key, stored)

    def __delitem__(self, key: str) -> None:
        """Delete the current object, or hide it. Raises KeyError where there is none."""
        current = self[key]
        if self.versioning == "off":
            self.drop(key, current.version_id)
        else:
            self.hide(key)

    def __iter__(self) -> Iterator[str]:
        """The keys that readers see."""
        return (key for key, chain in self._chains.items() if not chain[-1].marker)

    def __len__(self) -> int:
        """How many readers see."""
        return sum(1 for _ in self)

    def keys_of_all(self) -> Sequence[str]:
        """The keys that have any history."""
        return [*self._chains]

    def chain(self, key: str) -> Sequence[Stored]:
        """A key's history, the oldest first; empty where there is none."""
        return tuple(self._chains.get(key, ()))

    def find(self, key: str, version_id: str) -> Stored | None:
        """The version or marker with an id, `null` included."""
        wanted = None if version_id == NULL_VERSION else version_id
        return next((each for each in self._chains.get(key, ()) if each.version_id == wanted), None)

    def write(self, key: str, stored: Stored) -> Stored:
        """Put a version, or a marker, on top of its key's history. It, as it is there."""
        identified = replace(
            stored, version_id=f"version-{self._number()}" if self.versioning == "enabled" else None
        )
        chain = self._chains.setdefault(key, [])
        if identified.version_id is None:
            # There is one `null` at the most, wherever in the history it stood.
            chain[:] = [each for each in chain if each.version_id is not None]
        chain.append(identified)
        return identified

    def hide(self, key: str) -> Stored:
        """Put a marker on top. It, as it is there."""
        modified = f"time {self._number()}"
        return self.write(key, Stored(b"", Attributes(), Encryption(""), None, "", modified, marker=True))

    def drop(self, key: str, version_id: str | None) -> None:
        """Take one version or marker out of a history."""
        chain = self._chains[key]
        chain[:] = [each for each in chain if each.version_id != version_id]
        if not chain:
            del self._chains[key]

    def replace(self, key: str, stored: Stored) -> None:
        """Change what is known of a version in its place: that it was restored, or locked."""
        chain = self._chains[key]
        chain[:] = [stored if each.version_id == stored.version_id else each for each in chain]
