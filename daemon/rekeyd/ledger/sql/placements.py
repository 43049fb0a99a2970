"""Placements and keys: read with a time that is no later than what was read; changed by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.job import Job
from rekeyd.domain.key import KeyState
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import PlacementRecord, end_pause, in_effect
from rekeyd.ledger.port import JobClaim
from rekeyd.ledger.schema import jobs, keys, moves, passes, placements
from rekeyd.ledger.sql.claims import change_job
from rekeyd.ledger.sql.reading import read_tally
from rekeyd.ledger.sql.terms import read_terms, terms_of
from rekeyd.ledger.sql.transaction import Transaction, database_time

Step = Callable[[PlacementRecord, float], PlacementRecord]

_SETTLED = ("verified", "excluded", "dropped")
"""With every object in one of these states a move is complete."""


def read_placement(db: Connection, tenant: str) -> tuple[PlacementRecord | None, float]:
    """The record, and a time at which it held.

    The time is read first: a change that the record doesn't show was committed after it, so whoever waits one time to
    live from that commit on outwaits everybody who was told this record. (The first SELECT touches no table; SQLite
    takes its snapshot at the second, and PostgreSQL one for each.)
    """
    now = database_time(db)
    return _read(db, tenant), now


def change_placement(tx: Transaction, claim: JobClaim, step: Step) -> PlacementRecord:
    """Take the step from the record as it stands and the time now."""
    change_job(tx.db, claim)
    record = _record_of_move(tx, claim)
    changed = step(record, tx.now())
    _write(tx, record, changed, actor=claim.holder, job=claim.job.id)
    return changed


def switch(tx: Transaction, claim: JobClaim, step: Step) -> PlacementRecord:
    """Take the step to `dedicated` where the ledger's rows allow it."""
    change_job(tx.db, claim)
    record, now = _record_of_move(tx, claim), tx.now()
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
    _write(tx, record, changed, actor=claim.holder, job=claim.job.id)
    return changed


def end_pause_in_force(tx: Transaction, tenant: str, *, actor: str, job: str) -> None:
    """Let the tenant's writers go on, where a pause keeps them from it."""
    record = _read(tx.db, tenant)
    if record is not None:
        _write(tx, record, end_pause(record, tx.now()), actor=actor, job=job)


def set_key_state(tx: Transaction, claim: JobClaim, state: KeyState) -> None:
    """Record the state of the job's key."""
    change_job(tx.db, claim)
    change_key_state(tx, claim, {"pending": state, "active": state, "unavailable": state})


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


def dedicated_to(db: Connection, tenant: str, move_id: int) -> bool:
    """Whether the tenant's data live, for good, where this move leads. Says no more about any other move."""
    found = db.execute(
        sa.select(placements.c.tenant)
        .join(
            moves,
            sa.and_(
                moves.c.tenant == placements.c.tenant,
                moves.c.source == placements.c.source,
                moves.c.target == placements.c.target,
            ),
        )
        .where(
            placements.c.tenant == tenant,
            placements.c.phase == "dedicated",
            moves.c.id == move_id,
        )
    ).first()
    return found is not None


def check_not_dedicated(db: Connection, tenant: str) -> None:
    """Raises ConflictError for a tenant who is `dedicated`: its source isn't listed again, nothing is copied again."""
    phase = db.execute(
        sa.select(placements.c.phase).where(placements.c.tenant == tenant)
    ).scalar_one_or_none()
    if phase == "dedicated":
        raise ConflictError(f"{tenant} is dedicated: nothing more is copied")


def _record_of_move(tx: Transaction, claim: JobClaim) -> PlacementRecord:
    """The tenant's record, heading where the claim's job leads."""
    record = _read(tx.db, claim.job.tenant)
    if record is None:
        raise ConflictError(f"{claim.job.tenant} has no placement")
    heading = (claim.job.source, claim.job.target)
    if record.phase == "dedicated" and (record.source, record.target) != heading:
        raise ConflictError(f"{record.tenant} is dedicated in {record.target}")
    if in_effect(record, tx.now()).phase == "shared":
        return replace(record, source=heading[0], target=heading[1])
    return record


def _read(db: Connection, tenant: str) -> PlacementRecord | None:
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
    )


def _write(
    tx: Transaction, record: PlacementRecord, changed: PlacementRecord, *, actor: str, job: str
) -> None:
    """Compare and set. The epoch grows with every change of phase and never falls."""
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
            key_ref=sa.select(jobs.c.key_ref).where(jobs.c.id == job).scalar_subquery(),
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
