"""Jobs: claimed, held, finished."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.engine import Row as SqlRow

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.job import (
    CANCELLABLE_STATES,
    OVERTAKING_KINDS,
    RESUMABLE_STATES,
    HeldReason,
    Job,
    JobPhase,
    key_of,
)
from rekeyd.domain.key import KEY_FAULTS, key_ref
from rekeyd.ledger.port import JobClaim
from rekeyd.ledger.schema import (
    FAILED_OBJECT,
    UNFINISHED_JOB,
    UNFINISHED_SEGMENT,
    DatabaseTime,
    jobs,
    moves,
    objects,
    segments,
)
from rekeyd.ledger.sql.claims import CLAIMABLE_STATES, FENCED_OUT, change_job, end_segment_claims
from rekeyd.ledger.sql.cutting import forget_refusals
from rekeyd.ledger.sql.keys import forget_wrapped
from rekeyd.ledger.sql.placements import (
    awaits_opening,
    change_key_state,
    end_pause_in_force,
    is_revoked,
)
from rekeyd.ledger.sql.reading import read_job
from rekeyd.ledger.sql.transaction import Transaction, database_time

_UNCLAIMED: dict[str, Any] = {"holder": None, "lease_expires_at": None}
"""What ends one's own claim: whoever gives it up has stopped."""


def _ended(*, settled: bool) -> dict[str, Any]:
    """The same, or the end of a claim whose last calls may still take effect: then the lease stays."""
    return _UNCLAIMED if settled else FENCED_OUT


def claim_job(tx: Transaction, holder: str, lease_seconds: float) -> JobClaim | None:
    """Claim the next job that is due, of a tenant none of whose jobs is claimed."""
    found = tx.db.execute(next_job()).first()
    if found is None:
        return None
    fence = found.fence + 1
    tx.db.execute(
        sa.update(jobs)
        .where(jobs.c.id == found.id, jobs.c.fence == found.fence)
        .values(
            state="running" if found.state == "queued" else found.state,
            holder=holder,
            fence=fence,
            lease_expires_at=DatabaseTime() + lease_seconds,
        )
    )
    job = read_job(tx.db, found.id)
    if found.state == "queued":
        _record(tx, "job.running", job, holder, fence=fence)
    return JobClaim(job, holder, fence, lease_seconds)


def next_job() -> sa.Select[tuple[str, str, int]]:
    """Id, state and fence of the job to claim next: a walk along the index of unfinished jobs."""
    other, ended = jobs.alias("other"), jobs.alias("ended")
    overtakes = jobs.c.kind.in_(OVERTAKING_KINDS)
    # A revocation closes at once what one that it has ended may still open, and once more when that lease is over.
    ended_by_it = sa.and_(jobs.c.kind == "revoke", other.c.id != jobs.c.id, other.c.holder.is_(None))
    tenant_claimed = (
        sa.select(other.c.id)
        .where(other.c.tenant == jobs.c.tenant, other.c.lease_expires_at > DatabaseTime())
        # What overtakes waits for nobody but its like: it doesn't touch objects.
        .where(sa.or_(sa.not_(overtakes), sa.and_(other.c.kind.in_(OVERTAKING_KINDS), sa.not_(ended_by_it))))
        .exists()
    )
    # A job may have been cancelled while nobody held it, and segments of it were held all the same.
    segment_claimed = (
        sa.select(segments.c.id)
        .join(moves, moves.c.id == segments.c.move_id)
        .join(ended, ended.c.id == segments.c.job_id)
        .where(
            moves.c.tenant == jobs.c.tenant,
            sa.text(UNFINISHED_SEGMENT),
            segments.c.lease_expires_at > DatabaseTime(),
            ended.c.finished_at.is_not(None),
        )
        .exists()
    )
    return (
        sa.select(jobs.c.id, jobs.c.state, jobs.c.fence)
        .where(sa.text(UNFINISHED_JOB), jobs.c.due_at <= DatabaseTime(), sa.not_(tenant_claimed))
        .where(sa.or_(overtakes, sa.not_(segment_claimed)))
        .order_by(jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # PostgreSQL's; in SQLite this transaction has the lock
    )


def renew_job(tx: Transaction, claim: JobClaim) -> None:
    """Extend the claim to its full length from now on."""
    change_job(tx.db, claim, lease_expires_at=DatabaseTime() + claim.lease_seconds)


def release_job(tx: Transaction, claim: JobClaim, due_in_seconds: float, *, settled: bool) -> None:
    """Give the claim up until the job is due again, with nothing counted against it."""
    change_job(tx.db, claim, due_at=DatabaseTime() + due_in_seconds, **_ended(settled=settled))


def begin_job(tx: Transaction, claim: JobClaim) -> None:
    """What held the job is over."""
    former = _under_claim(tx, claim)
    change_key_state(tx, claim, {"unavailable": "active"})
    forget_refusals(tx.db, claim.job.move_id)
    if former.state == "running":
        return
    change_job(tx.db, claim, state="running", held_reason=None, error=None)
    _record(tx, "job.running", claim.job, claim.holder, former=former.held_reason)


def enter_phase(tx: Transaction, claim: JobClaim, phase: JobPhase) -> None:
    """Record how far the job is. No progress in itself: every attempt goes through the phases anew."""
    former = _under_claim(tx, claim)
    if former.phase == phase:
        return
    started_at = tx.now() if former.started_at is None else former.started_at
    change_job(tx.db, claim, phase=phase, started_at=started_at)
    _record(tx, "job.phase", claim.job, claim.holder, outcome=phase, former=former.phase)


def record_failed_attempt(tx: Transaction, claim: JobClaim, error: str) -> int:
    """Count an attempt; gives how many in a row there were."""
    change_job(tx.db, claim, attempts=jobs.c.attempts + 1, error=error)
    attempts: int = tx.db.execute(sa.select(jobs.c.attempts).where(jobs.c.id == claim.job.id)).scalar_one()
    _record(tx, "job.attempt_failed", claim.job, claim.holder, outcome=error, attempts=attempts)
    return attempts


def hold_job(
    tx: Transaction,
    claim: JobClaim,
    reason: HeldReason,
    error: str,
    recheck_seconds: float | None,
    *,
    settled: bool,
) -> None:
    """Hold the job until it is looked at again; its claims and its pause end."""
    former = _under_claim(tx, claim)
    change_job(
        tx.db,
        claim,
        state="held",
        held_reason=reason,
        error=error,
        due_at=None if recheck_seconds is None else DatabaseTime() + recheck_seconds,
        **_ended(settled=settled),
    )
    end_segment_claims(tx.db, claim.job.id)
    end_pause_in_force(tx, claim.job.tenant, actor=claim.holder, job=claim.job.id)
    if reason in KEY_FAULTS:
        change_key_state(tx, claim, {"active": "unavailable"})
    if (former.state, former.held_reason, former.error) != ("held", reason, error):
        _record(tx, "job.held", claim.job, claim.holder, outcome=reason, reason=error)


def finish_job(
    tx: Transaction,
    claim: JobClaim,
    state: Literal["completed", "failed"],
    error: str | None,
    *,
    settled: bool,
) -> None:
    """End the job, its claims and its pause."""
    change_job(
        tx.db,
        claim,
        state=state,
        held_reason=None,
        error=error,
        finished_at=DatabaseTime(),
        **_ended(settled=settled),
    )
    end_segment_claims(tx.db, claim.job.id)
    end_pause_in_force(tx, claim.job.tenant, actor=claim.holder, job=claim.job.id)
    _forget_what_nobody_names(tx, claim.job)
    _record(tx, f"job.{state}", claim.job, claim.holder, outcome=state, reason=error)


def resume_job(tx: Transaction, job_id: str, principal: str) -> Job:
    """Queue a held or failed job anew, due at once."""
    former = read_job(tx.db, job_id)
    if former.state not in RESUMABLE_STATES:
        raise ConflictError(f"{job_id} is {former.state}: only held and failed jobs are resumed")
    if former.kind not in OVERTAKING_KINDS and is_revoked(tx.db, former.tenant):
        raise ConflictError(f"{job_id} waits for the reinstatement of its tenant: nothing else resumes it")
    tx.db.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state="queued",
            held_reason=None,
            error=None,
            attempts=0,
            due_at=DatabaseTime(),
            finished_at=None,
            **FENCED_OUT,
        )
    )
    tx.db.execute(
        sa.update(objects)
        .where(objects.c.move_id == former.move_id, sa.text(FAILED_OBJECT))
        .values(attempts=0)
    )
    _record(tx, "job.resumed", former, principal, former=former.state)
    return read_job(tx.db, job_id)


def cancel_job(tx: Transaction, job_id: str, principal: str) -> Job:
    """End the job and its claims; and its pause, unless that is another job's."""
    former = read_job(tx.db, job_id)
    if former.state == "cancelled":
        return former
    if former.state not in CANCELLABLE_STATES:
        raise ConflictError(f"{job_id} is {former.state}: it can't be cancelled any more")
    if former.kind == "reinstate" and former.started_at is not None:
        raise ConflictError(
            f"{job_id} has begun to give access back: let it end, or hand in another revocation, which closes all again"
        )
    if awaits_opening(tx.db, former):
        raise ConflictError(f"{job_id} is amid its switch, which is final: writers wait until it has ended")
    tx.db.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id)
        .values(state="cancelled", held_reason=None, finished_at=DatabaseTime(), **FENCED_OUT)
    )
    end_segment_claims(tx.db, job_id)
    _forget_what_nobody_names(tx, former)
    if former.state == "running" and not _tenant_is_worked_on(tx, former.tenant):
        end_pause_in_force(tx, former.tenant, actor=principal, job=job_id)
    _record(tx, "job.cancelled", former, principal, former=former.state)
    return read_job(tx.db, job_id)


def _forget_what_nobody_names(tx: Transaction, job: Job) -> None:
    """What was wrapped for the key that a job names isn't kept once no job is left that would have it imported.

    What a reinstatement brought once more is for that one alone.
    """
    named = key_of(job.message)
    if named is None:
        return
    ref = key_ref(named)
    unfinished = sa.select(jobs.c.id).where(jobs.c.key_ref == ref, sa.text(UNFINISHED_JOB)).limit(1)
    if job.kind == "reinstate" or tx.db.execute(unfinished).first() is None:
        forget_wrapped(tx, ref)


def claims_end_in(db: Connection, job_id: str) -> float:
    """In how many seconds the last lease ends that is on the job or its segments; 0 where none is left."""
    read_job(db, job_id)
    leases = sa.union_all(
        sa.select(jobs.c.lease_expires_at).where(jobs.c.id == job_id),
        sa.select(segments.c.lease_expires_at)
        .join(jobs, jobs.c.move_id == segments.c.move_id)
        .where(jobs.c.id == job_id, segments.c.job_id == job_id, sa.text(UNFINISHED_SEGMENT)),
    ).subquery()
    latest = db.execute(sa.select(sa.func.max(leases.c.lease_expires_at))).scalar_one()
    return 0.0 if latest is None else max(float(latest) - database_time(db), 0.0)


def _tenant_is_worked_on(tx: Transaction, tenant: str) -> bool:
    claimed = sa.select(jobs.c.id).where(
        jobs.c.tenant == tenant,
        jobs.c.lease_expires_at > DatabaseTime(),
        # A lease stays where a claim was ended by others, or before its last call's deadline had passed.
        jobs.c.state.in_(CLAIMABLE_STATES),
        jobs.c.holder.is_not(None),
    )
    return tx.db.execute(claimed).first() is not None


def _under_claim(tx: Transaction, claim: JobClaim) -> SqlRow[tuple[object, ...]]:
    """The job's row as it stands. Raises ClaimLostError."""
    change_job(tx.db, claim)
    return tx.db.execute(sa.select(jobs).where(jobs.c.id == claim.job.id)).one()


def _record(tx: Transaction, action: str, job: Job, actor: str, **details: object) -> None:
    tx.record(action, actor=actor, tenant=job.tenant, job=job.id, **details)
