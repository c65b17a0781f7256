"""What an attempt scored at the look."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("ALTER TABLE attempt ADD COLUMN look_score REAL")
