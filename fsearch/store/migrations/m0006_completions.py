"""What completions came to, as a whole, by example and on the way; and metrics that could not be had."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("ALTER TABLE attempt ADD COLUMN screen_metrics TEXT DEFAULT '{}' NOT NULL")
    op.execute("ALTER TABLE attempt ADD COLUMN unavailable TEXT DEFAULT '{}' NOT NULL")
    op.execute("ALTER TABLE evaluation ADD COLUMN metrics TEXT DEFAULT '{}' NOT NULL")
    op.execute(
        """
        CREATE TABLE example_metric (
            attempt TEXT NOT NULL,
            try INTEGER NOT NULL,
            half TEXT NOT NULL,
            metric TEXT NOT NULL,
            packed BLOB NOT NULL,
            CONSTRAINT pk_example_metric PRIMARY KEY (attempt, try, half, metric),
            CONSTRAINT fk_example_metric_attempt FOREIGN KEY(attempt, try) REFERENCES attempt (id, try)
        )
        """
    )
