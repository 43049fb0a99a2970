"""Jobs and tallies as they stand: what reads and writes of the ledger both need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.errors import RefusedError, UnknownJobError
from rekeyd.domain.job import Counts, HeldReason, Job, JobState, job_message, key_of
from rekeyd.domain.key import KeyState, KmsKey, NamedKey
from rekeyd.domain.objects import Location
from rekeyd.ledger.port import LedgerSummary
from rekeyd.ledger.schema import UNFINISHED_JOB, DatabaseTime, jobs, keys, moves, tallies

JOBS_LISTED_MAX = 1000

_UNLISTED = ("vanished", "dropped")
_VERIFIED = ("verified", "retiring", "deleted", "remaining")

Tally = Mapping[str, tuple[int, int]]
"""Objects and bytes by state."""


def read_job(db: Connection, job_id: str) -> Job:
    """Raises UnknownJobError."""
    found = _read(db, _with_locations().where(jobs.c.id == job_id))
    if not found:
        raise UnknownJobError(job_id)
    return found[0]


def read_jobs(db: Connection, tenant: str | None, state: JobState | None, limit: int) -> Sequence[Job]:
    """The newest first, at most `limit`. Raises RefusedError for a limit out of bounds."""
    if not 1 <= limit <= JOBS_LISTED_MAX:
        raise RefusedError("limit", f"is not from 1 to {JOBS_LISTED_MAX}")
    query = _with_locations().order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(jobs.c.tenant == tenant)
    if state is not None:
        query = query.where(jobs.c.state == state)
    return _read(db, query)


def read_tally(db: Connection, move_id: int) -> Tally:
    """Of one move."""
    return _tallies(db, [move_id]).get(move_id, {})


def counts_of(tally: Tally) -> Counts:
    """The tally in the words of jobs."""
    listed = [sums for state, sums in tally.items() if state not in _UNLISTED]
    verified = [sums for state, sums in tally.items() if state in _VERIFIED]
    return Counts(
        objects_listed=sum(count for count, _ in listed),
        objects_verified=sum(count for count, _ in verified),
        objects_excluded=tally.get("excluded", (0, 0))[0],
        objects_deleted=tally.get("deleted", (0, 0))[0],
        bytes_listed=sum(size for _, size in listed),
        bytes_verified=sum(size for _, size in verified),
    )


def summarise(db: Connection) -> LedgerSummary:
    """Counts for the metrics."""
    by_state = db.execute(
        sa.select(jobs.c.kind, jobs.c.state, sa.func.count()).group_by(jobs.c.kind, jobs.c.state)
    ).all()
    held = db.execute(
        sa.select(jobs.c.held_reason, sa.func.count())
        .where(jobs.c.state == "held", sa.text(UNFINISHED_JOB))
        .group_by(jobs.c.held_reason)
    ).all()
    by_key_state = db.execute(sa.select(keys.c.state, sa.func.count()).group_by(keys.c.state)).all()
    # A job that isn't to begin yet waits for nobody.
    waits_since = sa.case((jobs.c.due_at > jobs.c.created_at, jobs.c.due_at), else_=jobs.c.created_at)
    oldest = db.execute(
        sa.select(sa.func.min(waits_since)).where(
            jobs.c.state == "queued", sa.text(UNFINISHED_JOB), jobs.c.due_at <= DatabaseTime()
        )
    ).scalar_one()
    return LedgerSummary(
        jobs={(kind, state): count for kind, state, count in by_state},
        held=dict(_pairs(held)),
        keys=dict(_key_pairs(by_key_state)),
        oldest_queued_at=oldest,
    )


def _pairs(rows: Iterable[Any]) -> Iterable[tuple[HeldReason, int]]:
    return ((row[0], row[1]) for row in rows)


def _key_pairs(rows: Iterable[Any]) -> Iterable[tuple[KeyState, int]]:
    return ((row[0], row[1]) for row in rows)


def _with_locations() -> sa.Select[Any]:
    return (
        sa.select(
            jobs,
            moves.c.source,
            moves.c.target,
            keys.c.arn,
            keys.c.alias,
            keys.c.fingerprint,
            keys.c.kind.label("key_kind"),
        )
        .join(moves, moves.c.id == jobs.c.move_id)
        .join(keys, keys.c.ref == jobs.c.key_ref)
    )


def _read(db: Connection, query: sa.Select[Any]) -> Sequence[Job]:
    rows = db.execute(query).all()
    tally = _tallies(db, sorted({row.move_id for row in rows}))
    return [_job(row, counts_of(tally.get(row.move_id, {}))) for row in rows]


def _tallies(db: Connection, move_ids: Sequence[int]) -> Mapping[int, Tally]:
    found = db.execute(
        sa.select(tallies.c.move_id, tallies.c.state, tallies.c.objects, tallies.c.bytes).where(
            tallies.c.move_id.in_(move_ids)
        )
    )
    by_move: dict[int, dict[str, tuple[int, int]]] = {}
    for move_id, state, count, size in found:
        by_move.setdefault(move_id, {})[state] = (count, size)
    return by_move


def _job(row: Any, counts: Counts) -> Job:  # noqa: ANN401 - a row's columns are what the query says
    message = job_message(json.loads(row.body))
    named = key_of(message)
    # Another alias of a key that is known counts for the job that names it.
    alias = named.alias if isinstance(named, KmsKey) and named.arn == row.arn else row.alias
    return Job(
        message=message,
        source=Location.parse(row.source),
        target=Location.parse(row.target),
        grace_seconds=row.grace_seconds,
        move_id=row.move_id,
        named_key=NamedKey(row.key_ref, row.key_kind, row.arn, alias, row.fingerprint),
        state=row.state,
        phase=row.phase,
        held_reason=row.held_reason,
        error=row.error,
        attempts=row.attempts,
        counts=counts,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        admitted_by=row.admitted_by,
        approved_by=row.approved_by,
        accepted_by=row.accepted_by,
        result=None if row.result is None else json.loads(row.result),
    )
