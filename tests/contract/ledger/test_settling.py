"""ObjectLedger: what a complete listing misses is settled some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.ledger.port import JobClaim, Ledger, ObjectOutcome
from rekeyd.ledger.sql import SqlLedger, passes
from tests.contract.ledger.conftest import Opener
from tests.contract.ledger.stories import (
    actions,
    begin_pause,
    carry,
    dedicated,
    dedicating,
    list_all,
    running,
    settled,
    version,
    versions,
    work,
)

AT_ONCE = 20


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "ROWS_READ_MAX", AT_ONCE)


@contextmanager
def rows_changed(ledger: Ledger) -> Iterator[list[dict[str, int]]]:
    """How many rows of `objects` each statement has changed, for every commit."""
    assert isinstance(ledger, SqlLedger)
    engine = ledger._writing.sync_engine
    commits: list[dict[str, int]] = []
    here: dict[str, int] = {}

    def count(_db: object, cursor: sa.CursorResult[object], statement: str, *_: object) -> None:
        if statement.startswith(("UPDATE objects", "INSERT INTO objects")):
            here[statement] = here.get(statement, 0) + cursor.rowcount

    def end(_db: object) -> None:
        commits.append(dict(here))
        here.clear()

    event.listen(engine, "after_cursor_execute", count)
    event.listen(engine, "commit", end)
    try:
        yield commits
    finally:
        event.remove(engine, "after_cursor_execute", count)
        event.remove(engine, "commit", end)


async def half_settled(ledger: Ledger, claim: JobClaim, objects: list[ObjectVersion]) -> int:
    """All objects but the first have vanished, some are settled; gives the pass's number."""
    await list_all(ledger, claim, objects)
    await carry(ledger)
    number = (await ledger.begin_pass(claim, None)).number
    state = await ledger.record_page(claim, number, objects[:1], None, None)
    assert (state.settling, state.listed) == (True, False)
    assert 0 < state.changed_objects < AT_ONCE
    return number


async def test_more_objects_may_be_missing_than_are_read_at_once(ledger: Ledger) -> None:
    claim = await running(ledger)
    many = versions(9_001)
    await list_all(ledger, claim, many)
    await carry(ledger)

    state = await list_all(ledger, claim, [many[0], version("00000-new"), many[-1]])

    assert state.changed_objects == len(many) - 2 + 1
    assert (await ledger.counts(claim)).objects_listed == 3
    rows = await carry(ledger)
    assert sorted(row.source.key for row in rows if row.state == "vanished") == [
        each.key for each in many[1:-1]
    ]


@pytest.mark.usefixtures("few_at_once")
async def test_no_transaction_settles_more_than_are_read_at_once(ledger: Ledger) -> None:
    claim, many = await running(ledger), versions(10 * AT_ONCE)
    number = await half_settled(ledger, claim, many)
    with rows_changed(ledger) as commits:
        state = await ledger.settle_missing(claim, number)
        assert not state.listed
        state = await settled(ledger, claim, state)
    assert (state.listed, state.settling) == (True, False)
    assert state.changed_objects == len(many) - 1
    assert len(commits) >= 9
    assert max(count for commit in commits for count in commit.values()) == AT_ONCE


@pytest.mark.usefixtures("few_at_once")
async def test_settling_is_taken_up_where_a_dead_process_left_it(open_ledger: Opener) -> None:
    first, second = await open_ledger(), await open_ledger()
    claim, many = await running(first), versions(5 * AT_ONCE)
    number = await half_settled(first, claim, many)
    before = await first.settle_missing(claim, number)

    assert await second.current_pass(claim) == before
    assert await second.record_page(claim, number, many[:1], None, None) == before, "entered already"
    state = await settled(second, claim, before)

    assert state.changed_objects == len(many) - 1
    assert await second.settle_missing(claim, number) == state, "and changes nothing any more"
    assert (await actions(second)).count("pass.listed") == 2
    swept = await carry(second)
    assert [row.source.key for row in swept] == [each.key for each in many[1:]]


@pytest.mark.usefixtures("few_at_once")
async def test_what_a_pass_left_unsettled_is_settled_by_the_next(ledger: Ledger) -> None:
    claim, many = await running(ledger), versions(5 * AT_ONCE)
    await half_settled(ledger, claim, many)
    kept = many[: 2 * AT_ONCE]

    state = await list_all(ledger, claim, kept)

    assert state.listed
    carried = {row.source.key: row.state for row in await carry(ledger)}
    swept = {key for key, at in carried.items() if at == "vanished"}
    assert swept == {each.key for each in many[2 * AT_ONCE :]}
    assert (await ledger.counts(claim)).objects_verified == len(kept)


@pytest.mark.usefixtures("few_at_once")
async def test_a_settling_pass_takes_no_further_page(ledger: Ledger) -> None:
    claim, many = await running(ledger), versions(3 * AT_ONCE)
    await list_all(ledger, claim, many)
    await carry(ledger)
    number = (await ledger.begin_pass(claim, None)).number
    await ledger.record_page(claim, number, many[:1], None, "page 2")
    with pytest.raises(ConflictError, match="isn't complete"):
        await ledger.settle_missing(claim, number)
    assert (await ledger.record_page(claim, number, [], "page 2", None)).settling

    with pytest.raises(ConflictError, match="does not follow"):
        await ledger.record_page(claim, number, many, None, None)
    with pytest.raises(ConflictError, match="latest"):
        await ledger.settle_missing(claim, number - 1)


@pytest.mark.usefixtures("few_at_once")
async def test_nothing_is_switched_while_a_pass_is_settling(ledger: Ledger) -> None:
    claim, many = await running(ledger), versions(3 * AT_ONCE)
    await list_all(ledger, claim, many)
    await carry(ledger)
    epoch = (await begin_pause(ledger, claim)).epoch
    number = (await ledger.begin_pass(claim, epoch)).number
    state = await ledger.record_page(claim, number, many[:1], None, None)
    await carry(ledger)

    with pytest.raises(ConflictError, match="to its end"):
        await ledger.switch(claim, dedicating(epoch))
    await settled(ledger, claim, state)
    await carry(ledger)
    assert (await ledger.switch(claim, dedicating(epoch))).phase == "dedicated"


async def test_a_dedicated_tenants_rows_are_settled_no_more(ledger: Ledger) -> None:
    claim = await dedicated(ledger, versions(1))
    listed = await ledger.current_pass(claim)
    assert listed is not None
    assert await ledger.settle_missing(claim, listed.number) == listed


async def test_what_was_dropped_once_costs_no_later_pass_anything(ledger: Ledger) -> None:
    claim, many = await running(ledger), versions(50)
    await list_all(ledger, claim, many)
    await work(
        ledger, lambda row: ObjectOutcome(row.source, "dropped" if row.source != many[0] else "failed", "why")
    )
    with rows_changed(ledger) as commits:
        state = await list_all(ledger, claim, [many[0], version("new")])
    assert state.changed_objects == 2
    assert sum(count for commit in commits for count in commit.values()) <= 3

    state = await list_all(ledger, claim, [many[1]])
    assert state.changed_objects == 3, "what was dropped is listed again where it is back"


@pytest.mark.usefixtures("few_at_once")
async def test_in_a_pause_what_was_dropped_is_swept_once_more_some_at_a_time(ledger: Ledger) -> None:
    claim, many = await running(ledger), versions(2 * AT_ONCE + 5)
    await list_all(ledger, claim, many)
    await carry(ledger)
    state = await list_all(ledger, claim, [])
    while not state.listed:
        state = await ledger.settle_missing(claim, state.number)
    await carry(ledger)

    epoch = (await begin_pause(ledger, claim)).epoch
    number = (await ledger.begin_pass(claim, epoch)).number
    state = await ledger.record_page(claim, number, [], None, None)
    settlings = 0
    while not state.listed:
        with rows_changed(ledger) as commits:
            state = await ledger.settle_missing(claim, number)
        settlings += 1
        assert all(sum(commit.values()) <= 2 * AT_ONCE for commit in commits)
    assert settlings == 2
    swept = await work(ledger, lambda row: ObjectOutcome(row.source, "dropped"), "sweep")
    assert sorted(row.source.key for row in swept) == sorted(each.key for each in many)
    assert {row.state for row in swept} == {"vanished"}
    assert (await ledger.switch(claim, dedicating(epoch))).phase == "dedicated"
