"""The ledger's database: how it is opened, and how its tables come to be."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from rekeyd.domain.errors import LedgerError
from rekeyd.ledger.schema import SCHEMA_REVISION

BUSY_SECONDS_MAX = 10.0
"""How long a write waits for another process's before it fails."""
READERS_MAX = 4
"""Connections for reading. In WAL mode readers and the writer don't block each other (sqlite.org/wal.html)."""
_CUTTING_MILLISECONDS_MAX = 200
READER_WAIT_SECONDS_MAX = 10.0
"""How long a read waits for one of them."""

MIGRATIONS = Path(__file__).parents[1] / "migrations"


def sqlite_path(url: str) -> Path:
    """The file that `sqlite:///var/lib/rekeyd/ledger.db` names: /var/lib/rekeyd/ledger.db.

    An absolute path, as in any URL with an empty host; SQLAlchemy's four slashes mean the same.
    Raises LedgerError for any other URL.
    """
    scheme, _, path = url.partition("://")
    if scheme != "sqlite":
        raise LedgerError(f"ledger.url: {scheme or 'nothing'} is no database that rekeyd can use")
    if not path.startswith("/") or not path.strip("/") or "?" in path:
        raise LedgerError("ledger.url: sqlite:/// is followed by the file's absolute path")
    return Path("/" + path.lstrip("/"))


def check_there(path: Path) -> None:
    """Raises LedgerError, and makes nothing, where there is no such file."""
    if not is_there(path):
        raise LedgerError(f"there is no ledger {path}: `rekeyd serve` makes it, and `rekeyd submit`")


def check_makeable(path: Path) -> None:
    """Raises LedgerError, and makes nothing, where `make_private_file` would fail for want of a folder to write to."""
    there = next((folder for folder in path.parents if is_there(folder)), Path("/"))
    if not there.is_dir():
        raise LedgerError(f"the ledger {path} can't be made: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise LedgerError(f"the ledger {path} can't be made: {there} is not this user's to write to")


def is_there(path: Path) -> bool:
    """Whether there is a file or folder. Raises LedgerError where that can't be known."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise LedgerError(f"the ledger {path} can't be looked for: {error}") from error
    return True


def make_private_file(path: Path) -> None:
    """Make the file, for its owner alone, in a folder for its owner alone; what is there already stays as it is.

    SQLite gives its -wal and -shm files the permissions of the database file.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A file that is there is not opened: closing it again would take from this process all locks that SQLite
        # holds on it (sqlite.org/howtocorrupt.html, section 2.2), and other processes would discard the WAL.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # The journal mode is a property of the file. Changing it takes the file alone, for which SQLite doesn't
        # wait: done here, before any connection of a pool.
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS_MAX)) as first:
            first.execute("PRAGMA journal_mode = WAL")
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(f"the ledger {path} can't be opened: {error}") from error


def writing_engine(path: Path) -> AsyncEngine:
    """One connection whose transactions begin with the write lock, and whose commits are on the disk."""
    return _engine(
        path,
        connections=1,
        begin="BEGIN IMMEDIATE",
        # FULL: a commit in WAL mode survives a power failure (sqlite.org/pragma.html#pragma_synchronous).
        # secure_delete: what was wrapped is overwritten with zeros once it's forgotten, not only let go of.
        pragmas=("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"),
    )


def reading_engine(path: Path) -> AsyncEngine:
    """A few connections that can't write. A transaction sees one state of the database throughout."""
    return _engine(path, connections=READERS_MAX, begin="BEGIN", pragmas=("query_only = ON",))


async def cut_log(engine: AsyncEngine) -> bool:
    """Move the write-ahead log into the database and cut it to nothing: what was overwritten is in neither, then.

    Gives whether that was done: somebody who reads just now prevents it, and isn't waited for
    (sqlite.org/pragma.html#pragma_wal_checkpoint, "SQLITE_CHECKPOINT_TRUNCATE").
    """
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None, "an open connection has one"
        await driver.execute(f"PRAGMA busy_timeout = {_CUTTING_MILLISECONDS_MAX}")
        try:
            cursor = await driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy, _, _ = await cursor.fetchone()
            await cursor.close()
        finally:
            await driver.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS_MAX * 1000)}")
    return not busy


def _engine(path: Path, *, connections: int, begin: str, pragmas: tuple[str, ...]) -> AsyncEngine:
    engine = create_async_engine(
        sa.URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=READER_WAIT_SECONDS_MAX,
        connect_args={"timeout": BUSY_SECONDS_MAX},
    )

    # sqlite3 would begin transactions by itself, late and deferred. SQLAlchemy's documentation, "Enabling
    # Non-Legacy SQLite Transactional Modes", takes that away from it in these two hooks.
    @event.listens_for(engine.sync_engine, "connect")
    def _connected(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def migrate(db: Connection) -> None:
    """Bring the tables to SCHEMA_REVISION, in the transaction that `db` is in.

    With the write lock taken first, a second process that does the same waits and finds it done.
    Raises LedgerError for a schema that is newer than this rekeyd.
    """
    found = revision(db)
    if found == SCHEMA_REVISION:
        return
    if found is not None and found not in known_revisions():
        raise LedgerError(_foreign(found))
    # Imported only by the one process that migrates: a command that reads a job shouldn't wait for it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = db
    command.upgrade(config, SCHEMA_REVISION)


def known_revisions() -> set[str]:
    """The names of all migrations that this rekeyd has."""
    return {path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.py")}


def revision(db: Connection) -> str | None:
    """The migration that was run last; None before the first."""
    if not sa.inspect(db).has_table("alembic_version"):
        return None
    return db.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def check_revision(db: Connection) -> None:
    """Raises LedgerError unless the schema is this rekeyd's."""
    found = revision(db)
    if found != SCHEMA_REVISION:
        raise LedgerError(_foreign(found))


def _foreign(found: str | None) -> str:
    advice = "; `rekeyd serve` brings it up to date" if found in known_revisions() else ""
    return f"the ledger's schema is {found or 'missing'}, this rekeyd knows {SCHEMA_REVISION}{advice}"
