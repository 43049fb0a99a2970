"""Archived keys that are destroyed on request: whether one may be, and that it is."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from rekeyd.domain.errors import ConflictError, RefusedError
from rekeyd.ledger.port import TenantKey
from rekeyd.ledger.schema import UNFINISHED_JOB, jobs, keys
from rekeyd.ledger.sql.keys import tenant_keys
from rekeyd.ledger.sql.placements import read_record
from rekeyd.ledger.sql.transaction import Transaction


def destroy_key(
    tx: Transaction, tenant: str, principal: str, ref: str, proof: Mapping[str, object]
) -> TenantKey:
    """Mark it, unless anything needs it."""
    key = _of_tenant(tx, tenant, ref)
    if key.kind == "kms":
        raise RefusedError("REF", "is the tenant's own: its owner deletes it, in its own account")
    destroyed = key.state == "destroyed" and key.former_state == "archived"
    if key.state != "archived" and not destroyed:
        raise ConflictError(
            f"{ref} is {key.state}: only an archived key is destroyed (rotate to another one first)"
        )
    record = read_record(tx.db, tenant)
    if record is None or record.phase != "dedicated":
        raise ConflictError(f"{tenant} is {record.phase if record else 'not placed'}, not dedicated")
    naming = sa.select(jobs.c.id).where(
        jobs.c.tenant == tenant, jobs.c.key_ref == ref, sa.text(UNFINISHED_JOB)
    )
    job = tx.db.execute(naming.order_by(jobs.c.created_at).limit(1)).scalar_one_or_none()
    if job is not None:
        raise ConflictError(f"{ref} is the key of {job}, which isn't finished")
    if destroyed:
        return key
    tx.db.execute(
        sa.update(keys)
        .where(keys.c.ref == ref)
        .values(state="destroyed", former_state="archived", changed_at=tx.now())
    )
    tx.record(
        "key.state",
        actor=principal,
        tenant=tenant,
        job=None,
        outcome="destroyed",
        former=key.state,
        key=ref,
        proof=dict(proof),
    )
    return _of_tenant(tx, tenant, ref)


def record_key(
    tx: Transaction, action: str, tenant: str, principal: str, ref: str, details: Mapping[str, object]
) -> None:
    """Only the record."""
    tx.record(action, actor=principal, tenant=tenant, job=None, key=ref, **details)


def _of_tenant(tx: Transaction, tenant: str, ref: str) -> TenantKey:
    for key in tenant_keys(tx.db, tenant):
        if key.ref == ref:
            return key
    # Whose it is else, if anybody's: a tenant learns nothing about other tenants.
    raise RefusedError("REF", f"is no key of {tenant}: see `rekeyd key list {tenant}`")
