"""Segments: cut, claimed, worked on, finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.job import HeldReason
from rekeyd.ledger.port import (
    JobClaim,
    ObjectOutcome,
    ObjectRow,
    SegmentClaim,
    SegmentStage,
)
from rekeyd.ledger.rows import WORKED_ON, Weight, check_outcomes, recorded
from rekeyd.ledger.schema import (
    FAILED_OBJECT,
    UNFINISHED_SEGMENT,
    DatabaseTime,
    jobs,
    moves,
    objects,
    segments,
)
from rekeyd.ledger.sql.claims import (
    FENCED_OUT,
    change_segment,
    check_job_claim,
    check_segment_claim,
)
from rekeyd.ledger.sql.cutting import count_open, new_segment
from rekeyd.ledger.sql.reading import read_job
from rekeyd.ledger.sql.rows import (
    change_rows,
    copy_digest_row,
    mapping_of,
    read_rows,
    rows_named,
    version_digest_row,
)
from rekeyd.ledger.sql.terms import OTHER_TERMS, read_terms, terms_of
from rekeyd.ledger.sql.transaction import Transaction, digest, sums

_PROGRESS = ("verified", "excluded", "dropped", "deleted", "remaining")
"""Outcomes that leave less to be done: after one of them the job's failed attempts are no longer in a row."""


def claim_segment(tx: Transaction, holder: str, lease_seconds: float) -> SegmentClaim | None:
    """Claim the oldest open segment of the job whose turn it is."""
    for candidate in tx.db.execute(jobs_in_turn()).all():
        found = tx.db.execute(next_segment(candidate.move_id)).first()
        if found is not None:
            break
    else:
        return None
    fence = found.fence + 1
    tx.db.execute(
        sa.update(segments)
        .where(segments.c.id == found.id, segments.c.fence == found.fence)
        .values(
            job_id=candidate.id,
            holder=holder,
            fence=fence,
            lease_expires_at=DatabaseTime() + lease_seconds,
        )
    )
    tx.db.execute(sa.update(jobs).where(jobs.c.id == candidate.id).values(segment_claimed_at=DatabaseTime()))
    return SegmentClaim(found.id, read_job(tx.db, candidate.id), found.stage, holder, fence, lease_seconds)


def jobs_in_turn() -> sa.Select[tuple[str, int]]:
    """Running jobs with a claim in force and open segments, the one first that waits longest."""
    has_work = (
        sa.select(moves.c.id)
        .where(
            moves.c.id == jobs.c.move_id,
            sa.or_(moves.c.open_segments > 0, moves.c.open_retirements > 0),
        )
        .exists()
    )
    return (
        sa.select(jobs.c.id, jobs.c.move_id)
        .where(
            jobs.c.state == "running",
            jobs.c.holder.is_not(None),  # a lease may outlast its claim
            jobs.c.lease_expires_at > DatabaseTime(),
            has_work,
        )
        .order_by(jobs.c.segment_claimed_at, jobs.c.id)
    )


def next_segment(move_id: int) -> sa.Select[tuple[int, int, SegmentStage]]:
    """Id, fence and stage of a move's oldest open segment that nobody holds."""
    return (
        sa.select(segments.c.id, segments.c.fence, segments.c.stage)
        .where(
            segments.c.move_id == move_id,
            segments.c.state == "open",
            sa.text(UNFINISHED_SEGMENT),
            sa.or_(
                segments.c.lease_expires_at.is_(None),
                segments.c.lease_expires_at <= DatabaseTime(),
            ),
        )
        .order_by(segments.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # PostgreSQL's; in SQLite this transaction has the lock
    )


def renew_segment(tx: Transaction, claim: SegmentClaim) -> None:
    """Extend the claim to its full length from now on."""
    change_segment(tx.db, claim, lease_expires_at=DatabaseTime() + claim.lease_seconds)


def release_segment(tx: Transaction, claim: SegmentClaim) -> None:
    """Give the claim up."""
    change_segment(tx.db, claim, holder=None, lease_expires_at=None)


def refuse_segment(
    tx: Transaction,
    claim: SegmentClaim,
    reason: HeldReason,
    error: str,
    again_seconds: float,
    *,
    settled: bool,
) -> None:
    """Give the claim up, and count that the segment can't be worked on here."""
    lease = {"lease_expires_at": DatabaseTime() + again_seconds} if settled else {}
    change_segment(
        tx.db,
        claim,
        refusals=segments.c.refusals + 1,
        refusal_reason=reason,
        refusal=f"{claim.holder}: {error}",
        **FENCED_OUT,
        **lease,
    )


def refused_segment(db: Connection, claim: JobClaim, refusals_min: int) -> tuple[HeldReason, str] | None:
    """Why the segment was refused last that was so often."""
    check_job_claim(db, claim)
    found = db.execute(
        sa.select(segments.c.refusal_reason, segments.c.refusal)
        .where(
            segments.c.move_id == claim.job.move_id,
            segments.c.state == "open",
            sa.text(UNFINISHED_SEGMENT),
            segments.c.refusals >= refusals_min,
        )
        .order_by(segments.c.id)
        .limit(1)
    ).first()
    return None if found is None else (found.refusal_reason, found.refusal)


def segment_rows(db: Connection, claim: SegmentClaim) -> Sequence[ObjectRow]:
    """What the segment has still to do."""
    check_segment_claim(db, claim)
    rows = read_rows(db, rows_of_segment(claim.segment_id), mapping_of(claim))
    return [row.object for row in rows if row.state in WORKED_ON[claim.stage]]


def rows_of_segment(segment_id: int) -> sa.Select[Any]:
    """Rows that wait in a segment, in key order."""
    return sa.select(objects).where(objects.c.segment_id == segment_id).order_by(objects.c.key)


def record_outcomes(tx: Transaction, claim: SegmentClaim, outcomes: Sequence[ObjectOutcome]) -> None:
    """Record what became of objects."""
    check_outcomes(claim.stage, outcomes)
    change_segment(tx.db, claim)
    outcomes = _under_terms(tx.db, claim, outcomes)
    rows = rows_named(tx.db, claim, [outcome.source for outcome in outcomes])
    former, changed, counted = [], [], []
    for outcome in outcomes:
        row = rows.get(outcome.source.key)
        next_row = None if row is None else recorded(claim.stage, row, outcome)
        if row is None or next_row is None:
            continue
        rows[outcome.source.key] = next_row
        former.append(row)
        changed.append(next_row)
        counted.append(outcome)
    change_rows(tx, claim, former, changed)
    if any(outcome.state in _PROGRESS for outcome in counted):
        tx.db.execute(
            sa.update(jobs).where(jobs.c.id == claim.job.id, jobs.c.attempts > 0).values(attempts=0)
        )
    if counted:
        tx.record(
            "source.deleted" if claim.stage == "retire" else "objects.recorded",
            actor=claim.holder,
            tenant=claim.job.tenant,
            job=claim.job.id,
            segment=claim.segment_id,
            stage=claim.stage,
            counts=sums((outcome.state, outcome.source.history_bytes) for outcome in counted),
            requests=list(dict.fromkeys(each for outcome in counted for each in outcome.request_ids)) or None,
            sha256=digest([_digest_row(outcome) for outcome in counted]),
        )


def _under_terms(
    db: Connection, claim: SegmentClaim, outcomes: Sequence[ObjectOutcome]
) -> Sequence[ObjectOutcome]:
    """What was verified under other terms than the move's is `stale`."""
    if all(outcome.state != "verified" for outcome in outcomes):
        return outcomes
    terms = read_terms(db, claim.job.move_id)
    if terms is not None and terms_of(claim.job).suffice(terms):
        return outcomes
    return [
        replace(outcome, state="stale", reason=OTHER_TERMS) if outcome.state == "verified" else outcome
        for outcome in outcomes
    ]


def finish_segment(tx: Transaction, claim: SegmentClaim) -> None:
    """The segment is done; what it has still to do goes into a new one."""
    change_segment(tx.db, claim, state="done", holder=None, lease_expires_at=None)
    left, versions, size = tx.db.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(objects.c.versions), 0),
            sa.func.coalesce(sa.func.sum(objects.c.size_bytes), 0),
        ).where(objects.c.segment_id == claim.segment_id)
    ).one()
    move_id, requeued = claim.job.move_id, None
    if left:
        number = tx.db.execute(
            sa.select(segments.c.pass_number).where(segments.c.id == claim.segment_id)
        ).scalar_one()
        requeued = new_segment(tx, move_id, claim.stage, number, Weight(versions, size))
        tx.db.execute(
            sa.update(objects).where(objects.c.segment_id == claim.segment_id).values(segment_id=requeued)
        )
    else:
        count_open(tx, move_id, claim.stage, -1)
    tx.record(
        "segment.finished",
        actor=claim.holder,
        tenant=claim.job.tenant,
        job=claim.job.id,
        segment=claim.segment_id,
        stage=claim.stage,
        left=left or None,
        left_in=requeued,
    )


def failed_objects(db: Connection, claim: JobClaim, limit: int) -> Sequence[tuple[str, str]]:
    """Keys and reasons of objects that are `failed`."""
    check_job_claim(db, claim)
    found = db.execute(
        sa.select(objects.c.key, objects.c.reason)
        .where(objects.c.move_id == claim.job.move_id, sa.text(FAILED_OBJECT))
        .order_by(objects.c.key)
        .limit(limit)
    )
    return [(key, reason) for key, reason in found]


def _digest_row(outcome: ObjectOutcome) -> Sequence[object]:
    target = None if outcome.target is None else version_digest_row(outcome.target)
    return [
        version_digest_row(outcome.source),
        outcome.state,
        outcome.reason,
        outcome.verdict,
        target,
        outcome.crc64nvme,
        outcome.evidence,
        *([copy_digest_row(copy) for copy in outcome.copies or ()]),
        *([list(outcome.copy_requests)] if outcome.copy_requests else []),
    ]
