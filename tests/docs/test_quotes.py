"""What the pages quote is there: tests by their names, and sentences as the program prints them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

FAQ = ROOT / "docs" / "faq.md"
VARIES = "…"
SHORTEST = 12
"""Characters; a sentence needs a fixed part of so many, else anything would have it."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    """`room/test_file.py::test_name`; `::test_name` alone is of the file named before."""
    assert not (missing := missing_tests(page.read_text())), f"{page.name}: {missing}"


def test_the_page_of_differences_names_a_test_for_each() -> None:
    """No row of its tables is without one."""
    text = (ROOT / "docs" / "differences.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "| Test |" not in line]
    assert len(rows) > 40
    assert not [row for row in rows if not re.search(r"\| `[\w/]+\.py::test_\w+`[^|]*\|$", row)]


def test_a_test_that_is_not_there_is_seen() -> None:
    """The check above can fail."""
    assert missing_tests("`search/test_screening.py::test_no_such_thing`") == [
        "search/test_screening.py::test_no_such_thing"
    ]
    assert missing_tests("`search/test_gone.py`") == ["search/test_gone.py"]


def test_the_sentences_of_the_faq_are_the_program_s() -> None:
    """Each fixed part of each quoted sentence stands within one text of the sources."""
    quotes = [line.removeprefix("> ") for line in FAQ.read_text().splitlines() if line.startswith(">")]
    assert len(quotes) > 40
    for quote in quotes:
        assert not (gone := unknown_parts(quote)), f"{quote!r}: nothing says {gone}"


def test_a_sentence_that_nothing_says_is_seen() -> None:
    """The check above can fail, in a word or by quoting next to nothing."""
    assert not unknown_parts("The … of this machine is in use by … Wait for it, or end it.")
    assert unknown_parts("The … of this machine is in use of … Wait for it, or end it.")
    assert unknown_parts("… is …")


def missing_tests(text: str) -> list[str]:
    """The tests that a text names and that are not there."""
    missing, file = [], ""
    for named, test in re.findall(r"`(?:tests/)?((?:\w+/)*test_\w+\.py)?(?:::(test_\w+))?`", text):
        file = named or file
        source = ROOT / "tests" / file
        if named and not source.is_file():
            missing.append(named)
        elif test and not re.search(rf"^def {test}\(", source.read_text(), re.MULTILINE):
            missing.append(f"{file}::{test}")
    return missing


def unknown_parts(quote: str) -> list[str]:
    """The fixed parts of a quoted sentence that no text of the sources has."""
    parts = [part.strip(" ()") for part in quote.split(VARIES)]
    if max(map(len, parts)) < SHORTEST:
        return [quote]
    return [part for part in parts if not any(part.casefold() in text for text in texts())]


@cache
def texts() -> list[str]:
    """Every text in the sources, f-strings and templates with a mark where something is put in."""
    found = [(ROOT / "Makefile").read_text()]
    for path in sorted((ROOT / "fsearch").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                pieces = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(map(str, pieces)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"\{\w+\}", "\0", node.value))
    return [text.casefold() for text in found]
