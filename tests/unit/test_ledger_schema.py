"""The SQLite file of the ledger: its schema, its permissions, and how its busiest queries find their rows."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from rekeyd.domain.errors import LedgerError
from rekeyd.ledger.schema import SCHEMA_REVISION, metadata
from rekeyd.ledger.sql import SqlLedger
from rekeyd.ledger.sql.engine import MIGRATIONS, known_revisions, sqlite_path
from rekeyd.ledger.sql.jobs import next_job
from rekeyd.ledger.sql.passes import dropped_rows, unseen_rows
from rekeyd.ledger.sql.segments import jobs_in_turn, next_segment, rows_of_segment
from tests.patience import HANG_SECONDS


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    path = tmp_path / "kept" / "ledger.db"
    await (await SqlLedger.open(f"sqlite://{path}")).close()
    return path


def definitions(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        found = db.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name <> 'alembic_version'"
        )
        return {" ".join(sql.split()) for (sql,) in found}


def test_the_schema_is_the_sum_of_its_migrations(file: Path, tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/direct.db")
    metadata.create_all(engine)
    engine.dispose()

    assert definitions(file) == definitions(tmp_path / "direct.db")


@pytest.mark.parametrize("former", [each for each in sorted(known_revisions()) if each != SCHEMA_REVISION])
async def test_a_former_ledger_is_brought_up_and_keeps_what_it_has(
    former: str, file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "former.db"
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as db:
        config.attributes["connection"] = db
        command.upgrade(config, former)
        db.execute(sa.text("INSERT INTO moves (tenant, source, target) VALUES ('acme', 'here', 'there')"))
    engine.dispose()

    await (await SqlLedger.open(f"sqlite://{path}")).close()

    assert definitions(path) == definitions(file)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT tenant, source, target FROM moves").fetchall() == [
            ("acme", "here", "there")
        ]


def test_the_revision_is_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]
    assert SCHEMA_REVISION in known_revisions()


def test_the_schema_can_be_written_for_postgresql() -> None:
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]


def test_migrations_travel_in_the_package() -> None:
    package = Path(sys.modules["rekeyd.ledger"].__file__ or "").parent
    assert package in MIGRATIONS.parents
    assert (MIGRATIONS / "env.py").is_file()


def test_only_its_owner_reads_the_ledger(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


async def test_its_journal_is_its_owners_too_and_survives_a_power_failure(file: Path) -> None:
    ledger = await SqlLedger.open(f"sqlite://{file}")
    try:
        assert {path.name for path in file.parent.iterdir()} >= {"ledger.db", "ledger.db-wal"}
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in file.parent.iterdir())
        async with ledger._writing.connect() as connection:
            pragmas = {
                name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    finally:
        await ledger.close()


async def test_readers_cannot_write(file: Path) -> None:
    ledger = await SqlLedger.open(f"sqlite://{file}")
    try:
        async with ledger._reading.connect() as connection:
            with pytest.raises(sa.exc.OperationalError):
                await connection.exec_driver_sql("DELETE FROM jobs")
    finally:
        await ledger.close()


async def test_reading_does_not_wait_for_the_writer(file: Path) -> None:
    ledger = await SqlLedger.open(f"sqlite://{file}")
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as elsewhere:
            elsewhere.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(HANG_SECONDS):
                assert await ledger.jobs() == []
                assert await ledger.placement("acme") is not None
    finally:
        await ledger.close()


async def test_a_checked_ledger_is_this_rekeyds(file: Path) -> None:
    ledger = await SqlLedger.open(f"sqlite://{file}")
    try:
        await ledger.check()
        with closing(sqlite3.connect(file)) as db:
            db.execute("UPDATE alembic_version SET version_num = '9999'")
            db.commit()
        with pytest.raises(LedgerError, match="9999"):
            await ledger.check()
    finally:
        await ledger.close()
    with pytest.raises(LedgerError, match="9999"):
        await SqlLedger.open(f"sqlite://{file}")


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///", "sqlite://x/y", "mysql://h/d", "sqlite:////a?b=c"]
)
async def test_an_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(LedgerError, match=r"ledger\.url"):
        await SqlLedger.open(url)


@pytest.mark.parametrize("url", ["sqlite:///var/lib/rekeyd/ledger.db", "sqlite:////var/lib/rekeyd/ledger.db"])
def test_the_path_is_absolute(url: str) -> None:
    assert sqlite_path(url) == Path("/var/lib/rekeyd/ledger.db")


def no_folder(path: Path) -> None:
    path.parent.write_text("in the way", encoding="utf-8")


def no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database, whatever its name says" * 100)


@pytest.mark.parametrize("make", [no_folder, no_database])
async def test_what_cannot_be_opened_is_said_to_be(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "folder" / "ledger.db"
    make(path)
    with pytest.raises(LedgerError, match=r"ledger\.db"):
        await SqlLedger.open(f"sqlite://{path}")


def test_many_processes_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\nfrom rekeyd.ledger.sql import SqlLedger\n"
        "async def main():\n    ledger = await SqlLedger.open(sys.argv[1])\n"
        "    await ledger.check()\n    await ledger.close()\n"
        "asyncio.run(main())"
    )
    url = f"sqlite://{tmp_path}/kept/ledger.db"
    processes = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4


QUERIES = {
    "next_job": next_job(),
    "jobs_in_turn": jobs_in_turn(),
    "next_segment": next_segment(1),
    "rows_of_segment": rows_of_segment(1),
    "unseen_rows": unseen_rows(1, 2, 10),
    "dropped_rows": dropped_rows(1, 2, 10),
}
WALKS = {
    "next_job": {
        "SCAN jobs USING INDEX ix_jobs_unfinished",
        "SEARCH other USING INDEX ix_jobs_tenant (tenant=?)",
    },
    "jobs_in_turn": {"SEARCH jobs USING INDEX ix_jobs_state (state=?)"},
    "next_segment": {"SEARCH segments USING INDEX ix_segments_unfinished (move_id=? AND state=?)"},
    "rows_of_segment": {"SEARCH objects USING INDEX ix_objects_waiting (segment_id=?)"},
    "unseen_rows": {"SEARCH objects USING INDEX ix_objects_seen (move_id=? AND seen_pass<?)"},
    "dropped_rows": {"SEARCH objects USING INDEX ix_objects_dropped (move_id=? AND seen_pass<?)"},
}


@pytest.mark.parametrize("name", QUERIES)
def test_busy_queries_walk_an_index(file: Path, name: str) -> None:
    compiled = QUERIES[name].compile(dialect=sqlite.dialect(), compile_kwargs={"render_postcompile": True})
    with closing(sqlite3.connect(file)) as db:
        parameters = [compiled.params[each] for each in compiled.positiontup or ()]
        plan = {row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {compiled}", parameters)}

    assert plan >= WALKS[name]
    sorting = {step for step in plan if "TEMP B-TREE" in step}
    assert sorting <= ({"USE TEMP B-TREE FOR ORDER BY"} if name == "jobs_in_turn" else set())
    assert not {step for step in plan if step.startswith("SCAN") and "INDEX" not in step}
