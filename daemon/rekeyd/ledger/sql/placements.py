"""Placements and keys: read with a time that is no later than what was read; changed by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.control import ControlDocument
from rekeyd.domain.errors import ConflictError
from rekeyd.domain.job import Job
from rekeyd.domain.key import KeyState
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import PlacementRecord, end_pause, in_effect, next_pause_epoch, open_writes
from rekeyd.ledger.port import JobClaim
from rekeyd.ledger.schema import jobs, keys, moves, passes, placements
from rekeyd.ledger.sql.claims import change_job
from rekeyd.ledger.sql.control import confirm, outstanding, propose
from rekeyd.ledger.sql.reading import read_tally
from rekeyd.ledger.sql.terms import read_terms, terms_of
from rekeyd.ledger.sql.transaction import Transaction, database_time

Step = Callable[[PlacementRecord, float], PlacementRecord]

DEADLINE = "the pause's deadline"
"""Who ended it, in the audit trail, where nobody did."""

_SETTLED = ("verified", "excluded", "dropped")
"""With every object in one of these states a move is complete."""


def read_placement(db: Connection, tenant: str) -> tuple[PlacementRecord | None, float]:
    """The record, and a time at which it held.

    The time is read first: a change that the record doesn't show was committed after it, so whoever waits one time to
    live from that commit on outwaits everybody who was told this record. (The first SELECT touches no table; SQLite
    takes its snapshot at the second, and PostgreSQL one for each.)
    """
    now = database_time(db)
    return read_record(db, tenant), now


def return_by_deadline(tx: Transaction, tenant: str) -> tuple[PlacementRecord | None, float]:
    """End the tenant's pause if its deadline has passed; gives the record as it is then, and a time before it.

    Under the write lock: a switch out of that pause was committed before, or finds the pause ended.
    """
    now = tx.now()
    record = read_record(tx.db, tenant)
    if record is None:
        return None, now
    returned = in_effect(record, now)
    write_record(tx, record, returned, actor=DEADLINE, job=None)
    return returned, now


def propose_pause(tx: Transaction, claim: JobClaim) -> ControlDocument:
    """Propose the next pause, or give the one that was proposed and hasn't begun."""
    change_job(tx.db, claim)
    record, now = record_of_move(tx, claim), tx.now()
    if record.phase == "dedicated":
        raise ConflictError(f"{record.tenant} is dedicated: it isn't paused any more")
    waiting = outstanding(tx.db, claim.job, record, end_pause(record, now).epoch)
    if waiting is not None:
        return waiting
    epoch = next_pause_epoch(record, now)
    tx.db.execute(
        sa.update(placements).where(placements.c.tenant == record.tenant).values(proposed_epoch=epoch)
    )
    return propose(tx, claim, "paused", epoch)


def change_placement(tx: Transaction, claim: JobClaim, step: Step) -> PlacementRecord:
    """Take the step from the record as it stands and the time now."""
    change_job(tx.db, claim)
    record = record_of_move(tx, claim)
    changed = step(record, tx.now())
    begins = changed.phase == "paused" and changed.epoch != record.epoch
    if begins:
        confirm(tx, claim.job, changed.epoch)
    write_record(tx, record, changed, actor=claim.holder, job=claim.job.id)
    return changed


def switch(tx: Transaction, claim: JobClaim, step: Step) -> PlacementRecord:
    """Take the step to `dedicated` where the ledger's rows allow it."""
    change_job(tx.db, claim)
    record, now = record_of_move(tx, claim), tx.now()
    if record.phase == "dedicated":
        return record  # the answer to the call that did it was lost
    if read_terms(tx.db, claim.job.move_id) != terms_of(claim.job):
        raise ConflictError(
            f"{record.tenant}: what is verified is so under another job's key, or other terms"
        )
    _check_complete(tx.db, claim, in_effect(record, now))
    changed = step(record, now)
    if changed.phase != "dedicated" or changed.target != claim.job.target:
        raise ConflictError(f"{record.tenant}: the step leads to {changed.phase} in {changed.target}")
    write_record(tx, record, changed, actor=claim.holder, job=claim.job.id)
    propose(tx, claim, "dedicated", changed.epoch)
    return changed


def open_target(tx: Transaction, claim: JobClaim, ttl_seconds: float) -> PlacementRecord:
    """Have writing begin one time to live from now. `dedicated` was committed by an earlier transaction."""
    change_job(tx.db, claim)
    record = record_of_move(tx, claim)
    opened = open_writes(record, tx.now(), ttl_seconds)
    if opened != record:
        confirm(tx, claim.job, opened.epoch)
        write_record(tx, record, opened, actor=claim.holder, job=claim.job.id)
    return opened


def end_pause_in_force(tx: Transaction, tenant: str, *, actor: str, job: str) -> None:
    """Let the tenant's writers go on, where a pause keeps them from it."""
    record = read_record(tx.db, tenant)
    if record is not None:
        write_record(tx, record, end_pause(record, tx.now()), actor=actor, job=job)


def set_distrusted_by(tx: Transaction, claim: JobClaim, reason: str | None) -> None:
    """`set_distrusted` for the tenant of a job that is worked on."""
    change_job(tx.db, claim)
    set_distrusted(tx, claim.job.tenant, reason, claim.holder, claim.job.id)


def set_distrusted(
    tx: Transaction, tenant: str, reason: str | None, actor: str, job: str | None = None
) -> None:
    """Have the tenant's placement not be served, for this reason; or, with none, be served again."""
    record = read_record(tx.db, tenant)
    if record is None or record.distrusted == reason:
        return
    tx.db.execute(sa.update(placements).where(placements.c.tenant == tenant).values(distrusted=reason))
    tx.record(
        "placement.trusted" if reason is None else "placement.distrusted",
        actor=actor,
        tenant=tenant,
        job=job,
        epoch=record.epoch,
        reason=reason,
    )


def awaits_opening(db: Connection, job: Job) -> bool:
    """Whether the job's tenant is dedicated by it, and its writers still wait for the switch to end."""
    record = read_record(db, job.tenant)
    return record is not None and record.writes_from is None and dedicated_by(db, job)


def is_revoked(db: Connection, tenant: str) -> bool:
    """Whether the tenant has withdrawn its keys."""
    record = read_record(db, tenant)
    return record is not None and record.phase == "revoked"


def set_key_state(tx: Transaction, claim: JobClaim, state: KeyState) -> None:
    """Record the state of the job's key."""
    change_job(tx.db, claim)
    change_key_state(tx, claim, {"pending": state, "active": state, "unavailable": state})


def observe_key(tx: Transaction, ref: str, state: KeyState, reason: str, actor: str) -> bool:
    """Record how a key was found, whoever looked."""
    key = tx.db.execute(sa.select(keys).where(keys.c.ref == ref)).one_or_none()
    if key is None or key.state == state or {key.state, state} != {"active", "unavailable"}:
        return False
    tx.db.execute(sa.update(keys).where(keys.c.ref == ref).values(state=state, changed_at=tx.now()))
    tx.record(
        "key.state",
        actor=actor,
        tenant=key.tenant,
        job=None,
        outcome=state,
        former=key.state,
        key=ref,
        reason=reason or None,
    )
    return True


def keep_canary(tx: Transaction, claim: JobClaim, token: str) -> str:
    """Record the canary's token, unless one is recorded; gives the one that is."""
    change_job(tx.db, claim)
    tx.db.execute(
        sa.update(moves).where(moves.c.id == claim.job.move_id, moves.c.canary.is_(None)).values(canary=token)
    )
    kept = canary(tx.db, claim.job)
    assert kept is not None, "a token that was just recorded"
    return kept


def canary(db: Connection, job: Job) -> str | None:
    """The canary's token."""
    token: str | None = db.execute(sa.select(moves.c.canary).where(moves.c.id == job.move_id)).scalar_one()
    return token


def change_key_state(tx: Transaction, claim: JobClaim, changes: Mapping[KeyState, KeyState]) -> None:
    """Change the state of the job's key, where the one that it has is to be changed at all."""
    ref, former = tx.db.execute(
        sa.select(keys.c.ref, keys.c.state)
        .join(jobs, jobs.c.key_ref == keys.c.ref)
        .where(jobs.c.id == claim.job.id)
    ).one()
    state = changes.get(former, former)
    if former == state:
        return
    tx.db.execute(sa.update(keys).where(keys.c.ref == ref).values(state=state, changed_at=tx.now()))
    tx.record(
        "key.state",
        actor=claim.holder,
        tenant=claim.job.tenant,
        job=claim.job.id,
        outcome=state,
        former=former,
        key=ref,
    )


def dedicated_by(db: Connection, job: Job) -> bool:
    """Whether the tenant's data live, for good, where the job's move leads, and under its key.

    Says no more about any other move, nor about a job with another key: what is verified is so under the one that the
    placement names.
    """
    record = read_record(db, job.tenant)
    if record is None or record.phase != "dedicated":
        return False
    return (record.source, record.target, record.key_ref) == (job.source, job.target, job.key_ref)


def check_may_list(db: Connection, job: Job) -> None:
    """Raises ConflictError where the job's passes have nothing to do.

    A migration's for a tenant who is `dedicated`: its source isn't listed again, nothing is copied again. A rotation's
    unless it is, in this place and by now under the job's key.
    """
    record = read_record(db, job.tenant)
    phase = None if record is None else record.phase
    if job.in_place:
        if not rekeyed_by(record, job):
            raise ConflictError(f"{job.tenant} is {phase}: its placement doesn't lead to {job.key_ref} here")
    elif phase in ("dedicated", "revoked"):
        raise ConflictError(f"{job.tenant} is {phase}: nothing more is copied")


def rekeyed_by(record: PlacementRecord | None, job: Job) -> bool:
    """Whether the tenant is dedicated where this rotation is at work, and its placement leads to the job's key."""
    if record is None or record.phase != "dedicated" or record.target is None:
        return False
    bucket = (record.target.store, record.target.bucket)
    return (*bucket, record.key_ref) == (job.target.store, job.target.bucket, job.key_ref)


def record_of_move(tx: Transaction, claim: JobClaim) -> PlacementRecord:
    """The tenant's record, heading where the claim's job leads.

    Raises ConflictError where it is dedicated elsewhere, or under another key.
    """
    job = claim.job
    record = read_record(tx.db, job.tenant)
    if record is None:
        raise ConflictError(f"{job.tenant} has no placement")
    if record.phase == "revoked":
        raise ConflictError(f"{job.tenant} is revoked by {record.revoked_by}")
    if record.phase == "dedicated":
        if not dedicated_by(tx.db, job):
            raise ConflictError(f"{job.tenant} is dedicated in {record.target} under {record.key_ref}")
        return record
    key_ref = job.key_ref
    key_state = tx.db.execute(sa.select(keys.c.state).where(keys.c.ref == key_ref)).scalar_one()
    record = replace(record, key_ref=key_ref, key_state=key_state)
    if in_effect(record, tx.now()).phase == "shared":
        return replace(record, source=job.source, target=job.target)
    return record


def read_record(db: Connection, tenant: str) -> PlacementRecord | None:
    """The tenant's record as it is stored."""
    row = db.execute(
        sa.select(placements, keys.c.state)
        .outerjoin(keys, keys.c.ref == placements.c.key_ref)
        .where(placements.c.tenant == tenant)
    ).one_or_none()
    if row is None:
        return None
    return PlacementRecord(
        tenant=row.tenant,
        source=Location.parse(row.source),
        target=None if row.target is None else Location.parse(row.target),
        phase=row.phase,
        epoch=row.epoch,
        key_state=row.state,
        pause_ends_at=row.pause_ends_at,
        writes_from=row.writes_from,
        proposed_epoch=row.proposed_epoch,
        key_ref=row.key_ref,
        revoked_from=row.revoked_from,
        revoked_by=row.revoked_by,
        distrusted=row.distrusted,
    )


def write_record(
    tx: Transaction, record: PlacementRecord, changed: PlacementRecord, *, actor: str, job: str | None
) -> None:
    """Compare and set, on record. The epoch grows with every change of phase and never falls."""
    if changed == record:
        return
    if changed.epoch < record.epoch or (changed.phase != record.phase and changed.epoch == record.epoch):
        raise ConflictError(f"{record.tenant}: epoch {changed.epoch} does not follow {record.epoch}")
    stored = tx.db.execute(
        sa.update(placements)
        .where(placements.c.tenant == record.tenant, placements.c.epoch == record.epoch)
        .values(
            source=str(changed.source),
            target=None if changed.target is None else str(changed.target),
            phase=changed.phase,
            epoch=changed.epoch,
            pause_ends_at=changed.pause_ends_at,
            writes_from=changed.writes_from,
            proposed_epoch=changed.proposed_epoch,
            key_ref=changed.key_ref,
            revoked_from=changed.revoked_from,
            revoked_by=changed.revoked_by,
        )
    )
    if stored.rowcount != 1:
        raise ConflictError(f"{record.tenant}: the placement was changed meanwhile")
    tx.record(
        "placement.changed",
        actor=actor,
        tenant=record.tenant,
        job=job,
        outcome=changed.phase,
        former=record.phase,
        epoch=changed.epoch,
        target=None if changed.target is None else str(changed.target),
        pause_ends_at=changed.pause_ends_at,
        writes_from=changed.writes_from,
    )


def _check_complete(db: Connection, claim: JobClaim, record: PlacementRecord) -> None:
    if record.phase != "paused":
        raise ConflictError(f"{record.tenant} is {record.phase}, not paused")
    latest = db.execute(
        sa.select(passes)
        .where(passes.c.move_id == claim.job.move_id)
        .order_by(passes.c.number.desc())
        .limit(1)
    ).one_or_none()
    if latest is None or latest.pause_epoch != record.epoch:
        raise ConflictError(f"no pass was made in the pause {record.epoch}")
    if not latest.listed:
        raise ConflictError(f"the pass {latest.number} has not listed the source to its end")
    open_segments = db.execute(
        sa.select(moves.c.open_segments).where(moves.c.id == claim.job.move_id)
    ).scalar_one()
    if open_segments:
        raise ConflictError(f"{open_segments} segments are open")
    unsettled = {
        state: count
        for state, (count, _) in read_tally(db, claim.job.move_id).items()
        if count and state not in _SETTLED
    }
    if unsettled:
        raise ConflictError(f"objects are neither verified nor excluded: {unsettled}")
