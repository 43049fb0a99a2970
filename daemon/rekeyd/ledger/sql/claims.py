"""Claims: their test and the change that they allow are one statement's work.

Where a change needs more than one statement, the first is such a test: from it on until the transaction
ends, nobody else can write the claim's row.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.errors import ClaimLostError
from rekeyd.ledger.port import JobClaim, SegmentClaim
from rekeyd.ledger.schema import UNFINISHED_SEGMENT, DatabaseTime, jobs, segments

CLAIMABLE_STATES = ("running", "held")
"""A held job's claim is one for looking at it again."""

FENCED_OUT: dict[str, Any] = {"holder": None, "fence": sa.literal_column("fence") + 1}
"""What ends somebody else's claim: it is in force no more, but its lease stays."""


def job_claim_in_force(claim: JobClaim) -> sa.ColumnElement[bool]:
    """The condition, on the job's row."""
    return sa.and_(
        jobs.c.id == claim.job.id,
        jobs.c.fence == claim.fence,
        jobs.c.lease_expires_at > DatabaseTime(),
        jobs.c.state.in_(CLAIMABLE_STATES),
    )


def segment_claim_in_force(claim: SegmentClaim) -> sa.ColumnElement[bool]:
    """The condition, on the segment's row. The job's own lease may be between two holders."""
    running = sa.select(jobs.c.id).where(jobs.c.id == segments.c.job_id, jobs.c.state == "running").exists()
    return sa.and_(
        segments.c.id == claim.segment_id,
        segments.c.fence == claim.fence,
        segments.c.lease_expires_at > DatabaseTime(),
        segments.c.state == "open",
        running,
    )


def change_job(db: Connection, claim: JobClaim, **changes: object) -> None:
    """Change the job's row under the claim. Raises ClaimLostError, with nothing changed, unless it is in force.

    Without changes it still writes: until the transaction ends, nobody else takes the claim.
    """
    change = sa.update(jobs).where(job_claim_in_force(claim)).values(changes or {"fence": jobs.c.fence})
    if db.execute(change).rowcount != 1:
        raise ClaimLostError(f"the claim {claim.fence} of {claim.holder} on the job {claim.job.id}")


def change_segment(db: Connection, claim: SegmentClaim, **changes: object) -> None:
    """The same for a segment's row."""
    change = (
        sa.update(segments)
        .where(segment_claim_in_force(claim))
        .values(changes or {"fence": segments.c.fence})
    )
    if db.execute(change).rowcount != 1:
        raise ClaimLostError(f"the claim {claim.fence} of {claim.holder} on the segment {claim.segment_id}")


def check_job_claim(db: Connection, claim: JobClaim) -> None:
    """For reading. Raises ClaimLostError unless the claim is in force."""
    if db.execute(sa.select(jobs.c.id).where(job_claim_in_force(claim))).first() is None:
        raise ClaimLostError(f"the claim {claim.fence} of {claim.holder} on the job {claim.job.id}")


def check_segment_claim(db: Connection, claim: SegmentClaim) -> None:
    """For reading. Raises ClaimLostError unless the claim is in force."""
    if db.execute(sa.select(segments.c.id).where(segment_claim_in_force(claim))).first() is None:
        raise ClaimLostError(f"the claim {claim.fence} of {claim.holder} on the segment {claim.segment_id}")


def end_segment_claims(db: Connection, job_id: str) -> None:
    """End every claim on segments that was granted for the job.

    The leases stay. A holder who doesn't know yet may have a call under way, which ends before its claim would
    have: until then nobody else gets the segment.
    """
    db.execute(
        sa.update(segments).where(segments.c.job_id == job_id, sa.text(UNFINISHED_SEGMENT)).values(FENCED_OUT)
    )
