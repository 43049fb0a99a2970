"""Certificates, checkpoints of the audit trail, and the ids of the requests that deleted a source."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("objects", sa.Column("delete_requests", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "certificates",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_certificates_job_id"),
        sa.PrimaryKeyConstraint("job_id", name="pk_certificates"),
    )
    op.create_index("ix_certificates_tenant", "certificates", ["tenant", "recorded_at"])
    op.create_table(
        "checkpoints",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("written", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_checkpoints"),
    )
