"""What was learnt about both copies of an object, and what follows from it.

Absent evidence is never equality: whatever is not known on one side makes the verdict `inconclusive`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeGuard

from rekeyd.domain.objects import Attributes, Checksum, Encryption, ObjectHead

Verdict = Literal[
    "verified",  # both sides are known and equal
    "mismatch",  # both sides are known and differ
    "inconclusive",  # something isn't known: neither side may be deleted
]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about one copy. None means that it isn't known."""

    size_bytes: int
    checksum: Checksum | None
    attributes: Attributes
    tags: Mapping[str, str] | None
    encryption: Encryption


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and the reasons for one that isn't `verified`, each naming what differs or is missing."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


def judge(source: Evidence, target: Evidence, key_arn: str) -> Judgement:
    """Compare both copies; `key_arn` is the customer key under which the target must lie.

    A difference weighs more than a gap: `mismatch` where anything differs, `inconclusive` where nothing
    differs but something isn't known, `verified` only where all is known and equal.
    """
    differing = [*_differences(source, target), *_encryption_faults(target.encryption, key_arn)]
    if differing:
        return Judgement("mismatch", tuple(differing))
    missing = _gaps(source, target)
    if missing:
        return Judgement("inconclusive", tuple(missing))
    return Judgement("verified")


def _differences(source: Evidence, target: Evidence) -> list[str]:
    found = []
    if source.size_bytes != target.size_bytes:
        found.append(f"size: {source.size_bytes} in the source, {target.size_bytes} in the target")
    if (
        _proves_content(source.checksum)
        and _proves_content(target.checksum)
        and source.checksum.crc64nvme != target.checksum.crc64nvme
    ):
        found.append("crc64nvme differs")
    found += _differing_names("header", source.attributes.headers, target.attributes.headers)
    found += _differing_names("metadata", source.attributes.metadata, target.attributes.metadata)
    if source.attributes.lock != target.attributes.lock:
        found.append("object lock differs")
    if source.tags is not None and target.tags is not None:
        found += _differing_names("tag", source.tags, target.tags)
    return found


def _differing_names(what: str, source: Mapping[str, str], target: Mapping[str, str]) -> list[str]:
    names = sorted(source.keys() | target.keys())
    return [f"{what} {name} differs" for name in names if source.get(name) != target.get(name)]


def _encryption_faults(encryption: Encryption, key_arn: str) -> list[str]:
    if encryption.algorithm != "aws:kms":
        return [f"encryption: the target reports {encryption.algorithm or 'none'}, not aws:kms"]
    if encryption.key != key_arn:
        return [f"encryption: the target reports the key {encryption.key or 'none'}"]
    return []


def _gaps(source: Evidence, target: Evidence) -> list[str]:
    missing = []
    for side, evidence in (("source", source), ("target", target)):
        if not _proves_content(evidence.checksum):
            missing.append(f"no checksum of the {side}'s bytes")
        if evidence.tags is None:
            missing.append(f"the {side}'s tags are not known")
    return missing


def _proves_content(checksum: Checksum | None) -> TypeGuard[Checksum]:
    """A checksum that was merely carried along is none."""
    return checksum is not None and checksum.origin != "carried"


def evidence_of(head: ObjectHead, checksum: Checksum | None, tags: Mapping[str, str] | None) -> Evidence:
    """What a head tells, together with a checksum and tags learnt apart."""
    return Evidence(
        size_bytes=head.version.size_bytes,
        checksum=checksum,
        attributes=head.attributes,
        tags={} if head.tag_count == 0 else tags,
        encryption=head.encryption,
    )
