"""A key's whole history, carried version by version into a target that keeps versions.

A history is a chain: the first version is written if nothing stands, each later one If-Match the one before it, a
delete marker likewise. What the target has is compared with what it should have from the oldest on: what agrees
stays, what comes after it is ours and goes, what is missing is written. So a history that grew, or lost some of its
versions, or whose carrying broke off anywhere, ends the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rekeyd.domain.errors import NotFoundError, PreconditionError, RekeydError, StoreRefusedError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.ledger.port import Copy, ObjectOutcome, ObjectRow
from rekeyd.stores.port import IfAbsent, IfMatches, LiveClaim, ObjectStore, WriteCondition
from rekeyd.transfer.attempt import CONFLICT, SETTLEMENTS_MAX, Attempt, ids_of, planned_by_us
from rekeyd.transfer.copy import CopyTask, SourceChangedError, copy_object, source_evidence
from rekeyd.transfer.route import Means, Route, head_or_none
from rekeyd.transfer.verify import Verification, verify_copy

ONLY_MARKERS = "nothing but delete markers: there is nothing to carry"


def carried_chain(source: ObjectVersion) -> tuple[ObjectVersion, ...]:
    """What of a history is carried, the oldest first.

    A marker that hides nothing, or what is hidden already, changes nothing for any reader: it has no copy.
    """
    chain: list[ObjectVersion] = []
    for version in source.chain:
        hides = bool(chain) and not chain[-1].marker
        if hides or not version.marker:
            chain.append(version)
    return tuple(chain)


async def standing_chain(store: ObjectStore, bucket: str, key: str) -> tuple[ObjectVersion, ...]:
    """All versions and markers that stand under exactly this key, the oldest first.

    A key comes first among those that begin with it, in every order that a store lists in. Raises StoreRefusedError
    for a history that is longer than is listed.
    """
    page = await store.list_versions_page(bucket, key, limit=1)
    if key in page.too_long:
        raise StoreRefusedError("list_versions_page", f"{key!r} has more versions than are listed")
    return next((found.chain for found in page.histories if found.key == key), ())


class _ForeignError(RekeydError):
    """The target holds what we did not write."""


class _UnverifiedError(RekeydError):
    """A copy isn't equal, or can't be shown to be."""

    def __init__(self, verification: Verification) -> None:
        super().__init__("unverified")
        self.verification = verification


async def carry_history(attempt: Attempt, route: Route, means: Means, claim: LiveClaim) -> ObjectOutcome:
    """Make the target's history of the row's key that of the source, and verify every version of it.

    Raises SourceChangedError where the source's history is another by now, and other StoreErrors.
    """
    carrying = _Carrying(attempt, route, means, claim, carried_chain(attempt.row.source))
    row = attempt.row
    carrying.requests += row.copy_requests
    untouched = not (row.copies or row.target or row.planned_before or row.attempts)
    refusal: RekeydError | None = None
    for settlement in range(SETTLEMENTS_MAX + 1):
        try:
            return await carrying.carry(looks_first=settlement > 0 or not untouched)
        except (PreconditionError, NotFoundError) as error:
            await carrying.check_source()
            refusal = error
        except _ForeignError as error:
            return attempt.in_vain_for_good(str(error))
        except _UnverifiedError as error:
            return attempt.unverified(error.verification, means.object_attempts_max)
    assert refusal is not None, "no settlement was tried"
    raise refusal


@dataclass(slots=True)
class _Carrying:
    """One key's history on its way."""

    attempt: Attempt
    route: Route
    means: Means
    claim: LiveClaim
    wanted: tuple[ObjectVersion, ...]
    requests: list[str] = field(default_factory=list)
    """Which made the copies, in order; those of copies that were replaced since may be among them."""

    @property
    def target_key(self) -> str:
        return self.route.target_key(self.attempt.row.source.key)

    async def carry(self, *, looks_first: bool) -> ObjectOutcome:
        """From the oldest version to the newest."""
        standing = await self._standing() if looks_first else ()
        copies = await self._agreeing(standing)
        if not copies:
            self.requests.clear()
        self._note(copies)
        await self._delete_surplus(standing[len(copies) :])
        for version in self.wanted[len(copies) :]:
            copies.append(await self._append(version, copies[-1] if copies else None))
            self._note(copies)
        if not copies:
            return ObjectOutcome(
                self.attempt.row.source, "excluded", ONLY_MARKERS, copies=(), copy_requests=()
            )
        if looks_first or any(copy.target.marker for copy in copies):
            await self._check_order(copies)
        newest = copies[-1]
        return ObjectOutcome(
            self.attempt.row.source,
            "verified",
            verdict="verified",
            target=newest.target,
            crc64nvme=newest.crc64nvme,
            evidence=newest.evidence,
            copies=tuple(copies),
            copy_requests=tuple(self.requests),
        )

    async def check_source(self) -> None:
        """Raises SourceChangedError unless the source's history is still the row's."""
        source = self.attempt.row.source
        found = await standing_chain(self.route.source, self.route.source_location.bucket, source.key)
        if not _holds(found, source.chain):
            raise SourceChangedError(f"{source.key!r} has another history by now, or none")

    async def _standing(self) -> tuple[ObjectVersion, ...]:
        return await standing_chain(self.route.target, self.route.target_location.bucket, self.target_key)

    async def _agreeing(self, standing: Sequence[ObjectVersion]) -> list[Copy]:
        """The copies that stand as they should, from the oldest on."""
        recorded = {copy.target.version_id: copy for copy in self.attempt.row.copies}
        copies: list[Copy] = []
        for version, target in zip(self.wanted, standing, strict=False):
            copy = recorded.get(target.version_id)
            if copy is None or not self._still_holds(copy, version, target):
                copy = await self._adopted(version, target)
            if copy is None:
                break
            copies.append(copy)
        return copies

    def _still_holds(self, copy: Copy, version: ObjectVersion, target: ObjectVersion) -> bool:
        if _named(copy.source) != _named(version) or _named(copy.target) != _named(target):
            return False
        as_asked = not self.route.read_back or copy.evidence.endswith("/read")
        return version.marker or (copy.key_arn == self.route.key_arn and as_asked)

    async def _adopted(self, version: ObjectVersion, target: ObjectVersion) -> Copy | None:
        """A copy that nobody recorded, if it is what should stand there: its answer was lost."""
        if version.marker and target.marker:
            return Copy(version, target)
        if version.marker or target.marker or version.size_bytes != target.size_bytes:
            return None
        verification = await self._verify(self._task(version, IfAbsent()), target)
        if verification is None or verification.judgement.verdict != "verified":
            return None
        return self._copy(version, verification)

    async def _delete_surplus(self, surplus: Sequence[ObjectVersion]) -> None:
        """Delete what stands after all that agrees, the newest first: what is left is always a beginning of it.

        Raises _ForeignError, with nothing deleted, where one of them isn't ours.
        """
        if not _all_ours(self.attempt.row, surplus):
            raise _ForeignError(f"{CONFLICT}: the target's history has a version that we did not write")
        await _delete(self.route, surplus, self.claim)

    async def _append(self, version: ObjectVersion, before: Copy | None) -> Copy:
        if version.marker:
            assert before is not None, "a marker that hides nothing isn't carried"
            return await self._hide(version, before)
        absent = before is None or before.target.marker
        task = self._task(version, IfAbsent() if absent or before is None else IfMatches(before.target.etag))
        copied = await copy_object(task)
        self.requests += ids_of(copied.written.request_id)
        written = ObjectVersion(
            self.target_key, version.size_bytes, copied.written.etag, copied.written.version_id
        )
        head = await self.route.target.head(
            self.route.target_location.bucket, self.target_key, written.version_id
        )
        verification = await verify_copy(
            self.route, version, copied.source, head, target_computes=copied.target_computes, means=self.means
        )
        if verification.judgement.verdict != "verified":
            raise _UnverifiedError(verification)
        return self._copy(version, verification)

    async def _hide(self, version: ObjectVersion, before: Copy) -> Copy:
        written = await self.route.target.hide(
            self.route.target_location.bucket,
            self.target_key,
            condition=IfMatches(before.target.etag),
            claim=self.claim,
        )
        self.requests += ids_of(written.request_id)
        return Copy(version, ObjectVersion(self.target_key, 0, "", written.version_id, marker=True))

    async def _verify(self, task: CopyTask, target: ObjectVersion) -> Verification | None:
        source_head = await head_or_none(
            self.route.source,
            self.route.source_location.bucket,
            task.version.key,
            task.version.version_id,
        )
        target_head = await head_or_none(
            self.route.target, self.route.target_location.bucket, target.key, target.version_id
        )
        if source_head is None or target_head is None:
            return None
        source = await source_evidence(task, task.as_carried(source_head))
        # Nobody tells how these bytes came here, so they are read, whatever the target reports.
        return await verify_copy(
            self.route, task.version, source, target_head, target_computes=False, means=self.means
        )

    async def _check_order(self, copies: Sequence[Copy]) -> None:
        """Raises PreconditionError unless the target's history is exactly these copies, in this order."""
        if not _holds(await self._standing(), [copy.target for copy in copies]):
            raise PreconditionError("list_versions_page", "the target's history isn't the one just written")

    def _task(self, version: ObjectVersion, condition: WriteCondition) -> CopyTask:
        # What the store failed to copy by itself is streamed the next time.
        server_side = self.route.server_side and self.attempt.row.attempts == 0
        superseded = version is not self.wanted[-1]
        return CopyTask(
            self.route, version, condition, self.means, self.claim, server_side, superseded=superseded
        )

    def _copy(self, version: ObjectVersion, verification: Verification) -> Copy:
        return Copy(
            version,
            verification.target,
            self.route.key_arn,
            verification.crc64nvme,
            verification.evidence,
        )

    def _note(self, copies: Sequence[Copy]) -> None:
        self.attempt.copies = tuple(copies)
        self.attempt.copy_requests = tuple(self.requests)
        if copies:
            self.attempt.target = copies[-1].target


def _named(version: ObjectVersion) -> tuple[object, ...]:
    """What names a version in its store: no time, no history."""
    return (version.key, version.size_bytes, version.etag, version.version_id, version.marker)


def _holds(found: Sequence[ObjectVersion], due: Sequence[ObjectVersion]) -> bool:
    return [_named(version) for version in found] == [_named(version) for version in due]


async def drop_history(row: ObjectRow, route: Route, claim: LiveClaim) -> ObjectOutcome:
    """Delete the target's whole history of a key that has vanished from the source: exactly the versions just read.

    Only what is ours, by all that can be told; the source itself is asked first. Raises StoreError where it couldn't
    be deleted.
    """
    if await standing_chain(route.source, route.source_location.bucket, row.source.key):
        return ObjectOutcome(row.source, "stale", "the source holds it, although its listing did not name it")
    key = route.target_key(row.source.key)
    standing = await standing_chain(route.target, route.target_location.bucket, key)
    if not _all_ours(row, standing):
        reason = f"{CONFLICT}: the source has no such object, and the target holds one that we did not write"
        return ObjectOutcome(row.source, "failed", reason)
    await _delete(route, standing, claim)
    return ObjectOutcome(row.source, "dropped", copies=())


def _all_ours(row: ObjectRow, standing: Sequence[ObjectVersion]) -> bool:
    """Whether each is a copy that was recorded, or by its size one that was planned. A marker has nothing to lose."""
    recorded = {copy.target.version_id for copy in row.copies}
    planned = (row.source, *row.planned_before)
    return all(
        version.marker or version.version_id in recorded or planned_by_us(version, planned)
        for version in standing
    )


async def _delete(route: Route, versions: Sequence[ObjectVersion], claim: LiveClaim) -> None:
    """Delete exactly these versions of one key, the newest first. Raises PreconditionError where one is left."""
    if not versions:
        return
    for answer in await route.target.delete(route.target_location.bucket, versions[::-1], claim=claim):
        if answer.result != "deleted":
            raise PreconditionError("delete", f"{answer.version.key!r} {answer.result} {answer.detail}")
