"""A ledger that was restored from a backup: no tenant that has moved is sent back to its source."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest

from tests.e2e.harness import Scene, small_items
from tests.e2e.test_kills import JOB

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_restored_ledger_sends_nobody_back_to_a_source_that_was_left(scene: Scene) -> None:
    await scene.open()
    acme = await scene.tenant("acme", small_items(5))
    path, backup = scene.folder / "ledger.db", scene.folder / "backup.db"
    await scene.admit(acme.message("cancelled"))
    assert (await scene.run_here("cancel", "cancelled")).status == 0
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(backup)) as copy:
        db.backup(copy)
    await scene.admit(acme.message())
    async with scene.ledger() as ledger, scene.serving() as served:
        await ledger.until_state(JOB, "completed")
        assert await served.daemon.stop() == 0

    forget(scene)
    shutil.copy(backup, path)
    async with scene.serving() as served:
        await served.until_logged("ledger_behind")
        assert await served.daemon.stop() == 0
    ran = await scene.run_here("placement", "acme")
    assert (ran.status, ran.printed) == (1, "")
    assert "older than the target" in ran.said

    # A ledger that was begun anew has never heard of the tenant; of another one there is nothing to hear.
    forget(scene)
    await scene.admit((await scene.tenant("globex", small_items(1))).message("another"))
    ran = await scene.run("placement", "acme")
    assert (ran.status, ran.printed) == (1, "")
    assert "has never heard of the tenant" in ran.said
    ran = await scene.run("placement", "initech", "--json")
    assert (ran.status, ran.document["phase"]) == (0, "shared")


def forget(scene: Scene) -> None:
    for file in scene.folder.glob("ledger.db*"):
        file.unlink()
