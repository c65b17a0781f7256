"""Where rows come from: the hub, a file, a table that is packaged or that `fsearch data fetch` made."""

from fsearch.tasks.sources.rows import DataRefused, Origin, Row, Rows
from fsearch.tasks.sources.sources import Sources

__all__ = ["DataRefused", "Origin", "Row", "Rows", "Sources"]
