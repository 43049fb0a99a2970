"""The rows of a move as evidence: read in the order of their keys, some at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.objects import CarryState
from rekeyd.ledger.port import EvidenceRow, JobClaim
from rekeyd.ledger.schema import objects
from rekeyd.ledger.sql.claims import check_job_claim
from rekeyd.ledger.sql.rows import mapping_of, read_rows

_NO_DATA: tuple[CarryState, ...] = ("vanished", "dropped")
"""What the source did not hold when it was switched."""


def evidence_rows(db: Connection, claim: JobClaim, after: str | None, limit: int) -> Sequence[EvidenceRow]:
    """The next rows behind this key."""
    check_job_claim(db, claim)
    return [
        EvidenceRow(row.object, row.reason, row.evidence, row.request_ids)
        for row in read_rows(db, rows_after(claim.job.move_id, after, limit), mapping_of(claim))
    ]


def rows_after(move_id: int, after: str | None, limit: int) -> sa.Select[Any]:
    """A walk along the primary key."""
    query = sa.select(objects).where(objects.c.move_id == move_id, objects.c.state.not_in(_NO_DATA))
    if after is not None:
        query = query.where(objects.c.key > after)
    return query.order_by(objects.c.key).limit(limit)


def known_states(db: Connection, claim: JobClaim, keys: Sequence[str]) -> Mapping[str, CarryState]:
    """The states of the rows with these keys."""
    check_job_claim(db, claim)
    found = db.execute(
        sa.select(objects.c.key, objects.c.state).where(
            objects.c.move_id == claim.job.move_id, objects.c.key.in_(keys)
        )
    )
    return {row.key: row.state for row in found}
