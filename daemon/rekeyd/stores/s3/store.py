"""The store port on S3: what "Amazon S3 API Reference" describes, as far as compatible stores agree."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from rekeyd.domain.errors import NotFoundError, StoreRefusedError, UnavailableError
from rekeyd.domain.objects import Attributes, ByteSpan, ObjectHead, ObjectLock, ObjectVersion
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import (
    LIST_OBJECTS_MAX,
    UPLOADS_MAX,
    Content,
    DeleteOutcome,
    IfMatches,
    ListingPage,
    LiveClaim,
    ObjectStream,
    Part,
    UnderKey,
    Upload,
    VersionsPage,
    WriteCondition,
    Written,
)
from rekeyd.stores.s3 import headers as s3
from rekeyd.stores.s3 import xml
from rekeyd.stores.s3.answers import (
    cursor_query,
    next_cursor,
    part,
    part_query,
    reading,
    stated_checksum,
    written,
)
from rekeyd.stores.s3.client import CredentialSource, S3Client
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.deleting import delete_versions, hide_current
from rekeyd.stores.s3.keys import why_rewritten
from rekeyd.stores.s3.listing import list_versions
from rekeyd.stores.s3.reading import open_read, read_head, version_query
from rekeyd.stores.s3.request import S3Request
from rekeyd.stores.s3.updating import update_encryption

_FULL_OBJECT = {"x-amz-checksum-type": "FULL_OBJECT"}


class S3Store:
    """Objects in S3 and in stores that speak like it."""

    def __init__(self, client: S3Client) -> None:
        self._client = client

    @property
    def name(self) -> str:
        """The store's name in the settings."""
        return self._client.config.name

    @property
    def updates_keys_of(self) -> str:
        """See the port. AWS alone has the call, and takes keys of the buckets' own account only."""
        config = self._client.config
        return "" if config.endpoint_url else config.account_id

    @property
    def computes_copied_checksums(self) -> bool:
        """AWS does. SeaweedFS carries what the source has, and computes none."""
        return not self._client.config.endpoint_url

    async def list_page(
        self, bucket: str, prefix: str, *, after: str | None = None, limit: int = LIST_OBJECTS_MAX
    ) -> ListingPage:
        """See the port. The cursor holds the store's token, or the last key where that is damaged."""
        request = S3Request(
            "ListObjectsV2",
            "GET",
            bucket,
            query=(
                ("list-type", "2"),
                ("encoding-type", "url"),
                ("max-keys", str(limit)),
                ("prefix", prefix),
                *cursor_query(after),
            ),
        )
        answer = await self._client.call(request)
        with reading(request, answer):
            page = xml.parse_listing(answer.body, prefix, limit)
            return ListingPage(page.objects, next_cursor(page, after))

    async def list_versions_page(
        self, bucket: str, prefix: str, *, after: str | None = None, limit: int = LIST_OBJECTS_MAX
    ) -> VersionsPage:
        """See the port. It takes a request a page, and more for a history that a page can't hold."""
        return await list_versions(self._client, bucket, prefix, after, limit)

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectHead:
        """See the port. Why a head is refused is asked for by a read, which HEAD's answer can't say."""
        return await read_head(self._client, bucket, key, version_id)

    def read(
        self, bucket: str, version: ObjectVersion, span: ByteSpan | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """See the port."""
        return open_read(self._client, bucket, version, span)

    async def read_tags(self, bucket: str, version: ObjectVersion) -> Mapping[str, str]:
        """See the port. GetObjectTagging takes no condition: only a version id pins it."""
        request = S3Request(
            "GetObjectTagging",
            "GET",
            bucket,
            version.key,
            query=(("tagging", ""), *version_query(version.version_id)),
        )
        answer = await self._client.call(request)
        with reading(request, answer):
            return xml.parse_tags(answer.body)

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
        """See the port. An algorithm without a checksum isn't named: AWS refuses that ("PutObject")."""
        self._check_key("PutObject", key, content.size_bytes)
        request = S3Request(
            "PutObject",
            "PUT",
            bucket,
            key,
            headers={
                **s3.attribute_headers("PutObject", attributes),
                **s3.condition_headers(condition),
                **s3.encryption_headers(under),
                **s3.put_checksum_headers(
                    "PutObject", content, crc64nvme, locked=attributes.lock is not None
                ),
            },
            content=content,
            claim=claim,
            publishes=True,
        )
        answer = await self._client.call(request)
        return written(request, answer, answer.headers.get("etag", ""), answer.headers)

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
        """See the port. The class is always named: SeaweedFS would carry the source's, AWS would not.

        SeaweedFS carries the source's lock, too, whichever is named.
        """
        self._check_key("CopyObject", key, source.size_bytes)
        request = S3Request(
            "CopyObject",
            "PUT",
            bucket,
            key,
            headers={
                **self._copy_source(source_bucket, source),
                **s3.condition_headers(condition),
                **s3.encryption_headers(under),
                **s3.directive_headers("CopyObject", attributes, lock),
                "x-amz-checksum-algorithm": "CRC64NVME",
                "x-amz-storage-class": storage_class,
            },
            claim=claim,
            publishes=True,
            takes_long=True,
            moved_bytes=source.size_bytes,
        )
        root, answer = await self._client.call_for_xml(request, "CopyObjectResult")
        return written(request, answer, root.get("ETag"), stated_checksum(root))

    async def update_encryption(
        self, bucket: str, version: ObjectVersion, *, under: UnderKey, claim: LiveClaim
    ) -> str:
        """See the port."""
        return await update_encryption(self._client, bucket, version, under, claim)

    async def begin_upload(
        self,
        bucket: str,
        key: str,
        attributes: Attributes,
        *,
        under: UnderKey | None,
        claim: LiveClaim,
    ) -> Upload:
        """See the port. The algorithm must be named here, or Complete's checksum isn't checked."""
        self._check_key("CreateMultipartUpload", key, None)
        request = S3Request(
            "CreateMultipartUpload",
            "POST",
            bucket,
            key,
            query=(("uploads", ""),),
            headers={
                **s3.attribute_headers("CreateMultipartUpload", attributes),
                **s3.encryption_headers(under),
                "x-amz-checksum-algorithm": "CRC64NVME",
                **_FULL_OBJECT,
            },
            claim=claim,
        )
        root, answer = await self._client.call_for_xml(request, "InitiateMultipartUploadResult")
        with reading(request, answer):
            return Upload(bucket, key, root.require("UploadId"))

    async def put_part(self, upload: Upload, number: int, content: Content, *, claim: LiveClaim) -> Part:
        """See the port. The store computes the part's checksum, since the upload names the algorithm."""
        request = S3Request(
            "UploadPart",
            "PUT",
            upload.bucket,
            upload.key,
            query=part_query(upload, number),
            content=content,
            claim=claim,
        )
        headers = (await self._client.call(request)).headers
        crc = headers.get(s3.CRC_HEADER, "")
        return part(request, number, headers.get("etag", ""), content.size_bytes, crc)

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
        """See the port."""
        request = S3Request(
            "UploadPartCopy",
            "PUT",
            upload.bucket,
            upload.key,
            query=part_query(upload, number),
            headers={
                **self._copy_source(source_bucket, source),
                "x-amz-copy-source-range": s3.range_header(span),
            },
            claim=claim,
            takes_long=True,
            moved_bytes=span.size_bytes,
        )
        root, _ = await self._client.call_for_xml(request, "CopyPartResult")
        crc = root.get("ChecksumCRC64NVME")
        return part(request, number, root.get("ETag"), span.size_bytes, crc)

    async def complete_upload(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        condition: WriteCondition,
        crc64nvme: int | None,
        claim: LiveClaim,
    ) -> Written:
        """See the port."""
        numbered = sorted(parts, key=lambda one: one.number)
        size_bytes = sum(one.size_bytes for one in numbered)
        body = xml.complete_body(
            [
                (one.number, one.etag, None if one.crc64nvme is None else s3.encode_crc(one.crc64nvme))
                for one in numbered
            ]
        )
        checksum = {} if crc64nvme is None else {s3.CRC_HEADER: s3.encode_crc(crc64nvme), **_FULL_OBJECT}
        request = S3Request(
            "CompleteMultipartUpload",
            "POST",
            upload.bucket,
            upload.key,
            query=(("uploadId", upload.upload_id),),
            headers={
                "content-type": "application/xml",
                "x-amz-mp-object-size": str(size_bytes),
                **s3.condition_headers(condition),
                **checksum,
            },
            content=BytesContent(body),
            claim=claim,
            publishes=True,
            takes_long=True,
            moved_bytes=size_bytes,
        )
        root, answer = await self._client.call_for_xml(request, "CompleteMultipartUploadResult")
        return written(request, answer, root.get("ETag"), stated_checksum(root))

    async def abort_upload(self, upload: Upload, *, claim: LiveClaim) -> None:
        """See the port."""
        request = S3Request(
            "AbortMultipartUpload",
            "DELETE",
            upload.bucket,
            upload.key,
            query=(("uploadId", upload.upload_id),),
            claim=claim,
        )
        try:
            await self._client.call(request)
        except NotFoundError as error:
            if error.code != "NoSuchUpload":
                raise

    async def list_uploads(self, bucket: str, prefix: str) -> Sequence[Upload]:
        """See the port."""
        found: list[Upload] = []
        markers: tuple[tuple[str, str], ...] = ()
        encoded = not self._client.config.endpoint_url
        encoding = (("encoding-type", "url"),) if encoded else ()
        while True:
            request = S3Request(
                "ListMultipartUploads",
                "GET",
                bucket,
                query=(("uploads", ""), *encoding, ("prefix", prefix), *markers),
            )
            answer = await self._client.call(request)
            with reading(request, answer):
                page = xml.parse_uploads(answer.body, prefix, encoded=encoded)
            found += (Upload(bucket, key, upload_id, begun_at) for key, upload_id, begun_at in page.uploads)
            if len(found) > UPLOADS_MAX:
                raise StoreRefusedError(
                    request.operation,
                    f"over {UPLOADS_MAX} unfinished uploads in {bucket}: abort those that nobody completes",
                )
            if page.next_markers is None:
                return found
            if not page.uploads:
                raise UnavailableError(request.operation, "an empty page that isn't the last one")
            markers = tuple(zip(("key-marker", "upload-id-marker"), page.next_markers, strict=True))

    async def hide(self, bucket: str, key: str, *, condition: IfMatches, claim: LiveClaim) -> Written:
        """See the port."""
        return await hide_current(self._client, bucket, key, condition, claim)

    async def delete(
        self, bucket: str, versions: Sequence[ObjectVersion], *, claim: LiveClaim
    ) -> Sequence[DeleteOutcome]:
        """See the port."""
        if len(versions) > LIST_OBJECTS_MAX:
            raise ValueError(f"{len(versions)} versions: {LIST_OBJECTS_MAX} are the most")
        return await delete_versions(self._client, bucket, versions, claim)

    def _check_key(self, operation: str, key: str, size_bytes: int | None) -> None:
        reason = None if self._client.config.keeps_every_key else why_rewritten(key, size_bytes)
        if reason is not None:
            raise StoreRefusedError(operation, f"the store would rewrite {key!r}: {reason}")

    def _copy_source(self, bucket: str, source: ObjectVersion) -> dict[str, str]:
        return s3.copy_source_headers(bucket, source, self._client.config.account_id)


@asynccontextmanager
async def open_s3_store(
    config: S3Config, credentials: CredentialSource, *, now: Callable[[], float]
) -> AsyncGenerator[S3Store]:
    """The store for as long as the context lasts; `now` gives the seconds of the epoch, for signatures."""
    async with S3Client.opened(config, credentials, now) as client:
        yield S3Store(client)
