"""HotpotQA, config distractor: ten paragraphs, two of which support the answer; some rows are left out."""

from __future__ import annotations

from typing import Any

REPO, CONFIG = "hotpotqa/hotpot_qa", "distractor"

COUNTRIES = ("France", "Peru", "Kenya", "Japan", "Norway", "Canada", "Chile")


def splits() -> dict[str, list[dict[str, Any]]]:
    """126 training and 76 validation rows."""
    return {
        "train": [row("train", i) for i in range(120)] + refused("train"),
        "validation": [row("validation", i) for i in range(70)] + refused("validation"),
    }


def row(split: str, i: int) -> dict[str, Any]:
    """A painter is born in a town, the town lies in a country; eight paragraphs are about villages.

    Every ninth training row has a village that validation has too, and rows 5 to 7 a question of it.
    """
    painter, town, country = f"Painter {split} {i}", f"Town {split} {i}", COUNTRIES[i % len(COUNTRIES)]
    villages = [f"Village {split} {i}-{k}" for k in range(8)]
    question = f"In which country was {painter} born?"
    if split == "train" and i % 9 == 8:
        villages[3] = f"Village validation {i % 60}-3"
    if split == "train" and i in (5, 6, 7):
        question = f"in which country was  painter validation {i} born"
    more = [" There is a mill."] * (i % 3)
    paragraphs = [(name, [f"{name} has wells.", f" It is {len(name)} km away.", *more]) for name in villages]
    paragraphs.insert(i % 9, (painter, [f"{painter} was born in {town}.", " She painted."]))
    paragraphs.insert(i * 7 % 10, (town, [f"{town} is a town.", f" It lies in {country}."]))
    comparison = i % 10 == 9
    return {
        "id": f"{split}{i:024x}",
        "question": question,
        "answer": ("yes", "no")[i % 2] if comparison else country,
        "type": "comparison" if comparison else "bridge",
        "level": "hard",
        "supporting_facts": {"title": [painter, town, town], "sent_id": [0, 0, 1]},
        "context": {
            "title": [title for title, _ in paragraphs],
            "sentences": [text for _, text in paragraphs],
        },
    }


def refused(split: str) -> list[dict[str, Any]]:
    """No question, no answer, no or another supporting paragraph or an empty one, and a very long answer."""
    good = row(split, 500)
    titles, sentences = good["context"]["title"], good["context"]["sentences"]
    town = titles.index(f"Town {split} 500")
    emptied = [[] if place == town else text for place, text in enumerate(sentences)]
    return [
        good | {"question": ""},
        good | {"answer": " "},
        good | {"supporting_facts": {"title": [], "sent_id": []}},
        good | {"supporting_facts": {"title": ["Nowhere"], "sent_id": [0]}},
        good | {"context": {"title": titles, "sentences": emptied}},
        good | {"answer": " and ".join(COUNTRIES * 4)},
    ]
