"""Tasks: argument schemas, examples, prepared data. One module a task; numpy and pydantic, no torch."""

from fsearch.tasks.registry import announced, create, label, schemas
from fsearch.tasks.task import Arguments, DataShort, Example, Task

__all__ = ["Arguments", "DataShort", "Example", "Task", "announced", "create", "label", "schemas"]
