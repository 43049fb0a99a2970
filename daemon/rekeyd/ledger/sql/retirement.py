"""Retirement: which source versions may be deleted, and the record that they are about to be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import sqlalchemy as sa

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.ledger.port import SEGMENT_OBJECTS_MAX, JobClaim, SegmentClaim
from rekeyd.ledger.rows import WORKED_ON, Weight
from rekeyd.ledger.schema import moves, objects
from rekeyd.ledger.sql.claims import change_job, change_segment
from rekeyd.ledger.sql.cutting import assign
from rekeyd.ledger.sql.placements import dedicated_by
from rekeyd.ledger.sql.rows import mark_retiring, rows_named, version_digest_row
from rekeyd.ledger.sql.transaction import Transaction, digest

RETIREMENTS_PLANNED_MAX = 8
"""So many retire segments are open at once: planning stays a short transaction however large the move is."""


def record_intents(
    tx: Transaction, claim: SegmentClaim, sources: Sequence[ObjectVersion]
) -> Sequence[ObjectVersion]:
    """Mark rows `retiring` whose source versions may be deleted, and give these versions."""
    if claim.stage != "retire":
        raise ValueError(f"a {claim.stage} segment deletes no source")
    change_segment(tx.db, claim)
    if not dedicated_by(tx.db, claim.job):
        return []
    rows = rows_named(tx.db, claim, sources)
    allowed = [
        version
        for version in dict.fromkeys(sources)
        if (row := rows.get(version.key)) is not None
        and row.object.source == version
        and row.state in WORKED_ON["retire"]
    ]
    intended = [rows[version.key] for version in allowed if rows[version.key].state == "verified"]
    mark_retiring(tx, claim, intended)
    if allowed:
        tx.record(
            "source.delete_intended",
            actor=claim.holder,
            tenant=claim.job.tenant,
            job=claim.job.id,
            segment=claim.segment_id,
            objects=len(allowed),
            bytes=sum(version.history_bytes for version in allowed),
            sha256=digest([version_digest_row(version) for version in allowed]),
        )
    return allowed


def plan_retirement(tx: Transaction, claim: JobClaim) -> int:
    """Keep some retire segments open, RETIREMENTS_PLANNED_MAX at most; gives how many are.

    0 only when every verified object has been in one that is done.
    """
    change_job(tx.db, claim)
    move_id = claim.job.move_id
    if not dedicated_by(tx.db, claim.job):
        raise ConflictError(
            f"{claim.job.tenant} isn't dedicated by this move under its key: nothing may be retired"
        )
    move = tx.db.execute(sa.select(moves).where(moves.c.id == move_id)).one()
    if move.retire_planned or move.open_retirements > RETIREMENTS_PLANNED_MAX // 2:
        return int(move.open_retirements)
    limit = (RETIREMENTS_PLANNED_MAX - move.open_retirements) * SEGMENT_OBJECTS_MAX
    last = _plan(tx, move_id, move.retire_after, limit)
    tx.db.execute(
        sa.update(moves)
        .where(moves.c.id == move_id)
        .values(retire_after=last or move.retire_after, retire_planned=last is None)
    )
    planned: int = tx.db.execute(
        sa.select(moves.c.open_retirements).where(moves.c.id == move_id)
    ).scalar_one()
    return planned


def _plan(tx: Transaction, move_id: int, after: str | None, limit: int) -> str | None:
    """Put the next verified objects into segments; gives the last one's key, None where there is none left."""
    verified = [objects.c.move_id == move_id, objects.c.state == "verified", objects.c.segment_id.is_(None)]
    if after is not None:
        verified.append(objects.c.key > after)
    found = tx.db.execute(
        sa.select(objects.c.key, objects.c.versions, objects.c.size_bytes)
        .where(*verified)
        .order_by(objects.c.key)
        .limit(limit)
    ).all()
    ids = assign(tx, move_id, "retire", None, [Weight(row.versions, row.size_bytes) for row in found])
    for segment_id, members in groupby(zip(ids, found, strict=True), key=lambda pair: pair[0]):
        keys = [row.key for _, row in members]
        tx.db.execute(
            sa.update(objects)
            .where(*verified, objects.c.key >= keys[0], objects.c.key <= keys[-1])
            .values(segment_id=segment_id)
        )
    return found[-1].key if found else None
