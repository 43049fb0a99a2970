"""One object brought under another key where it stands, as one outcome: nothing else of it changes.

What stands there is looked at first, and only what lies under another key is written, over exactly that version: a
writer's newer object makes the write fail, and is looked at in its turn. Nothing is ever deleted. Older versions are
led to the key where the store does that without writing them anew, and else left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from rekeyd.ledger.port import Copy, ObjectOutcome, ObjectRow
from rekeyd.stores.port import IfMatches, LiveClaim, UnderKey
from rekeyd.transfer.attempt import PASSING, UNMOVABLE, Attempt, ids_of
from rekeyd.transfer.copy import Copied, CopyTask, SourceChangedError, UnmovableError, copy_object
from rekeyd.transfer.rekey_plan import RekeyFacts, RekeyPlan, RekeyWay, can_update, plan_rekey
from rekeyd.transfer.route import Means, Route, head_or_none
from rekeyd.transfer.verify import verify_copy

_LOOKS_MAX = 5
"""So often in one attempt may something else stand there than was just seen."""

_DAMAGED = "damaged: what was written isn't what had been read"
UPDATED = "updated_by_provider"
COPIED = "copied_by_provider"
COPIED_WITH_CHECKSUMS = "copied_by_provider/crc64nvme"
FOUND = "reported"
LEFT = "left"
"""How a version came to lie, or not to lie, under the key, as the evidence of its row says it; else it was streamed.

`COPIED_WITH_CHECKSUMS`: the store reports a checksum of both, and they are equal. `FOUND`: it lay there when it was
looked at, whoever brought it there. `LEFT`: it lies under another one still."""

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
        older = [await _update_older(row, version, work) for version in row.source.older]
    except (ArchivedError, UnmovableError, CustomerKeyError) as error:
        return _left(row, str(error), None)
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
    return _with_older(outcome, [each for each in older if each is not None])


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
        return _found(row, head, work)
    if plan.way == "leave":
        return _left(row, plan.reason, head)
    if plan.way == "stream" and not work.overwrites_safely(head):
        return attempt.in_vain_for_good(f"{UNMOVABLE}: {_UNCHECKED}")
    return None


async def _updated(row: ObjectRow, work: Rekeying, version: ObjectVersion) -> ObjectOutcome:
    """The store changes the key of what is there; its bytes don't move, so that there is nothing to compare."""
    request_id = await work.route.target.update_encryption(
        work.bucket, version, under=UnderKey(work.route.key_arn), claim=work.claim
    )
    head = await work.route.target.head(work.bucket, version.key, version.version_id)
    if work.plan(head, current=True).way != "none":
        raise _KeptKeyError("the store answers that it has updated the key, and keeps it")
    return _done(row, _copy(version, head, UPDATED), request_id)


async def _update_older(row: ObjectRow, version: ObjectVersion, work: Rekeying) -> tuple[Copy, str] | None:
    """An older version is led to the key, or stays: what could not be done is counted when all is looked at.

    Gives what is known of it by now, and the request's id; None where it wasn't looked at, or is gone.
    """
    if version.marker or not work.updates:
        return None
    head = await head_or_none(work.route.target, work.bucket, version.key, version.version_id)
    if head is None:
        return None
    way = work.plan(head, current=False).way
    if way != "update":
        known = _recorded(row, head, work) if way == "none" else None
        return known or _copy(head.version, head, FOUND if way == "none" else LEFT), ""
    try:
        request_id = await work.route.target.update_encryption(
            work.bucket, version, under=UnderKey(work.route.key_arn), claim=work.claim
        )
        after = await work.route.target.head(work.bucket, version.key, version.version_id)
    except (StoreRefusedError, AccessDeniedError):
        work.refused.add("update")
        return _copy(head.version, head, LEFT), ""
    except NotFoundError:
        return None  # whoever may has deleted it meanwhile
    updated = work.plan(after, current=False).way == "none"
    return _copy(head.version, after, UPDATED if updated else LEFT), request_id


def _with_older(outcome: ObjectOutcome, older: Sequence[tuple[Copy, str]]) -> ObjectOutcome:
    """The outcome with what is known of the versions beneath, the oldest first."""
    if not older or outcome.copies is None:
        return outcome
    requests = [each for _, request_id in older for each in ids_of(request_id)]
    return replace(
        outcome,
        copies=(*(copy for copy, _ in older), *outcome.copies),
        copy_requests=tuple(dict.fromkeys([*requests, *(outcome.copy_requests or ())])),
    )


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
        return await _judged_without_bytes(row, work, version, copied, head)
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
    copy = _copy(version, head, verification.evidence, verification.crc64nvme)
    return _done(row, copy, copied.written.request_id)


async def _judged_without_bytes(
    row: ObjectRow, work: Rekeying, version: ObjectVersion, copied: Copied, head: ObjectHead
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
    both = former is not None and head.crc64nvme is not None
    copy = _copy(version, head, COPIED_WITH_CHECKSUMS if both else COPIED)
    return _done(row, copy, copied.written.request_id)


def _absent(row: ObjectRow) -> ObjectOutcome:
    if row.source.marker:
        reason = "a delete marker has no bytes, so no key"
        return ObjectOutcome(row.source, "excluded", reason, copies=(), copy_requests=())
    return ObjectOutcome(row.source, "stale", "a writer has deleted it since it was listed")


def _left(row: ObjectRow, reason: str, head: ObjectHead | None) -> ObjectOutcome:
    return ObjectOutcome(
        row.source,
        "excluded",
        f"stays under its key: {reason}",
        copies=() if head is None else (_copy(head.version, head, LEFT),),
        copy_requests=(),
    )


def _found(row: ObjectRow, head: ObjectHead, work: Rekeying) -> ObjectOutcome:
    """It lies under the key. An earlier attempt of ours that brought it there knows more of it than can be seen."""
    known = _recorded(row, head, work)
    if known is None:
        return _done(row, _copy(head.version, head, FOUND), "")
    return replace(_done(row, known, ""), verdict=None, copy_requests=row.copy_requests)


def _recorded(row: ObjectRow, head: ObjectHead, work: Rekeying) -> Copy | None:
    """What is on record of how this very version came to lie under the key."""
    found = (head.version.version_id, head.version.etag, work.route.key_arn)
    known = [c for c in row.copies if (c.target.version_id, c.target.etag, c.key_arn) == found]
    return known[-1] if known else None


def _copy(before: ObjectVersion, head: ObjectHead, evidence: str, crc: int | None = None) -> Copy:
    """What was there before, and what is there now."""
    return Copy(
        replace(before, older=(), modified=None),
        replace(head.version, modified=None),
        head.encryption.key,
        head.crc64nvme if crc is None else crc,
        evidence,
    )


def _done(row: ObjectRow, copy: Copy, request_id: str) -> ObjectOutcome:
    return ObjectOutcome(
        row.source,
        "verified",
        verdict=None if copy.evidence == FOUND else "verified",
        target=copy.target,
        crc64nvme=copy.crc64nvme,
        evidence=copy.evidence,
        copies=(copy,),
        copy_requests=ids_of(request_id),
    )
