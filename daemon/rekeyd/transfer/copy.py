"""Copying one object version: the four ways, each pinned to its source version and conditional on its target."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rekeyd.domain.errors import (
    ArchivedError,
    ClaimLostError,
    InterruptedTransferError,
    NotFoundError,
    PreconditionError,
    RekeydError,
    StoreError,
    StoreRefusedError,
)
from rekeyd.domain.evidence import Evidence, evidence_of
from rekeyd.domain.objects import Attributes, ByteSpan, Checksum, ObjectHead, ObjectVersion
from rekeyd.stores.content import BytesContent, ReadContent
from rekeyd.stores.port import LiveClaim, Part, UnderKey, Upload, WriteCondition, Written
from rekeyd.transfer.checksum import (
    STREAM_WINDOW_BYTES,
    ObservedContent,
    combined_crc64nvme,
    crc64nvme,
)
from rekeyd.transfer.plan import CarryPlan, plan_carry
from rekeyd.transfer.route import Means, Route
from rekeyd.transfer.side_by_side import side_by_side

ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Classes whose objects can't be read where they are, nor be verified by reading ("Storage classes", Amazon S3
User Guide)."""

UNMOVABLE_ENCRYPTIONS: Mapping[str, str] = {
    "SSE-C": "it is encrypted with a key that comes with each request (SSE-C)",
    "aws:kms:dsse": "it is encrypted twice (DSSE-KMS): under the customer key alone it would be protected less",
}
"""Why objects encrypted so can't be moved as they are."""

_NEVER_CARRIED = "x-amz-website-redirect-location"
"""Of all headers the one that a copy doesn't take over by itself ("CopyObject", Amazon S3 API Reference)."""

_ABORT_SECONDS_MAX = 3.0
"""How long giving an upload up may take, its retries included."""


class SourceChangedError(RekeydError):
    """The source version that was to be carried is no longer there: another is, or none."""


class UnmovableError(RekeydError):
    """The source version can't be moved as it is."""


SUPERSEDED: Mapping[str, str] = {"rekeyd-superseded": "true"}
"""User metadata of an older version's copy: who meets it before the newer ones stand won't take it for current."""


@dataclass(frozen=True, slots=True)
class Copied:
    """An object that the target says it has, and what is known of the source so far."""

    written: Written
    source: Evidence
    """Its checksum is None where neither the bytes flowed through us nor the store reports one."""
    target_computes: bool
    """Whether a checksum that the target reports is one that it computed from the bytes it received."""


@dataclass(frozen=True, slots=True)
class CopyTask:
    """One source version on its way to its key in the target."""

    route: Route
    version: ObjectVersion
    condition: WriteCondition
    means: Means
    claim: LiveClaim
    server_side: bool
    """Whether the store is to copy by itself, where one store holds both ends."""
    superseded: bool = False
    """It is an older version of its key's history, and is marked so."""
    may_stream: bool = True
    """Whether what the store doesn't copy by itself may go through us. Not over the very object that is read."""

    @property
    def target_key(self) -> str:
        """Where it goes."""
        return self.route.target_key(self.version.key)

    @property
    def under(self) -> UnderKey:
        """What it is encrypted with."""
        return UnderKey(self.route.key_arn)

    def as_carried(self, head: ObjectHead) -> ObjectHead:
        """The source's head with what its copy is to have: the mark of an older version, the lock that is still on.

        What was restored from an archive goes where it can be read. Raises UnmovableError, ArchivedError.
        """
        if head.encryption.algorithm in UNMOVABLE_ENCRYPTIONS:
            raise UnmovableError(UNMOVABLE_ENCRYPTIONS[head.encryption.algorithm])
        if head.archived:
            raise ArchivedError(
                "copy", f"{self.version.key!r} lies in an archive: restore it, then resume the job"
            )
        found = head.attributes
        attributes = replace(
            found,
            metadata={**found.metadata, **SUPERSEDED} if self.superseded else found.metadata,
            lock=None if found.lock is None else found.lock.in_force(self.means.now()),
            storage_class="STANDARD" if found.storage_class in ARCHIVE_CLASSES else found.storage_class,
        )
        return replace(head, attributes=attributes)


async def copy_object(task: CopyTask) -> Copied:
    """Copy the version; the target has it whole and under the key, or nothing of it can be read.

    Raises SourceChangedError, PreconditionError where the target (or, copied server-side, perhaps the source)
    isn't what the condition says, NotFoundError where an upload is gone, and other StoreErrors.
    """
    plan = _plan(task, server_side=task.server_side)
    match plan.way:
        case "stream_whole":
            return await _stream_whole(task)
        case "stream_parts":
            return await _stream_parts(task, plan)
        case "copy_whole" | "copy_parts":
            return await _copy_within_store(task, plan)


def _plan(task: CopyTask, *, server_side: bool) -> CarryPlan:
    return plan_carry(task.version.size_bytes, server_side=server_side, limits=task.means.limits)


async def _copy_within_store(task: CopyTask, plan: CarryPlan) -> Copied:
    """Have the store copy; where it says that it doesn't implement that, stream instead, if that is allowed."""
    try:
        if plan.way == "copy_whole":
            return await _copy_whole(task)
        return await _copy_parts(task, plan)
    except StoreRefusedError as error:
        # SeaweedFS answers UploadPartCopy from an encrypted source so (501).
        if error.code != "NotImplemented" or not task.may_stream:
            raise
    plan = _plan(task, server_side=False)
    if plan.way == "stream_whole":
        return await _stream_whole(task)
    return await _stream_parts(task, plan)


async def _stream_whole(task: CopyTask) -> Copied:
    size_bytes = task.version.size_bytes
    async with task.means.reading.budget.hold(size_bytes):
        head, data = await task.means.reading.repeat(lambda: _read_whole(task))
        crc = crc64nvme(data)
        tags = await _source_tags(task, head)
        written = await task.route.target.put(
            task.route.target_location.bucket,
            task.target_key,
            BytesContent(data),
            replace(head.attributes, tags=tags),
            condition=task.condition,
            under=task.under,
            crc64nvme=crc,
            claim=task.claim,
        )
    source = evidence_of(head, Checksum(crc, "streamed"), tags)
    return Copied(written, source, task.route.target_checks_checksums)


async def _read_whole(task: CopyTask) -> tuple[ObjectHead, bytes]:
    try:
        async with task.route.source.read(task.route.source_location.bucket, task.version) as stream:
            head = task.as_carried(stream.head)
            data = b"".join([chunk async for chunk in stream.chunks()])
    except (NotFoundError, PreconditionError) as error:
        raise SourceChangedError(str(error)) from error
    if len(data) != task.version.size_bytes:
        raise InterruptedTransferError("read", f"{len(data)} bytes, not {task.version.size_bytes}")
    _compare_with_reported(head, crc64nvme(data))
    return head, data


async def _stream_parts(task: CopyTask, plan: CarryPlan) -> Copied:
    head = await _source_head(task)
    tags = await _source_tags(task, head)
    echoed: list[bool] = []

    async def stream_part(upload: Upload, number: int, span: ByteSpan) -> Part:
        content = ObservedContent(
            ReadContent(task.route.source, task.route.source_location.bucket, task.version, span)
        )
        async with task.means.reading.budget.hold(min(span.size_bytes, STREAM_WINDOW_BYTES)):
            part = await task.route.target.put_part(upload, number, content, claim=task.claim)
        echoed.append(part.crc64nvme is not None)
        if part.crc64nvme is not None and part.crc64nvme != content.crc64nvme:
            raise InterruptedTransferError("put_part", f"part {number} arrived with another checksum")
        return replace(part, crc64nvme=content.crc64nvme)

    def check(parts: Sequence[Part]) -> int:
        crc = combined_crc64nvme([(part.crc64nvme or 0, part.size_bytes) for part in parts])
        _compare_with_reported(head, crc)
        return crc

    written, crc = await _upload(task, plan, replace(head.attributes, tags=tags), stream_part, check)
    assert crc is not None, "a streamed upload has a checksum"
    source = evidence_of(head, Checksum(crc, "streamed"), tags)
    # The parts were sent without a checksum: only a store that said what it computed has computed one.
    return Copied(written, source, task.route.target_checks_checksums and all(echoed))


async def _copy_whole(task: CopyTask) -> Copied:
    head = await _source_head(task)
    source = await source_evidence(task, head)
    named = task.superseded or _NEVER_CARRIED in head.attributes.headers
    written = await task.route.target.copy(
        task.route.target_location.bucket,
        task.target_key,
        source_bucket=task.route.source_location.bucket,
        source=task.version,
        condition=task.condition,
        under=task.under,
        storage_class=head.attributes.storage_class,
        attributes=replace(head.attributes, tags=source.tags or {}) if named else None,
        lock=head.attributes.lock,
        claim=task.claim,
    )
    computed = task.route.target.computes_copied_checksums and head.crc64nvme is None
    return Copied(written, source, computed)


async def _copy_parts(task: CopyTask, plan: CarryPlan) -> Copied:
    head = await _source_head(task)
    source = await source_evidence(task, head)

    async def copy_part(upload: Upload, number: int, span: ByteSpan) -> Part:
        return await task.route.target.copy_part(
            upload,
            number,
            source_bucket=task.route.source_location.bucket,
            source=task.version,
            span=span,
            claim=task.claim,
        )

    attributes = replace(head.attributes, tags=source.tags or {})
    written, _ = await _upload(task, plan, attributes, copy_part, lambda _: head.crc64nvme)
    return Copied(written, source, target_computes=False)


async def _upload(
    task: CopyTask,
    plan: CarryPlan,
    attributes: Attributes,
    make_part: Callable[[Upload, int, ByteSpan], Awaitable[Part]],
    checksum_of: Callable[[Sequence[Part]], int | None],
) -> tuple[Written, int | None]:
    """Begin an upload, make its parts side by side, and publish it; where anything fails it is aborted."""
    upload = await task.route.target.begin_upload(
        task.route.target_location.bucket,
        task.target_key,
        attributes,
        under=task.under,
        claim=task.claim,
    )
    try:
        parts = await side_by_side(
            enumerate(plan.spans(task.version.size_bytes), start=1),
            lambda numbered: make_part(upload, *numbered),
            at_once_max=task.means.parts_in_flight_max,
        )
        crc = checksum_of(parts)
        written = await task.route.target.complete_upload(
            upload, parts, condition=task.condition, crc64nvme=crc, claim=task.claim
        )
    except BaseException:
        await _abort(task, upload)
        raise
    return written, crc


async def _abort(task: CopyTask, upload: Upload) -> None:
    """Give the upload up, although we may be failing or cancelled: its parts would be paid for and never seen.

    What can't be aborted now, the store is away say, is found by the sweep of unfinished uploads before the switch; in
    a rotation it expires.
    """
    aborting = asyncio.ensure_future(_abort_in_time(task, upload))
    try:
        await asyncio.shield(aborting)
    except asyncio.CancelledError:
        await asyncio.gather(aborting)
        raise


@dataclass(frozen=True, slots=True)
class _Closing:
    """A claim for giving up only: an upload that nobody else knows of may be given up at any time."""

    claim: LiveClaim

    def call_deadline(self) -> float:
        return self.closing_deadline()

    def closing_deadline(self) -> float:
        try:
            return self.claim.closing_deadline()
        except ClaimLostError:
            return asyncio.get_running_loop().time() + _ABORT_SECONDS_MAX

    def unanswered(self, deadline: float) -> None:
        self.claim.unanswered(deadline)


async def _abort_in_time(task: CopyTask, upload: Upload) -> None:
    with contextlib.suppress(StoreError, ClaimLostError, TimeoutError):
        async with asyncio.timeout(_ABORT_SECONDS_MAX):
            await task.route.target.abort_upload(upload, claim=_Closing(task.claim))


async def _source_head(task: CopyTask) -> ObjectHead:
    """The head of exactly the version to be carried."""
    version = task.version
    bucket = task.route.source_location.bucket
    try:
        head = await task.route.source.head(bucket, version.key, version.version_id)
    except NotFoundError as error:
        raise SourceChangedError(str(error)) from error
    if (head.version.etag, head.version.size_bytes) != (version.etag, version.size_bytes):
        raise SourceChangedError(f"{version.key!r} is another version by now")
    return task.as_carried(head)


async def source_evidence(task: CopyTask, head: ObjectHead) -> Evidence:
    """What is known of the source by its head, without its bytes passing through us."""
    return evidence_of(head, _reported(head), await _source_tags(task, head))


async def _source_tags(task: CopyTask, head: ObjectHead) -> Mapping[str, str]:
    if head.tag_count == 0:
        return {}
    try:
        return await task.route.source.read_tags(task.route.source_location.bucket, task.version)
    except (NotFoundError, PreconditionError) as error:
        raise SourceChangedError(str(error)) from error


def _reported(head: ObjectHead) -> Checksum | None:
    """The checksum with which the object came into its store: what was written had it."""
    return None if head.crc64nvme is None else Checksum(head.crc64nvme, "computed_by_provider")


def _compare_with_reported(head: ObjectHead, crc: int) -> None:
    """Bytes that don't have the checksum that the source reports were damaged on their way, or at rest."""
    if head.crc64nvme is not None and head.crc64nvme != crc:
        raise InterruptedTransferError("read", "the bytes don't have the checksum that the source reports")
