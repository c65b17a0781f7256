"""Which tasks there are, by name. Building and storing their examples is `fsearch.tasks.prepared`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from fsearch.tasks.arc import Arc
from fsearch.tasks.hotpot import Hotpot
from fsearch.tasks.infill import Infill
from fsearch.tasks.kv_recall import KvRecall
from fsearch.tasks.kv_sort import KvSort
from fsearch.tasks.mbpp import Mbpp
from fsearch.tasks.middle_match import MiddleMatch
from fsearch.tasks.name_index import NameIndex
from fsearch.tasks.protein_contact import ProteinContact
from fsearch.tasks.protein_ss import ProteinSs
from fsearch.tasks.punctuation import Punctuation
from fsearch.tasks.retrieval import Retrieval
from fsearch.tasks.sft import Sft
from fsearch.tasks.squad import Squad
from fsearch.tasks.sudoku import Sudoku
from fsearch.tasks.task import Task
from fsearch.tasks.task import label as label_of

TASKS: dict[str, type[Task[Any]]] = {
    task.name: task
    for task in (
        Arc,
        Hotpot,
        Infill,
        KvRecall,
        KvSort,
        Mbpp,
        MiddleMatch,
        NameIndex,
        Punctuation,
        ProteinContact,
        ProteinSs,
        Retrieval,
        Sft,
        Squad,
        Sudoku,
    )
}


def schemas() -> dict[str, type[BaseModel]]:
    """The argument model of every task, by the task's name."""
    return {name: task.arguments_type for name, task in TASKS.items()}


def create(name: str, arguments: Mapping[str, Any]) -> Task[Any]:
    """The task with these arguments, defaults filled in.

    Raises ValueError for an unknown task and pydantic.ValidationError (a ValueError) for a wrong argument.
    """
    task = _task(name)
    return task(task.arguments_type.model_validate(dict(arguments)))


def label(task: str, arguments: Mapping[str, Any] | BaseModel) -> str:
    """Short name such as `kv_recall q_after` or `sudoku 4x4 random n_train=512`.

    Arguments that are missing have their defaults. Raises ValueError as `create` does.
    """
    given = arguments.model_dump() if isinstance(arguments, BaseModel) else dict(arguments)
    return label_of(task, _task(task).arguments_type.model_validate(given))


def _task(name: str) -> type[Task[Any]]:
    if name not in TASKS:
        raise ValueError(f"the task {name!r} does not exist; there are {', '.join(TASKS)}")
    return TASKS[name]
