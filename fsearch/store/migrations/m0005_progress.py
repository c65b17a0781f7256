"""What a daemon says of the attempt that trains."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("ALTER TABLE daemon ADD COLUMN progress TEXT DEFAULT '{}' NOT NULL")
