"""Retiring: deleting exactly the source versions that were verified, while their copies still stand."""

from __future__ import annotations

from collections.abc import Sequence

from rekeyd.domain.errors import NotFoundError, PreconditionError
from rekeyd.domain.objects import ObjectHead, ObjectVersion
from rekeyd.ledger.port import ObjectOutcome, ObjectRow
from rekeyd.stores.port import DeleteOutcome, LiveClaim
from rekeyd.transfer.carry import CONFLICT, planned_by_us
from rekeyd.transfer.route import Route, head_or_none
from rekeyd.transfer.side_by_side import side_by_side


async def standing_copies(route: Route, rows: Sequence[ObjectRow], at_once_max: int) -> set[str]:
    """The source keys of those rows whose recorded copy stands in the target now, under the customer key."""

    async def standing(row: ObjectRow) -> str | None:
        if row.target is None:
            return None
        try:
            head = await route.target.head(
                route.target_location.bucket, row.target.key, row.target.version_id
            )
        except NotFoundError:
            return None
        under_key = (head.encryption.algorithm, head.encryption.key) == ("aws:kms", route.key_arn)
        return row.source.key if under_key and head.version.etag == row.target.etag else None

    found = await side_by_side(rows, standing, at_once_max=at_once_max)
    return {key for key in found if key is not None}


async def retire_batch(
    route: Route, versions: Sequence[ObjectVersion], claim: LiveClaim
) -> tuple[list[ObjectOutcome], list[DeleteOutcome]]:
    """Delete these source versions (at most 1,000, their intents committed) and say what became of each.

    Gives the outcomes, and apart from them the answers about those that couldn't be deleted this time: their rows
    stay as they are.
    """
    answers = await route.source.delete(route.source_location.bucket, versions, claim=claim)
    outcomes = []
    for answer in answers:
        if answer.result == "deleted":
            outcomes.append(ObjectOutcome(answer.version, "deleted"))
        elif answer.result == "changed":
            reason = "the source has been replaced since it was verified"
            outcomes.append(ObjectOutcome(answer.version, "remaining", reason))
    return outcomes, [answer for answer in answers if answer.result == "failed"]


async def drop_copy(route: Route, row: ObjectRow, claim: LiveClaim) -> ObjectOutcome:
    """Delete the target copy of an object that has vanished from the source: exactly the version just read.

    Only what is a copy of ours, by all that can be told; other content is kept, and a conflict. The source itself is
    asked first: a listing may come back without the key by error, and the copy of what is still there is not
    deleted. Raises StoreError where it couldn't be deleted.
    """
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
