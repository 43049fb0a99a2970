"""The evidence of an object that was brought under another key where it stands. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rekeyd.domain.leaves import Compared, Copied, Leaf, RekeyedHow, VersionEvidence, crc64nvme_text
from rekeyd.domain.objects import ChecksumOrigin, ObjectVersion
from rekeyd.ledger.port import Copy, EvidenceRow
from rekeyd.transfer.rekey import COPIED, COPIED_WITH_CHECKSUMS, FOUND, LEFT, UPDATED

_BY_PROVIDER: Mapping[str, tuple[RekeyedHow, tuple[Compared, ...]]] = {
    UPDATED: ("updated", ("key",)),
    COPIED: ("copied", ("key", "size", "attributes")),
    COPIED_WITH_CHECKSUMS: ("copied", ("key", "size", "attributes", "crc64nvme")),
    FOUND: ("found", ("key",)),
    LEFT: ("left", ()),
}
"""What none of whose bytes came through us."""
_STREAMED: tuple[RekeyedHow, tuple[Compared, ...]] = ("streamed", ("key", "size", "attributes", "bytes"))
_ORIGINS: Mapping[str, ChecksumOrigin] = {
    "computed_by_provider": "computed_by_provider",
    "read": "read",
    "streamed": "streamed",
}

OLDER_LEFT = "an older version: a copy of it would be the current one"


def rekeyed_leaf_of(row: EvidenceRow) -> Leaf:
    """What is known of an object of a rotation: of each of its versions what it was before, and what it is now."""
    about = row.object
    older = {(version.version_id, version.etag): version for version in about.source.older}
    beneath = {(copy.target.version_id, copy.target.etag): copy for copy in about.copies}
    current = [copy for named, copy in beneath.items() if named not in older]
    newest = current[-1] if current else None
    versions = [
        _older_version(version, beneath.get(named))
        for named, version in older.items()
        # Where it was copied, the pass that came after has found what was there before as an older version.
        if newest is None or named != (newest.source.version_id, newest.source.etag)
    ]
    return Leaf(
        key=about.source.key,
        target_key=about.source.key,
        outcome=about.state,
        reason=row.reason,
        delete_requests=(),
        versions=(*versions, _newest(about.source, newest, row.reason)),
        copy_requests=about.copy_requests,
    )


def _older_version(version: ObjectVersion, copy: Copy | None) -> VersionEvidence:
    if copy is None:
        return _untouched(version, "" if version.marker else OLDER_LEFT)
    return _rekeyed(version, copy, OLDER_LEFT)


def _newest(source: ObjectVersion, copy: Copy | None, reason: str) -> VersionEvidence:
    return _untouched(source, reason) if copy is None else _rekeyed(source, copy, reason)


def _untouched(version: ObjectVersion, reason: str) -> VersionEvidence:
    return VersionEvidence(
        marker=version.marker,
        modified=version.modified,
        source=_copied(version, None, None),
        target=None,
        encryption_key=None,
        how="left",
        compared=(),
        reason=reason,
    )


def _rekeyed(listed: ObjectVersion, copy: Copy, reason: str) -> VersionEvidence:
    how, compared = _BY_PROVIDER.get(copy.evidence, _STREAMED)
    source, _, target = copy.evidence.partition("/") if how == "streamed" else ("", "", "")
    same = (listed.version_id, listed.etag) == (copy.source.version_id, copy.source.etag)
    return VersionEvidence(
        marker=False,
        # A writer may have put another one in its place before it was looked at.
        modified=listed.modified if same else None,
        source=_copied(copy.source, copy.crc64nvme if how == "streamed" else None, _ORIGINS.get(source)),
        target=_copied(copy.target, copy.crc64nvme, _ORIGINS.get(target)),
        encryption_key=copy.key_arn or None,
        how=how,
        compared=compared,
        reason=reason if how == "left" else "",
    )


def _copied(version: ObjectVersion, crc: int | None, origin: ChecksumOrigin | None) -> Copied:
    return Copied(
        version_id=version.version_id,
        etag=version.etag,
        size_bytes=version.size_bytes,
        crc64nvme=crc64nvme_text(crc),
        checksum_origin=origin,
    )
