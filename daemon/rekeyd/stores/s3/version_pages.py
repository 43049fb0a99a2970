"""Pages of ListObjectVersions: what is asked for, and what is read of the answers, strictly. Pure.

("ListObjectVersions", Amazon S3 API Reference: versions and markers stand together, key by key, each key's newest
first.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rekeyd.domain.errors import StoreRefusedError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.stores.port import LIST_OBJECTS_MAX
from rekeyd.stores.s3.xml import Element, MalformedAnswer, bare_etag, decode_key, parse

OPERATION = "ListObjectVersions"

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class VersionsAsked:
    """A page that is asked for: what comes after a version, or after all of a key's where no version is named."""

    prefix: str
    after_key: str = ""
    after_version: str = ""
    delimiter: str = ""
    """Keys that go on with it somewhere after the prefix are given as one folder, up to there."""
    folder_of: str = ""
    """A key, where the prefix is the name of the folder in which the store keeps its versions."""
    limit: int = LIST_OBJECTS_MAX

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        """How S3 is asked."""
        optional = {
            "delimiter": self.delimiter,
            "key-marker": self.after_key,
            "version-id-marker": self.after_version,
        }
        return (
            ("versions", ""),
            ("encoding-type", "url"),
            ("max-keys", str(self.limit)),
            ("prefix", self.prefix),
            *((name, value) for name, value in optional.items() if value),
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """A version or marker as it was listed."""

    version: ObjectVersion
    latest: bool


@dataclass(frozen=True, slots=True)
class VersionsAnswered:
    """A page as it was answered."""

    listed: tuple[Listed, ...]
    folders: tuple[str, ...]
    more: bool
    """Whether the store has left something out."""


def parse_versions(body: bytes, asked: VersionsAsked) -> VersionsAnswered:
    """Read a page. Raises MalformedAnswer, and StoreRefusedError for a key that the page can't show."""
    root = parse(body)
    if root.name != "ListVersionsResult":
        raise MalformedAnswer(f"<{root.name}> where <ListVersionsResult> is due")
    encoded = root.get("EncodingType") == "url"
    listed = tuple(
        _listed(child, encoded=encoded)
        for child in root.children
        if child.name in ("Version", "DeleteMarker")
    )
    folders = tuple(_key(one.require("Prefix"), encoded=encoded) for one in root.all("CommonPrefixes"))
    _check(listed, folders, asked)
    match root.require("IsTruncated"):
        case "false":
            return VersionsAnswered(listed, folders, more=False)
        case "true" if listed or folders:
            return VersionsAnswered(listed, folders, more=True)
        case said:
            raise MalformedAnswer(f"IsTruncated {said!r} with {len(listed)} versions")


def _listed(element: Element, *, encoded: bool) -> Listed:
    key = _key(element.require("Key"), encoded=encoded)
    version_id = element.require("VersionId")
    latest = element.require("IsLatest")
    if not key or not version_id or latest not in ("true", "false"):
        raise MalformedAnswer(f"<{element.name}> without a key, an id, or whether it's the latest")
    modified = element.get("LastModified") or None
    if element.name == "DeleteMarker":
        return Listed(ObjectVersion(key, 0, "", version_id, modified, marker=True), latest == "true")
    size, etag = element.require("Size"), bare_etag(element.require("ETag"))
    if not etag or not size.isdecimal():
        raise MalformedAnswer("<Version> without a size or an ETag")
    return Listed(ObjectVersion(key, int(size), etag, version_id, modified), latest == "true")


def _key(text: str, *, encoded: bool) -> str:
    if encoded:
        return decode_key(text)
    if _REPLACEMENT in text:
        # SeaweedFS doesn't encode, and puts it in the place of what XML can't hold. Another key may be meant.
        raise StoreRefusedError(OPERATION, f"the store can't show in a page which key {text!r} is")
    return text


def _check(listed: Sequence[Listed], folders: Sequence[str], asked: VersionsAsked) -> None:
    if len(listed) + len(folders) > asked.limit or len(set(folders)) != len(folders):
        raise MalformedAnswer(f"more than the {asked.limit} that were asked for, or a folder twice")
    for folder in folders:
        if not asked.delimiter or not folder.endswith(asked.delimiter) or not folder.startswith(asked.prefix):
            raise MalformedAnswer(f"{folder!r} is no folder below {asked.prefix!r}")
    for one in listed:
        version = one.version
        if not version.key.startswith(asked.prefix) and version.key != asked.folder_of:
            raise MalformedAnswer(f"{version.key!r} doesn't begin with {asked.prefix!r}")
        if version.key == asked.after_key and asked.after_version in ("", version.version_id):
            raise MalformedAnswer(f"{version.key!r} {version.version_id} comes again")


def grouped(listed: Sequence[Listed]) -> list[tuple[Listed, ...]]:
    """The versions key by key. Raises MalformedAnswer where a key's stand apart, or one comes twice."""
    groups = [tuple(group) for _, group in groupby(listed, lambda one: one.version.key)]
    if len({group[0].version.key for group in groups}) != len(groups):
        raise MalformedAnswer("the versions of a key stand apart")
    for group in groups:
        if len({one.version.version_id for one in group}) != len(group):
            raise MalformedAnswer(f"a version of {group[0].version.key!r} comes twice")
    return groups


def history(listed: Sequence[Listed]) -> ObjectVersion:
    """A key's whole history. Raises MalformedAnswer where the newest isn't the first, and the first alone."""
    first, *others = listed
    if not first.latest or any(one.latest for one in others):
        raise MalformedAnswer(f"the latest version of {first.version.key!r} isn't its first")
    return replace(first.version, older=tuple(one.version for one in reversed(others)))
