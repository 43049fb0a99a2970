"""What the rest of rekeyd may ask of an object store, and what it may rely on.

Guarantees that every adapter gives, and that the contract suite proves on each:

- **Keys are opaque.** They go out and come back byte for byte, or the call is refused.
- **Atomic publication.** An object appears whole or not at all; a failed `put` or an upload that was not
  completed changes nothing that can be read.
- **Pinned reads.** A read of a version gives that version's bytes, or fails: never a mixture of two.
- **Conditions are the store's.** They are evaluated where the object is written or deleted, not by a look before.
- **Unknown outcomes are said.** An error with `outcome_unknown` may have taken effect.
- **No retries, no limits.** One request a call (what describes or configures a bucket apart); retrying, pacing
  and metering are wrappers in `guarded/`, and only there.
- **Claims end calls.** A mutating call asks its claim for a deadline at sending, and is given up at it. One that ends
  without an answer is told to the claim, with that deadline.

Errors are those of `rekeyd.domain.errors`, `StoreError` and below, and `ClaimLostError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from rekeyd.domain.objects import (
    Attributes,
    ByteSpan,
    Encryption,
    ObjectHead,
    ObjectLock,
    ObjectVersion,
)

LIST_OBJECTS_MAX = 1000
"""The most objects that one page of a listing holds, and the most that one `delete` takes (S3's own bounds)."""

HISTORY_VERSIONS_MAX = 1000
"""The most versions and markers of one key that are listed as its history."""

UPLOADS_MAX = 100_000
"""The most unfinished uploads under a prefix that can be listed: they are held in memory. Beyond it nobody knows."""


class LiveClaim(Protocol):
    """The right to change something, for as long as it lasts."""

    def call_deadline(self) -> float:
        """The absolute time of the event loop's clock by which a mutating call that starts now must have ended.

        Asked at each sending, so again for each retry. Raises ClaimLostError where the claim doesn't outlive
        such a call.
        """

    def closing_deadline(self) -> float:
        """The same for a call that only gives up what was begun under it, and changes nothing that others see.

        Such a one may start also when the claim was ended by others, as long as its lease outlives the call: until
        then nobody else gets what it held.
        """

    def unanswered(self, deadline: float) -> None:
        """Told of a call that was sent and got no answer: what others see may still change by it until its deadline.

        A timeout, a lost connection, our own giving up. A part of an upload that isn't completed changes nothing
        that others see, and isn't told of.
        """


class Content(Protocol):
    """Bytes of a known length that can be produced anew, from the first one on, as often as a retry needs them."""

    @property
    def size_bytes(self) -> int:
        """Exactly how many bytes each opening gives."""

    def open(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Produce the bytes from the first one on.

        Leaving the context early gives up what feeds them. An adapter that knows where the bytes come from
        (a read of its own kind) may move them by a shorter way.
        """


@dataclass(frozen=True, slots=True)
class IfAbsent:
    """Write only where there is no object under the key."""


@dataclass(frozen=True, slots=True)
class IfMatches:
    """Write only over exactly this version."""

    etag: str


WriteCondition = IfAbsent | IfMatches


@dataclass(frozen=True, slots=True)
class UnderKey:
    """Encrypt what is written with this KMS key, named by its ARN."""

    key_arn: str


@dataclass(frozen=True, slots=True)
class Written:
    """What the store said of a write that succeeded."""

    etag: str
    version_id: str | None
    crc64nvme: int | None
    """Of the full object, where the answer carried one."""
    encryption: Encryption
    request_id: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that was begun and neither completed nor aborted."""

    bucket: str
    key: str
    upload_id: str
    begun_at: str | None = field(default=None, compare=False)
    """An RFC 3339 time by the store's clock, where a listing says it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the store holds. Numbers run from 1 to 10,000."""

    number: int
    etag: str
    size_bytes: int
    crc64nvme: int | None
    """As the store's answer gives it, None where it gives none."""


@dataclass(frozen=True, slots=True)
class ListingPage:
    """A page of a listing, in an order of the store's own, the same each time.

    S3's is that of the keys' UTF-8 bytes; SeaweedFS walks directories, where `a/x` stands before `a-b`.
    """

    objects: tuple[ObjectVersion, ...]
    resume_after: str | None
    """An opaque cursor, valid in later processes too; None where this page is the last one."""


@dataclass(frozen=True, slots=True)
class VersionsPage:
    """A page of a listing of versions: whole histories, in the order of `ListingPage`."""

    histories: tuple[ObjectVersion, ...]
    """Of each key its newest version or marker, with all that is beneath it in `older`."""
    resume_after: str | None
    """An opaque cursor, valid in later processes too; None where this page is the last one."""
    too_long: tuple[str, ...] = ()
    """Keys that have more than HISTORY_VERSIONS_MAX versions and markers. They are on no page's `histories`."""


OLDER_LEFT = "one before it in its key's history is left"
"""The detail of a version that wasn't deleted because one named before it wasn't."""


@dataclass(frozen=True, slots=True)
class DeleteOutcome:
    """What became of one version that was to be deleted."""

    version: ObjectVersion
    result: Literal[
        "deleted",  # gone, now or before
        "changed",  # another version stands under the key: nothing was deleted
        "failed",  # not deleted, for the reason in `detail`
    ]
    detail: str = ""
    request_id: str = field(default="", compare=False)
    """The store's name for the request that deleted it; empty where it was gone already, or the store names none."""


class ObjectStream(Protocol):
    """An object version being read."""

    @property
    def head(self) -> ObjectHead:
        """What the store said of it with the first bytes; `crc64nvme` is None for a span."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in order, once: exactly as many as were asked for, or InterruptedTransferError."""


class ObjectStore(Protocol):
    """The data plane of a store: objects, uploads, listings."""

    @property
    def name(self) -> str:
        """The store's name in the settings."""

    @property
    def computes_copied_checksums(self) -> bool:
        """Whether a server-side copy of an object without a checksum gets one computed from the copied bytes.

        Where it is false, a checksum on a server-side copy may be one that was merely carried along.
        """

    @property
    def updates_keys_of(self) -> str:
        """The account to whose KMS keys `update_encryption` can lead a version; empty: to none."""

    async def list_page(
        self, bucket: str, prefix: str, *, after: str | None = None, limit: int = LIST_OBJECTS_MAX
    ) -> ListingPage:
        """The objects whose keys begin with `prefix`, at most `limit` (1 to 1,000).

        `after` is the `resume_after` of the page before, nothing else.

        Strongly consistent: it shows every write and delete that was answered before the call. An error is
        raised, never given as an empty page. Not for buckets that keep versions: there SeaweedFS' pages lack objects.
        """

    async def list_versions_page(
        self, bucket: str, prefix: str, *, after: str | None = None, limit: int = LIST_OBJECTS_MAX
    ) -> VersionsPage:
        """The histories of the keys that begin with `prefix`: at least one whole one where there is any.

        About `limit` (1 to 1,000) versions and markers: one history may go beyond it. All of a key's are on one page.
        `after` is the `resume_after` of the page before, nothing else. Where many histories are too long, a page
        may have no history and yet not be the last one.

        What was written before the bucket kept versions has the id `null`. In a bucket that never kept any, every
        object has: `list_page` gives them without. Consistency and errors are those of `list_page`.
        """

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectHead:
        """What the store says of an object, or of the version with this id (`null` included).

        The version that it names has the store's id, and `null` only where that was asked for. Raises NotFoundError
        (for a marker, too), CustomerKeyError where the store tells nothing without the key.
        """

    def read(
        self, bucket: str, version: ObjectVersion, span: ByteSpan | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """Open exactly this version for reading, the whole of it or a span that isn't empty.

        Raises NotFoundError where it is gone, PreconditionError where another version stands in its place,
        KeyUnusableError where its key can't be used, ArchivedError where it must be restored before, CustomerKeyError
        where it's encrypted with a key that comes with each request.
        """

    async def read_tags(self, bucket: str, version: ObjectVersion) -> Mapping[str, str]:
        """The tags of a version. Without an id they are those of what stands there now; with `null`, of what has it."""

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
        """Write an object with one request. `crc64nvme` is sent along where it is known: the store checks it.

        In a bucket that keeps versions the condition is on the newest one, and a marker counts as absent. A lock in
        the attributes protects the version from the start; the bucket must have been made with object lock.
        """

    async def copy(  # noqa: PLR0913 - a copy is both a read and a write
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
        """Copy exactly this source version within the store, with one request.

        Its headers, metadata and tags are the source's, or, where `attributes` are given, all of them are those. The
        storage class is taken over from neither: it is `storage_class`. The lock is `lock`, or else that of the given
        `attributes`, and never by itself the source's.

        Raises PreconditionError where the condition doesn't hold or the source is another version by now,
        ArchivedError where the source must be restored before.
        """

    async def update_encryption(
        self, bucket: str, version: ObjectVersion, *, under: UnderKey, claim: LiveClaim
    ) -> str:
        """Have exactly this version, current or older, lie under another KMS key; nothing else of it changes.

        Gives the store's name for the request, empty where it names none.

        Without an id it is whatever stands there then: its bytes stay what they are, whoever wrote them. Raises
        StoreRefusedError where the store doesn't do that for such a version.
        """

    async def begin_upload(
        self,
        bucket: str,
        key: str,
        attributes: Attributes,
        *,
        under: UnderKey | None,
        claim: LiveClaim,
    ) -> Upload:
        """Begin a multipart upload whose checksum is the CRC64NVME of the full object."""

    async def put_part(self, upload: Upload, number: int, content: Content, *, claim: LiveClaim) -> Part:
        """Write a part. The content flows through: the call holds far less than a part in memory."""

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
        """Make a part of a span of exactly this source version, within the store."""

    async def complete_upload(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        condition: WriteCondition,
        crc64nvme: int | None,
        claim: LiveClaim,
    ) -> Written:
        """Publish the object. With `crc64nvme` the store is told the full object's checksum and may check it.

        Raises NotFoundError where the upload is gone: it may have been completed by a call whose answer was lost.
        """

    async def abort_upload(self, upload: Upload, *, claim: LiveClaim) -> None:
        """Give an upload up and free its parts. One that is gone already is no error."""

    async def list_uploads(self, bucket: str, prefix: str) -> Sequence[Upload]:
        """All uploads that are neither completed nor aborted; never a part of them.

        Raises StoreRefusedError where there are more than UPLOADS_MAX.
        """

    async def hide(self, bucket: str, key: str, *, condition: IfMatches, claim: LiveClaim) -> Written:
        """Write a delete marker over exactly the current version: nothing of what is beneath it is lost.

        `version_id` is the marker's; it has no ETag. Only for buckets whose versioning is enabled: in another one the
        object is deleted for good, which is found out afterwards and raises StoreRefusedError. Raises PreconditionError
        where another version is the current one. Where nothing or a marker is, a store may refuse it so, or write a
        marker: after an unknown outcome the history is to be listed before it is done again.
        """

    async def delete(
        self, bucket: str, versions: Sequence[ObjectVersion], *, claim: LiveClaim
    ) -> Sequence[DeleteOutcome]:
        """Delete exactly these versions, at most 1,000: by version id, or where there is none if the ETag matches.

        Markers are deleted like versions. Of one key's versions and markers none is deleted once one before it in
        `versions` wasn't: so give them oldest first, and what is left is the newer part of the history. One outcome for
        each, in the order given; what is gone already counts as deleted; what is under a lock `failed`.

        `null` is no pin. What has it is looked at right before, and deleted only if its ETag is the very one (or it's a
        marker, and a marker is due). In a bucket whose versioning is enabled nobody can put another one in its place;
        in a suspended one somebody can, in between. That it's enabled is for the caller to make sure.
        """
