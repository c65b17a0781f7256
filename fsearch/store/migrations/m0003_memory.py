"""What memory an attempt might take."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("ALTER TABLE attempt ADD COLUMN memory_mib INTEGER")
