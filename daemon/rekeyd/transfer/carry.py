"""One object's journey from the source to a verified copy, as one outcome."""

from __future__ import annotations

from rekeyd.domain.errors import (
    AccessDeniedError,
    ArchivedError,
    CustomerKeyError,
    KeyUnusableError,
    NotFoundError,
    PreconditionError,
    StoreError,
)
from rekeyd.domain.objects import OWN_PREFIX, ObjectHead, ObjectVersion
from rekeyd.ledger.port import ObjectOutcome, ObjectRow
from rekeyd.stores.port import IfAbsent, IfMatches, LiveClaim, WriteCondition
from rekeyd.transfer.attempt import (
    CONFLICT,
    NEEDS_RESTORE,
    PASSING,
    SETTLEMENTS_MAX,
    UNMOVABLE,
    Attempt,
    ids_of,
    planned_by_us,
)
from rekeyd.transfer.copy import (
    Copied,
    CopyTask,
    SourceChangedError,
    UnmovableError,
    copy_object,
    source_evidence,
)
from rekeyd.transfer.history import carry_history
from rekeyd.transfer.route import Means, Route, head_or_none
from rekeyd.transfer.verify import Verification, verify_copy


async def carry(row: ObjectRow, route: Route, means: Means, claim: LiveClaim) -> ObjectOutcome:
    """Copy the row's source version and verify the copy.

    Errors of this one object are an outcome. Raised are those that concern all objects, KeyUnusableError and
    AccessDeniedError, and ClaimLostError.
    """
    attempt = Attempt(row, row.target)
    if route.target_key(row.source.key).startswith(OWN_PREFIX):
        return ObjectOutcome(
            row.source, "failed", f"keys under {OWN_PREFIX} are rekeyd's own in a dedicated bucket"
        )
    # Only where the source keeps versions does a listing name them by an id.
    carried = _copied_and_verified if row.source.version_id is None else carry_history
    try:
        return await carried(attempt, route, means, claim)
    except SourceChangedError as error:
        return attempt.stale(str(error))
    except ArchivedError as error:
        return attempt.in_vain_for_good(f"{NEEDS_RESTORE}: {error}")
    except (UnmovableError, CustomerKeyError) as error:
        return attempt.in_vain_for_good(f"{UNMOVABLE}: {error}")
    except (KeyUnusableError, AccessDeniedError):
        raise
    except (StoreError, ValueError) as error:
        passing = isinstance(error, StoreError) and error.repeatable
        reason = f"{PASSING}: {error}" if passing else str(error)
        return attempt.in_vain(reason, means.object_attempts_max)


async def _copied_and_verified(
    attempt: Attempt, route: Route, means: Means, claim: LiveClaim
) -> ObjectOutcome:
    try:
        return await _copy_and_verify(attempt, route, means, claim)
    except (NotFoundError, PreconditionError):
        # Perhaps the source version went while it was compared: then this was no attempt in vain.
        await _standing_source(attempt.row, route)
        raise


async def _copy_and_verify(attempt: Attempt, route: Route, means: Means, claim: LiveClaim) -> ObjectOutcome:
    row = attempt.row
    condition: WriteCondition = IfMatches(row.target.etag) if row.target else IfAbsent()
    refusal: StoreError | None = None
    for _ in range(SETTLEMENTS_MAX):
        # What the store failed to copy by itself is streamed the next time: SeaweedFS answers 500 for some keys.
        server_side = route.server_side and row.attempts == 0
        task = CopyTask(route, row.source, condition, means, claim, server_side)
        try:
            copied = await copy_object(task)
        except (PreconditionError, NotFoundError) as error:
            settled = await _settle(attempt, task)
            if isinstance(settled, ObjectOutcome):
                return settled
            condition, refusal = settled, error
            continue
        return await _verify_written(attempt, route, copied, means)
    assert refusal is not None, "no settlement was tried"
    raise refusal


async def _verify_written(attempt: Attempt, route: Route, copied: Copied, means: Means) -> ObjectOutcome:
    key = route.target_key(attempt.row.source.key)
    attempt.target = ObjectVersion(
        key, attempt.row.source.size_bytes, copied.written.etag, copied.written.version_id
    )
    attempt.copy_requests = ids_of(copied.written.request_id)
    head = await route.target.head(route.target_location.bucket, key, copied.written.version_id)
    if head.version.etag != copied.written.etag:
        reason = "the target has another version than the one just written"
        return attempt.in_vain(reason, means.object_attempts_max)
    verification = await verify_copy(
        route,
        attempt.row.source,
        copied.source,
        head,
        target_computes=copied.target_computes,
        means=means,
    )
    return _judged(attempt, verification, means)


def _judged(attempt: Attempt, verification: Verification, means: Means) -> ObjectOutcome:
    if verification.judgement.verdict != "verified":
        return attempt.unverified(verification, means.object_attempts_max)
    return ObjectOutcome(
        attempt.row.source,
        "verified",
        verdict="verified",
        target=verification.target,
        crc64nvme=verification.crc64nvme,
        evidence=verification.evidence,
        # Where the answer was lost the request has no name that is known.
        copy_requests=attempt.copy_requests or (),
    )


async def _settle(attempt: Attempt, task: CopyTask) -> ObjectOutcome | WriteCondition:
    """Find out by reading what a refused write means: it may be our own, whose answer was lost.

    Gives the outcome, or the condition under which to write once more.
    """
    row, route = attempt.row, task.route
    source_head = await _standing_source(row, route)
    found = await head_or_none(route.target, route.target_location.bucket, task.target_key)
    if found is None:
        attempt.target = None
        return IfAbsent()
    if row.target is not None and found.version.etag == row.target.etag:
        return IfMatches(found.version.etag)
    if found.version.size_bytes == row.source.size_bytes:
        # Nobody tells how these bytes came here, so they are read, whatever the target reports.
        verification = await verify_copy(
            route,
            row.source,
            await source_evidence(task, source_head),
            found,
            target_computes=False,
            means=task.means,
        )
        if verification.judgement.verdict == "verified":
            return _judged(attempt, verification, task.means)
        if verification.same_content:
            # A copy of ours whose answer was lost: under another job's key, or with tags that were changed since.
            return IfMatches(found.version.etag)
    if planned_by_us(found.version, row.planned_before):
        return IfMatches(found.version.etag)
    return ObjectOutcome(
        row.source, "failed", f"{CONFLICT}: the target holds other content that we did not write"
    )


async def _standing_source(row: ObjectRow, route: Route) -> ObjectHead:
    """The head of the row's source version. Raises SourceChangedError where it no longer stands."""
    head = await head_or_none(route.source, route.source_location.bucket, row.source.key)
    if head is None or head.version.etag != row.source.etag:
        raise SourceChangedError(f"{row.source.key!r} is another version by now, or gone")
    return head
