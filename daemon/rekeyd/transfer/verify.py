"""Verifying one copy: gather evidence of both sides, by the cheapest way that is sound, and have it judged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from unicodedata import is_normalized

from rekeyd.domain.evidence import Evidence, Judgement, evidence_of, judge
from rekeyd.domain.objects import Checksum, ObjectHead, ObjectVersion
from rekeyd.transfer.checksum import read_crc64nvme
from rekeyd.transfer.route import Means, Route


@dataclass(frozen=True, slots=True)
class Verification:
    """What became known of a copy."""

    judgement: Judgement
    target: ObjectVersion
    """The version that was judged."""
    crc64nvme: int | None
    same_content: bool
    """Whether both sides have the same bytes, whatever else differs."""
    evidence: str
    """How the source's and the target's checksum came about."""


async def verify_copy(
    route: Route,
    version: ObjectVersion,
    source: Evidence,
    target_head: ObjectHead,
    *,
    target_computes: bool,
    means: Means,
) -> Verification:
    """Judge the target version that `target_head` tells of against exactly this source version.

    `target_computes` says whether a checksum that the target reports was computed from the bytes it received; where
    it wasn't, or none is reported, the target is read. Likewise the source, where `source` has no checksum.
    Raises NotFoundError or PreconditionError where one of the versions is no longer there to be read.
    """
    if source.checksum is None:
        source_bucket = route.source_location.bucket
        crc = await read_crc64nvme(route.source, source_bucket, version, means.reading)
        source = replace(source, checksum=Checksum(crc, "read"))
    target = await _target_evidence(route, target_head, means, computed=target_computes)
    judgement = judge(source, target, route.key_arn)
    if judgement.verdict == "verified" and may_be_rewritten(target_head.version.key):
        judgement = await _listed_as_it_is(route, target_head.version)
    assert source.checksum is not None, "it was read"
    assert target.checksum is not None, "it was read"
    return Verification(
        judgement,
        target_head.version,
        target.checksum.crc64nvme,
        (source.size_bytes, source.checksum.crc64nvme) == (target.size_bytes, target.checksum.crc64nvme),
        f"{source.checksum.origin}/{target.checksum.origin}",
    )


async def _target_evidence(route: Route, head: ObjectHead, means: Means, *, computed: bool) -> Evidence:
    bucket = route.target_location.bucket
    if computed and head.crc64nvme is not None and not route.read_back:
        checksum = Checksum(head.crc64nvme, "computed_by_provider")
    else:
        crc = await read_crc64nvme(route.target, bucket, head.version, means.reading)
        checksum = Checksum(crc, "read")
    tags = None if head.tag_count == 0 else await route.target.read_tags(bucket, head.version)
    return evidence_of(head, checksum, tags)


_PLAIN_KEY = re.compile(r"[^/\\%+\x00-\x1f\x7f]+(/[^/\\%+\x00-\x1f\x7f]+)*")


def may_be_rewritten(key: str) -> bool:
    """Whether a store that thinks in files, folders and forms might keep the key as another one.

    Keys with empty, `.` or `..` steps, with a slash at either end, backslashes or control characters; with a `%` or
    `+`, for whoever decodes once too often; with letters that Unicode writes in two ways. SeaweedFS finds what it
    rewrote under both names, in listings, too: there the adapter refuses such keys.
    """
    if not (is_normalized("NFC", key) and is_normalized("NFD", key)):
        return True
    return _PLAIN_KEY.fullmatch(key) is None or any(step in {".", ".."} for step in key.split("/"))


async def _listed_as_it_is(route: Route, version: ObjectVersion) -> Judgement:
    """A copy counts only under its own key: reading it back under that key isn't proof enough.

    One page is looked at. Where the key isn't on it, nothing is proven, and the object is not taken for verified.
    """
    bucket = route.target_location.bucket
    found: Sequence[ObjectVersion]
    if version.version_id is None:
        found = (await route.target.list_page(bucket, version.key)).objects
    else:
        found = (await route.target.list_versions_page(bucket, version.key)).histories
    if any(listed.key == version.key for listed in found):
        return Judgement("verified")
    return Judgement("mismatch", ("the target keeps the object under another key",))
