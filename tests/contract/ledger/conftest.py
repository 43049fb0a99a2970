"""The adapters of the ledger, each on a database of its own for every test."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from rekeyd.ledger.port import Ledger
from rekeyd.ledger.sql import SqlLedger

Opener = Callable[[], Awaitable[Ledger]]
"""Opens the test's database, as another process would."""


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger, to be copied: the migrations take longer than most tests."""
    path = tmp_path_factory.mktemp("ledger") / "empty.db"

    async def make() -> None:
        await (await SqlLedger.open(f"sqlite://{path}")).close()

    asyncio.run(make())
    return path


@pytest.fixture(params=["sqlite"])
async def open_ledger(
    request: pytest.FixtureRequest, migrated: Path, tmp_path: Path
) -> AsyncIterator[Opener]:
    assert request.param == "sqlite"
    path = tmp_path / "ledger.db"
    shutil.copy(migrated, path)
    opened: list[Ledger] = []

    async def open_one_more() -> Ledger:
        opened.append(await SqlLedger.open(f"sqlite://{path}"))
        return opened[-1]

    yield open_one_more
    for ledger in opened:
        await ledger.close()


@pytest.fixture
async def ledger(open_ledger: Opener) -> Ledger:
    return await open_ledger()


@pytest.fixture
async def other(open_ledger: Opener) -> Ledger:
    """The same database, seen from another process."""
    return await open_ledger()
