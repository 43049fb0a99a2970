"""Retiring: deleting exactly the source versions that were verified, while their copies still stand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from rekeyd.domain.errors import PreconditionError
from rekeyd.domain.objects import ObjectHead, ObjectVersion
from rekeyd.ledger.port import ObjectOutcome, ObjectRow
from rekeyd.stores.port import DeleteOutcome, IfMatches, LiveClaim
from rekeyd.transfer.attempt import CONFLICT, planned_by_us
from rekeyd.transfer.history import drop_history, standing_chain
from rekeyd.transfer.route import Means, Route, head_or_none
from rekeyd.transfer.side_by_side import side_by_side

LOCKED = "Object Lock keeps a version of it in the source until "
LEGAL_HOLD_ENDS = "a legal hold ends"
"""How the reason of a row begins whose source is locked, and how it ends where no time is known."""


def locked_until(reason: str) -> str | None:
    """Until when a retention keeps the source, by its row's reason; None for a legal hold and any other reason."""
    until = reason.removeprefix(LOCKED)
    return None if until in (reason, LEGAL_HOLD_ENDS) else until


async def standing_copies(route: Route, rows: Sequence[ObjectRow], at_once_max: int) -> set[str]:
    """The source keys of those rows whose recorded copies stand in the target now, under the customer key.

    Of a history every version's copy must; markers hide, and have nothing to lose.
    """

    async def stands(copy: ObjectVersion) -> bool:
        bucket = route.target_location.bucket
        head = await head_or_none(route.target, bucket, copy.key, copy.version_id)
        if head is None or head.version.etag != copy.etag:
            return False
        return (head.encryption.algorithm, head.encryption.key) == ("aws:kms", route.key_arn)

    async def standing(row: ObjectRow) -> str | None:
        recorded = [copy.target for copy in row.copies] or ([row.target] if row.target else [])
        data = [copy for copy in recorded if not copy.marker]
        return row.source.key if data and all([await stands(copy) for copy in data]) else None

    found = await side_by_side(rows, standing, at_once_max=at_once_max)
    return {key for key in found if key is not None}


async def gone_already(route: Route, rows: Sequence[ObjectRow], at_once_max: int) -> set[str]:
    """The source keys of those rows whose whole verified history is gone from the source."""

    async def gone(row: ObjectRow) -> str | None:
        bucket = route.source_location.bucket
        if row.source.version_id is not None:
            named = {(version.version_id, version.etag) for version in row.source.chain}
            found = await standing_chain(route.source, bucket, row.source.key)
            return None if any((v.version_id, v.etag) in named for v in found) else row.source.key
        head = await head_or_none(route.source, bucket, row.source.key)
        return None if head is not None and head.version.etag == row.source.etag else row.source.key

    found = await side_by_side(rows, gone, at_once_max=at_once_max)
    return {key for key in found if key is not None}


async def locked_rows(
    route: Route, rows: Sequence[ObjectRow], means: Means, at_once_max: int
) -> dict[str, str]:
    """The source keys of those rows of whose history a version is locked, and until when."""

    async def locked(row: ObjectRow) -> tuple[str, str] | None:
        for version in row.source.chain:
            if version.marker:
                continue
            bucket = route.source_location.bucket
            head = await head_or_none(route.source, bucket, version.key, version.version_id)
            lock = None if head is None else head.attributes.lock
            if lock is not None and lock.protects_at(means.now()):
                until = LEGAL_HOLD_ENDS if lock.legal_hold else str(lock.retain_until)
                return row.source.key, LOCKED + until
        return None

    found = await side_by_side(rows, locked, at_once_max=at_once_max)
    return dict(each for each in found if each is not None)


async def hide_current(route: Route, version: ObjectVersion, claim: LiveClaim) -> None:
    """Hide the key where older versions lie beneath the one that is about to be deleted.

    Moved without its history: without a marker the one beneath would come back to life, and no lifecycle rule
    for noncurrent versions would ever see it.
    """
    bucket = route.source_location.bucket
    found = await standing_chain(route.source, bucket, version.key)
    current = found[-1] if len(found) > 1 else None
    if current is not None and (current.version_id, current.etag) == (version.version_id, version.etag):
        await route.source.hide(bucket, version.key, condition=IfMatches(version.etag), claim=claim)


async def retire_batch(
    route: Route, sources: Sequence[ObjectVersion], claim: LiveClaim
) -> tuple[list[ObjectOutcome], list[DeleteOutcome]]:
    """Delete these source versions with their histories, oldest first, and say what became of each key.

    At most 1,000 versions in all unless there is one key, their intents committed. Gives the outcomes, and apart from
    them the answers about those that couldn't be deleted this time: their rows stay as they are.
    """
    versions = [version for source in sources for version in source.chain]
    answers = iter(await route.source.delete(route.source_location.bucket, versions, claim=claim))
    outcomes, failed = [], []
    for source in sources:
        about = list(islice(answers, len(source.chain)))
        refused = [answer for answer in about if answer.result == "failed"]
        if refused:
            failed.append(refused[0])
        elif any(answer.result == "changed" for answer in about):
            reason = "the source has been replaced since it was verified"
            outcomes.append(ObjectOutcome(source, "remaining", reason))
        else:
            ids = dict.fromkeys(answer.request_id for answer in about if answer.request_id)
            outcomes.append(ObjectOutcome(source, "deleted", request_ids=tuple(ids)))
    return outcomes, failed


async def drop_copy(route: Route, row: ObjectRow, claim: LiveClaim) -> ObjectOutcome:
    """Delete the target copy of an object that has vanished from the source: exactly the version just read.

    Only what is a copy of ours, by all that can be told; other content is kept, and a conflict. The source itself is
    asked first: a listing may come back without the key by error, and the copy of what is still there is not
    deleted. Raises StoreError where it couldn't be deleted.
    """
    if row.source.version_id is not None:
        return await drop_history(row, route, claim)
    if await head_or_none(route.source, route.source_location.bucket, row.source.key) is not None:
        return ObjectOutcome(row.source, "stale", "the source holds it, although its listing did not name it")
    bucket = route.target_location.bucket
    head = await head_or_none(route.target, bucket, route.target_key(row.source.key))
    if head is None:
        return ObjectOutcome(row.source, "dropped")
    if not _is_our_copy(row, head):
        reason = f"{CONFLICT}: the source has no such object, and the target holds one that we did not write"
        return ObjectOutcome(row.source, "failed", reason)
    (answer,) = await route.target.delete(bucket, [head.version], claim=claim)
    if answer.result != "deleted":
        raise PreconditionError("delete", f"{row.source.key!r} {answer.result} {answer.detail}")
    return ObjectOutcome(row.source, "dropped")


def _is_our_copy(row: ObjectRow, head: ObjectHead) -> bool:
    """The copy that was recorded, or, where an answer was lost, one of a version that was planned."""
    recorded = row.target is not None and head.version.etag == row.target.etag
    return recorded or planned_by_us(head.version, (row.source, *row.planned_before))
