"""An attempt's metrics, and how long a server that refused asked to be left alone."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE attempt ADD COLUMN metrics TEXT DEFAULT '{}' NOT NULL")
    op.execute("ALTER TABLE attempt ADD COLUMN retry_after_s REAL")
