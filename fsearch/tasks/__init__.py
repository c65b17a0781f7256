"""Tasks: argument schemas, examples, prepared data. One module a task; numpy and pydantic, no torch."""

from fsearch.tasks.registry import create, label, schemas
from fsearch.tasks.sources import DataRefused, Origin, Sources
from fsearch.tasks.task import Arguments, DataShort, Example, Task

__all__ = [
    "Arguments",
    "DataRefused",
    "DataShort",
    "Example",
    "Origin",
    "Sources",
    "Task",
    "create",
    "label",
    "schemas",
]
