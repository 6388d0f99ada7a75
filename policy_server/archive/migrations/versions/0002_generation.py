"""The highest number of a ledger that any rebuild was given."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column."""
    op.add_column("account", sa.Column("generation", sa.BigInteger, nullable=False, server_default="0"))
