"""The control plane of the store in memory."""

from __future__ import annotations

from collections.abc import Mapping

from rekeyd.domain.bucket_policy import Policy
from rekeyd.domain.objects import Encryption
from rekeyd.stores.buckets import BucketDescription, BucketRules
from rekeyd.stores.memory.shelf import Shelf
from rekeyd.stores.memory.store import live_until_deadline
from rekeyd.stores.port import LiveClaim


class MemoryControl:
    """Buckets of a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def describe(self, bucket: str) -> BucketDescription | None:
        """See the port."""
        if bucket not in self._shelf.buckets:
            return None
        found = self._shelf.buckets[bucket]
        return BucketDescription(
            region=found.region,
            versioning=found.objects.versioning,
            default_encryption=found.default_encryption,
            bucket_key=False,
            tags=dict(found.tags),
            public_access_blocked=found.public_access_blocked,
            object_lock=found.object_lock,
        )

    async def create(
        self,
        bucket: str,
        region: str,
        *,
        versioned: bool = False,
        object_lock: bool = False,
        claim: LiveClaim,
    ) -> None:
        """See the port."""
        async with live_until_deadline("create", claim):
            self._shelf.make_bucket(bucket, region, versioned=versioned, object_lock=object_lock)

    async def enable_versioning(self, bucket: str, *, claim: LiveClaim) -> None:
        """See the port."""
        async with live_until_deadline("enable_versioning", claim):
            self._shelf.bucket("enable_versioning", bucket).objects.versioning = "enabled"

    async def set_tags(self, bucket: str, tags: Mapping[str, str], *, claim: LiveClaim) -> None:
        """See the port."""
        async with live_until_deadline("set_tags", claim):
            self._shelf.bucket("set_tags", bucket).tags = dict(tags)

    async def set_default_key(self, bucket: str, key_arn: str, *, claim: LiveClaim) -> None:
        """See the port."""
        async with live_until_deadline("set_default_key", claim):
            found = self._shelf.bucket("set_default_key", bucket)
            found.default_encryption = Encryption("aws:kms", key_arn)

    async def block_public_access(self, bucket: str, *, claim: LiveClaim) -> bool:
        """See the port."""
        async with live_until_deadline("block_public_access", claim):
            self._shelf.bucket("block_public_access", bucket).public_access_blocked = True
        return True

    async def describe_rules(self, bucket: str) -> BucketRules:
        """See the port."""
        found = self._shelf.bucket("describe_rules", bucket)
        return BucketRules(dict(found.policy), found.unfinished_uploads_expire_after_days)

    async def set_policy(self, bucket: str, policy: Policy, *, claim: LiveClaim) -> bool:
        """See the port."""
        async with live_until_deadline("set_policy", claim):
            self._shelf.bucket("set_policy", bucket).policy = dict(policy)
        return True

    async def expire_unfinished_uploads(self, bucket: str, days: int, *, claim: LiveClaim) -> bool:
        """See the port."""
        async with live_until_deadline("expire_unfinished_uploads", claim):
            found = self._shelf.bucket("expire_unfinished_uploads", bucket)
            found.unfinished_uploads_expire_after_days = days
        return True
