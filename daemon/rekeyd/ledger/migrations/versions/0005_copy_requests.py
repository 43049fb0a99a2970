"""The ids of the requests that made an object's copies."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("objects", sa.Column("copy_requests", sa.Text(), server_default="", nullable=False))
