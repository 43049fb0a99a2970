"""Pages of histories, made of pages of ListObjectVersions that end anywhere.

Where a store lists in the order of keys, as AWS does, a page is followed by all that it left out.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from rekeyd.stores.port import HISTORY_VERSIONS_MAX, VersionsPage
from rekeyd.stores.s3.version_pages import (
    Listed,
    VersionsAnswered,
    VersionsAsked,
    grouped,
    history,
)
from rekeyd.stores.s3.xml import MalformedAnswer

Ask = Callable[[VersionsAsked], Awaitable[VersionsAnswered]]
"""Asks the store for a page. Raises StoreError, MalformedAnswer."""

_CURSOR = "after:"


@dataclass(frozen=True, slots=True)
class Cursor:
    """All up to the last of this key's versions has been listed."""

    key: str = ""
    version_id: str = ""
    """The oldest of the key's, where it's known: some stores take a key alone for another place."""

    def __str__(self) -> str:
        """The cursor as it is kept."""
        return _CURSOR + json.dumps([self.key, self.version_id])

    @classmethod
    def parse(cls, text: str | None) -> Cursor:
        """Read what was kept; None is the beginning. Raises ValueError."""
        if text is None:
            return cls()
        match json.loads(text.removeprefix(_CURSOR)) if text.startswith(_CURSOR) else None:
            case [str() as key, str() as version_id]:
                return cls(key, version_id)
            case _:
                raise ValueError(f"{text!r} is not a cursor that a listing of versions gave")


@dataclass(frozen=True, slots=True)
class Found:
    """A key of which all versions were listed, or too many."""

    listed: tuple[Listed, ...]
    """The newest first."""

    @property
    def key(self) -> str:
        """Whose they are."""
        return self.listed[0].version.key

    @property
    def too_long(self) -> bool:
        """Whether they are more than a history may have. Then they aren't all of them."""
        return len(self.listed) > HISTORY_VERSIONS_MAX

    @property
    def cursor(self) -> Cursor:
        """Where what comes after it begins."""
        return Cursor(self.key, "" if self.too_long else str(self.listed[-1].version.version_id))


async def ordered_page(ask: Ask, prefix: str, after: Cursor, limit: int) -> VersionsPage:
    """A page of histories from a store that lists in an order of keys."""
    answered = await ask(VersionsAsked(prefix, after.key, after.version_id, limit=limit))
    groups = grouped(answered.listed)
    if any(group[0].version.key == after.key for group in groups):
        raise MalformedAnswer(f"{after.key!r} comes again")
    if not answered.more:
        return page_of([Found(group) for group in groups], more=False)
    if len(groups) > 1:
        return page_of([Found(group) for group in groups[:-1]], more=True)
    return await _one_key_page(ask, prefix, groups[0])


async def _one_key_page(ask: Ask, prefix: str, listed: tuple[Listed, ...]) -> VersionsPage:
    """A page with one history, of which the newest part is known."""
    key = listed[0].version.key
    while len(listed) <= HISTORY_VERSIONS_MAX:
        answered = await ask(VersionsAsked(prefix, key, str(listed[-1].version.version_id)))
        theirs = tuple(takewhile(lambda one: one.version.key == key, answered.listed))
        listed += theirs
        others = len(theirs) < len(answered.listed)
        if others or not answered.more:
            return page_of([Found(listed)], more=others)
    return page_of([Found(listed)], more=True)


def page_of(found: Sequence[Found], *, more: bool) -> VersionsPage:
    """A page of what was found, in its order."""
    for one in found:
        grouped(one.listed)
    histories = tuple(history(one.listed) for one in found if not one.too_long)
    too_long = tuple(one.key for one in found if one.too_long)
    return VersionsPage(histories, str(found[-1].cursor) if more else None, too_long)
