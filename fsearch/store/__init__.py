"""The record: SQLite through SQLAlchemy. One writer (`Store`), any number of viewers (`open_reader`).

It keeps rows and gives them back; it decides nothing. Importing it imports neither alembic nor numpy.
"""

from __future__ import annotations

from fsearch.store.errors import (
    StoreConflict,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreMissing,
    StoreNetworkFileSystem,
    StoreNewer,
    StoreOlder,
    StoreReadOnly,
    StoreUnreadable,
)
from fsearch.store.reader import Reader, open_reader
from fsearch.store.records import (
    DaemonRecord,
    Evaluation,
    Event,
    ExampleScores,
    PlanRecord,
    Result,
    Sample,
)
from fsearch.store.writer import Store

__all__ = [
    "DaemonRecord",
    "Evaluation",
    "Event",
    "ExampleScores",
    "PlanRecord",
    "Reader",
    "Result",
    "Sample",
    "Store",
    "StoreConflict",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreMissing",
    "StoreNetworkFileSystem",
    "StoreNewer",
    "StoreOlder",
    "StoreReadOnly",
    "StoreUnreadable",
    "open_reader",
]
