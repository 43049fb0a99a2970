"""One object brought under another key where it stands, as one outcome: nothing else of it changes.

What stands there is looked at first, and only what lies under another key is written, over exactly that version: a
writer's newer object makes the write fail, and is looked at in its turn. Nothing is ever deleted. Older versions are
led to the key where the store does that without writing them anew, and else left as they are.
"""

from __future__ import annotations

from dataclasses import replace

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
from rekeyd.domain.objects import KEY_CANARIES, ObjectHead, ObjectVersion
from rekeyd.ledger.port import ObjectOutcome, ObjectRow
from rekeyd.stores.port import IfMatches, LiveClaim, UnderKey
from rekeyd.transfer.attempt import PASSING, UNMOVABLE, Attempt
from rekeyd.transfer.copy import Copied, CopyTask, SourceChangedError, UnmovableError, copy_object
from rekeyd.transfer.rekey_plan import RekeyFacts, RekeyPlan, RekeyWay, can_update, plan_rekey
from rekeyd.transfer.route import Means, Route, head_or_none
from rekeyd.transfer.verify import verify_copy

_LOOKS_MAX = 5
"""So often in one attempt may something else stand there than was just seen."""

_DAMAGED = "damaged: what was written isn't what had been read"
_UNCHECKED = "the store takes bytes that arrive damaged, and what is overwritten couldn't be brought back"


class Rekeying:
    """How the objects of a segment are brought under the key, and what was learnt of the store on the way."""

    def __init__(self, route: Route, means: Means, claim: LiveClaim) -> None:
        """`route` leads from the bucket to itself."""
        self.route = route
        self.means = means
        self.claim = claim
        self.refused: set[RekeyWay] = set()
        """Ways that the store has refused, or answered with success and kept the key: they are tried no more.

        SeaweedFS does either with a copy onto itself (observed with SeaweedFS 4.48)."""

    @property
    def bucket(self) -> str:
        """Where all of it is."""
        return self.route.target_location.bucket

    @property
    def updates(self) -> bool:
        """Whether the store leads a version to the key without writing it anew, as far as is known."""
        able = can_update(self.route.target.updates_keys_of, self.route.key_arn)
        return able and "update" not in self.refused

    def overwrites_safely(self, head: ObjectHead) -> bool:
        """Whether bytes that arrive damaged cost nothing: they are refused, or what they replace stays beneath."""
        return self.route.target_checks_checksums or head.version.version_id is not None

    def plan(self, head: ObjectHead, *, current: bool, again: bool = False) -> RekeyPlan:
        """The way of a version; what failed before goes through us."""
        key_arn = self.route.key_arn
        copies = "copy" not in self.refused and not again
        facts = RekeyFacts(key_arn, self.means.limits, updates=self.updates, copies_in_place=copies)
        return plan_rekey(head, facts, current=current)


class _DamagedError(Exception):
    """What was written isn't equal to what was read."""

    def __init__(self, head: ObjectHead, judgement: Judgement) -> None:
        super().__init__(f"{_DAMAGED}: {', '.join(judgement.reasons)}")
        self.head = head


class _KeptKeyError(Exception):
    """The store has answered with success, and the object still lies under the former key."""


async def rekey(row: ObjectRow, work: Rekeying) -> ObjectOutcome:
    """Bring what stands under the row's key under the new KMS key, unless it is already; whoever put it there.

    Errors of this one object are an outcome. Raised are those that concern all objects, KeyUnusableError and
    AccessDeniedError, and ClaimLostError.
    """
    if row.source.key.startswith(KEY_CANARIES):
        return ObjectOutcome(row.source, "excluded", "a key's own canary stays under it")
    attempt = Attempt(row, None)
    try:
        outcome = await _rekeyed(attempt, work)
        for version in row.source.older:
            await _update_older(version, work)
    except (ArchivedError, UnmovableError, CustomerKeyError) as error:
        return _left(row, str(error))
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
    return outcome


def forget(row: ObjectRow) -> ObjectOutcome:
    """What becomes of an object that a writer has deleted: nothing is to be done about it."""
    return ObjectOutcome(row.source, "dropped")


async def _rekeyed(attempt: Attempt, work: Rekeying) -> ObjectOutcome:
    row, refusal = attempt.row, ""
    for _ in range(_LOOKS_MAX):
        head = await head_or_none(work.route.target, work.bucket, row.source.key)
        if head is None:
            return _absent(row)
        plan = work.plan(head, current=True, again=row.attempts > 0)
        settled = _without_writing(attempt, work, head, plan)
        if settled is not None:
            return settled
        try:
            if plan.way == "update":
                return await _updated(row, work, head.version)
            return await _written_anew(row, work, head.version, server_side=plan.way != "stream")
        except (PreconditionError, NotFoundError, SourceChangedError) as error:
            # A writer was faster, or an answer of ours was lost: what stands there now tells.
            refusal = str(error)
        except (StoreRefusedError, AccessDeniedError, _KeptKeyError) as error:
            # Of a copy or an update that isn't allowed to us, the next way may be.
            if plan.way == "stream":
                raise
            work.refused.add("update" if plan.way == "update" else "copy")
            refusal = str(error)
    return attempt.in_vain(refusal, work.means.object_attempts_max)


def _without_writing(
    attempt: Attempt, work: Rekeying, head: ObjectHead, plan: RekeyPlan
) -> ObjectOutcome | None:
    """What becomes of an object that isn't to be written; None where it is."""
    row = attempt.row
    if row.attempts > 0 and row.target is not None and row.target.etag == head.version.etag:
        return attempt.in_vain_for_good(_DAMAGED)
    if plan.way == "none":
        return _done(row, head, None, "reported")
    if plan.way == "leave":
        return _left(row, plan.reason)
    if plan.way == "stream" and not work.overwrites_safely(head):
        return attempt.in_vain_for_good(f"{UNMOVABLE}: {_UNCHECKED}")
    return None


async def _updated(row: ObjectRow, work: Rekeying, version: ObjectVersion) -> ObjectOutcome:
    """The store changes the key of what is there; its bytes don't move, so that there is nothing to compare."""
    await work.route.target.update_encryption(
        work.bucket, version, under=UnderKey(work.route.key_arn), claim=work.claim
    )
    head = await work.route.target.head(work.bucket, version.key, version.version_id)
    if work.plan(head, current=True).way != "none":
        raise _KeptKeyError("the store answers that it has updated the key, and keeps it")
    return _done(row, head, None, "updated_by_provider")


async def _update_older(version: ObjectVersion, work: Rekeying) -> None:
    """An older version is led to the key, or stays: what could not be done is counted when all is looked at."""
    if version.marker or not work.updates:
        return
    head = await head_or_none(work.route.target, work.bucket, version.key, version.version_id)
    if head is None or work.plan(head, current=False).way != "update":
        return
    try:
        await work.route.target.update_encryption(
            work.bucket, version, under=UnderKey(work.route.key_arn), claim=work.claim
        )
    except (StoreRefusedError, AccessDeniedError):
        work.refused.add("update")
    except NotFoundError:
        return  # whoever may has deleted it meanwhile


async def _written_anew(
    row: ObjectRow, work: Rekeying, version: ObjectVersion, *, server_side: bool
) -> ObjectOutcome:
    """Copied, or put, over exactly this version, and read back: what the store says it did isn't taken for done.

    Raises PreconditionError where a writer's object stands there by now.
    """
    # What goes through us is planned so, where damage on the way is refused: a copy never turns into it by itself.
    task = CopyTask(
        *(work.route, version, IfMatches(version.etag), work.means, work.claim, server_side),
        may_stream=not server_side,
    )
    copied = await copy_object(task)
    head = await work.route.target.head(work.bucket, row.source.key, copied.written.version_id)
    if head.version.etag != copied.written.etag:
        raise PreconditionError("head", f"{row.source.key!r} was replaced as soon as it was written")
    if server_side and work.plan(head, current=True).way != "none":
        raise _KeptKeyError("the store answers that it has copied, and keeps the key")
    if copied.source.checksum is None or copied.source.checksum.origin != "streamed":
        return await _judged_without_bytes(row, work, copied, head)
    verification = await verify_copy(
        work.route,
        version,
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


def _absent(row: ObjectRow) -> ObjectOutcome:
    if row.source.marker:
        return ObjectOutcome(row.source, "excluded", "a delete marker has no bytes, so no key")
    return ObjectOutcome(row.source, "stale", "a writer has deleted it since it was listed")


def _left(row: ObjectRow, reason: str) -> ObjectOutcome:
    return ObjectOutcome(row.source, "excluded", f"stays under its key: {reason}")


def _done(row: ObjectRow, head: ObjectHead, crc: int | None, evidence: str) -> ObjectOutcome:
    return ObjectOutcome(
        row.source,
        "verified",
        verdict=None if evidence == "reported" else "verified",
        target=replace(head.version, modified=None),
        crc64nvme=head.crc64nvme if crc is None else crc,
        evidence=evidence,
    )
