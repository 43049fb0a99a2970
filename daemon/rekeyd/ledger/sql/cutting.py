"""How objects are divided among segments, and how many segments are open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.ledger.port import SegmentStage
from rekeyd.ledger.rows import Weight, cut
from rekeyd.ledger.schema import UNFINISHED_SEGMENT, moves, segments
from rekeyd.ledger.sql.transaction import Transaction


def assign(
    tx: Transaction, move_id: int, stage: SegmentStage, number: int | None, weights: Sequence[Weight]
) -> list[int]:
    """Find segments for objects of these weights: gives the segment's id for each, in order.

    The latest segment goes on being filled until somebody claims it, so that a thousand pages with one change each
    make one segment.
    """
    if not weights:
        return []
    filling = _filling(tx.db, move_id, stage)
    joining, spans = cut(weights, None if filling is None else Weight(filling.versions, filling.bytes))
    ids = []
    if filling is not None and joining:
        tx.db.execute(
            sa.update(segments)
            .where(segments.c.id == filling.id)
            .values(
                versions=segments.c.versions + sum(each.versions for each in weights[:joining]),
                bytes=segments.c.bytes + sum(each.size_bytes for each in weights[:joining]),
            )
        )
        ids += [filling.id] * joining
    for span in spans:
        inside = weights[span.start : span.stop]
        weight = Weight(sum(each.versions for each in inside), sum(each.size_bytes for each in inside))
        ids += [new_segment(tx, move_id, stage, number, weight)] * len(span)
    count_open(tx, move_id, stage, len(spans))
    return ids


def new_segment(
    tx: Transaction, move_id: int, stage: SegmentStage, number: int | None, weight: Weight
) -> int:
    segment_id: int = tx.db.execute(
        sa.insert(segments)
        .values(
            move_id=move_id,
            pass_number=number,
            stage=stage,
            state="open",
            versions=weight.versions,
            bytes=weight.size_bytes,
        )
        .returning(segments.c.id)
    ).scalar_one()
    return segment_id


def count_open(tx: Transaction, move_id: int, stage: SegmentStage, change: int) -> None:
    column = moves.c.open_retirements if stage == "retire" else moves.c.open_segments
    if change:
        tx.db.execute(sa.update(moves).where(moves.c.id == move_id).values({column: column + change}))


def forget_refusals(db: Connection, move_id: int) -> None:
    """Nobody has refused an open segment of the move yet."""
    db.execute(
        sa.update(segments)
        .where(
            segments.c.move_id == move_id,
            segments.c.state == "open",
            sa.text(UNFINISHED_SEGMENT),
            segments.c.refusals > 0,
        )
        .values(refusals=0, refusal_reason=None, refusal=None)
    )


def _filling(db: Connection, move_id: int, stage: SegmentStage) -> Any:  # noqa: ANN401 - a row
    latest = db.execute(
        sa.select(segments)
        .where(
            segments.c.move_id == move_id,
            segments.c.state == "open",
            sa.text(UNFINISHED_SEGMENT),
        )
        .order_by(segments.c.id.desc())
        .limit(1)
    ).one_or_none()
    taken = latest is None or latest.stage != stage or latest.fence > 0
    return None if taken else latest
