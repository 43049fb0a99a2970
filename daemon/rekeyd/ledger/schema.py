"""The ledger's tables. What they say here is what the migrations make: a test compares the two.

Written for SQLite and PostgreSQL alike: SQLAlchemy Core, no type or statement that only one of them has.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

SCHEMA_REVISION = "0005"
"""The migration that makes the tables what they are here."""

UNFINISHED_JOB = "jobs.finished_at IS NULL"
UNFINISHED_SEGMENT = "segments.state <> 'done'"
WAITING_OBJECT = "objects.segment_id IS NOT NULL"
FAILED_OBJECT = "objects.state = 'failed'"
UNDROPPED_OBJECT = "objects.state <> 'dropped'"
DROPPED_OBJECT = "objects.state = 'dropped'"
"""The conditions of partial indexes.

SQLite uses such an index only where the query has the same condition word for word, so queries take the
text from here (sqlite.org/partialindex.html, "Queries Using Partial Indexes").
"""


class DatabaseTime(FunctionElement[float]):
    """Seconds since 1970 (UTC) by the database's clock, at least to the millisecond."""

    type = sa.Double()
    inherit_cache = True


@compiles(DatabaseTime, "sqlite")
def _sqlite_time(_element: DatabaseTime, _compiler: SQLCompiler, **_: Any) -> str:  # noqa: ANN401 - its protocol
    # SQLite counts milliseconds inside; 'now' is the same throughout one sqlite3_step()
    # (sqlite.org/lang_datefunc.html). unixepoch('subsec') needs 3.42.
    return "round((julianday('now') - 2440587.5) * 86400.0, 3)"


@compiles(DatabaseTime, "postgresql")
def _postgresql_time(_element: DatabaseTime, _compiler: SQLCompiler, **_: Any) -> str:  # noqa: ANN401 - its protocol
    # Not now(), which is when the transaction began.
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


class KeyBytes(TypeDecorator[str]):
    """A key or a prefix as its UTF-8 bytes: ordered by byte in every database, and opaque to all of them.

    As text, PostgreSQL would order it by locale and refuse NUL.
    """

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> bytes | None:
        del dialect
        return None if value is None else value.encode("utf-8", "surrogatepass")

    def process_result_value(self, value: bytes | None, dialect: sa.Dialect) -> str | None:
        del dialect
        return None if value is None else value.decode("utf-8", "surrogatepass")


class Unsigned64(TypeDecorator[int]):
    """A 64-bit checksum in a signed 64-bit column, the same bits."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> int | None:
        del dialect
        return value - (1 << 64) if value is not None and value >= 1 << 63 else value

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> int | None:
        del dialect
        return value + (1 << 64) if value is not None and value < 0 else value


# SQLite gives out row ids only for a primary key declared INTEGER.
_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

moves = sa.Table(
    "moves",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    # Counted in the transaction that opens or ends a segment, so that nobody has to count them.
    sa.Column("open_segments", sa.Integer, nullable=False, server_default="0"),
    sa.Column("open_retirements", sa.Integer, nullable=False, server_default="0"),
    # How far the verified objects have been put into retire segments.
    sa.Column("retire_after", KeyBytes),
    sa.Column("retire_planned", sa.Boolean, nullable=False, server_default=sa.false()),
    # The terms under which its rows count as verified; null before the first pass.
    sa.Column("terms_key", sa.Text),
    sa.Column("terms_verify", sa.Text),
    # The control object that was proposed last for its target, and the epoch of the one that took effect last.
    sa.Column("proposed_control", sa.Text),
    sa.Column("control_epoch", sa.BigInteger),
    # The token in the target's canary, recorded before that is written; null until then.
    sa.Column("canary", sa.Text),
    sa.UniqueConstraint("tenant", "source", "target"),
)

locations = sa.Table(
    "locations",
    metadata,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("bucket", sa.Text, primary_key=True),
    sa.Column("prefix", KeyBytes, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("ref", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    # Of a revoked one: the state that it had before.
    sa.Column("former_state", sa.Text),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False),
    # Where the provider has it. Null while it is still to be imported.
    sa.Column("arn", sa.Text),
    sa.Column("alias", sa.Text),
    # Of a key that was brought: what its material is known by.
    sa.Column("fingerprint", sa.Text),
    # What was wrapped, as the message had it: until it's imported, refused or withdrawn, and no longer.
    sa.Column("wrapped", sa.Text),
    # Whether an import was begun whose end isn't known.
    sa.Column("import_begun", sa.Boolean, nullable=False, server_default=sa.false()),
    # What the provider encrypts with under it, as it was last seen; null as long as that was never told.
    sa.Column("material_id", sa.Text),
)

placements = sa.Table(
    "placements",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("target", sa.Text),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("key_ref", sa.Text, sa.ForeignKey("keys.ref")),
    sa.Column("pause_ends_at", sa.Double),
    sa.Column("writes_from", sa.Double),
    # The highest epoch that was ever proposed.
    sa.Column("proposed_epoch", sa.BigInteger, nullable=False, server_default="0"),
    # Of a revoked tenant: the phase in which it goes on once reinstated, and the job that revoked it.
    sa.Column("revoked_from", sa.Text),
    sa.Column("revoked_by", sa.Text),
    # Why it must not be served from this ledger; null: it may.
    sa.Column("distrusted", sa.Text),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("move_id", _Id, sa.ForeignKey("moves.id"), nullable=False),
    sa.Column("key_ref", sa.Text, sa.ForeignKey("keys.ref"), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("body_sha256", sa.Text, nullable=False),
    sa.Column("grace_seconds", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("admitted_by", sa.Text, nullable=False),
    sa.Column("approved_by", sa.Text),
    sa.Column("accepted_by", sa.Text),
    # What it found or did: canonical JSON.
    sa.Column("result", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("held_reason", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # Null: only a person has it picked up.
    sa.Column("due_at", sa.Double),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),
    # Set exactly while the state is one of completed, failed, cancelled.
    sa.Column("finished_at", sa.Double),
    sa.Column("holder", sa.Text),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("lease_expires_at", sa.Double),
    # When one of its segments was last claimed: moves take turns.
    sa.Column("segment_claimed_at", sa.Double, nullable=False, server_default="0"),
)
sa.Index(
    "ix_jobs_unfinished",
    jobs.c.priority.desc(),
    jobs.c.created_at,
    jobs.c.id,
    sqlite_where=sa.text(UNFINISHED_JOB),
    postgresql_where=sa.text(UNFINISHED_JOB),
)
sa.Index("ix_jobs_tenant", jobs.c.tenant, jobs.c.created_at, jobs.c.id)
sa.Index("ix_keys_tenant", keys.c.tenant, keys.c.created_at, keys.c.ref)
sa.Index("ix_jobs_state", jobs.c.state, jobs.c.created_at, jobs.c.id)
sa.Index("ix_jobs_created_at", jobs.c.created_at, jobs.c.id)

passes = sa.Table(
    "passes",
    metadata,
    sa.Column("move_id", _Id, sa.ForeignKey("moves.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("pause_epoch", sa.BigInteger),
    sa.Column("began_at", sa.Double, nullable=False),
    sa.Column("pages", sa.Integer, nullable=False, server_default="0"),
    # The cursor with which the page entered last was asked for, and the one for the next.
    sa.Column("page_after", sa.Text),
    sa.Column("resume_after", sa.Text),
    sa.Column("listed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("changed_objects", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("changed_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

segments = sa.Table(
    "segments",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("move_id", _Id, sa.ForeignKey("moves.id"), nullable=False),
    sa.Column("pass_number", sa.Integer),
    sa.Column("stage", sa.Text, nullable=False),
    # `open`, `done`
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("versions", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id")),
    sa.Column("holder", sa.Text),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("lease_expires_at", sa.Double),
    # How often whoever claimed it could not work on it since the job was begun, and why last.
    sa.Column("refusals", sa.Integer, nullable=False, server_default="0"),
    sa.Column("refusal_reason", sa.Text),
    sa.Column("refusal", sa.Text),
)
sa.Index(
    "ix_segments_unfinished",
    segments.c.move_id,
    segments.c.state,
    segments.c.id,
    sqlite_where=sa.text(UNFINISHED_SEGMENT),
    postgresql_where=sa.text(UNFINISHED_SEGMENT),
)

objects = sa.Table(
    "objects",
    metadata,
    sa.Column("move_id", _Id, sa.ForeignKey("moves.id"), primary_key=True),
    sa.Column("key", KeyBytes, primary_key=True),
    # Versions and bytes of the whole history.
    sa.Column("versions", sa.Integer, nullable=False, server_default="1"),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("etag", sa.Text, nullable=False),
    sa.Column("version_id", sa.Text),
    sa.Column("modified", sa.Text),
    # The whole history, the version above included. Null where there is one version and no marker: nearly always.
    sa.Column("history", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # Set exactly while work waits for the object: then it is in this segment, which isn't done.
    sa.Column("segment_id", _Id, sa.ForeignKey("segments.id")),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    # Null where the copy's key is the source's, its prefix exchanged: nearly always.
    sa.Column("target_key", KeyBytes),
    sa.Column("target_size_bytes", sa.BigInteger),
    sa.Column("target_etag", sa.Text),
    sa.Column("target_version_id", sa.Text),
    # What stands in a target that keeps versions; null in another one.
    sa.Column("copies", sa.Text),
    sa.Column("planned_before", sa.Text),
    sa.Column("crc64nvme", Unsigned64),
    sa.Column("evidence", sa.Text, nullable=False, server_default=""),
    # The latest pass that listed it, or settled that it is missing.
    sa.Column("seen_pass", sa.Integer, nullable=False),
    # The ids of the requests that deleted its source, a space between them.
    sa.Column("delete_requests", sa.Text, nullable=False, server_default=""),
    # The ids of the requests that made what stands in the target, likewise.
    sa.Column("copy_requests", sa.Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)
sa.Index(
    "ix_objects_seen",
    objects.c.move_id,
    objects.c.seen_pass,
    sqlite_where=sa.text(UNDROPPED_OBJECT),
    postgresql_where=sa.text(UNDROPPED_OBJECT),
)
sa.Index(
    "ix_objects_dropped",
    objects.c.move_id,
    objects.c.seen_pass,
    sqlite_where=sa.text(DROPPED_OBJECT),
    postgresql_where=sa.text(DROPPED_OBJECT),
)
sa.Index(
    "ix_objects_waiting",
    objects.c.segment_id,
    objects.c.key,
    sqlite_where=sa.text(WAITING_OBJECT),
    postgresql_where=sa.text(WAITING_OBJECT),
)
sa.Index(
    "ix_objects_failed",
    objects.c.move_id,
    objects.c.key,
    sqlite_where=sa.text(FAILED_OBJECT),
    postgresql_where=sa.text(FAILED_OBJECT),
)

tallies = sa.Table(
    "tallies",
    metadata,
    sa.Column("move_id", _Id, sa.ForeignKey("moves.id"), primary_key=True),
    sa.Column("state", sa.Text, primary_key=True),
    sa.Column("objects", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("previous_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

# The signed statements of finished jobs: one a job, the first that was recorded.
certificates = sa.Table(
    "certificates",
    metadata,
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.Double, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
sa.Index("ix_certificates_tenant", certificates.c.tenant, certificates.c.recorded_at)

# The signed statements of where the audit trail stood.
checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("recorded_at", sa.Double, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    # Whether it was seen to stand where checkpoints are written to, too.
    sa.Column("written", sa.Boolean, nullable=False, server_default=sa.false()),
)
