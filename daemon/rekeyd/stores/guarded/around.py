"""The whole store port with a guard around each call: none can bypass it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from rekeyd.domain.bucket_policy import Policy
from rekeyd.domain.objects import Attributes, ByteSpan, ObjectHead, ObjectLock, ObjectVersion
from rekeyd.stores.buckets import BucketControl, BucketDescription, BucketRules
from rekeyd.stores.guarded import operation as on
from rekeyd.stores.guarded.operation import Guard
from rekeyd.stores.port import (
    LIST_OBJECTS_MAX,
    Content,
    DeleteOutcome,
    IfMatches,
    ListingPage,
    LiveClaim,
    ObjectStore,
    ObjectStream,
    Part,
    UnderKey,
    Upload,
    VersionsPage,
    WriteCondition,
    Written,
)


class GuardedStore:
    """An object store behind a guard. Each method is the port's own."""

    def __init__(self, inner: ObjectStore, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def computes_copied_checksums(self) -> bool:
        return self._inner.computes_copied_checksums

    @property
    def updates_keys_of(self) -> str:
        return self._inner.updates_keys_of

    async def list_page(
        self, bucket: str, prefix: str, *, after: str | None = None, limit: int = LIST_OBJECTS_MAX
    ) -> ListingPage:
        return await self._guard.run(
            on.LIST_PAGE, lambda: self._inner.list_page(bucket, prefix, after=after, limit=limit)
        )

    async def list_versions_page(
        self, bucket: str, prefix: str, *, after: str | None = None, limit: int = LIST_OBJECTS_MAX
    ) -> VersionsPage:
        return await self._guard.run(
            on.LIST_VERSIONS,
            lambda: self._inner.list_versions_page(bucket, prefix, after=after, limit=limit),
        )

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectHead:
        return await self._guard.run(on.HEAD, lambda: self._inner.head(bucket, key, version_id))

    def read(
        self, bucket: str, version: ObjectVersion, span: ByteSpan | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        return self._guard.reading(self._inner.read(bucket, version, span))

    async def read_tags(self, bucket: str, version: ObjectVersion) -> Mapping[str, str]:
        return await self._guard.run(on.READ_TAGS, lambda: self._inner.read_tags(bucket, version))

    async def put(
        self,
        bucket: str,
        key: str,
        content: Content,
        attributes: Attributes,
        *,
        condition: WriteCondition,
        under: UnderKey | None,
        crc64nvme: int | None,
        claim: LiveClaim,
    ) -> Written:
        return await self._guard.run(
            on.PUT,
            lambda: self._inner.put(
                bucket,
                key,
                content,
                attributes,
                condition=condition,
                under=under,
                crc64nvme=crc64nvme,
                claim=claim,
            ),
        )

    async def copy(  # noqa: PLR0913 - see the port
        self,
        bucket: str,
        key: str,
        *,
        source_bucket: str,
        source: ObjectVersion,
        condition: WriteCondition,
        under: UnderKey,
        storage_class: str = "STANDARD",
        attributes: Attributes | None = None,
        lock: ObjectLock | None = None,
        claim: LiveClaim,
    ) -> Written:
        return await self._guard.run(
            on.COPY,
            lambda: self._inner.copy(
                bucket,
                key,
                source_bucket=source_bucket,
                source=source,
                condition=condition,
                under=under,
                storage_class=storage_class,
                attributes=attributes,
                lock=lock,
                claim=claim,
            ),
        )

    async def update_encryption(
        self, bucket: str, version: ObjectVersion, *, under: UnderKey, claim: LiveClaim
    ) -> str:
        return await self._guard.run(
            on.UPDATE_ENCRYPTION,
            lambda: self._inner.update_encryption(bucket, version, under=under, claim=claim),
        )

    async def begin_upload(
        self,
        bucket: str,
        key: str,
        attributes: Attributes,
        *,
        under: UnderKey | None,
        claim: LiveClaim,
    ) -> Upload:
        return await self._guard.run(
            on.BEGIN_UPLOAD,
            lambda: self._inner.begin_upload(bucket, key, attributes, under=under, claim=claim),
        )

    async def put_part(self, upload: Upload, number: int, content: Content, *, claim: LiveClaim) -> Part:
        return await self._guard.run(
            on.PUT_PART, lambda: self._inner.put_part(upload, number, content, claim=claim)
        )

    async def copy_part(
        self,
        upload: Upload,
        number: int,
        *,
        source_bucket: str,
        source: ObjectVersion,
        span: ByteSpan,
        claim: LiveClaim,
    ) -> Part:
        return await self._guard.run(
            on.COPY_PART,
            lambda: self._inner.copy_part(
                upload, number, source_bucket=source_bucket, source=source, span=span, claim=claim
            ),
        )

    async def complete_upload(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        condition: WriteCondition,
        crc64nvme: int | None,
        claim: LiveClaim,
    ) -> Written:
        return await self._guard.run(
            on.COMPLETE_UPLOAD,
            lambda: self._inner.complete_upload(
                upload, parts, condition=condition, crc64nvme=crc64nvme, claim=claim
            ),
        )

    async def abort_upload(self, upload: Upload, *, claim: LiveClaim) -> None:
        await self._guard.run(on.ABORT_UPLOAD, lambda: self._inner.abort_upload(upload, claim=claim))

    async def list_uploads(self, bucket: str, prefix: str) -> Sequence[Upload]:
        return await self._guard.run(on.LIST_UPLOADS, lambda: self._inner.list_uploads(bucket, prefix))

    async def hide(self, bucket: str, key: str, *, condition: IfMatches, claim: LiveClaim) -> Written:
        return await self._guard.run(
            on.HIDE, lambda: self._inner.hide(bucket, key, condition=condition, claim=claim)
        )

    async def delete(
        self, bucket: str, versions: Sequence[ObjectVersion], *, claim: LiveClaim
    ) -> Sequence[DeleteOutcome]:
        return await self._guard.run(on.DELETE, lambda: self._inner.delete(bucket, versions, claim=claim))


class GuardedControl:
    """A control plane behind a guard. Each method is the port's own."""

    def __init__(self, inner: BucketControl, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard

    async def describe(self, bucket: str) -> BucketDescription | None:
        return await self._guard.run(on.DESCRIBE_BUCKET, lambda: self._inner.describe(bucket))

    async def create(
        self,
        bucket: str,
        region: str,
        *,
        versioned: bool = False,
        object_lock: bool = False,
        claim: LiveClaim,
    ) -> None:
        await self._guard.run(
            on.CHANGE_BUCKET,
            lambda: self._inner.create(
                bucket, region, versioned=versioned, object_lock=object_lock, claim=claim
            ),
        )

    async def enable_versioning(self, bucket: str, *, claim: LiveClaim) -> None:
        await self._guard.run(on.CHANGE_BUCKET, lambda: self._inner.enable_versioning(bucket, claim=claim))

    async def set_tags(self, bucket: str, tags: Mapping[str, str], *, claim: LiveClaim) -> None:
        await self._guard.run(on.CHANGE_BUCKET, lambda: self._inner.set_tags(bucket, tags, claim=claim))

    async def set_default_key(self, bucket: str, key_arn: str, *, claim: LiveClaim) -> None:
        await self._guard.run(
            on.CHANGE_BUCKET, lambda: self._inner.set_default_key(bucket, key_arn, claim=claim)
        )

    async def block_public_access(self, bucket: str, *, claim: LiveClaim) -> bool:
        return await self._guard.run(
            on.CHANGE_BUCKET, lambda: self._inner.block_public_access(bucket, claim=claim)
        )

    async def describe_rules(self, bucket: str) -> BucketRules:
        return await self._guard.run(on.DESCRIBE_BUCKET, lambda: self._inner.describe_rules(bucket))

    async def set_policy(self, bucket: str, policy: Policy, *, claim: LiveClaim) -> bool:
        return await self._guard.run(
            on.CHANGE_BUCKET, lambda: self._inner.set_policy(bucket, policy, claim=claim)
        )

    async def expire_unfinished_uploads(self, bucket: str, days: int, *, claim: LiveClaim) -> bool:
        return await self._guard.run(
            on.CHANGE_BUCKET, lambda: self._inner.expire_unfinished_uploads(bucket, days, claim=claim)
        )
