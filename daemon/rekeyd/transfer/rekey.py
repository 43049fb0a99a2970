"""One object brought under another key where it stands, as one outcome: nothing else of it changes.

What stands there is looked at first, and only what lies under another key is written, over exactly that version: a
writer's newer object makes the write fail, and is looked at in its turn. Nothing is ever deleted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rekeyd.domain.errors import (
    AccessDeniedError,
    ArchivedError,
    CustomerKeyError,
    KeyUnusableError,
    NotFoundError,
    PreconditionError,
    StoreError,
    StoreRefusedError,
)
from rekeyd.domain.evidence import Judgement, evidence_of, judge
from rekeyd.domain.objects import KEY_CANARIES, Encryption, ObjectHead
from rekeyd.ledger.port import ObjectOutcome, ObjectRow
from rekeyd.stores.port import IfMatches, LiveClaim
from rekeyd.transfer.attempt import PASSING, Attempt
from rekeyd.transfer.copy import Copied, CopyTask, SourceChangedError, UnmovableError, copy_object
from rekeyd.transfer.route import Means, Route, head_or_none
from rekeyd.transfer.verify import verify_copy

_LOOKS_MAX = 4
"""So often in one attempt may something else stand there than was just seen."""

_DAMAGED = "damaged: what was written isn't what had been read"


@dataclass(slots=True)
class Rekeying:
    """How the objects of a segment are brought under the key, and what was learnt of the store on the way."""

    route: Route
    """From the bucket to itself."""
    means: Means
    claim: LiveClaim
    copies_in_place: bool = True
    """Whether a copy onto itself is tried: once a store has refused one, or kept the key all the same, no more.

    SeaweedFS does either (observed with SeaweedFS 4.48)."""

    @property
    def bucket(self) -> str:
        """Where all of it is."""
        return self.route.target_location.bucket

    def lies_under_key(self, head: ObjectHead) -> bool:
        """Whether nothing is left to be done."""
        return head.encryption == Encryption("aws:kms", self.route.key_arn)


class _DamagedError(Exception):
    """What was written isn't equal to what was read."""

    def __init__(self, head: ObjectHead, judgement: Judgement) -> None:
        super().__init__(f"{_DAMAGED}: {', '.join(judgement.reasons)}")
        self.head = head


async def rekey(row: ObjectRow, work: Rekeying) -> ObjectOutcome:
    """Bring what stands under the row's key under the new KMS key, unless it is already; whoever put it there.

    Errors of this one object are an outcome. Raised are those that concern all objects, KeyUnusableError and
    AccessDeniedError, and ClaimLostError.
    """
    if row.source.key.startswith(KEY_CANARIES):
        return ObjectOutcome(row.source, "excluded", "a key's own canary stays under it")
    attempt = Attempt(row, None)
    try:
        return await _rekeyed(attempt, work)
    except (ArchivedError, UnmovableError, CustomerKeyError) as error:
        return ObjectOutcome(row.source, "excluded", f"stays under its key: {error}")
    except _DamagedError as error:
        # Remembered by its version: looked at again it isn't taken for done.
        attempt.target = error.head.version
        return attempt.in_vain_for_good(str(error))
    except (KeyUnusableError, AccessDeniedError):
        raise
    except (StoreError, ValueError) as error:
        passing = isinstance(error, StoreError) and error.repeatable
        reason = f"{PASSING}: {error}" if passing else str(error)
        return attempt.in_vain(reason, work.means.object_attempts_max)


def forget(row: ObjectRow) -> ObjectOutcome:
    """What becomes of an object that a writer has deleted: nothing is to be done about it."""
    return ObjectOutcome(row.source, "dropped")


async def _rekeyed(attempt: Attempt, work: Rekeying) -> ObjectOutcome:
    row, refusal = attempt.row, ""
    for _ in range(_LOOKS_MAX):
        head = await head_or_none(work.route.target, work.bucket, row.source.key)
        if head is None:
            return _absent(row)
        if _is_known_damaged(row, head):
            return attempt.in_vain_for_good(_DAMAGED)
        if work.lies_under_key(head):
            return _done(row, head, None, "reported")
        server_side = work.copies_in_place and row.attempts == 0
        task = CopyTask(
            work.route, head.version, IfMatches(head.version.etag), work.means, work.claim, server_side
        )
        try:
            copied = await copy_object(task)
            return await _read_back(row, work, task, copied)
        except (PreconditionError, NotFoundError, SourceChangedError) as error:
            # A writer was faster, or an answer of ours was lost: what stands there now tells.
            refusal = str(error)
        except StoreRefusedError as error:
            if not server_side:
                raise
            work.copies_in_place, refusal = False, str(error)
        except _KeptKeyError:
            work.copies_in_place, refusal = False, "the store answers that it has copied, and keeps the key"
    return attempt.in_vain(refusal, work.means.object_attempts_max)


class _KeptKeyError(Exception):
    """The store has answered a copy with success, and the object still lies under the former key."""


async def _read_back(row: ObjectRow, work: Rekeying, task: CopyTask, copied: Copied) -> ObjectOutcome:
    """What the store says it did is looked at. Raises PreconditionError where a writer's object stands there by now."""
    head = await work.route.target.head(work.bucket, row.source.key, copied.written.version_id)
    if head.version.etag != copied.written.etag:
        raise PreconditionError("head", f"{row.source.key!r} was replaced as soon as it was written")
    if not work.lies_under_key(head) and task.server_side:
        raise _KeptKeyError
    if copied.source.checksum is None or copied.source.checksum.origin != "streamed":
        return await _judged_without_bytes(row, work, copied, head)
    verification = await verify_copy(
        work.route,
        task.version,
        copied.source,
        head,
        target_computes=copied.target_computes,
        means=work.means,
    )
    if verification.judgement.verdict != "verified":
        raise _DamagedError(head, verification.judgement)
    return _done(row, head, verification.crc64nvme, verification.evidence)


async def _judged_without_bytes(
    row: ObjectRow, work: Rekeying, copied: Copied, head: ObjectHead
) -> ObjectOutcome:
    """A copy within the store: what was copied may be gone by now, and no byte of it has passed through us.

    All that the store says of both is compared. That the bytes are the same is its word, as it was before.
    """
    former = copied.source.checksum
    if former is not None and head.crc64nvme not in (None, former.crc64nvme):
        raise _DamagedError(head, Judgement("mismatch", ("crc64nvme differs",)))
    tags = None if head.tag_count == 0 else await work.route.target.read_tags(work.bucket, head.version)
    judgement = judge(copied.source, evidence_of(head, None, tags), work.route.key_arn)
    if judgement.verdict == "mismatch":
        raise _DamagedError(head, judgement)
    return _done(row, head, head.crc64nvme, "copied_by_provider")


def _is_known_damaged(row: ObjectRow, head: ObjectHead) -> bool:
    return row.attempts > 0 and row.target is not None and row.target.etag == head.version.etag


def _absent(row: ObjectRow) -> ObjectOutcome:
    if row.source.marker:
        return ObjectOutcome(row.source, "excluded", "a delete marker has no bytes, so no key")
    return ObjectOutcome(row.source, "stale", "a writer has deleted it since it was listed")


def _done(row: ObjectRow, head: ObjectHead, crc: int | None, evidence: str) -> ObjectOutcome:
    return ObjectOutcome(
        row.source,
        "verified",
        verdict=None if evidence == "reported" else "verified",
        target=replace(head.version, modified=None),
        crc64nvme=head.crc64nvme if crc is None else crc,
        evidence=evidence,
    )
