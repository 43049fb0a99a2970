"""Keys that tenants bring: their fingerprints, and what was wrapped until it is imported."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("keys", sa.Column("fingerprint", sa.Text(), nullable=True))
    op.add_column("keys", sa.Column("wrapped", sa.Text(), nullable=True))
    op.add_column("keys", sa.Column("import_begun", sa.Boolean(), server_default=sa.false(), nullable=False))
