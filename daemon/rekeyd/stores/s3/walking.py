"""Pages of histories from a store that keeps them in folders, and whose pages leave out what they don't come to.

SeaweedFS (measured on 4.48; its s3api_object_versioning.go says why) walks through its own folders, in the order of
their names, until it has a page, and only then sorts that by keys. The versions of `a` lie in a folder `a.versions`:
`a/x` and `a-b` are walked past before them. A page that ends amid those lacks `a`, and the next page, which begins
after the last key of this one, never comes back to it.

Only a key with which the key that was walked to last begins can be missing so: `plan/2024-01/x` hides `plan`,
`plan/2024` and `plan/2024-01`. These few are asked for by the names of their folders, which SeaweedFS answers, and
is seen to answer, for a key whose versions are known. Where that can't be seen, the listing is refused.

On a store that lists as S3 does, pages that are the last ones come out as they are, and others are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rekeyd.domain.errors import StoreRefusedError
from rekeyd.domain.objects import NULL_VERSION
from rekeyd.stores.port import HISTORY_VERSIONS_MAX, LIST_OBJECTS_MAX, VersionsPage
from rekeyd.stores.s3.histories import Ask, Cursor, Found, page_of
from rekeyd.stores.s3.version_pages import OPERATION, Listed, VersionsAsked, grouped

_VERSIONS = ".versions"

_Place = tuple[str, ...]
"""Where something is met on a walk: its folders' names and its own."""


@dataclass(frozen=True, slots=True)
class WalkedListing:
    """Asks a store that walks. `entries_max` is the most that it gives on a page."""

    ask: Ask
    entries_max: int = LIST_OBJECTS_MAX

    async def page(self, prefix: str, after: Cursor, limit: int) -> VersionsPage:
        """See ordered_page. It is in the order of the keys' bytes."""
        answered = await self.ask(VersionsAsked(prefix, after.key, after.version_id, limit=self.entries_max))
        groups = {group[0].version.key: group for group in grouped(answered.listed)}
        if not answered.more:
            return _cut([Found(groups[key]) for key in sorted(groups)], limit, more=False)
        # The last key's history may be cut off. It's left to the next page, unless there is no other.
        edge = max(groups)
        named = [key for key in hidden_keys(prefix, answered.listed) if after.key < key < edge]
        if len(groups) == 1:
            named.append(edge)
        if named:
            await self._see_that_folders_answer(answered.listed)
        found = {key: Found(group) for key, group in groups.items() if key < edge}
        for key in named:
            listed = await self._in_folder(key)
            nulls = [one for one in groups.get(key, ()) if one.version.version_id == NULL_VERSION]
            if listed or nulls:
                found[key] = Found((*listed, *nulls))
        if not found:
            return VersionsPage((), str(Cursor(edge)))
        return _cut([found[key] for key in sorted(found)], limit, more=True)

    async def _in_folder(self, key: str) -> tuple[Listed, ...]:
        """The versions in a key's own folder, or somewhat more than a history may have."""
        listed: tuple[Listed, ...] = ()
        while len(listed) <= HISTORY_VERSIONS_MAX:
            last = str(listed[-1].version.version_id) if listed else ""
            answered = await self.ask(
                VersionsAsked(
                    key + _VERSIONS,
                    after_key=key if listed else "",
                    after_version=last,
                    folder_of=key,
                    limit=self.entries_max,
                )
            )
            theirs = [one for one in answered.listed if one.version.key == key]
            listed += tuple(theirs)
            if not theirs or len(theirs) < len(answered.listed) or not answered.more:
                break
        return listed

    async def _see_that_folders_answer(self, listed: Sequence[Listed]) -> None:
        known = next((one.version for one in listed if one.version.version_id != NULL_VERSION), None)
        if known is not None:
            shown = await self._in_folder(known.key)
            if any(one.version.version_id == known.version_id for one in shown):
                return
        reason = (
            "pages of a store that doesn't keep every key may lack versions, and there's no learning which"
        )
        raise StoreRefusedError(OPERATION, reason)


def hidden_keys(prefix: str, listed: Sequence[Listed]) -> Iterator[str]:
    """The keys of which a page may lack versions although it goes on beyond them."""
    place, key = max((_place(one), one.version.key) for one in listed)
    begin = 0
    for met, name in zip(place, key.split("/"), strict=True):
        for size in range(1, len(name) + 1):
            hidden = key[: begin + size]
            if name[:size] + _VERSIONS > met and hidden.startswith(prefix):
                yield hidden
        begin += len(name) + 1


def _place(one: Listed) -> _Place:
    """Where it is met, or before: what was written before versioning may lie in the folder itself."""
    *folders, name = one.version.key.split("/")
    return (*folders, name if one.version.version_id == NULL_VERSION else name + _VERSIONS)


def _cut(found: Sequence[Found], limit: int, *, more: bool) -> VersionsPage:
    """The first of them, as many as have about `limit` versions."""
    left = limit
    for number, one in enumerate(found):
        if number and left < len(one.listed):
            return page_of(found[:number], more=True)
        left -= len(one.listed)
    return page_of(found, more=more)
