"""The material that the provider encrypts with under a key: another one shows that it was rotated."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("keys", sa.Column("material_id", sa.Text()))
