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
from dataclasses import dataclass
from typing import Literal, Protocol

from rekeyd.domain.audit import AuditRecord
from rekeyd.domain.evidence import Verdict
from rekeyd.domain.job import Counts, HeldReason, Job, JobPhase, JobState, ReceivedJob
from rekeyd.domain.key import KeyState
from rekeyd.domain.objects import CarryState, Location, ObjectVersion
from rekeyd.ledger.placement_port import PlacementLedger

SEGMENT_OBJECTS_MAX = 1000
SEGMENT_BYTES_MAX = 64 * 1024**3
"""A segment holds at most so many versions of objects, and so many bytes, unless a single object has more."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of a job that was offered. A conflict is raised, not returned."""

    job: Job
    created: bool
    """False where the same job was known already."""


@dataclass(frozen=True, slots=True)
class JobClaim:
    """A lease on a job."""

    job: Job
    holder: str
    fence: int
    lease_seconds: float
    """How long it lasts from the grant or the last renewal on."""


SegmentStage = Literal[
    "carry",  # copy and verify what was listed
    "sweep",  # delete target copies of what has vanished from the source
    "retire",  # delete verified source versions
]


@dataclass(frozen=True, slots=True)
class SegmentClaim:
    """A lease on a segment."""

    segment_id: int
    job: Job
    stage: SegmentStage
    holder: str
    fence: int
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Copy:
    """One version or marker of a key's history, and its copy in a target that keeps versions."""

    source: ObjectVersion
    target: ObjectVersion
    key_arn: str = ""
    """The customer key under which it was verified; empty for a marker."""
    crc64nvme: int | None = None
    """None for a marker."""
    evidence: str = ""
    """As an outcome's."""


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """What the ledger knows of one key of a move."""

    source: ObjectVersion
    """The source version that is to be carried, or was, with its history. Its key is the source's whole key."""
    state: CarryState
    attempts: int
    """How often in a row it was tried in vain."""
    target: ObjectVersion | None
    """The copy as it was last known to stand in the target, written by us."""
    planned_before: tuple[ObjectVersion, ...]
    """Earlier source versions whose copying was planned and perhaps begun, with an outcome that isn't known."""
    crc64nvme: int | None
    copies: tuple[Copy, ...] = ()
    """Where the target keeps versions: what stands there under the key, as last known, the oldest first."""


@dataclass(frozen=True, slots=True)
class ObjectOutcome:
    """What became of one object of a segment. It counts only while the row still names this source version."""

    source: ObjectVersion
    state: Literal["listed", "stale", "verified", "excluded", "failed", "dropped", "deleted", "remaining"]
    """`listed`: tried in vain this time, to be tried again; its attempts grow by one (a row that is `vanished`,
    `verified` or `retiring` stays so). `stale`: the source has
    another version by now, or none; only a later pass settles it (listed anew it is `listed`, whatever its
    version; else `vanished`), and `switch` refuses while there is one."""
    reason: str = ""
    """For a person: why it is not verified, or is excluded or remaining."""
    verdict: Verdict | None = None
    """Where both sides were compared."""
    target: ObjectVersion | None = None
    """Where known, the copy that stands in the target now. None leaves what is recorded."""
    crc64nvme: int | None = None
    evidence: str = ""
    """How both checksums came about, `streamed/computed_by_provider` say."""
    copies: tuple[Copy, ...] | None = None
    """Where the target keeps versions: what is known to stand there now. None leaves what is recorded."""


@dataclass(frozen=True, slots=True)
class PassState:
    """A pass over the source."""

    number: int
    """From 1 on."""
    pause_epoch: int | None
    """The epoch of the pause in which it is made; None for one while writers go on."""
    resume_after: str | None
    """The cursor with which its listing goes on."""
    settling: bool
    """Its listing is complete, and not all of what it did not list is `vanished` yet: go on with `settle_missing`."""
    listed: bool
    """Its listing is complete; what it did not list has vanished, and those rows are `vanished` now."""
    changed_objects: int
    changed_bytes: int
    """What it found that has to be carried or swept."""
    open_segments: int
    """Segments of this pass and those before it that aren't done."""
    terms_hold: bool
    """What counts as verified does so under the key and the `verify` of the claim's job. Where it doesn't, another
    job's pass is looked at: go on with `begin_pass`, what is verified before it has to be carried again."""


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """What operators watch."""

    jobs: Mapping[tuple[str, JobState], int]
    held: Mapping[HeldReason, int]
    keys: Mapping[KeyState, int]
    oldest_queued_at: float | None
    """Since when the queued job waits that could have been claimed the longest; None where none could be."""


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
        ConflictError for a completed one, and for one amid its switch: the tenant's writers wait for it to end.
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


StoreAction = Literal[
    "bucket.provision_intended",  # the dedicated bucket is about to be made what it must be
    "bucket.provisioned",  # how it was read back
    "conditions.proof_intended",  # objects of our own are about to be written, and removed again
    "conditions.proven",  # the stores were shown to heed conditions
    "uploads.abort_intended",  # unfinished uploads in the target are about to be given up
]


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


class Ledger(JobLedger, PlacementLedger, ObjectLedger, AuditLedger, Protocol):
    """The whole ledger."""

    async def check(self) -> None:
        """Reaches the database and compares its schema. Raises LedgerError saying what is wrong."""

    async def close(self) -> None:
        """Waits for the commits under way and lets go of the database."""
