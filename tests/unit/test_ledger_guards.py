"""The SQL ledger where only a hand on the database, or a moment between two statements, tells right from wrong."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from rekeyd.ledger.sql import SqlLedger
from rekeyd.ledger.sql.placements import read_placement
from rekeyd.ledger.sql.transaction import database_time
from tests.contract.ledger.stories import admit, dedicated, segment, versions


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
    engine = sa.create_engine(f"sqlite:///{file}")
    committed_at = []

    with engine.connect() as db:

        @event.listens_for(db, "before_cursor_execute")
        def _change(_db: object, _cursor: object, statement: str, *_: object) -> None:
            if "placements" in statement:
                time.sleep(0.01)
                by_hand(file, "UPDATE placements SET epoch = epoch + 1")
                with engine.connect() as another:
                    committed_at.append(database_time(another))
                time.sleep(0.01)

        record, at = read_placement(db, "acme")
    engine.dispose()

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


async def test_no_intent_is_given_for_a_move_that_led_elsewhere(ledger: SqlLedger, file: Path) -> None:
    claim = await dedicated(ledger, versions(2))
    await ledger.plan_retirement(claim)
    part = await segment(ledger)
    by_hand(file, "UPDATE placements SET target = 's3://byok-elsewhere/'")

    assert await ledger.record_intents(part, versions(2)) == []
