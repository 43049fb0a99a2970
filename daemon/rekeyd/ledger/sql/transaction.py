"""One transaction of the ledger: the connection, and what every change needs with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from rekeyd.domain.audit import GENESIS, AuditRecord, canonical_json, seal
from rekeyd.domain.errors import RekeydError
from rekeyd.domain.job import utc_timestamp
from rekeyd.ledger.schema import DatabaseTime, audit

INSERTS: Mapping[str, Callable[[sa.Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
"""ON CONFLICT is written the same way for both, but is no part of SQLAlchemy's core."""


class Refusal:
    """A result that is raised only once the transaction that records it is committed."""

    def __init__(self, error: RekeydError) -> None:
        self.error = error


@dataclass(frozen=True, slots=True)
class Transaction:
    """A write transaction under way, or a part of one that can be undone alone."""

    db: Connection
    chain: str
    recorded: list[str] = field(default_factory=list)
    """The actions that it has appended to the audit trail."""

    def now(self) -> float:
        """The database's time."""
        return database_time(self.db)

    def insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT of this database's own kind, which knows ON CONFLICT."""
        return INSERTS[self.db.dialect.name](table)

    def record(
        self,
        action: str,
        *,
        actor: str,
        tenant: str | None,
        job: str | None,
        **details: object,
    ) -> None:
        """Append to the audit trail: who did what to whom, when. Details that are None are left out."""
        head = self.db.execute(
            sa.select(audit.c.sequence, audit.c.hash)
            .where(audit.c.chain == self.chain)
            .order_by(audit.c.sequence.desc())
            .limit(1)
        ).first()
        sequence, previous_hash = (head.sequence, head.hash) if head else (0, GENESIS)
        body = {
            "time": utc_timestamp(self.now()),
            "actor": actor,
            "tenant": tenant,
            "job": job,
            "action": action,
        } | {name: value for name, value in details.items() if value is not None}
        record = seal(self.chain, sequence + 1, body, previous_hash)
        self.db.execute(
            sa.insert(audit).values(
                chain=record.chain,
                sequence=record.sequence,
                body=record.body,
                previous_hash=record.previous_hash,
                hash=record.hash,
            )
        )
        self.recorded.append(action)


def database_time(db: Connection) -> float:
    """The database's time."""
    return float(db.execute(sa.select(DatabaseTime())).scalar_one())


def digest(rows: Sequence[object]) -> str:
    """The SHA-256 of rows of a batch, as one canonical JSON list: what the audit trail keeps of them."""
    return hashlib.sha256(canonical_json(rows).encode("utf-8", "surrogatepass")).hexdigest()


def chains(db: Connection) -> Sequence[str]:
    """The names of all chains."""
    return db.execute(sa.select(audit.c.chain).distinct().order_by(audit.c.chain)).scalars().all()


def heads(db: Connection) -> dict[str, tuple[int, str]]:
    """The last record of every chain: its number and its hash. One seek a chain and one more, however long they are."""
    found: dict[str, tuple[int, str]] = {}
    last = ""
    while True:
        head = db.execute(
            sa.select(audit.c.chain, audit.c.sequence, audit.c.hash)
            .where(
                audit.c.chain
                == sa.select(sa.func.min(audit.c.chain)).where(audit.c.chain > last).scalar_subquery()
            )
            .order_by(audit.c.sequence.desc())
            .limit(1)
        ).first()
        if head is None:
            return found
        last = head.chain
        found[last] = (head.sequence, head.hash)


def records_after(db: Connection, chain: str, sequence: int, limit: int) -> Sequence[AuditRecord]:
    """At most `limit` records of a chain, those after `sequence`."""
    found = db.execute(
        sa.select(audit.c.chain, audit.c.sequence, audit.c.body, audit.c.previous_hash, audit.c.hash)
        .where(audit.c.chain == chain, audit.c.sequence > sequence)
        .order_by(audit.c.sequence)
        .limit(limit)
    )
    return [AuditRecord(*row) for row in found]


def sums(pairs: Iterable[tuple[str, int]]) -> Mapping[str, tuple[int, int]]:
    """How many there are of each name, and the sum of their sizes."""
    counted: dict[str, tuple[int, int]] = {}
    for name, size in pairs:
        count, total = counted.get(name, (0, 0))
        counted[name] = (count + 1, total + size)
    return counted
