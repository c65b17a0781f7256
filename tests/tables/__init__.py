"""Small tables with the columns of the real data sets: files for the loopback hub, rows at hand for a task.

One module a data set, each with REPO, CONFIG (None where the data set has no configurations) and `splits()`,
the rows of every split: made up, always the same, with some that a filter has to remove.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from fsearch.tasks.sources import Origin, Rows, Sources


def all_tables() -> list[ModuleType]:
    """The modules of this folder."""
    return [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]


class Tables(Sources):
    """Sources that have the tables at hand, so that a task can be tried without a hub."""

    def hub(self, repo: str, config: str | None, split: str, revision: str = "main") -> Rows:
        table = next(table for table in all_tables() if (repo, config) == (table.REPO, table.CONFIG))
        rows: list[dict[str, Any]] = table.splits()[split]
        self.origins.append(Origin(name=repo, revision=revision, commit="4" * 40, sha256="0" * 64))
        return rows
