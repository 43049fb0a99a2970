"""The ledger on a SQL database, through SQLAlchemy Core: now SQLite, one file for a daemon and its commands.

`SqlLedger` is the port; each module beside it has one part of the statements, as plain functions of a
transaction. Writes run one after another on one connection, in group commits; reads run beside them on others,
each on one state of the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Literal, Self, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from rekeyd.domain.audit import AuditRecord
from rekeyd.domain.control import AuditHeads, ControlDocument, KnownControl
from rekeyd.domain.errors import LedgerError
from rekeyd.domain.job import Counts, HeldReason, Job, JobPhase, JobState, ReceivedJob
from rekeyd.domain.key import KeyState
from rekeyd.domain.objects import Location, ObjectVersion
from rekeyd.domain.tenant import PlacementRecord, in_effect
from rekeyd.ledger.port import (
    Admission,
    JobClaim,
    LedgerSummary,
    ObjectOutcome,
    ObjectRow,
    PassState,
    SegmentClaim,
    StoreAction,
    TenantMove,
)
from rekeyd.ledger.sql import (
    actions,
    admission,
    control,
    jobs,
    passes,
    placements,
    reading,
    retirement,
    segments,
    transaction,
)
from rekeyd.ledger.sql.claims import check_job_claim
from rekeyd.ledger.sql.commits import CommitObserver, GroupCommits
from rekeyd.ledger.sql.engine import (
    check_revision,
    check_there,
    cut_log,
    make_private_file,
    migrate,
    reading_engine,
    sqlite_path,
    writing_engine,
)
from rekeyd.ledger.sql.evidence_methods import EvidenceMethods
from rekeyd.ledger.sql.key_methods import KeyMethods
from rekeyd.ledger.sql.revocation_methods import RevocationMethods
from rekeyd.ledger.sql.rotation_methods import RotationMethods
from rekeyd.ledger.sql.transaction import Refusal, Transaction

AUDIT_RECORDS_READ_MAX = 1000
"""So many records of a chain are in memory at once."""

T = TypeVar("T")
RecordCounter = Callable[[int], None]
"""Told how many records a committed write has appended to the audit trail."""


class SqlLedger(EvidenceMethods, KeyMethods, RevocationMethods, RotationMethods):
    """The port `Ledger`. Made by `open`, and ended by `close`."""

    def __init__(
        self,
        writing: AsyncEngine,
        reading: AsyncEngine,
        commits: GroupCommits,
        chain: str,
        count_records: RecordCounter | None,
    ) -> None:
        self._writing = writing
        self._reading = reading
        self._commits = commits
        self._chain = chain
        self._count_records = count_records

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        make: bool = True,
        chain: str = "main",
        observe_commit: CommitObserver | None = None,
        count_records: RecordCounter | None = None,
    ) -> Self:
        """Open the ledger. With `make` it is made, and its schema brought up to date, where need be.

        Without, nothing is made or changed: a ledger that isn't there, or isn't up to date, is an error.
        `chain` is the audit chain that this process appends to; processes on one file may share it.
        Raises LedgerError where it can't be opened, or was made by a newer rekeyd.
        """
        path = sqlite_path(url)
        await asyncio.to_thread(make_private_file if make else check_there, path)
        writing, reading = writing_engine(path), reading_engine(path)
        try:
            async with writing.begin() as connection:
                await connection.run_sync(migrate if make else check_revision)
        except (SQLAlchemyError, LedgerError) as error:
            await writing.dispose()
            raise LedgerError(f"the ledger {path} can't be opened: {error}") from error
        return cls(writing, reading, GroupCommits(writing, observe_commit), chain, count_records)

    async def check(self) -> None:
        await self._read(check_revision)

    async def close(self) -> None:
        await self._commits.close()
        await self._reading.dispose()
        await self._writing.dispose()

    # --- jobs ---

    async def admit(
        self,
        received: ReceivedJob,
        source: Location,
        target: Location,
        grace_seconds: int,
        principal: str,
    ) -> Admission:
        offer = admission.Offer(received, source, target, grace_seconds, principal)
        return await self._write(admission.admit, offer)

    async def claim_job(self, holder: str, lease_seconds: float) -> JobClaim | None:
        return await self._write(jobs.claim_job, holder, lease_seconds)

    async def renew_job(self, claim: JobClaim) -> None:
        await self._write(jobs.renew_job, claim)

    async def release_job(
        self, claim: JobClaim, due_in_seconds: float = 0.0, *, settled: bool = True
    ) -> None:
        await self._write(partial(jobs.release_job, settled=settled), claim, due_in_seconds)

    async def begin_job(self, claim: JobClaim) -> None:
        await self._write(jobs.begin_job, claim)

    async def enter_phase(self, claim: JobClaim, phase: JobPhase) -> None:
        await self._write(jobs.enter_phase, claim, phase)

    async def record_failed_attempt(self, claim: JobClaim, error: str) -> int:
        return await self._write(jobs.record_failed_attempt, claim, error)

    async def hold_job(
        self,
        claim: JobClaim,
        reason: HeldReason,
        error: str,
        recheck_seconds: float | None,
        *,
        settled: bool = True,
    ) -> None:
        await self._write(partial(jobs.hold_job, settled=settled), claim, reason, error, recheck_seconds)

    async def finish_job(
        self,
        claim: JobClaim,
        state: Literal["completed", "failed"],
        error: str | None,
        *,
        settled: bool = True,
    ) -> None:
        await self._write(partial(jobs.finish_job, settled=settled), claim, state, error)

    async def resume_job(self, job_id: str, principal: str) -> Job:
        return await self._write(jobs.resume_job, job_id, principal)

    async def cancel_job(self, job_id: str, principal: str) -> Job:
        job = await self._write(jobs.cancel_job, job_id, principal)
        await self._overwrite()
        return job

    async def claims_end_in(self, job_id: str) -> float:
        return await self._read(jobs.claims_end_in, job_id)

    async def job(self, job_id: str) -> Job:
        return await self._read(reading.read_job, job_id)

    async def jobs(
        self, *, tenant: str | None = None, state: JobState | None = None, limit: int = 100
    ) -> Sequence[Job]:
        return await self._read(reading.read_jobs, tenant, state, limit)

    async def summary(self) -> LedgerSummary:
        return await self._read(reading.summarise)

    # --- placements and keys ---

    async def now(self) -> float:
        return await self._read(transaction.database_time)

    async def placement(self, tenant: str) -> tuple[PlacementRecord | None, float]:
        record, now = await self._read(placements.read_placement, tenant)
        if record is None or in_effect(record, now) == record:
            return record, now
        return await self._write(placements.return_by_deadline, tenant)

    async def propose_pause(self, claim: JobClaim) -> ControlDocument:
        return await self._write(placements.propose_pause, claim)

    async def change_placement(
        self, claim: JobClaim, step: Callable[[PlacementRecord, float], PlacementRecord]
    ) -> PlacementRecord:
        return await self._write(placements.change_placement, claim, step)

    async def switch(
        self, claim: JobClaim, step: Callable[[PlacementRecord, float], PlacementRecord]
    ) -> PlacementRecord:
        return await self._write(placements.switch, claim, step)

    async def open_writes(self, claim: JobClaim, ttl_seconds: float) -> PlacementRecord:
        return await self._write(placements.open_target, claim, ttl_seconds)

    async def known_control(self, claim: JobClaim) -> KnownControl:
        return await self._read(control.known_control, claim)

    async def knows_heads(self, heads: AuditHeads) -> bool:
        return await self._read(control.knows_heads, heads)

    async def distrust_placement(self, claim: JobClaim, reason: str) -> None:
        await self._write(placements.set_distrusted_by, claim, reason)

    async def trust_placement(self, claim: JobClaim) -> None:
        await self._write(placements.set_distrusted_by, claim, None)

    async def tenant_moves(self, after: str, tenants_max: int) -> Sequence[TenantMove]:
        return await self._read(control.tenant_moves, after, tenants_max)

    async def known_control_of(self, move_id: int) -> KnownControl:
        return await self._read(control.known_control_of, move_id)

    async def distrust_tenant(self, tenant: str, reason: str, actor: str) -> None:
        await self._write(placements.set_distrusted, tenant, reason, actor)

    async def trust_tenant(self, tenant: str, actor: str) -> None:
        await self._write(placements.set_distrusted, tenant, None, actor)

    async def set_key_state(self, claim: JobClaim, state: KeyState) -> None:
        await self._write(placements.set_key_state, claim, state)

    async def observe_key(self, ref: str, state: KeyState, reason: str, actor: str) -> bool:
        return await self._write(placements.observe_key, ref, state, reason, actor)

    async def keep_canary(self, claim: JobClaim, token: str) -> str:
        return await self._write(placements.keep_canary, claim, token)

    async def canary(self, job: Job) -> str | None:
        return await self._read(placements.canary, job)

    # --- passes, segments, objects ---

    async def current_pass(self, claim: JobClaim) -> PassState | None:
        return await self._read(passes.current_pass, claim)

    async def begin_pass(self, claim: JobClaim, pause_epoch: int | None) -> PassState:
        return await self._write(passes.begin_pass, claim, pause_epoch)

    async def record_page(
        self,
        claim: JobClaim,
        number: int,
        objects: Sequence[ObjectVersion],
        after: str | None,
        resume_after: str | None,
    ) -> PassState:
        page = passes.Page(number, objects, after, resume_after)
        return await self._write(passes.record_page, claim, page)

    async def settle_missing(self, claim: JobClaim, number: int) -> PassState:
        return await self._write(passes.settle_missing, claim, number)

    async def claim_segment(self, holder: str, lease_seconds: float) -> SegmentClaim | None:
        return await self._write(segments.claim_segment, holder, lease_seconds)

    async def renew_segment(self, claim: SegmentClaim) -> None:
        await self._write(segments.renew_segment, claim)

    async def release_segment(self, claim: SegmentClaim) -> None:
        await self._write(segments.release_segment, claim)

    async def refuse_segment(
        self, claim: SegmentClaim, reason: HeldReason, error: str, again_seconds: float, *, settled: bool
    ) -> None:
        await self._write(
            partial(segments.refuse_segment, settled=settled), claim, reason, error, again_seconds
        )

    async def refused_segment(self, claim: JobClaim, refusals_min: int) -> tuple[HeldReason, str] | None:
        return await self._read(segments.refused_segment, claim, refusals_min)

    async def segment_rows(self, claim: SegmentClaim) -> Sequence[ObjectRow]:
        return await self._read(segments.segment_rows, claim)

    async def record_intents(
        self, claim: SegmentClaim, sources: Sequence[ObjectVersion]
    ) -> Sequence[ObjectVersion]:
        return await self._write(retirement.record_intents, claim, sources)

    async def record_outcomes(self, claim: SegmentClaim, outcomes: Sequence[ObjectOutcome]) -> None:
        await self._write(segments.record_outcomes, claim, outcomes)

    async def finish_segment(self, claim: SegmentClaim) -> None:
        await self._write(segments.finish_segment, claim)

    async def plan_retirement(self, claim: JobClaim) -> int:
        return await self._write(retirement.plan_retirement, claim)

    async def failed_objects(self, claim: JobClaim, limit: int) -> Sequence[tuple[str, str]]:
        return await self._read(segments.failed_objects, claim, limit)

    async def counts(self, claim: JobClaim) -> Counts:
        return await self._read(_counts, claim)

    # --- the audit trail ---

    async def record_action(
        self, claim: JobClaim, action: StoreAction, details: Mapping[str, object]
    ) -> None:
        await self._write(actions.record_action, claim, action, details)

    async def chains(self) -> Sequence[str]:
        return await self._read(transaction.chains)

    async def audit_records(self, chain: str) -> AsyncIterator[AuditRecord]:
        sequence = 0
        while True:
            records = await self._read(transaction.records_after, chain, sequence, AUDIT_RECORDS_READ_MAX)
            for record in records:
                yield record
            if len(records) < AUDIT_RECORDS_READ_MAX:
                return
            sequence = records[-1].sequence

    async def _write(self, work: Callable[..., T | Refusal], *arguments: object) -> T:
        recorded: list[str] = []

        def unit(db: Connection) -> T | Refusal:
            return work(Transaction(db, self._chain, recorded), *arguments)

        result = await self._commits.submit(unit)
        if self._count_records is not None and recorded:
            self._count_records(len(recorded))
        if isinstance(result, Refusal):
            raise result.error
        return result

    async def _overwrite(self) -> None:
        try:
            await cut_log(self._writing)
        except SQLAlchemyError as error:
            raise LedgerError(f"the ledger's log could not be cut: {error}") from error

    async def _read(self, query: Callable[..., T], *arguments: object) -> T:
        try:
            async with self._reading.connect() as connection:
                return await connection.run_sync(query, *arguments)
        except SQLAlchemyError as error:
            raise LedgerError(f"the ledger could not be read: {error}") from error


def _counts(db: Connection, claim: JobClaim) -> Counts:
    check_job_claim(db, claim)
    return reading.counts_of(reading.read_tally(db, claim.job.move_id))
