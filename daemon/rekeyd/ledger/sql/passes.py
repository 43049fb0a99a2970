"""Passes over the source: each page marks the rows that it names as seen, and what is new or changed is to be carried.

Stores list in an order of their own (SeaweedFS walks directories, where `a/x` stands before `a-b`), so nothing is
concluded from where in a listing a key isn't. Only once the listing is complete do the rows that no page of the
pass has seen count as missing: a listing that breaks off deletes nothing. They are settled some at a time; a pass
that is interrupted amid that goes on with it, or leaves the rest to the next one, which hasn't seen them either.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.job import Job
from rekeyd.domain.objects import ObjectVersion
from rekeyd.ledger.port import JobClaim, PassState, SegmentStage
from rekeyd.ledger.rows import Move, Row, first_listed, listed, missing
from rekeyd.ledger.schema import DROPPED_OBJECT, UNDROPPED_OBJECT, DatabaseTime, moves, objects, passes
from rekeyd.ledger.sql.claims import change_job, check_job_claim
from rekeyd.ledger.sql.cutting import assign
from rekeyd.ledger.sql.placements import check_may_list
from rekeyd.ledger.sql.rows import (
    KeyMapping,
    Tally,
    insert_rows,
    mapping_of,
    mark_seen,
    read_rows,
    update_rows,
)
from rekeyd.ledger.sql.terms import read_terms, take_terms, terms_of
from rekeyd.ledger.sql.transaction import Transaction

ROWS_READ_MAX = 4000
"""So many rows are in memory at once, and change in one transaction, however many are missing.

A transaction that takes longer than SQLite's busy timeout would have other processes' writes fail.
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing."""

    number: int
    """Of the pass."""
    objects: Sequence[ObjectVersion]
    after: str | None
    resume_after: str | None

    def check_cursor(self) -> None:
        """Raises ConflictError where the next page would be this one again."""
        if self.resume_after is not None and self.resume_after == self.after:
            raise ConflictError(f"the page after {self.after!r} is followed by itself")


def current_pass(db: Connection, claim: JobClaim) -> PassState | None:
    """The latest pass."""
    check_job_claim(db, claim)
    return _latest(db, claim.job)


def begin_pass(tx: Transaction, claim: JobClaim, pause_epoch: int | None) -> PassState:
    """Begin the next pass, or go on with the one begun for the same pause, or with one that has no page yet.

    What a page of a pass has seen already isn't listed again in it: with other terms it is another pass that begins.
    """
    change_job(tx.db, claim)
    check_may_list(tx.db, claim.job)
    other_terms = take_terms(tx, claim)
    move_id = claim.job.move_id
    latest = _latest(tx.db, claim.job)
    if latest is not None and latest.pause_epoch == pause_epoch:
        empty = _pages(tx.db, move_id, latest.number) == 0
        if empty or (pause_epoch is not None and not other_terms):
            return latest
    number = 1 if latest is None else latest.number + 1
    tx.db.execute(
        sa.insert(passes).values(
            move_id=move_id, number=number, pause_epoch=pause_epoch, began_at=DatabaseTime()
        )
    )
    tx.record(
        "pass.begun",
        actor=claim.holder,
        tenant=claim.job.tenant,
        job=claim.job.id,
        number=number,
        pause_epoch=pause_epoch,
    )
    return _required(tx.db, claim.job)


def record_page(tx: Transaction, claim: JobClaim, page: Page) -> PassState:
    """Enter a page and its cursor."""
    change_job(tx.db, claim)
    move_id = claim.job.move_id
    if _entered_already(tx.db, move_id, page):
        return _required(tx.db, claim.job)
    check_may_list(tx.db, claim.job)
    page.check_cursor()
    entry = _Entry(tx, claim, page.number)
    entry.enter(page.objects)
    settled = page.resume_after is None and entry.settle_missing(ROWS_READ_MAX - len(page.objects))
    entry.store(
        pages=passes.c.pages + 1, page_after=page.after, resume_after=page.resume_after, listed=settled
    )
    return _required(tx.db, claim.job)


def settle_missing(tx: Transaction, claim: JobClaim, number: int) -> PassState:
    """Some more of what the complete listing didn't name is missing; after the last of it the pass is listed."""
    change_job(tx.db, claim)
    latest = _latest(tx.db, claim.job)
    if latest is None or latest.number != number:
        raise ConflictError(f"the pass {number} isn't the latest one")
    if latest.listed:
        return latest
    if not latest.settling:
        raise ConflictError(f"the listing of the pass {number} isn't complete: nothing is missing yet")
    check_may_list(tx.db, claim.job)
    entry = _Entry(tx, claim, number)
    entry.store(listed=entry.settle_missing(ROWS_READ_MAX))
    return _required(tx.db, claim.job)


@dataclass(slots=True)
class _Entry:
    """A page, or what is missing in all of them, on its way into the rows."""

    tx: Transaction
    claim: JobClaim
    number: int
    changed_objects: int = 0
    changed_bytes: int = 0
    tally: Tally = field(default_factory=Tally)

    def enter(self, listed_objects: Sequence[ObjectVersion]) -> None:
        """Take in what a page lists."""
        unnamed = {version.key: version for version in listed_objects}
        keys = sorted(unnamed)
        query = sa.select(objects).where(objects.c.move_id == self.claim.job.move_id, objects.c.key.in_(keys))
        rows = read_rows(self.tx.db, query, self._mapping())
        began = _began(self.tx.db, self.claim.job.move_id, {row.seen_pass for row in rows})
        joining = []
        for row in rows:
            move = listed(row, unnamed.pop(row.object.source.key), began.get(row.seen_pass))
            if move is not None:
                joining.append(self._changed(row, move))
            elif row.state == "listed":
                # Found again before it was carried: no change of the row, but work all the same.
                self._count(row)
        new = [first_listed(version) for version in unnamed.values()]
        for move in new:
            self.tally.add(move.row)
        self._store(sorted(joining + new, key=lambda move: move.row.object.source.key), unnamed.keys())
        seen = [row.object.source.key for row in rows]
        mark_seen(self.tx.db, self.claim.job.move_id, seen, self.number)

    def settle_missing(self, rows_max: int) -> bool:
        """The listing is complete: what it didn't name is missing. Gives whether all of that is settled now."""
        move_id = self.claim.job.move_id
        paused = _pause_epoch(self.tx.db, move_id, self.number) is not None
        rows = read_rows(self.tx.db, unseen_rows(move_id, self.number, rows_max), self._mapping())
        if paused:
            dropped = dropped_rows(move_id, self.number, rows_max - len(rows))
            rows = [*rows, *read_rows(self.tx.db, dropped, self._mapping())]
        joining = []
        for row in rows:
            move = missing(row, paused=paused)
            if move is not None:
                joining.append(self._changed(row, move))
            elif row.state == "vanished":
                self._count(row)  # not swept since it vanished: it is still to be
        self._store(joining, ())
        mark_seen(self.tx.db, move_id, [row.object.source.key for row in rows], self.number)
        return len(rows) < rows_max

    def store(self, **progress: object) -> None:
        """Store what has changed in the tallies and in the pass; where that is listed now, the trail says so."""
        self.tally.store(self.tx, self.claim.job.move_id)
        self.tx.db.execute(
            sa.update(passes)
            .where(passes.c.move_id == self.claim.job.move_id, passes.c.number == self.number)
            .values(
                changed_objects=passes.c.changed_objects + self.changed_objects,
                changed_bytes=passes.c.changed_bytes + self.changed_bytes,
                **progress,
            )
        )
        if progress["listed"]:
            _record_listed(self.tx, self.claim)

    def _changed(self, row: Row, move: Move) -> Move:
        self.tally.remove(row)
        self.tally.add(move.row)
        return move

    def _store(self, joining: Sequence[Move], new: Collection[str]) -> None:
        rows: list[Row] = [move.row for move in joining if move.joins is None]
        stages: tuple[SegmentStage, ...] = ("carry", "sweep")
        for stage in stages:
            found = [move.row for move in joining if move.joins == stage]
            weights = [row.weight for row in found]
            ids = assign(self.tx, self.claim.job.move_id, stage, self.number, weights)
            rows += [replace(row, segment_id=at) for row, at in zip(found, ids, strict=True)]
        for row in rows:
            if row.state != "verified":  # it only learnt its time of modification
                self._count(row)
        move_id = self.claim.job.move_id
        insert_rows(self.tx.db, move_id, (r for r in rows if r.object.source.key in new), self.number)
        update_rows(
            self.tx.db,
            move_id,
            (r for r in rows if r.object.source.key not in new),
            self._mapping(),
        )

    def _count(self, row: Row) -> None:
        self.changed_objects += 1
        self.changed_bytes += row.size_bytes

    def _mapping(self) -> KeyMapping:
        return mapping_of(self.claim)


def unseen_rows(move_id: int, number: int, rows_max: int) -> sa.Select[Any]:
    """At most `rows_max` rows that pass `number` hasn't seen, those first that were seen longest ago.

    Not those `dropped` already: outside a pause a missing row of these stays as it is, and they only grow in number.
    """
    return _unseen(move_id, number, rows_max, UNDROPPED_OBJECT)


def dropped_rows(move_id: int, number: int, rows_max: int) -> sa.Select[Any]:
    """The same of those `dropped`."""
    return _unseen(move_id, number, rows_max, DROPPED_OBJECT)


def _unseen(move_id: int, number: int, rows_max: int, which: str) -> sa.Select[Any]:
    return (
        sa.select(objects)
        .where(objects.c.move_id == move_id, objects.c.seen_pass < number, sa.text(which))
        .order_by(objects.c.seen_pass, objects.c.key)
        .limit(max(rows_max, 0))
    )


def _pause_epoch(db: Connection, move_id: int, number: int) -> int | None:
    query = sa.select(passes.c.pause_epoch).where(passes.c.move_id == move_id, passes.c.number == number)
    found: int | None = db.execute(query).scalar_one()
    return found


def _began(db: Connection, move_id: int, numbers: Collection[int]) -> dict[int, float]:
    """When these passes began: before anything was listed in them."""
    query = sa.select(passes.c.number, passes.c.began_at)
    found = db.execute(query.where(passes.c.move_id == move_id, passes.c.number.in_(sorted(numbers))))
    return {number: began_at for number, began_at in found}  # noqa: C416 - rows aren't pairs to mypy


def _entered_already(db: Connection, move_id: int, page: Page) -> bool:
    """Whether it was. Raises ConflictError for one that neither was nor comes next."""
    found = db.execute(
        sa.select(passes).where(passes.c.move_id == move_id).order_by(passes.c.number.desc()).limit(1)
    ).one_or_none()
    if found is None or found.number != page.number:
        raise ConflictError(f"the pass {page.number} isn't the latest one")
    if found.pages and page.after == found.page_after:
        return True
    complete = found.pages > 0 and found.resume_after is None
    if complete or page.after != found.resume_after:
        raise ConflictError(
            f"the page after {page.after!r} does not follow the cursor {found.resume_after!r}"
        )
    return False


def _record_listed(tx: Transaction, claim: JobClaim) -> None:
    state = _required(tx.db, claim.job)
    tx.record(
        "pass.listed",
        actor=claim.holder,
        tenant=claim.job.tenant,
        job=claim.job.id,
        number=state.number,
        pause_epoch=state.pause_epoch,
        changed_objects=state.changed_objects,
        changed_bytes=state.changed_bytes,
    )


def _latest(db: Connection, job: Job) -> PassState | None:
    found = db.execute(
        sa.select(passes, moves.c.open_segments)
        .join(moves, moves.c.id == passes.c.move_id)
        .where(passes.c.move_id == job.move_id)
        .order_by(passes.c.number.desc())
        .limit(1)
    ).one_or_none()
    if found is None:
        return None
    return PassState(
        number=found.number,
        pause_epoch=found.pause_epoch,
        resume_after=found.resume_after,
        settling=found.pages > 0 and found.resume_after is None and not found.listed,
        listed=found.listed,
        changed_objects=found.changed_objects,
        changed_bytes=found.changed_bytes,
        open_segments=found.open_segments,
        terms_hold=read_terms(db, job.move_id) == terms_of(job),
    )


def _required(db: Connection, job: Job) -> PassState:
    latest = _latest(db, job)
    assert latest is not None, "a pass that was just written"
    return latest


def _pages(db: Connection, move_id: int, number: int) -> int:
    found = db.execute(
        sa.select(passes.c.pages).where(passes.c.move_id == move_id, passes.c.number == number)
    ).scalar_one()
    return int(found)
