"""How one version is brought under another key: a decision, without any waiting.

| what it is | way | why |
|---|---|---|
| under the key already, without a Bucket Key | none | nothing is to be done |
| under DSSE or SSE-C | leave | S3 updates neither, and a copy would protect it less |
| unlocked, and the store updates encryption | update | not a byte moves; archived or older, it stays what it is |
| an older version | leave | a copy would make it the current one |
| in an archive | leave | it can't be read where it is |
| current, and the store copies in place | copy, copy_parts | its bytes don't pass through us |
| current | stream | through us |

Of the update S3 says which objects it takes: those under SSE-S3 or SSE-KMS, never DSSE-KMS or SSE-C, with a KMS key of
the bucket owner's own account ("UpdateObjectEncryption", Amazon S3 API Reference). What is locked isn't touched by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rekeyd.domain.objects import Encryption, ObjectHead
from rekeyd.transfer.plan import PART_BYTES_CEILING, PlanLimits, plan_carry

RekeyWay = Literal[
    "none",  # it lies under the key
    "update",  # UpdateObjectEncryption
    "copy",  # one CopyObject onto itself
    "copy_parts",  # UploadPartCopy from itself, part by part
    "stream",  # read, and written over it
    "leave",  # it stays under its key
]

LASTING_ENCRYPTIONS: Mapping[str, str] = {
    "SSE-C": "it is encrypted with a key that comes with each request (SSE-C)",
    "aws:kms:dsse": "it is encrypted twice (DSSE-KMS)",
}
"""Why what is encrypted so stays as it is."""

_UPDATED = ("AES256", "aws:kms")


@dataclass(frozen=True, slots=True)
class RekeyFacts:
    """What holds for every version on the way."""

    key_arn: str
    limits: PlanLimits
    updates: bool
    """Whether the store changes a version's key without writing it anew, for this key."""
    copies_in_place: bool
    """Whether the store copies an object onto itself under another key, as far as is known."""


@dataclass(frozen=True, slots=True)
class RekeyPlan:
    """The way, and why."""

    way: RekeyWay
    reason: str


def can_update(account_id: str, key_arn: str) -> bool:
    """Whether a store that updates to keys of this account (empty: of none) does so to this one."""
    return account_id != "" and key_arn.split(":")[4] == account_id


def plan_rekey(head: ObjectHead, facts: RekeyFacts, *, current: bool) -> RekeyPlan:
    """Choose the way for a version of which the store says this."""
    algorithm = head.encryption.algorithm
    if head.encryption == Encryption("aws:kms", facts.key_arn):
        return RekeyPlan("none", "it lies under the key already")
    if algorithm in LASTING_ENCRYPTIONS:
        return RekeyPlan("leave", LASTING_ENCRYPTIONS[algorithm])
    locked = head.attributes.lock is not None
    if facts.updates and not locked and algorithm in _UPDATED:
        return RekeyPlan("update", "the store changes its key where it is")
    if not current:
        return RekeyPlan("leave", "it is an older version: copied it would become the current one")
    if head.archived:
        return RekeyPlan("leave", "it lies in an archive: restore it first")
    return plan_current(head.version.size_bytes, facts)


def plan_current(size_bytes: int, facts: RekeyFacts) -> RekeyPlan:
    """The way of a current object of this size that is written anew."""
    if not facts.copies_in_place:
        return RekeyPlan("stream", "the store doesn't copy an object onto itself under another key")
    carried = plan_carry(size_bytes, server_side=True, limits=facts.limits)
    if carried.way == "copy_whole":
        return RekeyPlan("copy", "the store copies it onto itself")
    most = min(facts.limits.copy_object_bytes_max, PART_BYTES_CEILING)
    return RekeyPlan("copy_parts", f"over {most} bytes the store copies part by part")
