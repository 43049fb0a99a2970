"""Object rows in SQL: read as they are, written in bulk, with the tallies exact at every commit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.objects import ObjectVersion
from rekeyd.ledger.port import Copy, JobClaim, ObjectRow, SegmentClaim
from rekeyd.ledger.rows import Row
from rekeyd.ledger.schema import objects, tallies
from rekeyd.ledger.sql.transaction import Transaction


def read_rows(db: Connection, query: sa.Select[Any], mapping: KeyMapping) -> list[Row]:
    """The rows of a query for all columns of `objects`."""
    return [_row(found, mapping) for found in db.execute(query)]


@dataclass(frozen=True, slots=True)
class KeyMapping:
    """How the keys of copies follow from those of their sources: the prefix is exchanged."""

    source_prefix: str
    target_prefix: str

    def target_key(self, source_key: str) -> str:
        return self.target_prefix + source_key.removeprefix(self.source_prefix)


@dataclass(slots=True)
class Tally:
    """What changes in a move's tallies."""

    objects: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        self.change(row.state, 1, row.size_bytes)

    def remove(self, row: Row) -> None:
        self.change(row.state, -1, -row.size_bytes)

    def change(self, state: str, count: int, size_bytes: int) -> None:
        self.objects[state] += count
        self.bytes[state] += size_bytes

    def store(self, tx: Transaction, move_id: int) -> None:
        changed = [
            {
                "move_id": move_id,
                "state": state,
                "objects": self.objects[state],
                "bytes": self.bytes[state],
            }
            for state in sorted(self.objects)
            if self.objects[state] or self.bytes[state]
        ]
        if changed:
            insert = tx.insert(tallies)
            upsert = insert.on_conflict_do_update(
                index_elements=[tallies.c.move_id, tallies.c.state],
                set_={
                    "objects": tallies.c.objects + insert.excluded.objects,
                    "bytes": tallies.c.bytes + insert.excluded.bytes,
                },
            )
            tx.db.execute(upsert, changed)


def insert_rows(db: Connection, move_id: int, rows: Iterable[Row], seen_pass: int) -> None:
    """Enter rows of keys that have none yet, which this pass has seen."""
    new = [
        {
            "move_id": move_id,
            "key": row.object.source.key,
            **_source_values(row.object.source),
            "state": row.object.state,
            "segment_id": row.segment_id,
            "seen_pass": seen_pass,
        }
        for row in rows
    ]
    if new:
        db.execute(sa.insert(objects), new)


def mark_seen(db: Connection, move_id: int, keys: Sequence[str], seen_pass: int) -> None:
    """Note that this pass has seen the keys, or settled that they are missing."""
    if keys:
        db.execute(
            sa.update(objects)
            .where(objects.c.move_id == move_id, objects.c.key.in_(keys))
            .values(seen_pass=seen_pass)
        )


def mark_retiring(tx: Transaction, claim: SegmentClaim, rows: Sequence[Row]) -> None:
    """Give verified rows the state `retiring`, and the tallies with them."""
    if not rows:
        return
    tally, keys = Tally(), [row.object.source.key for row in rows]
    for row in rows:
        tally.remove(row)
        tally.add(replace(row, object=replace(row.object, state="retiring")))
    tx.db.execute(
        sa.update(objects)
        .where(objects.c.move_id == claim.job.move_id, objects.c.key.in_(keys))
        .values(state="retiring")
    )
    tally.store(tx, claim.job.move_id)


def update_rows(db: Connection, move_id: int, rows: Iterable[Row], mapping: KeyMapping) -> None:
    """Give rows, found by key, their next form."""
    changed = [_values(move_id, row, mapping) for row in rows]
    if changed:
        db.execute(_UPDATE, changed)


_CHANGING = (
    "versions",
    "size_bytes",
    "etag",
    "version_id",
    "modified",
    "history",
    "state",
    "attempts",
    "segment_id",
    "reason",
    "target_key",
    "target_size_bytes",
    "target_etag",
    "target_version_id",
    "copies",
    "planned_before",
    "crc64nvme",
    "evidence",
    "delete_requests",
    "copy_requests",
)
_OF_KEY = sa.update(objects).where(
    objects.c.move_id == sa.bindparam("of_move"),
    objects.c.key == sa.bindparam("of_key", type_=objects.c.key.type),
)
_UPDATE = _OF_KEY.values({name: sa.bindparam(name, type_=objects.c[name].type) for name in _CHANGING})


def _values(move_id: int, row: Row, mapping: KeyMapping) -> dict[str, Any]:
    source, target = row.object.source, row.object.target
    planned = [[_chain_json(v)] for v in row.object.planned_before]
    copies = [_copy_json(copy) for copy in row.object.copies]
    mapped = target is None or target.key == mapping.target_key(source.key)
    return {
        "of_move": move_id,
        "of_key": source.key,
        **_source_values(source),
        "state": row.object.state,
        "attempts": row.object.attempts,
        "segment_id": row.segment_id,
        "reason": row.reason,
        "target_key": None if mapped or target is None else target.key,
        "target_size_bytes": None if target is None else target.size_bytes,
        "target_etag": None if target is None else target.etag,
        "target_version_id": None if target is None else target.version_id,
        "copies": canonical_json(copies) if copies else None,
        "planned_before": canonical_json(planned) if planned else None,
        "crc64nvme": row.object.crc64nvme,
        "evidence": row.evidence,
        "delete_requests": " ".join(row.request_ids),
        "copy_requests": " ".join(row.object.copy_requests),
    }


def _row(found: Sequence[Any], mapping: KeyMapping) -> Row:
    # Unpacked in the columns' order: by name it would take twice as long, and rows are what there are most of.
    _, key, _, size, etag, version, modified, history, state, attempts, *rest = found
    segment_id, reason, target_key, target_size, target_etag, target_version, *rest = rest
    copied, planned, crc64nvme, evidence, seen_pass, deleted_by, made_by = rest
    target = None
    if target_etag is not None:
        target_key = mapping.target_key(key) if target_key is None else target_key
        target = ObjectVersion(target_key, target_size, target_etag, target_version)
    before = tuple(_chain(key, chain) for (chain,) in json.loads(planned)) if planned else ()
    source = (
        _chain(key, json.loads(history)) if history else ObjectVersion(key, size, etag, version, modified)
    )
    copies = tuple(_copy(key, mapping.target_key(key), each) for each in json.loads(copied)) if copied else ()
    made = tuple(made_by.split()) if made_by else ()
    about = ObjectRow(source, state, attempts, target, before, crc64nvme, copies, made)
    return Row(about, segment_id, reason, evidence, seen_pass, tuple(deleted_by.split()))


def _source_values(source: ObjectVersion) -> dict[str, Any]:
    plain = not source.older and not source.marker
    return {
        "versions": len(source.older) + 1,
        "size_bytes": source.history_bytes,
        "etag": source.etag,
        "version_id": source.version_id,
        "modified": source.modified,
        "history": None if plain else canonical_json(_chain_json(source)),
    }


def _chain_json(version: ObjectVersion) -> list[list[object]]:
    return [[v.size_bytes, v.etag, v.version_id, v.modified, v.marker] for v in version.chain]


def _chain(key: str, chain: Sequence[Sequence[Any]]) -> ObjectVersion:
    *older, newest = (ObjectVersion(key, *each) for each in chain)
    return replace(newest, older=tuple(older))


def _copy_json(copy: Copy) -> list[object]:
    target = copy.target
    named = [target.size_bytes, target.etag, target.version_id, target.marker]
    return [_chain_json(copy.source)[0], named, copy.key_arn, copy.crc64nvme, copy.evidence]


def _copy(key: str, target_key: str, each: Sequence[Any]) -> Copy:
    source, (size, etag, version_id, marker), *verified = each
    target = ObjectVersion(target_key, size, etag, version_id, marker=marker)
    return Copy(ObjectVersion(key, *source), target, *verified)


def version_digest_row(version: ObjectVersion) -> Sequence[object]:
    """A version as it enters a digest of the audit trail: by what names it in the store, its history included."""
    named: list[object] = [version.key, version.size_bytes, version.etag, version.version_id]
    if version.older or version.marker:
        named.append(_chain_json(version))
    return named


def copy_digest_row(copy: Copy) -> Sequence[object]:
    """A copy in a history likewise."""
    return _copy_json(copy)


def rows_named(db: Connection, claim: SegmentClaim, versions: Sequence[ObjectVersion]) -> dict[str, Row]:
    """The rows with these keys that wait in the claim's segment."""
    if not versions:
        return {}
    query = sa.select(objects).where(
        objects.c.move_id == claim.job.move_id,
        objects.c.key.in_([version.key for version in versions]),
    )
    # The segment is no condition of the query: the planner would take its index, and read all of it for one key.
    return {
        row.object.source.key: row
        for row in read_rows(db, query, mapping_of(claim))
        if row.segment_id == claim.segment_id
    }


def change_rows(tx: Transaction, claim: SegmentClaim, former: Sequence[Row], changed: Sequence[Row]) -> None:
    """Give rows their next form, and the tallies with them."""
    tally = Tally()
    for row in former:
        tally.remove(row)
    for row in changed:
        tally.add(row)
    update_rows(tx.db, claim.job.move_id, changed, mapping_of(claim))
    tally.store(tx, claim.job.move_id)


def mapping_of(claim: JobClaim | SegmentClaim) -> KeyMapping:
    """That of the claim's move."""
    return KeyMapping(claim.job.source.prefix, claim.job.target.prefix)
