"""The first released schema: every table of the record.

Plain SQL, so that it stays what was released whatever `fsearch.store.tables` becomes.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE "plan" (
        id TEXT NOT NULL,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        path TEXT NOT NULL,
        text TEXT NOT NULL,
        first_asked TEXT NOT NULL,
        CONSTRAINT pk_plan PRIMARY KEY (id),
        CONSTRAINT uq_plan_position UNIQUE (position)
    )
    """,
    """
    CREATE TABLE fact (
        kind TEXT NOT NULL,
        "key" TEXT NOT NULL,
        payload TEXT NOT NULL,
        updated TEXT NOT NULL,
        CONSTRAINT pk_fact PRIMARY KEY (kind, "key")
    )
    """,
    """
    CREATE TABLE daemon (
        id TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        pid INTEGER NOT NULL,
        pid_started REAL,
        host TEXT NOT NULL,
        "plan" TEXT NOT NULL,
        lock TEXT NOT NULL,
        sqlite_version TEXT NOT NULL,
        started TEXT NOT NULL,
        beat_at TEXT NOT NULL,
        step TEXT NOT NULL,
        ended TEXT,
        CONSTRAINT pk_daemon PRIMARY KEY (id),
        CONSTRAINT uq_daemon_sequence UNIQUE (sequence)
    )
    """,
    """
    CREATE TABLE attempt (
        id TEXT NOT NULL,
        try INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        ended_sequence INTEGER,
        "plan" TEXT NOT NULL,
        search TEXT NOT NULL,
        search_key TEXT NOT NULL,
        task TEXT NOT NULL,
        arguments TEXT NOT NULL,
        model TEXT NOT NULL,
        recipe TEXT NOT NULL,
        batch INTEGER NOT NULL,
        micro_batch INTEGER NOT NULL,
        stage TEXT NOT NULL,
        role TEXT NOT NULL,
        steps INTEGER NOT NULL,
        halves TEXT NOT NULL,
        evaluate TEXT NOT NULL,
        variant TEXT NOT NULL,
        form TEXT NOT NULL,
        seed INTEGER NOT NULL,
        master_seed INTEGER NOT NULL,
        outcome TEXT,
        outcome_class TEXT,
        reason TEXT NOT NULL,
        pattern TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        daemon TEXT,
        ended_monotonic_s REAL NOT NULL,
        score REAL,
        loss REAL,
        acc_pooled REAL,
        screen_score REAL,
        screen_loss REAL,
        steps_done INTEGER NOT NULL,
        tokens INTEGER NOT NULL,
        backend TEXT NOT NULL,
        first_losses TEXT NOT NULL,
        early_weights_sha256 TEXT NOT NULL,
        weights_sha256 TEXT NOT NULL,
        seconds TEXT NOT NULL,
        peak_memory_mib REAL,
        energy_mj REAL,
        fingerprints TEXT NOT NULL,
        pid INTEGER,
        pid_started REAL,
        started_at TEXT NOT NULL,
        ended_at TEXT NOT NULL,
        CONSTRAINT pk_attempt PRIMARY KEY (id, try),
        CONSTRAINT ck_attempt_ended_wholly CHECK (
            (outcome IS NULL) = (outcome_class IS NULL) AND (outcome IS NULL) = (ended_sequence IS NULL)
        ),
        CONSTRAINT uq_attempt_sequence UNIQUE (sequence),
        CONSTRAINT uq_attempt_ended_sequence UNIQUE (ended_sequence),
        CONSTRAINT fk_attempt_plan FOREIGN KEY("plan") REFERENCES "plan" (id),
        CONSTRAINT fk_attempt_daemon FOREIGN KEY(daemon) REFERENCES daemon (id)
    )
    """,
    'CREATE INDEX ix_attempt_plan ON attempt ("plan")',
    "CREATE INDEX ix_attempt_search_key ON attempt (search_key)",
    "CREATE INDEX ix_attempt_unfinished ON attempt (sequence) WHERE outcome IS NULL",
    """
    CREATE TABLE evaluation (
        attempt TEXT NOT NULL,
        try INTEGER NOT NULL,
        step INTEGER NOT NULL,
        half TEXT NOT NULL,
        score REAL,
        acc_pooled REAL,
        loss REAL,
        examples INTEGER NOT NULL,
        CONSTRAINT pk_evaluation PRIMARY KEY (attempt, try, step, half),
        CONSTRAINT fk_evaluation_attempt FOREIGN KEY(attempt, try) REFERENCES attempt (id, try)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE example_score (
        attempt TEXT NOT NULL,
        try INTEGER NOT NULL,
        half TEXT NOT NULL,
        examples INTEGER NOT NULL,
        packed BLOB NOT NULL,
        CONSTRAINT pk_example_score PRIMARY KEY (attempt, try, half),
        CONSTRAINT fk_example_score_attempt FOREIGN KEY(attempt, try) REFERENCES attempt (id, try)
    )
    """,
    """
    CREATE TABLE telemetry (
        attempt TEXT NOT NULL,
        try INTEGER NOT NULL,
        offset_s REAL NOT NULL,
        utilisation REAL,
        memory_mib REAL,
        power_w REAL,
        temperature_c REAL,
        energy_mj REAL,
        CONSTRAINT pk_telemetry PRIMARY KEY (attempt, try, offset_s),
        CONSTRAINT fk_telemetry_attempt FOREIGN KEY(attempt, try) REFERENCES attempt (id, try)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE event (
        sequence INTEGER NOT NULL,
        time TEXT NOT NULL,
        level TEXT NOT NULL,
        text TEXT NOT NULL,
        attempt TEXT,
        try INTEGER,
        "plan" TEXT,
        CONSTRAINT pk_event PRIMARY KEY (sequence)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
