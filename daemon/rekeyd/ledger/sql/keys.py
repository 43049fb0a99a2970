"""Keys as jobs name them: whose they are, and what was wrapped, kept until it is imported and no longer."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.custody import BroughtKey, Offer, noted
from rekeyd.domain.errors import ConflictError, RefusedError
from rekeyd.domain.key import AcceptedKey, CustomerKey, KmsKey, WrappedKey, key_ref
from rekeyd.ledger.port import JobClaim, PendingImport, TenantKey
from rekeyd.ledger.schema import keys
from rekeyd.ledger.sql.claims import change_job
from rekeyd.ledger.sql.transaction import Transaction

WITHDRAWN = ("revoked", "destroyed")
"""Nothing can be written under a key in one of these states."""


def check_key(tx: Transaction, tenant: str, key: CustomerKey) -> None:
    """Raises RefusedError where the tenant's data can't be brought under this key: another's, withdrawn, unknown."""
    ref = key_ref(key)
    known = tx.db.execute(
        sa.select(keys.c.ref, keys.c.tenant, keys.c.state).where(sa.or_(keys.c.ref == ref, keys.c.arn == ref))
    ).all()
    if any(row.tenant != tenant for row in known):
        raise RefusedError("key", "belongs to another tenant")
    withdrawn = [row.state for row in known if row.state in WITHDRAWN]
    if withdrawn:
        raise RefusedError("key", f"is {withdrawn[0]}: nothing can be written under it")
    names = {row.ref for row in known}
    if isinstance(key, AcceptedKey) and ref not in names:
        raise RefusedError(
            "key.ref", "is no key that was accepted here: see `rekeyd key offer` and `key accept`"
        )
    if names - {ref}:
        raise RefusedError("key", f"was brought as {min(names)}: name it as it was brought")


def check_same_material(tx: Transaction, tenant: str, key: CustomerKey) -> None:
    """Raises RefusedError unless the key is one of the tenant's whose material was destroyed, brought once more."""
    if not isinstance(key, WrappedKey):
        raise RefusedError(
            "key.kind",
            "is not wrapped: an accepted key is brought once more by `rekeyd key offer --ref` and `key accept`, and a "
            "key of the tenant's own is its owner's to mend",
        )
    found = tx.db.execute(
        sa.select(keys.c.state).where(keys.c.ref == key_ref(key), keys.c.tenant == tenant)
    ).scalar_one_or_none()
    if found is None:
        raise RefusedError("key", "is none of the tenant's: bring the same material that was destroyed")
    if found != "destroyed":
        raise RefusedError("key", f"is {found}: only what was destroyed has to be brought once more")


def store_key(tx: Transaction, tenant: str, key: CustomerKey) -> None:
    """Enter the key, unless it's there; what is wrapped is kept as long as it isn't imported."""
    now, wrapped = tx.now(), _wrapped_text(key)
    insert = tx.insert(keys).values(
        ref=key_ref(key),
        tenant=tenant,
        kind=key.kind,
        state="pending",
        created_at=now,
        changed_at=now,
        arn=key.arn if isinstance(key, KmsKey) else None,
        alias=key.alias if isinstance(key, KmsKey) else None,
        fingerprint=_fingerprint(key),
        wrapped=wrapped,
    )
    if wrapped is None:
        tx.db.execute(insert.on_conflict_do_nothing())
        return
    lacks_material = sa.or_(keys.c.arn.is_(None), keys.c.state == "destroyed")
    tx.db.execute(
        insert.on_conflict_do_update(
            index_elements=[keys.c.ref], set_={"wrapped": wrapped}, where=lacks_material
        )
    )


def begin_import(tx: Transaction, claim: JobClaim, ref: str) -> PendingImport | None:
    """What is to be imported for the key."""
    change_job(tx.db, claim)
    row = tx.db.execute(
        sa.select(keys.c.wrapped, keys.c.import_begun).where(
            keys.c.ref == ref, keys.c.tenant == claim.job.tenant
        )
    ).one()
    if row.wrapped is None:
        return None
    tx.db.execute(sa.update(keys).where(keys.c.ref == ref).values(import_begun=True))
    return PendingImport(WrappedKey.model_validate_json(row.wrapped), begun_before=row.import_begun)


def record_brought(tx: Transaction, claim: JobClaim, ref: str, brought: BroughtKey) -> None:
    """The key is imported: it has a place, and what was wrapped is forgotten."""
    change_job(tx.db, claim)
    row = tx.db.execute(sa.select(keys).where(keys.c.ref == ref, keys.c.tenant == claim.job.tenant)).one()
    other = tx.db.execute(
        sa.select(keys.c.ref).where(keys.c.arn == brought.arn, keys.c.ref != ref)
    ).scalar_one_or_none()
    if other is not None:
        raise ConflictError(f"{brought.arn} is the place of {other}")
    # Brought once more after a destruction it is withdrawn as before, until the reinstatement says otherwise.
    state = "revoked" if row.state == "destroyed" else row.state
    forget_wrapped(tx, ref)
    tx.db.execute(
        sa.update(keys)
        .where(keys.c.ref == ref)
        .values(arn=brought.arn, alias=brought.alias_arn, state=state, changed_at=tx.now())
    )
    details = {"arn": brought.arn, "fingerprint": brought.fingerprint, "made": brought.made}
    _record(tx, claim, "key.imported", ref, "imported", details | {"requests": noted(brought.requests)})


def refuse_brought(tx: Transaction, claim: JobClaim, ref: str, details: Mapping[str, object]) -> None:
    """What was wrapped can't become a key: it's forgotten, and on record."""
    change_job(tx.db, claim)
    forget_wrapped(tx, ref)
    _record(tx, claim, "key.refused", ref, "refused", details)


def record_offer(tx: Transaction, tenant: str, principal: str, offer: Offer) -> None:
    """A key was prepared for the tenant's material."""
    tx.record(
        "key.offered",
        actor=principal,
        tenant=tenant,
        job=None,
        key=offer.ref,
        expires_at=offer.expires_at,
        requests=noted(offer.requests),
    )


def record_accepted(tx: Transaction, tenant: str, principal: str, brought: BroughtKey) -> TenantKey:
    """The tenant's material is in the key; what was destroyed is withdrawn still, until a reinstatement."""
    row = tx.db.execute(
        sa.select(keys.c.tenant, keys.c.state).where(
            sa.or_(keys.c.ref == brought.arn, keys.c.arn == brought.arn)
        )
    ).one_or_none()
    if row is not None and row.tenant != tenant:
        raise RefusedError("ref", "belongs to another tenant")
    now = tx.now()
    tx.db.execute(
        tx.insert(keys)
        .values(
            ref=brought.arn,
            tenant=tenant,
            kind="accepted",
            state="pending",
            created_at=now,
            changed_at=now,
            arn=brought.arn,
            alias=brought.alias_arn,
            fingerprint=brought.fingerprint,
        )
        .on_conflict_do_nothing()
    )
    tx.record(
        "key.accepted",
        actor=principal,
        tenant=tenant,
        job=None,
        outcome="accepted" if row is None else row.state,
        key=brought.arn,
        fingerprint=brought.fingerprint,
        requests=noted(brought.requests),
    )
    return next(key for key in tenant_keys(tx.db, tenant) if key.arn == brought.arn)


def record_not_accepted(
    tx: Transaction, tenant: str, principal: str, ref: str, details: Mapping[str, object]
) -> None:
    """What was sent for an offer can't be taken."""
    tx.record("key.refused", actor=principal, tenant=tenant, job=None, outcome="refused", key=ref, **details)


def tenant_keys(db: Connection, tenant: str | None = None) -> list[TenantKey]:
    """Keys, the oldest first."""
    query = sa.select(keys).order_by(keys.c.tenant, keys.c.created_at, keys.c.ref)
    if tenant is not None:
        query = query.where(keys.c.tenant == tenant)
    return [
        TenantKey(
            ref=row.ref,
            tenant=row.tenant,
            kind=row.kind,
            state=row.state,
            former_state=row.former_state,
            arn=row.arn,
            alias=row.alias,
            created_at=row.created_at,
            changed_at=row.changed_at,
            fingerprint=row.fingerprint,
            material_id=row.material_id,
        )
        for row in db.execute(query)
    ]


def forget_wrapped(tx: Transaction, ref: str) -> None:
    """Keep what was wrapped no longer."""
    tx.db.execute(sa.update(keys).where(keys.c.ref == ref).values(wrapped=None, import_begun=False))


def _record(
    tx: Transaction, claim: JobClaim, action: str, ref: str, outcome: str, details: Mapping[str, object]
) -> None:
    job = claim.job
    tx.record(action, actor=claim.holder, tenant=job.tenant, job=job.id, outcome=outcome, key=ref, **details)


def _fingerprint(key: CustomerKey) -> str | None:
    return key.fingerprint if isinstance(key, WrappedKey) else None


def _wrapped_text(key: CustomerKey) -> str | None:
    return key.model_dump_json(exclude_none=True) if isinstance(key, WrappedKey) else None
