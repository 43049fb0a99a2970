"""Worlds to move a tenant in, each with a ledger of its own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rekeyd.jobs import worker
from rekeyd.ledger.sql import SqlLedger
from tests.jobs.world import World

MakeWorld = Callable[..., World]


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated ledger, to be copied: the migrations take longer than most tests."""
    path = tmp_path_factory.mktemp("empty-ledger") / "empty.db"

    async def make() -> None:
        await (await SqlLedger.open(f"sqlite://{path}")).close()

    asyncio.run(make())
    return path


@pytest.fixture
def make_world(empty_ledger: Path, tmp_path: Path) -> MakeWorld:
    made = 0

    def make(*, server_side: bool = False, versioned: bool = False, object_lock: bool = False) -> World:
        nonlocal made
        made += 1
        path = tmp_path / f"ledger-{made}.db"
        shutil.copy(empty_ledger, path)
        return World(path, server_side=server_side, versioned=versioned, object_lock=object_lock)

    return make


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """Two stores: objects are streamed."""
    return make_world()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job whose attempt failed is due again at once."""
    monkeypatch.setattr(worker, "_RETRY_SECONDS_BASE", 0.01)
