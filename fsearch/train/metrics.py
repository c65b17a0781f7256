"""The figures that a task itself gives of one evaluation, such as the share of whole answers.

Deliberately not here: what they are (each task's `metrics`), and how the network was scored (`evaluate`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fsearch.tasks import Task
from fsearch.tasks.prepared import Split
from fsearch.tasks.task import Answered
from fsearch.train.evaluate import Scores


def metrics(task: Task[Any], splits: Sequence[Split], scores: Scores) -> dict[str, float]:
    """The task's figures by name, from the scores of every example of `splits`, in their order.

    Raises ValueError for one that is no finite number: a task leaves out what its data do not define.
    """
    examples = (split.example(i) for split in splits for i in range(len(split)))
    ends = np.cumsum(scores.total)
    answered = [
        Answered(
            example,
            scores.predicted[start:end],
            None if scores.choice_logits is None else scores.choice_logits[start:end],
        )
        for example, start, end in zip(examples, (ends - scores.total).tolist(), ends.tolist(), strict=True)
    ]
    found = {name: float(value) for name, value in task.metrics(answered).items()}
    for name, value in found.items():
        if not math.isfinite(value):
            raise ValueError(
                f"the metric {name} of the task {task.name} came to {value} on {len(answered)} examples; "
                "a metric that the data do not define must be left out"
            )
    return found
