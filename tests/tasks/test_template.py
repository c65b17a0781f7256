"""Templates: what they become for a row, and what is wrong with one, in words."""

from __future__ import annotations

from typing import Any

import pytest

from fsearch.tasks.sources import DataRefused
from fsearch.tasks.template import Empty, Template

ROW: dict[str, Any] = {
    "question": "Who?",
    "n": 3,
    "none": None,
    "right": True,
    "answers": {"text": ["Ada", "Ada L."], "start": [3, 3], "spare": None},
    "choices": [{"label": "A"}, {"label": "B"}],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{question}", "Who?"),
        ("Q: {question}\nA: {n}", "Q: Who?\nA: 3"),
        ("{answers.text.1} {answers.start.0}", "Ada L. 3"),
        ("{choices.1.label}{choices.0.label}", "BA"),
        ("{{question}} {right}", "{question} True"),
    ],
)
def test_what_a_template_becomes(template: str, text: str) -> None:
    """Fields are columns; dots lead into them; doubled braces are braces."""
    assert Template(template).fill(ROW) == text


def test_pieces_know_their_field() -> None:
    """A prompt can tell the text of a field from its own."""
    pieces = list(Template("Q: {question} ({n}){n}").pieces(ROW))
    assert pieces == [("Q: ", None), ("Who?", "question"), (" (", None), ("3", "n"), (")", None), ("3", "n")]
    assert Template("Q: {question} ({n}){n}").fields == ["question", "n", "n"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{question", "'{question' is no template (expected '}' before end of string)"),
        ("a } b", "Single '}' encountered"),
        ("{}", "a field without a name"),
        ("{n:>4}", "a format after the field 'n'; write it as {n} alone"),
        ("{n!r}", "a format after the field 'n'"),
    ],
)
def test_what_is_no_template(template: str, says: str) -> None:
    """Wrong braces, nameless fields, formats and conversions are refused before any row."""
    with pytest.raises(ValueError, match=r"^'") as caught:
        _ = Template(template).fields
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{context}", "{context}, but there is no column 'context'; there are 'question', 'n', 'none', "),
        ("{answers.txt}", "the column 'answers' has no field 'txt'; there are 'text', 'start', 'spare'"),
        ("{answers}", "'answers' is several values; name one, as in {answers.text}"),
        ("{answers.text}", "'answers.text' is a list; name one of its entries, as in {answers.text.0}"),
        ("{answers.text.first}", "'answers.text' is a list, whose entries have numbers; there is no 'first'"),
        ("{question.upper}", "'question' is a single value; there is no 'upper' in it"),
        ("{question.__class__.__name__}", "there is no '__class__' in it"),
        ("{n[0]}", "there is no column 'n[0]'"),
    ],
)
def test_fields_that_rows_do_not_have(template: str, says: str) -> None:
    """A field that no row has refuses the data, and says what there is. Attributes are never reached."""
    with pytest.raises(DataRefused) as caught:
        Template(template).fill(ROW)
    assert says in str(caught.value)


@pytest.mark.parametrize("field", ["none", "answers.text.2", "answers.spare", "none.anything"])
def test_fields_that_one_row_lacks(field: str) -> None:
    """Nothing where a value may stand concerns this row alone."""
    with pytest.raises(Empty):
        Template(f"{{{field}}}").fill(ROW)
