"""A ledger that a process opens a second time goes on showing what other processes commit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa

from rekeyd.ledger.sql import SqlLedger

WRITES = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    db.execute(
        "INSERT INTO keys (ref, tenant, kind, state, created_at, changed_at)"
        " VALUES (?, 'acme', 'kms', 'active', 0, 0)",
        sys.argv[2:],
    )
db.close()
"""


async def test_what_another_process_commits_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = await SqlLedger.open(f"sqlite://{path}")
    try:
        assert (await ledger.summary()).keys == {}
        await (await SqlLedger.open(f"sqlite://{path}")).close()
        assert (await ledger.summary()).keys == {}

        for count in (1, 2, 3):
            writing = [sys.executable, "-c", WRITES, str(path), f"key {count}"]
            await asyncio.to_thread(subprocess.run, writing, check=True)
            assert (await ledger.summary()).keys == {"active": count}
        async with ledger._reading.connect() as connection:
            assert (await connection.execute(sa.text("PRAGMA integrity_check"))).scalar_one() == "ok"
    finally:
        await ledger.close()
