"""Which tasks there are, by name. Building and storing their examples is `fsearch.tasks.prepared`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from fsearch.tasks.announced import ANNOUNCED
from fsearch.tasks.infill import Infill
from fsearch.tasks.kv_recall import KvRecall
from fsearch.tasks.sudoku import Sudoku
from fsearch.tasks.task import Arguments, Task
from fsearch.tasks.task import label as label_of

TASKS: dict[str, type[Task[Any]]] = {task.name: task for task in (Infill, KvRecall, Sudoku)}


def schemas() -> dict[str, type[BaseModel]]:
    """The argument model of every task that can be run, by the task's name."""
    return {name: task.arguments_type for name, task in TASKS.items()}


def announced() -> dict[str, type[BaseModel]]:
    """The argument model of every task that is known and cannot be run yet, by the task's name."""
    return dict(ANNOUNCED)


def create(name: str, arguments: Mapping[str, Any]) -> Task[Any]:
    """The task with these arguments, defaults filled in.

    Raises ValueError for an unknown task and pydantic.ValidationError (a ValueError) for a wrong argument.
    """
    if name not in TASKS:
        why = "is not available yet" if name in ANNOUNCED else "does not exist"
        raise ValueError(f"the task {name!r} {why}; there are {', '.join(TASKS)}")
    task = TASKS[name]
    return task(task.arguments_type.model_validate(dict(arguments)))


def label(task: str, arguments: Mapping[str, Any] | BaseModel) -> str:
    """Short name such as `kv_recall q_after` or `sudoku 4x4 random n_train=512`, announced tasks too.

    Arguments that are missing have their defaults. Raises ValueError as `create` does.
    """
    models: dict[str, type[Arguments]] = {**{n: t.arguments_type for n, t in TASKS.items()}, **ANNOUNCED}
    if task not in models:
        raise ValueError(f"the task {task!r} does not exist; there are {', '.join(models)}")
    given = arguments.model_dump() if isinstance(arguments, BaseModel) else dict(arguments)
    return label_of(task, models[task].model_validate(given))
