"""How long the device stood idle before an attempt's first step."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("ALTER TABLE attempt ADD COLUMN idle_s REAL")
