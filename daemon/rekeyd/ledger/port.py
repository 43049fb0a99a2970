"""What the rest of rekeyd may ask of the ledger, and what it may rely on.

Guarantees that every adapter gives, and that the contract suite proves on each:

- **Each method is one transaction**, committed durably before it returns; whoever dies, no half of one is seen.
- **What a method does and the audit record of it are in the same transaction.**
- **Claims fence.** A method that takes a claim does nothing and raises ClaimLostError unless that very claim
  (its fencing number) is in force at the database's time, its job is `running` (or, for a job's claim, `held`
  and being looked at again) and, for a segment's, the segment isn't done. The test
  and the change are one statement's work.
- **A claim that others end keeps its lease.** Whoever is fenced out by a hold, an end, a cancellation or a resumption
  may have calls under way, which end before the claim would have: until then nobody else gets what it held.
- **Time is the database's**, in seconds since 1970 (UTC). No method takes a time that decides anything.
- **Repeating is harmless**: a method called again after a lost answer gives the same result.

Any method raises LedgerError where the database can't be reached.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, Protocol

from rekeyd.domain.audit import AuditRecord
from rekeyd.domain.job import Counts, HeldReason, Job, JobPhase, JobState, ReceivedJob
from rekeyd.domain.objects import Location, ObjectVersion
from rekeyd.ledger.evidence_port import EvidenceLedger
from rekeyd.ledger.key_port import KeyLedger
from rekeyd.ledger.placement_port import PlacementLedger
from rekeyd.ledger.revocation_port import RevocationLedger
from rekeyd.ledger.rotation_port import RotationLedger
from rekeyd.ledger.values import (
    SEGMENT_BYTES_MAX,
    SEGMENT_OBJECTS_MAX,
    Admission,
    Checkpoint,
    Copy,
    EvidenceRow,
    JobClaim,
    LedgerSummary,
    ObjectOutcome,
    ObjectRow,
    PassState,
    PendingImport,
    SegmentClaim,
    SegmentStage,
    StoreAction,
    TenantKey,
    TenantMove,
)

__all__ = [
    "SEGMENT_BYTES_MAX",
    "SEGMENT_OBJECTS_MAX",
    "Admission",
    "AuditLedger",
    "Checkpoint",
    "Copy",
    "EvidenceLedger",
    "EvidenceRow",
    "JobClaim",
    "JobLedger",
    "KeyLedger",
    "Ledger",
    "LedgerSummary",
    "ObjectLedger",
    "ObjectOutcome",
    "ObjectRow",
    "PassState",
    "PendingImport",
    "PlacementLedger",
    "RevocationLedger",
    "RotationLedger",
    "SegmentClaim",
    "SegmentStage",
    "StoreAction",
    "TenantKey",
    "TenantMove",
]


class JobLedger(Protocol):
    """Jobs: admitted, claimed, held, finished."""

    async def admit(
        self,
        received: ReceivedJob,
        source: Location,
        target: Location,
        grace_seconds: int,
        principal: str,
    ) -> Admission:
        """Store a job, its move (tenant, source, target), its placement and its key, unless it is known already.

        Raises ConflictError for a known id with another body, and RefusedError, naming the field: `target` or
        `source` where a location overlaps another tenant's, or where the tenant is `dedicated` elsewhere;
        `key` where the key belongs to another tenant. A refusal is an audit record, too.
        """

    async def claim_job(self, holder: str, lease_seconds: float) -> JobClaim | None:
        """Claim the next job: queued and due, running without a claim in force, or held and due to be looked at.

        By priority, then by age; never two of one tenant at a time, nor one while a claim on any job of the tenant
        that was ended by others still has its lease, or one on a segment of a job that is finished. A queued job
        becomes `running`;
        a held one stays held until `begin_job`. None where there is none.
        """

    async def renew_job(self, claim: JobClaim) -> None:
        """Extend the claim to its full length from now on."""

    async def release_job(
        self, claim: JobClaim, due_in_seconds: float = 0.0, *, settled: bool = True
    ) -> None:
        """Give the claim up: the job keeps its state and phase, nothing is counted against it.

        It can be claimed again `due_in_seconds` from now (at once, or once its grace is over). Without `settled` a call
        made under the claim may still take effect: its lease stays, as where others end it.
        """

    async def begin_job(self, claim: JobClaim) -> None:
        """What held the job, if anything did, is over: it is `running`, `held_reason` is cleared.

        So is what made its key `unavailable`: it is `active` again. Refusals of its segments are forgotten.
        """

    async def enter_phase(self, claim: JobClaim, phase: JobPhase) -> None:
        """Record how far the job is. The first phase after `queued` sets `started_at`."""

    async def record_failed_attempt(self, claim: JobClaim, error: str) -> int:
        """Count an attempt that ended in an unforeseen error; gives how many in a row there were."""

    async def hold_job(
        self,
        claim: JobClaim,
        reason: HeldReason,
        error: str,
        recheck_seconds: float | None,
        *,
        settled: bool = True,
    ) -> None:
        """End the claim and all claims on its segments; the job is `held`, and due again after `recheck_seconds`.

        Whoever holds the job has stopped its own work: the job may be claimed when it is due; without `settled`, once
        the claim's lease has run out as well, see `release_job`. Its segments' holders,
        in other processes perhaps, are fenced out, and each segment is claimed again once its lease has run out.
        With None only a person picks it up (`resume_job`).

        A pause in force ends with it. Held for a fault of its key, that key is no longer `active` but `unavailable`.
        Held again for the same reason and error, no further audit record is made.
        """

    async def finish_job(
        self,
        claim: JobClaim,
        state: Literal["completed", "failed"],
        error: str | None,
        *,
        settled: bool = True,
    ) -> None:
        """End the job and its claims, in the way of `hold_job`. A pause in force ends with it."""

    async def resume_job(self, job_id: str, principal: str) -> Job:
        """Have a held or failed job picked up at once, its attempts and those of its failed objects forgotten.

        Whoever is looking at a held one again is fenced out, and it is claimed once that lease has run out.
        Raises UnknownJobError, ConflictError in any other state.
        """

    async def cancel_job(self, job_id: str, principal: str) -> Job:
        """End a job that isn't final; from this commit on no claim of it is given, renewed or obeyed.

        Leases stay: no other job of the tenant, and none of its segments, is claimed before they have run out.
        A pause in force ends with it. Cancelling a cancelled job changes nothing. Raises UnknownJobError,
        ConflictError for a completed one, for one amid its switch (the tenant's writers wait for it to end), and for a
        reinstatement that has begun: it would leave things open, which only a new revocation closes.
        """

    async def claims_end_in(self, job_id: str) -> float:
        """In how many seconds the last claim will have ended that was held on the job or its segments; 0: all have.

        Of a job that is finished: nothing is claimed for it any more. Raises UnknownJobError.
        """

    async def job(self, job_id: str) -> Job:
        """Raises UnknownJobError."""

    async def jobs(
        self, *, tenant: str | None = None, state: JobState | None = None, limit: int = 100
    ) -> Sequence[Job]:
        """The newest first, at most `limit` (1 to 1,000)."""

    async def summary(self) -> LedgerSummary:
        """Counts for the metrics."""


class ObjectLedger(Protocol):
    """Passes, segments and objects of the claim's move."""

    async def current_pass(self, claim: JobClaim) -> PassState | None:
        """The latest pass; None before the first."""

    async def begin_pass(self, claim: JobClaim, pause_epoch: int | None) -> PassState:
        """Begin the next pass. One for the same `pause_epoch` (not None) that was begun already is continued.

        So is one that has no page yet. Whoever begins one has waited until no segment is open.

        The terms under which rows count as verified, a key and a `verify`, become those of the claim's job. Where
        they were others, no pass that has a page is continued, and rows verified under another key, or by `checksums`
        where the job asks for `read_back`, are `stale`, their copies kept on record to be overwritten.
        Raises ConflictError for a tenant that is `dedicated`.
        """

    async def record_page(
        self,
        claim: JobClaim,
        number: int,
        objects: Sequence[ObjectVersion],
        after: str | None,
        resume_after: str | None,
    ) -> PassState:
        """Enter a page of pass `number`, listed with the cursor `after`, and the cursor of the next.

        Cursors are opaque, and keys come in whatever order the store lists them: nothing follows from it.
        An object whose version is the one that the row names, and which is verified, is only marked as seen; one
        that was put again has another `modified`, and with it another version, whatever its ETag.
        Not so one without an id whose `modified`, in whole seconds, isn't well before the start of the pass that saw
        it last: another put within that second would look the same. Like any other it
        is `listed` and goes into a `carry` segment; where a former version's outcome isn't known,
        it joins `planned_before`. With `resume_after` None the listing is complete: rows that it didn't see are
        `vanished` (those excluded, failed or never copied as well) and go into `sweep` segments. Where these are
        many, only some are by now, and the pass is `settling`. A page that was
        entered already changes nothing. Raises ConflictError for a page that doesn't follow the cursor, or that
        is to be followed by itself, and for a tenant that is `dedicated`: nothing more is copied then.
        """

    async def settle_missing(self, claim: JobClaim, number: int) -> PassState:
        """Have some more rows that pass `number`'s complete listing didn't see be `vanished`, a bounded number.

        Call again until the pass is `listed`; from then on it changes nothing. Raises ConflictError for a pass that
        isn't the latest, for one whose listing isn't complete, and for a tenant that is `dedicated`.
        """

    async def claim_segment(self, holder: str, lease_seconds: float) -> SegmentClaim | None:
        """Claim an open segment of any running job that has a claim in force; None where there is none.

        Never one whose earlier claim still has its lease, though a hold, an end or a cancellation have ended it: a
        call begun under it has ended by then.
        """

    async def renew_segment(self, claim: SegmentClaim) -> None:
        """Extend the claim to its full length from now on."""

    async def release_segment(self, claim: SegmentClaim) -> None:
        """Give the claim up, having stopped; the segment can be claimed at once."""

    async def refuse_segment(
        self, claim: SegmentClaim, reason: HeldReason, error: str, again_seconds: float, *, settled: bool
    ) -> None:
        """Give the claim up, and count, for whoever holds the job, that the segment can't be worked on here, and why.

        It can be claimed again after `again_seconds`; without `settled` once the claim's lease has run out.
        """

    async def refused_segment(self, claim: JobClaim, refusals_min: int) -> tuple[HeldReason, str] | None:
        """Why a segment of the claim's move was refused last, where one was so often since the job was begun."""

    async def segment_rows(self, claim: SegmentClaim) -> Sequence[ObjectRow]:
        """The objects of the segment that are not done, in key order.

        For `carry` those `listed`, for `sweep` those `vanished`, for `retire` those `verified` or `retiring`.
        """

    async def record_intents(
        self, claim: SegmentClaim, sources: Sequence[ObjectVersion]
    ) -> Sequence[ObjectVersion]:
        """`retire` only: these source versions are about to be deleted. Gives those that may be.

        Only rows that are `verified` or `retiring` with this very version, of a tenant that is `dedicated` by the
        claim's move and under its job's key.
        """

    async def record_outcomes(self, claim: SegmentClaim, outcomes: Sequence[ObjectOutcome]) -> None:
        """Record what became of objects. One that the row's source version no longer matches is passed over.

        What was verified under terms that don't suffice for the move's (see `begin_pass`) is recorded as `stale`.
        """

    async def finish_segment(self, claim: SegmentClaim) -> None:
        """The segment is done and its claim ends. Objects that `segment_rows` would still give go into a new one."""

    async def plan_retirement(self, claim: JobClaim) -> int:
        """Put verified objects that were in no `retire` segment yet into some; gives how many of these are open.

        A bounded number at a time: call again until it gives 0, when every one has been in a segment that is done.
        Raises ConflictError unless the tenant is `dedicated` by the claim's move, under its job's key.
        """

    async def failed_objects(self, claim: JobClaim, limit: int) -> Sequence[tuple[str, str]]:
        """Keys and reasons of objects that are `failed`, in key order, at most `limit`."""

    async def counts(self, claim: JobClaim) -> Counts:
        """How far the move is."""


class AuditLedger(Protocol):
    """The audit trail. Most of its records are made by the methods above."""

    async def record_action(
        self, claim: JobClaim, action: StoreAction, details: Mapping[str, object]
    ) -> None:
        """Append what the claim's holder is about to do to a store, or has done. `details` are JSON values."""

    async def chains(self) -> Sequence[str]:
        """The names of all chains."""

    def audit_records(self, chain: str) -> AsyncIterator[AuditRecord]:
        """A chain from its first record on, in order."""


class Ledger(
    JobLedger,
    PlacementLedger,
    KeyLedger,
    RevocationLedger,
    RotationLedger,
    ObjectLedger,
    EvidenceLedger,
    AuditLedger,
    Protocol,
):
    """The whole ledger."""

    async def check(self) -> None:
        """Reaches the database and compares its schema. Raises LedgerError saying what is wrong."""

    async def close(self) -> None:
        """Waits for the commits under way and lets go of the database."""
