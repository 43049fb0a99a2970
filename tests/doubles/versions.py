"""Two stores' ways to list versions, page by page, in S3's XML: in the order of keys, and on a walk through folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

from rekeyd.domain.objects import ObjectVersion
from rekeyd.stores.s3.version_pages import VersionsAnswered, VersionsAsked, parse_versions

Way = Literal["ordered", "walked"]


def version(key: str, version_id: str, *, marker: bool = False) -> ObjectVersion:
    return ObjectVersion(
        key, 0 if marker else 7, "" if marker else f"etag-{version_id}", version_id, None, marker
    )


def history(key: str, *newest_first: str, marked: bool = False) -> ObjectVersion:
    """A key's history of versions with these ids, the newest a marker where it's `marked`."""
    newest, *older = (
        version(key, version_id, marker=marked and not number)
        for number, version_id in enumerate(newest_first)
    )
    return ObjectVersion(
        key, newest.size_bytes, newest.etag, newest.version_id, None, newest.marker, tuple(reversed(older))
    )


@dataclass
class ListedStore:
    """Histories, and how a store lists them. `entries_max` is the most that a page holds."""

    histories: list[ObjectVersion]
    way: Way
    entries_max: int
    folders_answer: bool = True
    """Of a walk: whether the name of a key's own folder works as a prefix."""
    asked: list[VersionsAsked] = field(default_factory=list)

    def write(self, newest: ObjectVersion) -> None:
        """A key appears."""
        self.histories.append(newest)
        del self._ages

    async def ask(self, asked: VersionsAsked) -> VersionsAnswered:
        self.asked.append(asked)
        return parse_versions(self.answer(asked), asked)

    def answer(self, asked: VersionsAsked) -> bytes:
        limit = min(asked.limit, self.entries_max)
        met: list[ObjectVersion | str] = []
        for one in self._met():
            folder = self._folder(one, asked)
            if folder is None:
                met += [one] if self._begins(one, asked.prefix) and self._comes_after(one, asked) else []
            elif folder not in met and self._is_ahead(folder, one, asked):
                met.append(folder)
        collected = sorted(met[: limit + 1], key=self._order)
        shown = collected[:limit]
        return page(
            [(one, not self._age(one)) for one in shown if isinstance(one, ObjectVersion)],
            [one for one in shown if isinstance(one, str)],
            truncated=len(collected) > limit,
            encoded=self.way == "ordered",
        )

    def _order(self, one: ObjectVersion | str) -> tuple[str, int]:
        return (one, 0) if isinstance(one, str) else (one.key, self._age(one))

    def _folder(self, one: ObjectVersion, asked: VersionsAsked) -> str | None:
        """What the delimiter makes of it."""
        if not asked.delimiter or not one.key.startswith(asked.prefix):
            return None
        beginning, delimiter, _ = one.key.removeprefix(asked.prefix).partition(asked.delimiter)
        return asked.prefix + beginning + delimiter if delimiter else None

    def _met(self) -> Iterable[ObjectVersion]:
        everything = [one for newest in self.histories for one in reversed(newest.chain)]
        if self.way == "ordered":
            return sorted(everything, key=self._order)
        return sorted(everything, key=lambda one: (self._place(one), self._age(one)))

    def _age(self, one: ObjectVersion) -> int:
        """How many of its key's are newer."""
        return self._ages[one.key, one.version_id]

    @cached_property
    def _ages(self) -> Mapping[tuple[str, str | None], int]:
        return {
            (one.key, one.version_id): age
            for newest in self.histories
            for age, one in enumerate(reversed(newest.chain))
        }

    def _place(self, one: ObjectVersion) -> tuple[str, ...]:
        *folders, name = one.key.split("/")
        return (*folders, name if one.version_id == "null" else f"{name}.versions")

    def _begins(self, one: ObjectVersion, prefix: str) -> bool:
        if self.way == "walked" and self.folders_answer:
            return "/".join(self._place(one)).startswith(prefix)
        return one.key.startswith(prefix)

    def _is_ahead(self, folder: str, one: ObjectVersion, asked: VersionsAsked) -> bool:
        """Whether a folder is shown: on a walk by its own name, and else for what is in it."""
        if self.way == "ordered":
            return self._comes_after(one, asked)
        return folder > asked.after_key and not _is_passed_over((*folder.split("/")[:-1],), asked)

    def _comes_after(self, one: ObjectVersion, asked: VersionsAsked) -> bool:
        if self.way == "walked" and _is_passed_over(self._place(one), asked):
            return False
        if one.key != asked.after_key:
            return one.key > asked.after_key
        if not asked.after_version:
            return False
        return self._age(one) > self._age(version(asked.after_key, asked.after_version))


def _is_passed_over(place: tuple[str, ...], asked: VersionsAsked) -> bool:
    """Whether a walk begins, in the folder where the ways part, after what is at this place."""
    for name, begin in zip(place, asked.after_key.split("/"), strict=False):
        if name != begin:
            return name < begin
    return False


def page(
    listed: Sequence[tuple[ObjectVersion, bool]],
    folders: Sequence[str] = (),
    *,
    truncated: bool = False,
    encoded: bool = True,
) -> bytes:
    """A ListVersionsResult of these, each with whether it's the latest of its key."""
    entries = "".join(_entry(one, latest=latest, encoded=encoded) for one, latest in listed)
    entries += "".join(
        f"<CommonPrefixes><Prefix>{_key(folder, encoded=encoded)}</Prefix></CommonPrefixes>"
        for folder in folders
    )
    encoding = "<EncodingType>url</EncodingType>" if encoded else ""
    said = "true" if truncated else "false"
    return (
        f'<?xml version="1.0"?><ListVersionsResult>{encoding}<IsTruncated>{said}</IsTruncated>{entries}'
        "</ListVersionsResult>"
    ).encode()


def _entry(one: ObjectVersion, *, latest: bool, encoded: bool) -> str:
    fields: Mapping[str, object] = {
        "Key": _key(one.key, encoded=encoded),
        "VersionId": one.version_id,
        "IsLatest": str(latest).lower(),
        **({} if one.marker else {"ETag": f'"{one.etag}"', "Size": one.size_bytes}),
    }
    name = "DeleteMarker" if one.marker else "Version"
    return f"<{name}>" + "".join(f"<{tag}>{value}</{tag}>" for tag, value in fields.items()) + f"</{name}>"


def _key(key: str, *, encoded: bool) -> str:
    return quote_plus(key) if encoded else escape(key, {"\r": "&#xD;"})
