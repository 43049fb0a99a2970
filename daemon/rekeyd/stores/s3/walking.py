"""Pages of histories from a store that keeps them in folders, and whose pages leave out what they don't come to.

SeaweedFS (measured on 4.48; its s3api_object_versioning.go says why) walks through its own folders, in the order of
their names, until it has a page, and only then sorts that by keys. The versions of `a` lie in a folder `a.versions`:
`a/x` and `a-b` are walked past before them. A page that ends amid those lacks `a`, and the next page, which begins
after the last key of this one, never comes back to it. So a page is taken as it is only where it's the last one, and
otherwise the store is asked folder by folder. Of a folder's page that isn't its last one, with W walked past last:

- A key can be missing only if it begins W, and W goes on with what sorts before `.versions`: `2024-01-05` hides
  `2024` and `2024-01`. Those few are asked for by the names of their own folders, which SeaweedFS answers. Where none
  of them answers, a key whose versions are known must. Where that can't be seen either, the listing is refused.
- Before a folder whose name begins W there may be keys that haven't been walked past: `a/` comes before `a-b` on the
  walk, and after it in the order of keys. It is left to the next page.
- A walk that goes on after `a-b` begins there, past the folder `a/`, whose keys come later. Folders with which the key
  begins, where it goes on with what sorts before `/`, are asked for by themselves.

What comes out is in the order of the keys' bytes. On a store that lists as S3 does, this is right, too, or refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from rekeyd.domain.errors import StoreRefusedError
from rekeyd.domain.objects import NULL_VERSION
from rekeyd.stores.port import HISTORY_VERSIONS_MAX, LIST_OBJECTS_MAX, VersionsPage
from rekeyd.stores.s3.histories import Ask, Cursor, Found, page_of
from rekeyd.stores.s3.version_pages import OPERATION, Listed, VersionsAnswered, VersionsAsked, grouped
from rekeyd.stores.s3.xml import MalformedAnswer

_FOLDER = "/"
_VERSIONS = ".versions"
_REFUSAL = "pages of a store that doesn't keep every key may lack versions, and there's no learning which"


@dataclass(frozen=True, slots=True)
class WalkedListing:
    """Asks a store that walks. `entries_max` is the most that it gives on a page."""

    ask: Ask
    entries_max: int = LIST_OBJECTS_MAX

    async def page(self, prefix: str, after: Cursor, limit: int) -> VersionsPage:
        """See ordered_page."""
        for level in _levels(prefix, after.key):
            found, resume = await self._below(level, after)
            if found:
                return _cut(found, limit, more=resume is not None or level != prefix)
            if resume is not None:
                return VersionsPage((), str(resume))
        return VersionsPage((), None)

    async def _below(self, prefix: str, after: Cursor) -> tuple[Sequence[Found], Cursor | None]:
        """What comes first below a prefix, and where it goes on there; None where that was all."""
        passed_over = [folder for folder in _passed_over(prefix, after.key) if await self._holds(folder)]
        answered = await self._asked(prefix, after)
        if not answered.more and not passed_over:
            groups = {group[0].version.key: group for group in grouped(answered.listed)}
            return [Found(groups[key]) for key in sorted(groups)], None
        here = await self._in_level(prefix, after, answered.listed, passed_over)
        if not here:
            return [], None
        leading = [here[key] for key in takewhile(here.get, sorted(here))]
        if leading:
            found: Sequence[Found] = [one for one in leading if one is not None]
            return found, found[-1].cursor
        folder = min(here)
        found, resume = await self._below(folder, Cursor())
        return found, resume or (found[-1].cursor if found else Cursor(folder))

    async def _holds(self, folder: str) -> bool:
        return bool((await self.ask(VersionsAsked(folder, limit=1))).listed)

    async def _in_level(
        self, prefix: str, after: Cursor, below: Sequence[Listed], passed_over: Sequence[str]
    ) -> Mapping[str, Found | None]:
        """What is certain of a folder's page: its first keys with their histories, and its first folders with None.

        `below` are some versions that are in the folder or further below, `passed_over` folders that the page lacks.
        """
        level = await self._asked(prefix, after, _FOLDER)
        groups = {group[0].version.key: group for group in grouped(level.listed)}
        folders = [*passed_over, *(folder for folder in level.folders if folder > after.key)]
        if not level.more:
            return {**{key: Found(group) for key, group in groups.items()}, **dict.fromkeys(folders)}
        last, name = max(_places(level))
        edge = min(
            [max([*groups, *level.folders]), *(folder for folder in folders if _is_open(folder, last))]
        )
        named = [key for key in _hidden(last, name) if key.startswith(prefix) and after.key < key < edge]
        alone = len(groups) == 1 and not level.folders
        if alone:
            named.append(edge)
        in_folders = {key: await self._in_folder(key) for key in named}
        if named and not any(in_folders.values()):
            await self._see_that_folders_answer(below)
        here: dict[str, Found | None] = {
            **{key: Found(group) for key, group in groups.items() if key < edge},
            **{folder: None for folder in folders if folder < edge},
        }
        for key, listed in in_folders.items():
            nulls = [one for one in groups.get(key, ()) if one.version.version_id == NULL_VERSION]
            if key == edge and listed and not nulls:
                nulls = await self._beneath(prefix, listed[-1])
            if listed or nulls:
                here[key] = Found((*listed, *nulls))
        if not here and alone:
            raise MalformedAnswer(f"{edge!r} has gone meanwhile")
        if not here:
            raise StoreRefusedError(OPERATION, _REFUSAL)
        return here

    async def _asked(self, prefix: str, after: Cursor, delimiter: str = "") -> VersionsAnswered:
        asked = VersionsAsked(prefix, after.key, after.version_id, delimiter, limit=self.entries_max)
        answered = await self.ask(asked)
        if after.key and any(one.version.key == after.key for one in answered.listed):
            raise MalformedAnswer(f"{after.key!r} comes again")
        return answered

    async def _in_folder(self, key: str) -> tuple[Listed, ...]:
        """The versions in a key's own folder, or somewhat more than a history may have."""
        listed: tuple[Listed, ...] = ()
        while len(listed) <= HISTORY_VERSIONS_MAX:
            after = (key, str(listed[-1].version.version_id)) if listed else ("", "")
            answered = await self.ask(
                VersionsAsked(key + _VERSIONS, *after, folder_of=key, limit=self.entries_max)
            )
            theirs = [one for one in answered.listed if one.version.key == key]
            listed += tuple(theirs)
            if not theirs or len(theirs) < len(answered.listed) or not answered.more:
                break
        return listed

    async def _beneath(self, prefix: str, last: Listed) -> list[Listed]:
        """What was written before the first version in a key's folder: it isn't in there, but beside it."""
        version = last.version
        asked = VersionsAsked(prefix, version.key, str(version.version_id), _FOLDER, limit=self.entries_max)
        answered = await self.ask(asked)
        return [one for one in answered.listed if one.version.key == version.key]

    async def _see_that_folders_answer(self, listed: Sequence[Listed]) -> None:
        known = next((one.version for one in listed if one.version.version_id != NULL_VERSION), None)
        if known is not None:
            shown = await self._in_folder(known.key)
            if any(one.version.version_id == known.version_id for one in shown):
                return
        raise StoreRefusedError(OPERATION, _REFUSAL)


def _levels(prefix: str, key: str) -> Iterator[str]:
    """The folders that a key lies in, the innermost first, up to a prefix."""
    end = len(key)
    while (end := key.rfind(_FOLDER, 0, end)) >= len(prefix):
        yield key[: end + 1]
    yield prefix


def _passed_over(prefix: str, key: str) -> Iterator[str]:
    """The folders in `prefix` that come after a key, and that a walk which begins at the key doesn't come to."""
    in_folder = not prefix or prefix.endswith(_FOLDER)
    name_end = key.find(_FOLDER, len(prefix))
    for end in range(len(prefix) + in_folder, len(key) if name_end < 0 else name_end):
        if key[end] < _FOLDER:
            yield key[:end] + _FOLDER


def _places(level: VersionsAnswered) -> Iterator[tuple[str, str]]:
    """Under what names what was listed in one folder is met on a walk, and for what.

    What was written before versioning lies in the folder itself, or where its key's versions do: earlier is safe.
    """
    for version in (one.version for one in level.listed):
        in_itself = version.version_id == NULL_VERSION
        yield version.key if in_itself else version.key + _VERSIONS, version.key
    for folder in level.folders:
        yield folder.removesuffix(_FOLDER), folder.removesuffix(_FOLDER)


def _is_open(folder: str, last: str) -> bool:
    """Whether keys that come before a folder may still be ahead where a walk has come to `last`."""
    name = folder.removesuffix(_FOLDER)
    return last.startswith(name) and last[len(name) : len(name) + 1] < _FOLDER


def _hidden(last: str, name: str) -> Iterator[str]:
    """The keys of which versions may still be ahead although a key that comes after them was met, at `last`."""
    begin = name.rfind(_FOLDER) + 1
    for end in range(begin + 1, len(name) + 1):
        if name[:end] + _VERSIONS >= last:
            yield name[:end]


def _cut(found: Sequence[Found], limit: int, *, more: bool) -> VersionsPage:
    """The first of them, as many as have about `limit` versions."""
    left = limit
    for number, one in enumerate(found):
        if number and left < len(one.listed):
            return page_of(found[:number], more=True)
        left -= len(one.listed)
    return page_of(found, more=more)
