"""WikiText-2 raw: lines of articles with headings, empty lines and paragraphs, marks set apart by spaces."""

from __future__ import annotations

from typing import Any

REPO, CONFIG = "Salesforce/wikitext", "wikitext-2-raw-v1"

NAMES = (
    "Robert Boulter",
    "Du Fu",
    "Kiss You",
    "Ise",
    "Dick Rifenburg",
    "Imogen Holst",
    "Nebula",
    "Gold dollar",
)
SENTENCES = (
    '{name} , who was born in {n} near the river , wrote " The Long Road {n} " ; it sold well .',
    "In {n} the critics asked : was {name} ( the elder ) ever so far from home and so close to fame ?",
    "Number {n} .",
    "{name} {n} , {n} , {n} , {n} , {n} , {n} , {n} , {n} , {n} , {n} , {n} , {n} , {n} , {n} .",
    "What a year for {name} ! ",
    "After the {n}th season of the national league {name} retired to a small farm and kept bees .",
)


def splits() -> dict[str, list[dict[str, Any]]]:
    """Eight articles for training and six for validation: 120 and 90 lines."""
    return {"train": lines(range(8)), "validation": lines(range(8, 14)), "test": lines(range(14, 16))}


def lines(articles: range) -> list[dict[str, Any]]:
    """Fifteen lines an article."""
    texts = []
    for article in articles:
        name = f"{NAMES[article % len(NAMES)]} {'I' * (1 + article // len(NAMES))}"
        texts += ["", f" = {name} = \n", ""]
        for section in range(4):
            n = 1000 + 10 * article + section
            said = [
                SENTENCES[i % len(SENTENCES)].format(name=name, n=n + i) for i in range(section, section + 5)
            ]
            texts += [f" = = Part {section} = = \n", "", f" {' '.join(said)} \n"]
    return [{"text": text} for text in texts]
