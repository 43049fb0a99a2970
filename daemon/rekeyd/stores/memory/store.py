"""An object store in memory, with every guarantee of the port, for fast tests of all that stands on it.

It behaves like S3 where stores differ: keys in the order of their bytes, an ETag that is no hash of the content, a
checksum that a copy carries along, a key that is needed at each read and write, and for no head, listing or delete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from awscrt.checksums import crc64nvme as crc64nvme_of

from rekeyd.domain.errors import (
    ClaimLostError,
    InterruptedTransferError,
    StoreRefusedError,
    UnavailableError,
)
from rekeyd.domain.objects import Attributes, ByteSpan, ObjectHead, ObjectLock, ObjectVersion
from rekeyd.stores.memory.shelf import Begun, Shelf, check_key, kept_attributes
from rekeyd.stores.port import (
    HISTORY_VERSIONS_MAX,
    LIST_OBJECTS_MAX,
    OLDER_LEFT,
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

CHUNK_BYTES = 64 * 1024
"""How a read is cut."""

_CURSOR = "key:"
_HISTORY_CURSOR = "history:"


class MemoryStore:
    """The data plane over a shelf."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        name: str = "memory",
        computes_copied_checksums: bool = False,
        updates_keys_of: str = "",
    ) -> None:
        self._updates_keys_of = updates_keys_of
        self._shelf = shelf
        self._name = name
        self._computes_copied_checksums = computes_copied_checksums

    @property
    def name(self) -> str:
        """See the port."""
        return self._name

    @property
    def updates_keys_of(self) -> str:
        """See the port."""
        return self._updates_keys_of

    @property
    def computes_copied_checksums(self) -> bool:
        """See the port."""
        return self._computes_copied_checksums

    async def list_page(
        self, bucket: str, prefix: str, *, after: str | None = None, limit: int = LIST_OBJECTS_MAX
    ) -> ListingPage:
        """See the port."""
        objects = self._shelf.bucket("list_page", bucket).objects
        begin = b"" if after is None else _cursor_key(after, _CURSOR).encode()
        keys = sorted(
            (key for key in objects if key.startswith(prefix) and key.encode() > begin), key=str.encode
        )
        page = tuple(objects[key].listed(key) for key in keys[:limit])
        return ListingPage(page, _CURSOR + page[-1].key if len(keys) > limit else None)

    async def list_versions_page(
        self, bucket: str, prefix: str, *, after: str | None = None, limit: int = LIST_OBJECTS_MAX
    ) -> VersionsPage:
        """See the port."""
        objects = self._shelf.bucket("list_versions_page", bucket).objects
        begin = b"" if after is None else _cursor_key(after, _HISTORY_CURSOR).encode()
        keys = sorted(
            (key for key in objects.keys_of_all() if key.startswith(prefix) and key.encode() > begin),
            key=str.encode,
        )
        histories: list[ObjectVersion] = []
        too_long: list[str] = []
        left = limit
        last = ""
        for key in keys:
            chain = objects.chain(key)
            if left < len(chain) and left < limit:
                return VersionsPage(tuple(histories), _HISTORY_CURSOR + last, tuple(too_long))
            left -= len(chain)
            last = key
            if len(chain) > HISTORY_VERSIONS_MAX:
                too_long.append(key)
            else:
                *older, newest = (stored.listed_version(key) for stored in chain)
                histories.append(replace(newest, older=tuple(older)))
        return VersionsPage(tuple(histories), None, tuple(too_long))

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectHead:
        """See the port."""
        return self._shelf.seen("head", bucket, key, version_id).head(key, version_id)

    @asynccontextmanager
    async def _read(
        self, bucket: str, version: ObjectVersion, span: ByteSpan | None
    ) -> AsyncGenerator[ObjectStream]:
        stored = self._shelf.pinned("read", bucket, version)
        data = stored.data
        head = stored.head(version.key, version.version_id)
        if span is not None:
            if not 0 <= span.first < span.end:
                raise ValueError(f"{span} is empty")
            if span.end > len(data):
                raise StoreRefusedError("read", f"{span} is not within {len(data)} bytes")
            data = data[span.first : span.end]
            head = replace(head, crc64nvme=None)
        yield _MemoryStream(head, data)

    def read(
        self, bucket: str, version: ObjectVersion, span: ByteSpan | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """See the port."""
        return self._read(bucket, version, span)

    async def read_tags(self, bucket: str, version: ObjectVersion) -> Mapping[str, str]:
        """See the port."""
        return self._shelf.stored("read_tags", bucket, version.key, version.version_id).attributes.tags

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
        """See the port."""
        check_key("put", key)
        encryption = self._shelf.encryption("put", bucket, under)
        async with live_until_deadline("put", claim):
            data = await _gather("put", content)
        if crc64nvme is not None and crc64nvme != crc64nvme_of(data):
            raise InterruptedTransferError("put", "the checksum isn't that of the bytes")
        self._shelf.use_key("put", encryption)
        self._shelf.check_lock("put", bucket, attributes.lock)
        stored = self._shelf.make(data, kept_attributes("put", attributes), encryption, crc64nvme_of(data))
        return self._shelf.publish("put", bucket, key, stored, condition)

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
        """See the port."""
        check_key("copy", key)
        async with live_until_deadline("copy", claim):
            stored = self._shelf.pinned("copy", source_bucket, source)
        encryption = self._shelf.encryption("copy", bucket, under)
        self._shelf.use_key("copy", encryption)
        crc = crc64nvme_of(stored.data) if self._computes_copied_checksums else stored.crc64nvme
        protected = lock or (attributes.lock if attributes else None)
        self._shelf.check_lock("copy", bucket, protected)
        given = stored.attributes if attributes is None else kept_attributes("copy", attributes)
        given = replace(given, storage_class=storage_class, lock=protected)
        copied = self._shelf.make(stored.data, given, encryption, crc)
        return self._shelf.publish("copy", bucket, key, copied, condition)

    async def update_encryption(
        self, bucket: str, version: ObjectVersion, *, under: UnderKey, claim: LiveClaim
    ) -> str:
        """See the port. Neither ETag nor time of modification change ("UpdateObjectEncryption", S3 API Reference)."""
        if not self._updates_keys_of or f":{self._updates_keys_of}:" not in under.key_arn:
            raise StoreRefusedError("update_encryption", under.key_arn, code="NotImplemented")
        async with live_until_deadline("update_encryption", claim):
            stored = self._shelf.stored("update_encryption", bucket, version.key, version.version_id)
        self._shelf.rekey("update_encryption", bucket, version.key, stored, under)
        return f"request-{self._shelf.next()}"

    async def begin_upload(
        self,
        bucket: str,
        key: str,
        attributes: Attributes,
        *,
        under: UnderKey | None,
        claim: LiveClaim,
    ) -> Upload:
        """See the port."""
        check_key("begin_upload", key)
        encryption = self._shelf.encryption("begin_upload", bucket, under)
        async with live_until_deadline("begin_upload", claim):
            upload = Upload(bucket, key, f"upload-{self._shelf.next()}", self._shelf.time_text())
        self._shelf.check_lock("begin_upload", bucket, attributes.lock)
        kept = kept_attributes("begin_upload", attributes)
        self._shelf.uploads[upload.upload_id] = Begun(upload, kept, encryption)
        return upload

    async def put_part(self, upload: Upload, number: int, content: Content, *, claim: LiveClaim) -> Part:
        """See the port."""
        async with live_until_deadline("put_part", claim):
            data = await _gather("put_part", content)
        return self._shelf.keep_part("put_part", upload, number, data)

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
        async with live_until_deadline("copy_part", claim):
            stored = self._shelf.pinned("copy_part", source_bucket, source)
        if not 0 <= span.first < span.end <= len(stored.data):
            raise StoreRefusedError("copy_part", f"{span} is not within {len(stored.data)} bytes")
        return self._shelf.keep_part("copy_part", upload, number, stored.data[span.first : span.end])

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
        async with live_until_deadline("complete_upload", claim):
            begun = self._shelf.begun("complete_upload", upload)
        numbered = sorted(parts, key=lambda one: one.number)
        if not numbered:
            raise StoreRefusedError("complete_upload", "no parts")
        for one in numbered:
            if one.number not in begun.parts or begun.parts[one.number][0].etag != one.etag:
                raise StoreRefusedError("complete_upload", f"part {one.number} isn't there")
        data = b"".join(begun.parts[one.number][1] for one in numbered)
        if crc64nvme is not None and crc64nvme != crc64nvme_of(data):
            raise InterruptedTransferError("complete_upload", "the checksum isn't that of the bytes")
        stored = self._shelf.make(data, begun.attributes, begun.encryption, crc64nvme_of(data))
        stored = replace(stored, etag=f"{stored.etag}-{len(numbered)}")
        written = self._shelf.publish("complete_upload", upload.bucket, upload.key, stored, condition)
        del self._shelf.uploads[upload.upload_id]
        return written

    async def abort_upload(self, upload: Upload, *, claim: LiveClaim) -> None:
        """See the port."""
        async with live_until_deadline("abort_upload", claim):
            self._shelf.uploads.pop(upload.upload_id, None)

    async def list_uploads(self, bucket: str, prefix: str) -> Sequence[Upload]:
        """See the port."""
        self._shelf.bucket("list_uploads", bucket)
        uploads = [begun.upload for begun in self._shelf.uploads.values()]
        found = [one for one in uploads if one.bucket == bucket and one.key.startswith(prefix)]
        if len(found) > UPLOADS_MAX:
            raise StoreRefusedError("list_uploads", f"over {UPLOADS_MAX} unfinished uploads in {bucket}")
        return found

    async def hide(self, bucket: str, key: str, *, condition: IfMatches, claim: LiveClaim) -> Written:
        """See the port. Where nothing or a marker is, it is refused."""
        async with live_until_deadline("hide", claim):
            return self._shelf.hide("hide", bucket, key, condition)

    async def delete(
        self, bucket: str, versions: Sequence[ObjectVersion], *, claim: LiveClaim
    ) -> Sequence[DeleteOutcome]:
        """See the port."""
        if len(versions) > LIST_OBJECTS_MAX:
            raise ValueError(f"{len(versions)} versions: {LIST_OBJECTS_MAX} are the most")
        async with live_until_deadline("delete", claim):
            outcomes: list[DeleteOutcome] = []
            left: set[str] = set()
            for version in versions:
                if version.key in left:
                    outcomes.append(DeleteOutcome(version, "failed", OLDER_LEFT))
                    continue
                outcomes.append(self._shelf.delete(bucket, version))
                if outcomes[-1].result != "deleted":
                    left.add(version.key)
            return outcomes


@dataclass(frozen=True, slots=True)
class _MemoryStream:
    head: ObjectHead
    data: bytes

    async def chunks(self) -> AsyncGenerator[bytes]:
        for first in range(0, len(self.data), CHUNK_BYTES):
            # As with a real store, others get their turn between two chunks.
            await asyncio.sleep(0)
            yield self.data[first : first + CHUNK_BYTES]


@asynccontextmanager
async def live_until_deadline(operation: str, claim: LiveClaim) -> AsyncGenerator[None]:
    """What a claim allows: to begin before the deadline, and to be given up at it."""
    deadline = claim.call_deadline()
    if deadline <= asyncio.get_running_loop().time():
        raise ClaimLostError(f"{operation}: its deadline has passed")
    try:
        async with asyncio.timeout_at(deadline):
            await asyncio.sleep(0)
            yield
    except TimeoutError as error:
        claim.unanswered(deadline)
        raise UnavailableError(operation, "no answer in time") from error
    except asyncio.CancelledError:
        claim.unanswered(deadline)
        raise


async def _gather(operation: str, content: Content) -> bytes:
    data = bytearray()
    async with content.open() as chunks:
        async for chunk in chunks:
            data += chunk
            if len(data) > content.size_bytes:
                break
    if len(data) != content.size_bytes:
        raise InterruptedTransferError(
            operation, f"the content gave other than the {content.size_bytes} bytes declared"
        )
    return bytes(data)


def _cursor_key(cursor: str, kind: str) -> str:
    if not cursor.startswith(kind):
        raise ValueError(f"{cursor!r} is not a cursor that a listing gave")
    return cursor.removeprefix(kind)
