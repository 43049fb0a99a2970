"""ledger.sql.commits: writes that come together share a commit, and only that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from rekeyd.domain.errors import ConflictError, LedgerError
from rekeyd.ledger.sql.commits import UNITS_COMMITTED_MAX, UNITS_WAITING_MAX, GroupCommits
from rekeyd.ledger.sql.engine import make_private_file, writing_engine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    make_private_file(tmp_path / "x.db")
    engine = writing_engine(tmp_path / "x.db")
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE seen (n INTEGER PRIMARY KEY)")
        await connection.exec_driver_sql(
            "CREATE TABLE late (n INTEGER REFERENCES seen DEFERRABLE INITIALLY DEFERRED)"
        )
    yield engine
    await engine.dispose()


@pytest.fixture
def batches() -> list[int]:
    return []


@pytest.fixture
async def commits(engine: AsyncEngine, batches: list[int]) -> AsyncIterator[GroupCommits]:
    commits = GroupCommits(engine, lambda _, units: batches.append(units))
    yield commits
    await commits.close()


class Put:
    """A unit that puts a number, then does as it is told."""

    def __init__(self, number: int, then: Exception | None = None) -> None:
        self.number = number
        self.then = then
        self.began = False

    def __call__(self, db: Connection) -> int:
        self.began = True
        db.execute(sa.text("INSERT INTO seen VALUES (:n)"), {"n": self.number})
        if self.then is not None:
            raise self.then
        return self.number


def break_the_commit(db: Connection) -> None:
    db.execute(sa.text("INSERT INTO late VALUES (-1)"))


def break_the_transaction(db: Connection) -> None:
    db.execute(sa.text("SELECT * FROM nowhere"))


async def seen(engine: AsyncEngine) -> list[int]:
    async with engine.connect() as connection:
        return list((await connection.execute(sa.text("SELECT n FROM seen ORDER BY n"))).scalars())


async def test_writes_that_come_together_share_a_transaction(
    commits: GroupCommits, engine: AsyncEngine, batches: list[int]
) -> None:
    results = await asyncio.gather(*(commits.submit(Put(number)) for number in range(100)))

    assert results == list(range(100)) == await seen(engine)
    assert sum(batches) == 100
    assert len(batches) <= 100 // UNITS_COMMITTED_MAX + 2
    assert max(batches) <= UNITS_COMMITTED_MAX


async def test_a_refused_unit_undoes_itself_alone(commits: GroupCommits, engine: AsyncEngine) -> None:
    results = await asyncio.gather(
        *(commits.submit(Put(number, ConflictError("x") if number % 3 else None)) for number in range(9)),
        commits.submit(Put(0)),  # breaks a constraint
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [int, ConflictError, ConflictError] * 3 + [LedgerError]
    assert await seen(engine) == [0, 3, 6]


@pytest.mark.parametrize("breaking", [break_the_commit, break_the_transaction])
async def test_where_the_commit_fails_nobody_is_told_otherwise(
    commits: GroupCommits, engine: AsyncEngine, breaking: object
) -> None:
    results = await asyncio.gather(
        commits.submit(Put(1)),
        commits.submit(breaking),  # type: ignore[arg-type]
        commits.submit(Put(2, ConflictError("x"))),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [LedgerError] * 3
    assert await seen(engine) == []
    assert await commits.submit(Put(3)) == 3, "the writer goes on"


async def test_a_caller_that_gives_up_before_its_turn_leaves_nothing(
    commits: GroupCommits, engine: AsyncEngine
) -> None:
    unit = Put(1)
    task = asyncio.create_task(commits.submit(unit))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert await commits.submit(Put(2)) == 2
    assert (unit.began, await seen(engine)) == (False, [2])


async def test_a_caller_that_gives_up_later_does_not_break_the_commit(
    commits: GroupCommits, engine: AsyncEngine
) -> None:
    unit = Put(1)
    tasks = [asyncio.create_task(commits.submit(each)) for each in (unit, Put(2))]
    while not unit.began:  # noqa: ASYNC110 - it runs in no task that could set an event
        await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait(tasks)

    assert tasks[0].cancelled()
    assert tasks[1].result() == 2
    assert await seen(engine) == [1, 2]


async def test_no_more_wait_than_there_is_room_for(commits: GroupCommits, engine: AsyncEngine) -> None:
    units = [Put(number) for number in range(2 * UNITS_WAITING_MAX)]
    tasks = [asyncio.create_task(commits.submit(unit)) for unit in units]
    await asyncio.sleep(0)

    assert len(commits._waiting) <= UNITS_WAITING_MAX
    await asyncio.gather(*tasks)
    assert len(await seen(engine)) == len(units)


async def test_closing_commits_what_waits_and_takes_no_more(
    commits: GroupCommits, engine: AsyncEngine
) -> None:
    tasks = [asyncio.create_task(commits.submit(Put(number))) for number in range(UNITS_WAITING_MAX)]
    late = [asyncio.create_task(commits.submit(Put(-1 - number))) for number in range(3)]
    await asyncio.sleep(0)

    await commits.close()

    assert [task.result() for task in tasks] == list(range(UNITS_WAITING_MAX))
    assert {type(error) for error in await asyncio.gather(*late, return_exceptions=True)} == {LedgerError}
    with pytest.raises(LedgerError):
        await commits.submit(Put(1000))
    assert await seen(engine) == list(range(UNITS_WAITING_MAX))
