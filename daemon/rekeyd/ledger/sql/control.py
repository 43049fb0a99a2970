"""The control object as the ledger knows it: proposed with the audit heads of that moment, and confirmed.

What is proposed is kept word for word, so that a later process writes the same, and knows it when it reads it.
"""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.control import AuditHeads, ControlDocument, KnownControl
from rekeyd.domain.errors import ConflictError
from rekeyd.domain.job import Job
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import PlacementRecord, return_epoch
from rekeyd.ledger.port import JobClaim, TenantMove
from rekeyd.ledger.schema import audit, moves
from rekeyd.ledger.sql.claims import check_job_claim
from rekeyd.ledger.sql.transaction import Transaction, heads


def propose(
    tx: Transaction, claim: JobClaim, phase: Literal["paused", "dedicated"], epoch: int
) -> ControlDocument:
    """Propose what the control object in the move's target is to say."""
    job = claim.job
    returns = return_epoch(epoch) if phase == "paused" else None
    tx.record(
        "placement.proposed",
        actor=claim.holder,
        tenant=job.tenant,
        job=job.id,
        outcome=phase,
        epoch=epoch,
        returns_epoch=returns,
        target=str(job.target),
    )
    document = ControlDocument(
        tenant=job.tenant,
        source=str(job.source),
        target=str(job.target),
        phase=phase,
        epoch=epoch,
        returns_epoch=returns,
        audit_heads=heads(tx.db),
    )
    tx.db.execute(sa.update(moves).where(moves.c.id == job.move_id).values(proposed_control=document.text()))
    return document


def outstanding(
    db: Connection, job: Job, record: PlacementRecord, epoch_in_effect: int
) -> ControlDocument | None:
    """The pause that was proposed for the job's move and hasn't begun.

    One for another move makes it void: its epoch is the highest then.
    """
    proposed = known_control_of(db, job.move_id).proposed
    if proposed is None or not epoch_in_effect < proposed.epoch == record.proposed_epoch:
        return None
    return proposed


def confirm(tx: Transaction, job: Job, epoch: int) -> None:
    """The epoch takes effect: the control object says it. Raises ConflictError unless it was proposed for the move."""
    proposed = known_control_of(tx.db, job.move_id).proposed
    if proposed is None or proposed.epoch != epoch:
        raise ConflictError(f"{job.tenant}: the epoch {epoch} was not proposed for this move")
    tx.db.execute(sa.update(moves).where(moves.c.id == job.move_id).values(control_epoch=epoch))


def known_control(db: Connection, claim: JobClaim) -> KnownControl:
    """What is known of the control object in the target of the claim's move."""
    check_job_claim(db, claim)
    return known_control_of(db, claim.job.move_id)


def tenant_moves(db: Connection, after: str, tenants_max: int) -> list[TenantMove]:
    """The moves of the next tenants, by tenant."""
    tenants = (
        sa.select(moves.c.tenant).where(moves.c.tenant > after).distinct().order_by(moves.c.tenant)
    ).limit(tenants_max)
    found = db.execute(
        sa.select(moves).where(moves.c.tenant.in_(tenants)).order_by(moves.c.tenant, moves.c.id)
    )
    return [
        TenantMove(row.id, row.tenant, Location.parse(row.source), Location.parse(row.target))
        for row in found
    ]


def knows_heads(db: Connection, heads_there: AuditHeads) -> bool:
    """Whether the audit trail has each of these records."""
    return all(
        db.execute(
            sa.select(audit.c.hash).where(audit.c.chain == chain, audit.c.sequence == sequence)
        ).scalar_one_or_none()
        == record_hash
        for chain, (sequence, record_hash) in heads_there.items()
    )


def known_control_of(db: Connection, move_id: int) -> KnownControl:
    """What is known of the control object in this move's target."""
    query = sa.select(moves.c.proposed_control, moves.c.control_epoch).where(moves.c.id == move_id)
    row = db.execute(query).one()
    text = row.proposed_control
    return KnownControl(None if text is None else ControlDocument.parse(text), row.control_epoch)
