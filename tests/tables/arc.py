"""ARC-Challenge: three to five options, labelled by letters or numbers, and rows that filters remove."""

from __future__ import annotations

from typing import Any

REPO, CONFIG = "allenai/ai2_arc", "ARC-Challenge"

THINGS = ("a magnet", "a mirror", "a battery", "a fossil", "a planet", "a leaf", "a volcano", "a glacier")
VERBS = ("attracts iron", "reflects light", "stores energy", "shows old life", "orbits a star")


def splits() -> dict[str, list[dict[str, Any]]]:
    """130 training and 90 validation rows."""
    return {
        "train": [row("train", i) for i in range(120)] + refused("train"),
        "validation": [row("validation", i) for i in range(80)] + refused("validation"),
    }


def row(split: str, i: int) -> dict[str, Any]:
    """A question with 3, 4 or 5 options; every fourth has numbers as labels, every fifth them unsorted."""
    n = (4, 4, 3, 4, 5, 4)[i % 6]
    labels = list("12345"[:n] if i % 4 == 0 else "ABCDE"[:n])
    if i % 5 == 0:
        labels.reverse()
    things = [THINGS[(i + k) % len(THINGS)] for k in range(n)]
    question = f"Which of these, seen in {split} case {i},\n{VERBS[i % len(VERBS)]}?"
    if split == "train" and i < 4:  # questions that validation has, written differently
        question = row("validation", i)["question"].upper().replace(",", " , ")
    return {
        "id": f"{split}_{i}",
        "question": question,
        "choices": {"text": [f"{thing} number {i}" for thing in things], "label": labels},
        "answerKey": labels[(i * i + i // 7) % n],
    }


def refused(split: str) -> list[dict[str, Any]]:
    """Ten rows that become no example: the first is repeated, each of the others is wrong in its own way."""
    good = {"text": ["red", "green", "blue"], "label": ["A", "B", "C"]}
    wrong: list[dict[str, Any]] = [
        {"question": " \n "},
        {"choices": {"text": [], "label": []}},
        {"choices": {"text": ["red"], "label": ["A"]}},
        {"choices": {"text": list("uvwxyz"), "label": list("ABCDEF")}},
        {"choices": {"text": ["red", "green"], "label": ["A", "A"]}},
        {"choices": {"text": ["red", " "], "label": ["A", "B"]}},
        {"choices": {"text": ["red", "red"], "label": ["A", "B"]}},
        {"answerKey": ""},
        {"answerKey": "D"},
    ]
    base = {"question": f"Which colour is that of {split}?", "choices": good, "answerKey": "A"}
    return [row(split, 5), *({"id": f"{split}_no_{i}", **base, **part} for i, part in enumerate(wrong))]
