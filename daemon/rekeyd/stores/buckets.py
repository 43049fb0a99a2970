"""What the rest of rekeyd may ask of a store's control plane: buckets, and how they are configured.

It is the other half of `port.py`, whose guarantees hold here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from rekeyd.domain.bucket_policy import Policy
from rekeyd.domain.objects import Encryption
from rekeyd.stores.port import LiveClaim


@dataclass(frozen=True, slots=True)
class BucketDescription:
    """A bucket as it is configured, read back from the store."""

    region: str
    versioning: Literal["off", "enabled", "suspended"]
    default_encryption: Encryption
    bucket_key: bool
    """Whether S3 Bucket Keys are on: they let the store go on for a while without asking the key service."""
    tags: Mapping[str, str]
    public_access_blocked: bool | None
    """None where the store doesn't implement the setting."""
    object_lock: bool = False
    """Whether versions in it can be locked."""


@dataclass(frozen=True, slots=True)
class BucketRules:
    """What a bucket refuses and does away with by itself, read back from the store.

    Apart from BucketDescription, since only a dedicated bucket's are our business: reading them needs permissions
    that nobody has to give us on a source.
    """

    policy: Policy | None
    """The bucket policy, empty where there is none; None where the store doesn't implement policies."""
    unfinished_uploads_expire_after_days: int | None
    """The shortest time that a rule for the whole bucket gives, 0 where none does; None where the store doesn't
    implement lifecycle rules."""


class BucketControl(Protocol):
    """The control plane of a store: buckets and how they are configured."""

    async def describe(self, bucket: str) -> BucketDescription | None:
        """The bucket, or None where there is none. Raises AccessDeniedError where it is somebody else's."""

    async def create(
        self,
        bucket: str,
        region: str,
        *,
        versioned: bool = False,
        object_lock: bool = False,
        claim: LiveClaim,
    ) -> None:
        """Make an empty bucket that only its owner may use. One that is ours already is no error.

        `versioned`: it keeps versions, from before its first object on; one that is ours already does from now on.
        `object_lock`: they can be locked, which implies `versioned`. One that was made without may stay without: what
        `describe` says is what counts.
        """

    async def enable_versioning(self, bucket: str, *, claim: LiveClaim) -> None:
        """Have the bucket keep versions from now on. What is in it gets the id `null`."""

    async def set_tags(self, bucket: str, tags: Mapping[str, str], *, claim: LiveClaim) -> None:
        """Replace the bucket's tags."""

    async def set_default_key(self, bucket: str, key_arn: str, *, claim: LiveClaim) -> None:
        """Have what is written without naming a key encrypted with this one, without S3 Bucket Keys."""

    async def block_public_access(self, bucket: str, *, claim: LiveClaim) -> bool:
        """Block every kind of public access. False where the store doesn't implement it."""

    async def describe_rules(self, bucket: str) -> BucketRules:
        """The bucket's policy, and when its unfinished uploads expire. Raises NotFoundError."""

    async def set_policy(self, bucket: str, policy: Policy, *, claim: LiveClaim) -> bool:
        """Replace the bucket's policy. False where the store doesn't implement policies."""

    async def expire_unfinished_uploads(self, bucket: str, days: int, *, claim: LiveClaim) -> bool:
        """Have uploads aborted that are unfinished after so many days, wherever in the bucket. Others' rules stay.

        False where the store doesn't implement lifecycle rules. Somebody who changes rules at the same moment may have
        his change undone, or undo ours: S3 replaces them as a whole and knows no condition for that.
        """
