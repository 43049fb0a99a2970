"""Rows of the ledger as the model of copying holds them, and their way into rekeyd.ledger.rows and back."""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

from rekeyd.domain.objects import CarryState, ObjectVersion
from rekeyd.ledger.port import ObjectOutcome, ObjectRow, SegmentStage
from rekeyd.ledger.rows import Move, Row, first_listed, listed, missing, recorded

DAMAGED = 10
"""Added to a content that didn't arrive as it was sent: of the same size, with another ETag."""

Outcome = Literal["listed", "stale", "verified", "failed", "dropped"]


class Version(NamedTuple):
    """What a writer put under the key: its content, and when. Content that is put again has the same ETag."""

    content: int
    modified: int


class Known(NamedTuple):
    """What the ledger's row says."""

    source: Version
    state: CarryState
    copy: int | None
    """The content of the copy on record."""
    planned: tuple[Version, ...]


def _version(version: Version) -> ObjectVersion:
    return ObjectVersion("k", version.content, f"e{version.content}", None, str(version.modified))


def _copy(content: int) -> ObjectVersion:
    return ObjectVersion("k", size_of(content), f"t{content}", None)


def size_of(content: int) -> int:
    """Contents differ in size, but for damage."""
    return content % DAMAGED


def _row(known: Known, segment: SegmentStage | None) -> Row:
    copy = None if known.copy is None else _copy(known.copy)
    planned = tuple(_version(each) for each in known.planned)
    about = ObjectRow(_version(known.source), known.state, 0, copy, planned, None)
    return Row(about, None if segment is None else 1)


def _known(row: Row) -> Known:
    about = row.object
    copy = None if about.target is None else int(about.target.etag[1:])
    return Known(
        _named(about.source), about.state, copy, tuple(_named(each) for each in about.planned_before)
    )


def _named(version: ObjectVersion) -> Version:
    assert version.modified is not None, "every listing says when"
    return Version(version.size_bytes, int(version.modified))


@cache
def after_listing(
    known: Known | None, found: Version | None, *, paused: bool
) -> tuple[Known | None, SegmentStage | None]:
    """The row once a complete listing named `found` under the key, and the kind of segment that it joins."""
    move: Move | None
    if known is None:
        move = None if found is None else first_listed(_version(found))
    elif found is None:
        move = missing(_row(known, None), paused=paused)
    else:
        move = listed(_row(known, None), _version(found))
    return (known, None) if move is None else (_known(move.row), move.joins)


@cache
def after_outcome(stage: SegmentStage, known: Known, state: Outcome, copy: int | None) -> Known:
    outcome = ObjectOutcome(
        _version(known.source), state, "why", target=None if copy is None else _copy(copy)
    )
    row = recorded(stage, _row(known, stage), outcome)
    assert row is not None, "the row names what was worked on"
    return _known(row)
