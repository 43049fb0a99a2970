"""Rotating: admitted with a move of its own, the placement redirected, the former key archived."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from rekeyd.domain.errors import ConflictError, RefusedError
from rekeyd.domain.job import RotateMessage
from rekeyd.domain.key import key_ref
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import PlacementRecord, rekey
from rekeyd.ledger.port import Admission, JobClaim
from rekeyd.ledger.schema import keys, moves
from rekeyd.ledger.sql.arrivals import Arrival, is_known, refused, store_job
from rekeyd.ledger.sql.claims import change_job
from rekeyd.ledger.sql.keys import check_key, store_key
from rekeyd.ledger.sql.placements import read_record, write_record
from rekeyd.ledger.sql.reading import read_job
from rekeyd.ledger.sql.transaction import Refusal, Transaction

_ROTATED_TO = ("pending", "active", "unavailable", "archived")
"""A key in one of these states may become the one under which data are written."""


def admit_rotation(tx: Transaction, arrival: Arrival, message: RotateMessage) -> Admission | Refusal:
    """Store a rotation, its key and its move, unless it is known already."""
    try:
        if is_known(tx, arrival):
            return Admission(read_job(tx.db, message.id), created=False)
        record = _dedicated(tx, message.tenant)
        if message.key is not None:
            check_key(tx, message.tenant, message.key)
    except (ConflictError, RefusedError) as error:
        return refused(tx, arrival, error)
    assert record.key_ref is not None, "a dedicated tenant has a key"
    if message.key is not None:
        store_key(tx, message.tenant, message.key)
    store_job(
        tx,
        arrival,
        move_id=_move_id(tx, record),
        key_ref=record.key_ref if message.key is None else key_ref(message.key),
        grace_seconds=0,
        details={"former_key": record.key_ref, "target": str(record.target)},
    )
    return Admission(read_job(tx.db, message.id), created=True)


def redirect_key(tx: Transaction, claim: JobClaim) -> PlacementRecord:
    """Lead the placement to the job's key."""
    change_job(tx.db, claim)
    job = claim.job
    record = read_record(tx.db, job.tenant)
    if record is None or record.target is None or not _is_here(record.target, job.target):
        raise ConflictError(f"{job.tenant} isn't dedicated in {job.target.bucket}")
    changed = rekey(record, job.key_ref)
    write_record(tx, record, changed, actor=claim.holder, job=job.id)
    # What was proven is this alias: it is what is watched from now on.
    tx.db.execute(sa.update(keys).where(keys.c.ref == job.key_ref).values(alias=job.named_key.alias))
    details = {"former_key": record.key_ref, "alias": job.named_key.alias}
    _change_key_state(tx, claim, job.key_ref, "active", details)
    return changed


def archive_key(tx: Transaction, claim: JobClaim, ref: str, details: Mapping[str, object]) -> None:
    """Put a former key away."""
    change_job(tx.db, claim)
    record = read_record(tx.db, claim.job.tenant)
    if record is None or record.key_ref == ref:
        raise ConflictError(f"{ref} is the key to which the placement leads")
    _change_key_state(tx, claim, ref, "archived", details)


def observe_material(tx: Transaction, ref: str, material_id: str, actor: str) -> None:
    """Record what a key's provider encrypts with now, whoever looked."""
    key = tx.db.execute(sa.select(keys).where(keys.c.ref == ref)).one_or_none()
    if key is None or key.material_id == material_id:
        return
    tx.db.execute(sa.update(keys).where(keys.c.ref == ref).values(material_id=material_id))
    tx.record(
        "key.material",
        actor=actor,
        tenant=key.tenant,
        job=None,
        outcome=material_id,
        former=key.material_id,
        key=ref,
    )


def _dedicated(tx: Transaction, tenant: str) -> PlacementRecord:
    record = read_record(tx.db, tenant)
    if record is None or record.key_ref is None:
        raise RefusedError("tenant", "has no key here")
    if record.phase == "revoked":
        raise RefusedError("tenant", f"is revoked by {record.revoked_by}: reinstate that first")
    if record.phase != "dedicated":
        raise RefusedError("tenant", f"is {record.phase}: only a dedicated one's key can be rotated")
    return record


def _move_id(tx: Transaction, record: PlacementRecord) -> int:
    """The move from the dedicated bucket to itself: all of the bucket, rekeyd's own objects included.

    Its canary is the one that stands there.
    """
    assert record.target is not None, "dedicated without a target"
    place = str(Location(record.target.store, record.target.bucket, ""))
    token = tx.db.execute(
        sa.select(moves.c.canary).where(
            moves.c.tenant == record.tenant,
            moves.c.source == str(record.source),
            moves.c.target == str(record.target),
        )
    ).scalar_one()
    names = {"tenant": record.tenant, "source": place, "target": place}
    tx.db.execute(tx.insert(moves).values(**names, canary=token).on_conflict_do_nothing())
    found = tx.db.execute(
        sa.select(moves.c.id).where(*(moves.c[name] == value for name, value in names.items()))
    ).scalar_one()
    return int(found)


def _is_here(placed: Location, place: Location) -> bool:
    return (placed.store, placed.bucket) == (place.store, place.bucket)


def _change_key_state(
    tx: Transaction, claim: JobClaim, ref: str, state: str, details: Mapping[str, object]
) -> None:
    tenant = claim.job.tenant
    former = tx.db.execute(
        sa.select(keys.c.state).where(keys.c.ref == ref, keys.c.tenant == tenant)
    ).scalar_one()
    if former == state:
        return
    if former not in _ROTATED_TO:
        raise ConflictError(f"{ref} is {former}")
    tx.db.execute(sa.update(keys).where(keys.c.ref == ref).values(state=state, changed_at=tx.now()))
    tx.record(
        "key.state",
        actor=claim.holder,
        tenant=tenant,
        job=claim.job.id,
        outcome=state,
        former=former,
        key=ref,
        **details,
    )
