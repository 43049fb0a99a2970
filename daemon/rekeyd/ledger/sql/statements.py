"""Signed statements in the ledger: the certificates of jobs, the checkpoints of the audit trail."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.ledger.port import Checkpoint, JobClaim
from rekeyd.ledger.schema import DatabaseTime, certificates, checkpoints
from rekeyd.ledger.sql.claims import change_job
from rekeyd.ledger.sql.reading import read_job
from rekeyd.ledger.sql.transaction import Transaction


def record_certificate(tx: Transaction, claim: JobClaim, text: str) -> str:
    """Keep it, unless there is one; gives what is kept."""
    change_job(tx.db, claim)
    job = claim.job
    kept = certificate(tx.db, job.id)
    if kept is not None:
        return kept
    tx.db.execute(
        sa.insert(certificates).values(
            job_id=job.id, tenant=job.tenant, recorded_at=DatabaseTime(), text=text
        )
    )
    tx.record("certificate.issued", actor=claim.holder, tenant=job.tenant, job=job.id, sha256=_sha256(text))
    return text


def certificate(db: Connection, job_id: str) -> str | None:
    """That of a job. Raises UnknownJobError."""
    query = sa.select(certificates.c.text).where(certificates.c.job_id == job_id)
    found: str | None = db.execute(query).scalar_one_or_none()
    if found is None:
        read_job(db, job_id)
    return found


def tenant_certificates(db: Connection, tenant: str, limit: int) -> Sequence[str]:
    """Those that were recorded last, the oldest of them first."""
    found = db.execute(
        sa.select(certificates.c.text)
        .where(certificates.c.tenant == tenant)
        .order_by(certificates.c.recorded_at.desc(), certificates.c.job_id.desc())
        .limit(limit)
    ).scalars()
    return list(found)[::-1]


def record_checkpoint(tx: Transaction, checkpoint: Checkpoint, actor: str) -> bool:
    """Keep it where its number is the next one."""
    last = last_checkpoint(tx.db)
    if checkpoint.number != (0 if last is None else last.number) + 1:
        return False
    tx.db.execute(
        sa.insert(checkpoints).values(
            number=checkpoint.number, recorded_at=DatabaseTime(), text=checkpoint.text
        )
    )
    tx.record(
        "audit.checkpoint",
        actor=actor,
        tenant=None,
        job=None,
        number=checkpoint.number,
        sha256=_sha256(checkpoint.text),
    )
    return True


def last_checkpoint(db: Connection) -> Checkpoint | None:
    """The one with the highest number."""
    found = _read(db, _checkpoints().order_by(checkpoints.c.number.desc()).limit(1))
    return found[0] if found else None


def checkpoints_after(db: Connection, after: int, limit: int) -> Sequence[Checkpoint]:
    """In order."""
    behind = _checkpoints().where(checkpoints.c.number > after)
    return _read(db, behind.order_by(checkpoints.c.number).limit(limit))


def unwritten_checkpoints(db: Connection, limit: int) -> Sequence[Checkpoint]:
    """Likewise."""
    unwritten = _checkpoints().where(checkpoints.c.written.is_(False))
    return _read(db, unwritten.order_by(checkpoints.c.number).limit(limit))


def note_written(tx: Transaction, number: int) -> None:
    """It stands elsewhere, too."""
    tx.db.execute(sa.update(checkpoints).where(checkpoints.c.number == number).values(written=True))


def _checkpoints() -> sa.Select[Any]:
    return sa.select(checkpoints.c.number, checkpoints.c.text)


def _read(db: Connection, query: sa.Select[Any]) -> list[Checkpoint]:
    return [Checkpoint(row.number, row.text) for row in db.execute(query)]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
