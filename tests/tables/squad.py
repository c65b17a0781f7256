"""SQuAD: several paragraphs an article, several questions a paragraph, and rows that are left out."""

from __future__ import annotations

from typing import Any

REPO, CONFIG = "rajpurkar/squad", "plain_text"

PLACES = ("Aberdeen", "Bergen", "Coimbra", "Dresden", "Esbjerg", "Florence", "Ghent", "Hamburg", "Innsbruck")
TRADES = ("weavers", "printers", "sailors", "brewers", "masons")
SHARED = "Old_Harbours"
"""An article in both splits, which SQuAD itself has not."""


def splits() -> dict[str, list[dict[str, Any]]]:
    """144 training and 84 validation rows."""
    return {
        "train": [*article("train", SHARED, 0), *articles("train", 10), *refused("train")],
        "validation": [*article("validation", SHARED, 0), *articles("validation", 5), *refused("validation")],
    }


def articles(split: str, n: int) -> list[dict[str, Any]]:
    """`n` articles of 12 rows."""
    return [row for i in range(1, n + 1) for row in article(split, f"{split.capitalize()}_Town_{i}", i)]


def article(split: str, title: str, number: int) -> list[dict[str, Any]]:
    """Four paragraphs with three questions each; the answers are a trade, a year and a place."""
    rows = []
    for paragraph in range(4):
        at = 7 * number + 11 * paragraph + (3 if split == "validation" else 0)
        place, trade = PLACES[at % len(PLACES)], TRADES[at % len(TRADES)]
        year = 1100 + 13 * number + 101 * paragraph + (7 if split == "validation" else 0)
        context = (
            f"In part {paragraph} of {title.replace('_', ' ')} one reads of {place}. The {trade} of the town "
            f"met there in {year}, and a guild was founded.\nIts rules were kept for {number + 2} lifetimes."
        )
        for question, answer in (
            (f"Who met in {place} in part {paragraph} of {title}?", f"The {trade}"),
            (f"When did the {trade} of part {paragraph} of {title} meet?", str(year)),
            (f"Where did they meet in part {paragraph} of {title}?", place),
        ):
            rows.append(row(f"{split}-{len(rows)}-{title}", title, context, question, answer))
    return rows


def row(name: str, title: str, context: str, question: str, answer: str) -> dict[str, Any]:
    """One row; the answer is where it first occurs, given twice as by two annotators."""
    start = context.find(answer)
    answers = {"text": [answer, answer], "answer_start": [start, start]}
    return {"id": name, "title": title, "context": context, "question": question, "answers": answers}


def refused(split: str) -> list[dict[str, Any]]:
    """No question, no answer, an answer elsewhere, a blank one, and two answers of many words, twice."""
    title = f"{split.capitalize()}_Odd"
    many = " ".join(f"the {ordinal}th stone" for ordinal in range(10, 40))
    context = f"A wall of {split} was made of {many} and of sand."
    good = row(f"{split}-odd", title, context, "What was between the stones?", "sand")
    return [
        good | {"question": " "},
        good | {"answers": {"text": [], "answer_start": []}},
        good | {"answers": {"text": ["sand"], "answer_start": [0]}},
        good | {"answers": {"text": [" "], "answer_start": [1]}},
    ] + 2 * [
        row(f"{split}-long", title, context, "What was the wall made of?", many),
        row(f"{split}-long2", title, context, "Of which stones?", many),
        good,
        good | {"question": "What was it that was between the stones?"},
    ]
