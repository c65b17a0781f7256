"""MBPP, config full: problems with tests and a program; some programs are too long, one has a setup."""

from __future__ import annotations

from typing import Any

REPO, CONFIG = "google-research-datasets/mbpp", "full"

VERBS = ("add", "subtract", "multiply", "repeat", "compare")
RETURNS = ("a + {n} * b", "a - {n} * b", "a * b * {n}", "[a, b] * {n}", "a > {n} * b")


def splits() -> dict[str, list[dict[str, Any]]]:
    """82 training and 71 test rows; the last training ones share a problem or a program with test rows."""
    shared = [
        row(700) | {"text": f" {row(12)['text'].upper()}"},
        row(701) | {"code": f"{row(14)['code']}\r\n"},
    ]
    return {
        "train": [*(row(601 + i) for i in range(80)), *shared],
        "test": [*(row(11 + i) for i in range(70)), row(90) | {"code": " "}],
    }


def row(task_id: int) -> dict[str, Any]:
    """One row; its text, program and tests follow from its id, lines end with CR LF as in MBPP."""
    kind = task_id % len(VERBS)
    name = f"{VERBS[kind]}_{task_id}"
    body = [f"    return {RETURNS[kind].format(n=task_id)} "]
    if task_id % 13 == 0:  # longer than 160 tokens
        body = [*(f"    step_{i} = a * {i} + b" for i in range(60)), *body]
    setup = f"node = {name}(1, 2)" if task_id % 17 == 0 else ""
    return {
        "task_id": task_id,
        "text": f"Write a function to {VERBS[kind]} two numbers, scaled by {task_id}.",
        "code": "\r\n".join([f"def {name}(a, b): ", *body]),
        "test_list": [f"assert {name}({i}, {i + 1}) is not None" for i in range(3)],
        "test_setup_code": setup,
        "challenge_test_list": [],
    }
