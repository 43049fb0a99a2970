"""Revoking and reinstating: what overtakes everything of a tenant, in one transaction each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.errors import ConflictError, RefusedError
from rekeyd.domain.job import (
    OVERTAKING_KINDS,
    UNFINISHED_STATES,
    Job,
    ReinstateMessage,
    RevokeMessage,
    RotateMessage,
    VerifyMessage,
)
from rekeyd.domain.key import KeyState
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import PlacementRecord, reinstate, revoke
from rekeyd.ledger.port import Admission, JobClaim, TenantKey, TenantMove
from rekeyd.ledger.schema import UNFINISHED_JOB, UNFINISHED_SEGMENT, DatabaseTime, jobs, keys, moves, segments
from rekeyd.ledger.sql.arrivals import Arrival, is_known, refused, store_job
from rekeyd.ledger.sql.claims import FENCED_OUT, change_job, check_job_claim, end_segment_claims
from rekeyd.ledger.sql.jobs import enter_phase
from rekeyd.ledger.sql.keys import check_same_material, forget_wrapped, store_key, tenant_keys
from rekeyd.ledger.sql.placements import read_record, write_record
from rekeyd.ledger.sql.reading import read_job
from rekeyd.ledger.sql.rotation import admit_rotation
from rekeyd.ledger.sql.transaction import Refusal, Transaction, database_time

HELD_FOR_REVOCATION: Mapping[str, Any] = {
    "state": "held",
    "held_reason": "revoked",
    "error": "the tenant's keys are revoked: a reinstatement of that goes on with it",
    "due_at": None,
    **FENCED_OUT,
}


def admit_tenant_job(tx: Transaction, arrival: Arrival) -> Admission | Refusal:
    """Store a job about a tenant where it is; a revocation that is due takes effect with it."""
    message = arrival.received.message
    if isinstance(message, RotateMessage):
        return admit_rotation(tx, arrival, message)
    try:
        if is_known(tx, arrival):
            return Admission(read_job(tx.db, message.id), created=False)
        record = _record_to_change(tx, arrival)
        if isinstance(message, ReinstateMessage) and message.key is not None:
            check_same_material(tx, message.tenant, message.key)
    except (ConflictError, RefusedError) as error:
        return refused(tx, arrival, error)
    assert record.key_ref is not None, "checked before"
    if isinstance(message, ReinstateMessage) and message.key is not None:
        store_key(tx, message.tenant, message.key)
    store_job(
        tx,
        arrival,
        move_id=_move_of(tx.db, record),
        key_ref=record.key_ref,
        grace_seconds=0,
        details={"undoes": message.undoes} if isinstance(message, ReinstateMessage) else {},
    )
    job = read_job(tx.db, message.id)
    if isinstance(message, RevokeMessage) and message.not_before is None:
        _withdraw(tx, job, arrival.principal, begins=True)
    return Admission(read_job(tx.db, message.id), created=True)


def approve_job(tx: Transaction, job_id: str, principal: str) -> Job:
    """Agree, or accept."""
    former = read_job(tx.db, job_id)
    if former.held_reason == "needs_approval":
        if principal == former.admitted_by:
            raise ConflictError(f"{job_id} was handed in by {principal}: another person has to approve it")
        agreed = {"approved_by": principal}
    elif former.held_reason == "readable_elsewhere":
        agreed = {"accepted_by": principal}
    else:
        raise ConflictError(f"{job_id} is {former.state}: it waits for nobody's approval")
    tx.db.execute(sa.update(jobs).where(jobs.c.id == job_id).values(due_at=DatabaseTime(), **agreed))
    tx.record(
        "job.approved",
        actor=principal,
        tenant=former.tenant,
        job=job_id,
        outcome=former.held_reason,
        admitted_by=former.admitted_by,
    )
    return read_job(tx.db, job_id)


def withdraw(tx: Transaction, claim: JobClaim) -> PlacementRecord:
    """Have nobody read, write or work for the tenant."""
    change_job(tx.db, claim)
    job = read_job(tx.db, claim.job.id)
    # One that was to begin at once did so as it was admitted.
    begins = job.message.not_before is not None and job.phase == "queued"
    withdrawn = _withdraw(tx, job, claim.holder, begins=begins)
    if begins:
        enter_phase(tx, claim, "withdraw")
    return withdrawn


def check_undoing(db: Connection, claim: JobClaim) -> None:
    """Look whether the claim's reinstatement may still give anything back."""
    check_job_claim(db, claim)
    message, record = claim.job.message, read_record(db, claim.job.tenant)
    assert isinstance(message, ReinstateMessage), "nothing else undoes anything"
    if record is not None and record.phase == "revoked" and record.revoked_by != message.undoes:
        raise ConflictError(f"{claim.job.tenant} is revoked by {record.revoked_by}, not by {message.undoes}")


def lift_revocation(tx: Transaction, claim: JobClaim) -> PlacementRecord:
    """Undo what the named job revoked."""
    change_job(tx.db, claim)
    message, tenant = claim.job.message, claim.job.tenant
    assert isinstance(message, ReinstateMessage), "nothing else undoes anything"
    record = read_record(tx.db, tenant)
    if record is None:
        raise ConflictError(f"{tenant} has no placement")
    if record.phase != "revoked" and _is_lifted(tx.db, message.undoes, tenant):
        return record
    lifted = reinstate(record, message.undoes)
    write_record(tx, record, lifted, actor=claim.holder, job=claim.job.id)
    for key in tenant_keys(tx.db, tenant):
        if key.state == "revoked":
            _change_key(tx, claim, key, key.former_state or "active", None, {})
    for revoking in _begun_revoking(tx.db, tenant):
        _cancel(tx, revoking, f"reinstated by {claim.job.id}", actor=claim.holder, by=claim.job.id)
    waiting = sa.and_(jobs.c.tenant == tenant, jobs.c.state == "held", jobs.c.held_reason == "revoked")
    tx.db.execute(
        sa.update(jobs)
        .where(waiting)
        .values(state="queued", held_reason=None, error=None, due_at=DatabaseTime())
    )
    return lifted


def withdraw_key(
    tx: Transaction, claim: JobClaim, ref: str, state: KeyState, details: Mapping[str, object]
) -> None:
    """Record that a key is withdrawn, and how."""
    change_job(tx.db, claim)
    (key,) = [each for each in tenant_keys(tx.db, claim.job.tenant) if each.ref == ref]
    forget_wrapped(tx, ref)
    if key.state == state:
        return
    former = key.former_state if key.state in ("revoked", "destroyed") else key.state
    _change_key(tx, claim, key, state, former, details)


def tenant_moves_of(db: Connection, tenant: str) -> list[TenantMove]:
    """All moves of a tenant."""
    query = sa.select(moves).where(moves.c.tenant == tenant).order_by(moves.c.id)
    return [
        TenantMove(
            row.id,
            row.tenant,
            Location.parse(row.source),
            Location.parse(row.target),
            provisioned=row.canary is not None,
        )
        for row in db.execute(query)
    ]


def other_claims_end_in(db: Connection, claim: JobClaim) -> float:
    """Until when others may still have a call of this tenant under way."""
    tenant = claim.job.tenant
    leases = sa.union_all(
        sa.select(jobs.c.lease_expires_at).where(jobs.c.tenant == tenant, jobs.c.id != claim.job.id),
        sa.select(segments.c.lease_expires_at)
        .join(moves, moves.c.id == segments.c.move_id)
        .where(moves.c.tenant == tenant, sa.text(UNFINISHED_SEGMENT)),
    ).subquery()
    latest = db.execute(sa.select(sa.func.max(leases.c.lease_expires_at))).scalar_one()
    return 0.0 if latest is None else max(float(latest) - database_time(db), 0.0)


def note_result(tx: Transaction, claim: JobClaim, action: str, result: Mapping[str, object]) -> None:
    """Record what the job found or did."""
    change_job(tx.db, claim)
    text = canonical_json(result)
    former = tx.db.execute(sa.select(jobs.c.result).where(jobs.c.id == claim.job.id)).scalar_one()
    if former == text:
        return
    change_job(tx.db, claim, result=text)
    tx.record(action, actor=claim.holder, tenant=claim.job.tenant, job=claim.job.id, **json.loads(text))


def _record_to_change(tx: Transaction, arrival: Arrival) -> PlacementRecord:
    """The tenant's placement. Raises RefusedError where the job has nothing to do there."""
    message = arrival.received.message
    record = read_record(tx.db, message.tenant)
    if record is None or record.key_ref is None:
        raise RefusedError("tenant", "has no key here")
    if isinstance(message, VerifyMessage) and record.phase != "dedicated":
        raise RefusedError("tenant", f"is {record.phase}: only a dedicated one's data can be verified")
    if isinstance(message, ReinstateMessage) and record.revoked_by != message.undoes:
        by = f"is revoked by {record.revoked_by}" if record.revoked_by else "isn't revoked"
        raise RefusedError("undoes", f"{message.undoes} isn't what revoked the tenant, which {by}")
    return record


def _move_of(db: Connection, record: PlacementRecord) -> int:
    """The move that the tenant's placement leads to."""
    found = db.execute(
        sa.select(moves.c.id).where(
            moves.c.tenant == record.tenant,
            moves.c.source == str(record.source),
            moves.c.target == str(record.target),
        )
    ).scalar_one()
    return int(found)


def _withdraw(tx: Transaction, job: Job, actor: str, *, begins: bool) -> PlacementRecord:
    """`begins`: it takes effect now, and never again. What is under way to give anything back gives way to it."""
    record = read_record(tx.db, job.tenant)
    assert record is not None, "a job that was admitted has a placement"
    message = job.message
    destroys = isinstance(message, RevokeMessage) and message.options.mode == "destroy"
    _hold_others(tx, job, actor)
    # What a reinstatement has begun to open is to be closed again, by this job and no other.
    opened = begins and _end_reinstating(tx, job, record.revoked_by, actor)
    revoked = revoke(record, tx.now(), job.id, takes_over=begins and (destroys or opened))
    if begins and record.phase == "revoked":
        already = canonical_json({"revoked_already_by": record.revoked_by})
        tx.db.execute(sa.update(jobs).where(jobs.c.id == job.id).values(result=already))
    if revoked.revoked_by != record.revoked_by and record.phase == "revoked":
        tx.record(
            "revocation.taken_over", actor=actor, tenant=job.tenant, job=job.id, former=record.revoked_by
        )
    if revoked != record:
        for key in tenant_keys(tx.db, job.tenant):
            forget_wrapped(tx, key.ref)
    write_record(tx, record, revoked, actor=actor, job=job.id)
    return revoked


def _hold_others(tx: Transaction, job: Job, actor: str) -> None:
    """Hold all of the tenant's jobs that don't overtake, and end their claims."""
    others = tx.db.execute(
        sa.select(jobs.c.id).where(
            jobs.c.tenant == job.tenant,
            sa.text(UNFINISHED_JOB),
            jobs.c.kind.not_in(OVERTAKING_KINDS),
            sa.not_(sa.and_(jobs.c.state == "held", jobs.c.held_reason == "revoked")),
        )
    ).scalars()
    for other in others.all():
        former = read_job(tx.db, other)
        tx.db.execute(sa.update(jobs).where(jobs.c.id == other).values(**HELD_FOR_REVOCATION))
        end_segment_claims(tx.db, other)
        tx.record(
            "job.held",
            actor=actor,
            tenant=job.tenant,
            job=other,
            outcome="revoked",
            former=former.state,
            by=job.id,
        )


def _end_reinstating(tx: Transaction, job: Job, revoked_by: str | None, actor: str) -> bool:
    """End what is under way to give anything back, or could be resumed; gives whether that had begun."""
    query = sa.select(jobs.c.id).where(
        jobs.c.tenant == job.tenant,
        jobs.c.kind == "reinstate",
        jobs.c.state.in_((*UNFINISHED_STATES, "failed")),
    )
    begun = False
    for each in tx.db.execute(query).scalars().all():
        reinstating = read_job(tx.db, each)
        message = reinstating.message
        assert isinstance(message, ReinstateMessage), "its kind says so"
        begun = begun or (message.undoes == revoked_by and reinstating.started_at is not None)
        _cancel(tx, reinstating, f"revoked anew by {job.id}", actor=actor, by=job.id)
    return begun


def _change_key(
    tx: Transaction,
    claim: JobClaim,
    key: TenantKey,
    state: KeyState,
    former: KeyState | None,
    details: Mapping[str, object],
) -> None:
    tx.db.execute(
        sa.update(keys)
        .where(keys.c.ref == key.ref)
        .values(state=state, former_state=former, changed_at=tx.now())
    )
    tx.record(
        "key.state",
        actor=claim.holder,
        tenant=claim.job.tenant,
        job=claim.job.id,
        outcome=state,
        former=key.state,
        key=key.ref,
        **details,
    )


def _is_lifted(db: Connection, revoking: str, tenant: str) -> bool:
    """Whether this job's revocation is over: a reinstatement that died after its commit does it again."""
    job = read_job(db, revoking)
    return job.tenant == tenant and job.finished_at is not None


def _begun_revoking(db: Connection, tenant: str) -> list[Job]:
    """The revocations that have taken effect and aren't finished. One that is yet to come isn't among them."""
    query = sa.select(jobs.c.id).where(
        jobs.c.tenant == tenant, jobs.c.kind == "revoke", sa.text(UNFINISHED_JOB)
    )
    unfinished = [read_job(db, each) for each in db.execute(query).scalars().all()]
    return [each for each in unfinished if each.message.not_before is None or each.phase != "queued"]


def _cancel(tx: Transaction, former: Job, why: str, *, actor: str, by: str) -> None:
    """End a job that another one has made pointless, and its claim."""
    tx.db.execute(
        sa.update(jobs)
        .where(jobs.c.id == former.id)
        .values(state="cancelled", held_reason=None, error=why, finished_at=DatabaseTime(), **FENCED_OUT)
    )
    tx.record("job.cancelled", actor=actor, tenant=former.tenant, job=former.id, former=former.state, by=by)
