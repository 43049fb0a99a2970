"""The SQL ledger where only a hand on the database, or a moment between two statements, tells right from wrong."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from itertools import groupby
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from rekeyd.domain.errors import ConflictError, LedgerError
from rekeyd.domain.tenant import Placement, PlacementRecord, serve
from rekeyd.ledger.sql import SqlLedger, engine
from rekeyd.ledger.sql.placements import read_placement
from rekeyd.ledger.sql.transaction import database_time
from tests.contract.ledger.stories import (
    TTL,
    admit,
    begin_pause,
    dedicated,
    dedicating,
    list_all,
    running,
    segment,
    versions,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(file: Path) -> AsyncIterator[SqlLedger]:
    ledger = await SqlLedger.open(f"sqlite://{file}")
    yield ledger
    await ledger.close()


def by_hand(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute(statement)
        db.commit()


async def test_a_placements_time_is_read_before_the_placement(ledger: SqlLedger, file: Path) -> None:
    """A change that commits between the two is shown, with a time before it: never the other way round."""
    await admit(ledger)
    direct = sa.create_engine(f"sqlite:///{file}")
    committed_at = []

    with direct.connect() as db:

        @event.listens_for(db, "before_cursor_execute")
        def _change(_db: object, _cursor: object, statement: str, *_: object) -> None:
            if "placements" in statement:
                time.sleep(0.01)
                by_hand(file, "UPDATE placements SET epoch = epoch + 1")
                with direct.connect() as another:
                    committed_at.append(database_time(another))
                time.sleep(0.01)

        record, at = read_placement(db, "acme")
    direct.dispose()

    assert record is not None
    assert record.epoch == 1
    assert at < committed_at[0]


async def test_no_intent_is_given_unless_the_tenant_is_dedicated_then(ledger: SqlLedger, file: Path) -> None:
    claim = await dedicated(ledger, versions(2))
    await ledger.plan_retirement(claim)
    part = await segment(ledger)
    by_hand(file, "UPDATE placements SET phase = 'shared'")

    assert await ledger.record_intents(part, versions(2)) == []
    assert [row.state for row in await ledger.segment_rows(part)] == ["verified", "verified"]


async def test_no_intent_is_given_under_another_key_than_the_placements(
    ledger: SqlLedger, file: Path
) -> None:
    claim = await dedicated(ledger, versions(2))
    await ledger.plan_retirement(claim)
    part = await segment(ledger)
    by_hand(file, "UPDATE placements SET key_ref = 'another'")

    assert await ledger.record_intents(part, versions(2)) == []


async def test_no_intent_is_given_for_a_move_that_led_elsewhere(ledger: SqlLedger, file: Path) -> None:
    claim = await dedicated(ledger, versions(2))
    await ledger.plan_retirement(claim)
    part = await segment(ledger)
    by_hand(file, "UPDATE placements SET target = 's3://byok-elsewhere/'")

    assert await ledger.record_intents(part, versions(2)) == []


def read_until(file: Path, stop: threading.Event, served: list[Placement]) -> None:
    """Ask for the placement again and again, as another process does; each answer as it is acted on."""

    async def read() -> None:
        reader = await SqlLedger.open(f"sqlite://{file}")
        try:
            while not stop.is_set():
                record, now = await reader.placement("acme")
                assert record is not None
                served.append(serve(record, now, TTL))
        finally:
            await reader.close()

    asyncio.run(read())


async def test_no_return_is_served_while_a_switch_is_being_committed(ledger: SqlLedger, file: Path) -> None:
    """It found the pause in force, and shares its commit with something slow; the deadline passes meanwhile."""
    claim = await running(ledger)
    rival = await running(ledger, "job-2", "rival")
    paused = await begin_pause(ledger, claim, 0.5)
    await list_all(ledger, claim, [], paused.epoch)
    served: list[Placement] = []
    stop = threading.Event()

    def slow(record: PlacementRecord, _now: float) -> PlacementRecord:
        time.sleep(1.2)  # in the ledger's transaction, while a thread reads
        return record

    reading = asyncio.create_task(asyncio.to_thread(read_until, file, stop, served))
    while not served:  # noqa: ASYNC110 - a thread sets no event of ours
        await asyncio.sleep(0.01)
    switched, _ = await asyncio.gather(
        ledger.switch(claim, dedicating(paused.epoch)), ledger.change_placement(rival, slow)
    )
    assert paused.pause_ends_at is not None
    assert await ledger.now() > paused.pause_ends_at, "the commit came after the deadline"
    while served[-1].phase == "paused":  # noqa: ASYNC110 - likewise
        await asyncio.sleep(0.01)
    stop.set()
    await reading

    assert switched.phase == "dedicated"
    assert [phase for phase, _ in groupby(each.phase for each in served)] == ["paused", "dedicated"]


async def test_a_return_by_deadline_excludes_the_switch(ledger: SqlLedger, file: Path) -> None:
    claim = await running(ledger)
    paused = await begin_pause(ledger, claim)
    await list_all(ledger, claim, [], paused.epoch)
    by_hand(file, "UPDATE placements SET pause_ends_at = 1")

    record, _ = await ledger.placement("acme")
    with pytest.raises(ConflictError):
        await ledger.switch(claim, dedicating(paused.epoch))
    assert record is not None
    assert (record.phase, record.epoch) == ("shared", paused.epoch + 1)


async def test_a_return_that_can_not_be_committed_is_not_served(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS_MAX", 0.05)
    ledger = await SqlLedger.open(f"sqlite://{file}")
    try:
        await begin_pause(ledger, await running(ledger))
        by_hand(file, "UPDATE placements SET pause_ends_at = 1")
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerError):
                await ledger.placement("acme")
            other.execute("ROLLBACK")
        record, _ = await ledger.placement("acme")
        assert record is not None
        assert record.phase == "shared"
    finally:
        await ledger.close()
