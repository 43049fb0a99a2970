"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _make_tenants()
    _make_jobs()
    _make_segments()
    _make_objects()
    _make_audit()


def _make_tenants() -> None:
    op.create_table(
        "moves",
        sa.Column("id", _ID, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("open_segments", sa.Integer(), server_default="0", nullable=False),
        sa.Column("open_retirements", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retire_after", sa.LargeBinary(), nullable=True),
        sa.Column("retire_planned", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("terms_key", sa.Text(), nullable=True),
        sa.Column("terms_verify", sa.Text(), nullable=True),
        sa.Column("proposed_control", sa.Text(), nullable=True),
        sa.Column("control_epoch", sa.BigInteger(), nullable=True),
        sa.Column("canary", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_moves"),
        sa.UniqueConstraint("tenant", "source", "target", name="uq_moves_tenant"),
    )
    op.create_table(
        "locations",
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("prefix", sa.LargeBinary(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("store", "bucket", "prefix", name="pk_locations"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "keys",
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("former_state", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("arn", sa.Text(), nullable=True),
        sa.Column("alias", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("ref", name="pk_keys"),
    )
    op.create_index("ix_keys_tenant", "keys", ["tenant", "created_at", "ref"])
    op.create_table(
        "placements",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("key_ref", sa.Text(), nullable=True),
        sa.Column("pause_ends_at", sa.Double(), nullable=True),
        sa.Column("writes_from", sa.Double(), nullable=True),
        sa.Column("proposed_epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("revoked_from", sa.Text(), nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.Column("distrusted", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["key_ref"], ["keys.ref"], name="fk_placements_key_ref"),
        sa.PrimaryKeyConstraint("tenant", name="pk_placements"),
    )


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("move_id", _ID, nullable=False),
        sa.Column("key_ref", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("grace_seconds", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("admitted_by", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("accepted_by", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("held_reason", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_expires_at", sa.Double(), nullable=True),
        sa.Column("segment_claimed_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["move_id"], ["moves.id"], name="fk_jobs_move_id"),
        sa.ForeignKeyConstraint(["key_ref"], ["keys.ref"], name="fk_jobs_key_ref"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_created_at", "jobs", ["created_at", "id"])
    op.create_index("ix_jobs_state", "jobs", ["state", "created_at", "id"])
    op.create_index("ix_jobs_tenant", "jobs", ["tenant", "created_at", "id"])
    _index_partly(
        "ix_jobs_unfinished",
        "jobs",
        [sa.text("priority DESC"), "created_at", "id"],
        "jobs.finished_at IS NULL",
    )


def _make_segments() -> None:
    op.create_table(
        "passes",
        sa.Column("move_id", _ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("pause_epoch", sa.BigInteger(), nullable=True),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("pages", sa.Integer(), server_default="0", nullable=False),
        sa.Column("page_after", sa.Text(), nullable=True),
        sa.Column("resume_after", sa.Text(), nullable=True),
        sa.Column("listed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("changed_objects", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("changed_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["move_id"], ["moves.id"], name="fk_passes_move_id"),
        sa.PrimaryKeyConstraint("move_id", "number", name="pk_passes"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "segments",
        sa.Column("id", _ID, nullable=False),
        sa.Column("move_id", _ID, nullable=False),
        sa.Column("pass_number", sa.Integer(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("versions", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_expires_at", sa.Double(), nullable=True),
        sa.Column("refusals", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refusal_reason", sa.Text(), nullable=True),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["move_id"], ["moves.id"], name="fk_segments_move_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_segments_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_segments"),
    )
    _index_partly(
        "ix_segments_unfinished", "segments", ["move_id", "state", "id"], "segments.state <> 'done'"
    )


def _make_objects() -> None:
    op.create_table(
        "objects",
        sa.Column("move_id", _ID, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("versions", sa.Integer(), server_default="1", nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=True),
        sa.Column("modified", sa.Text(), nullable=True),
        sa.Column("history", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("segment_id", _ID, nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("target_key", sa.LargeBinary(), nullable=True),
        sa.Column("target_size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("target_etag", sa.Text(), nullable=True),
        sa.Column("target_version_id", sa.Text(), nullable=True),
        sa.Column("copies", sa.Text(), nullable=True),
        sa.Column("planned_before", sa.Text(), nullable=True),
        sa.Column("crc64nvme", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.Text(), server_default="", nullable=False),
        sa.Column("seen_pass", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["move_id"], ["moves.id"], name="fk_objects_move_id"),
        sa.ForeignKeyConstraint(["segment_id"], ["segments.id"], name="fk_objects_segment_id"),
        sa.PrimaryKeyConstraint("move_id", "key", name="pk_objects"),
        sqlite_with_rowid=False,
    )
    _index_partly("ix_objects_seen", "objects", ["move_id", "seen_pass"], "objects.state <> 'dropped'")
    _index_partly("ix_objects_dropped", "objects", ["move_id", "seen_pass"], "objects.state = 'dropped'")
    _index_partly("ix_objects_failed", "objects", ["move_id", "key"], "objects.state = 'failed'")
    op.create_index(
        "ix_objects_waiting",
        "objects",
        ["segment_id", "key"],
        sqlite_where=sa.text("objects.segment_id IS NOT NULL"),
        postgresql_where=sa.text("objects.segment_id IS NOT NULL"),
    )
    op.create_table(
        "tallies",
        sa.Column("move_id", _ID, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("objects", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["move_id"], ["moves.id"], name="fk_tallies_move_id"),
        sa.PrimaryKeyConstraint("move_id", "state", name="pk_tallies"),
        sqlite_with_rowid=False,
    )


def _make_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", "sequence", name="pk_audit"),
        sqlite_with_rowid=False,
    )


def _index_partly(name: str, table: str, columns: list[str | sa.TextClause], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
