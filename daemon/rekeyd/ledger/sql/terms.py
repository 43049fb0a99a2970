"""The terms under which a move's rows count as verified: against which key the copies were judged, and how.

Rows outlive the job under which they were verified. A job that leads from the same source to the same target with
another key, or that asks for more, takes them over only as far as they hold for it, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.job import Job
from rekeyd.ledger.port import JobClaim
from rekeyd.ledger.schema import moves, objects
from rekeyd.ledger.sql.rows import Tally
from rekeyd.ledger.sql.transaction import Transaction

OTHER_TERMS = "verified under another job's key, or by less than this job asks for: to be carried again"


@dataclass(frozen=True, slots=True)
class Terms:
    """What `verified` says of a copy."""

    key: str
    """The key under which it lies."""
    verify: Literal["checksums", "read_back"]

    def suffice(self, wanted: Terms) -> bool:
        """Whether what was verified under these terms is so under the wanted ones, too."""
        return self.key == wanted.key and wanted.verify in (self.verify, "checksums")


def terms_of(job: Job) -> Terms:
    """Those of a job."""
    return Terms(job.key_ref, job.verify)


def read_terms(db: Connection, move_id: int) -> Terms | None:
    """Those of a move; None before its first pass, when it has no rows."""
    found = db.execute(sa.select(moves.c.terms_key, moves.c.terms_verify).where(moves.c.id == move_id)).one()
    return None if found.terms_key is None else Terms(found.terms_key, found.terms_verify)


def take_terms(tx: Transaction, claim: JobClaim) -> bool:
    """Give the move the terms of the claim's job; gives whether it had others.

    Rows whose verification doesn't hold under them are `stale`. Their copies stay recorded, to be overwritten If-Match.
    """
    move_id = claim.job.move_id
    former, wanted = read_terms(tx.db, move_id), terms_of(claim.job)
    if former == wanted:
        return False
    tx.db.execute(
        sa.update(moves).where(moves.c.id == move_id).values(terms_key=wanted.key, terms_verify=wanted.verify)
    )
    if former is None:
        return False
    count, size = (0, 0) if former.suffice(wanted) else _make_stale(tx, move_id)
    tx.record(
        "terms.changed",
        actor=claim.holder,
        tenant=claim.job.tenant,
        job=claim.job.id,
        key=wanted.key,
        former_key=former.key,
        verify=wanted.verify,
        former_verify=former.verify,
        stale_objects=count,
        stale_bytes=size,
    )
    return True


def _make_stale(tx: Transaction, move_id: int) -> tuple[int, int]:
    """Turn every verified row `stale`, in one statement however many they are; gives their number and bytes."""
    verified = sa.and_(objects.c.move_id == move_id, objects.c.state == "verified")
    count, size = tx.db.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(objects.c.size_bytes), 0)).where(verified)
    ).one()
    tx.db.execute(sa.update(objects).where(verified).values(state="stale", reason=OTHER_TERMS))
    tally = Tally()
    tally.change("verified", -count, -size)
    tally.change("stale", count, size)
    tally.store(tx, move_id)
    return int(count), int(size)
