"""Examples as lines: nothing of a text is lost unseen, and what is scored can be seen."""

from __future__ import annotations

import re
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fsearch.tasks.task import Span
from fsearch.ui.example_view import CLOSE, OPEN, excerpt

SPANS = st.lists(
    st.builds(Span, st.text(st.characters(exclude_characters="⟦⟧␣…"), max_size=60), st.booleans())
)


def plain(spans: list[Span], width: int = 80, at_most: int = 1000) -> list[str]:
    return [line.plain for line in excerpt(spans, width, at_most)]


def read_back(lines: list[str]) -> str:
    """The text that the lines show; characters that are not seen stand as their signs."""
    text = "".join("\n" * line.startswith("  │") + line[4:] for line in lines)
    return text.removeprefix("\n").replace(OPEN, "").replace(CLOSE, "").replace("␣", " ")


def with_signs(text: str) -> str:
    shown = re.sub(r"[\0-\x09\x0b-\x1f]", lambda found: chr(0x2400 + ord(found[0])), text).replace(
        "\x7f", "␡"
    )
    return "".join(
        character if character in " \n" or character.isprintable() else f"<U+{ord(character):04X}>"
        for character in shown
    )


@given(SPANS, st.integers(40, 100))
def test_every_character_is_shown(spans: list[Span], width: int) -> None:
    """Put together again, the lines are the text; none is too wide."""
    lines = plain(spans, width)
    assert read_back(lines) == with_signs("".join(span.text for span in spans))
    assert all(cell_len(line) <= width for line in lines)


@given(SPANS)
def test_what_is_scored_stands_in_marks(spans: list[Span]) -> None:
    """Each run of scored spans stands between one pair of them, over however many lines."""
    shown = "".join(line[4:] for line in plain(spans)).replace("␣", " ")
    runs = re.findall(f"{OPEN}(.*?){CLOSE}", shown)
    texts = ["".join(span.text for span in run) for scored, run in groupby(spans, _scored) if scored]
    assert runs == [with_signs(text).replace("\n", "") for text in texts if text]


def _scored(span: Span) -> bool:
    return span.scored


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb\n", ["  │ a", "  │ b", "  │ "]),
        ("tab\there\r\n", ["  │ tab␉here␍", "  │ "]),
        ("Answer: ", ["  │ Answer:␣"]),
        ("two  \nmore", ["  │ two␣␣", "  │ more"]),
        ("to the left: \u202e!", ["  │ to the left: <U+202E>!"]),
        ("x" * 40, ["  │ " + "x" * 36, "  ┆ xxxx"]),
        (
            "words broken at a blank, none of them inside",
            ["  │ words broken at a blank, none of ", "  ┆ them inside"],
        ),
    ],
)
def test_lines(text: str, lines: list[str]) -> None:
    assert plain([Span(text)], 40) == lines


def test_the_middle_of_a_long_text_is_left_out() -> None:
    """As many lines as asked for, and how many characters are not shown."""
    text = "\n".join(f"line {number:04d}" for number in range(1000))
    lines = plain([Span(text)], 80, 25)
    assert len(lines) == 25
    assert (lines[0], lines[11], lines[13], lines[-1]) == (
        "  │ line 0000",
        "  │ line 0011",
        "  │ line 0988",
        "  │ line 0999",
    )
    # 976 lines of nine characters and their line ends
    assert lines[12] == "  … 9,760 characters are left out here …"
