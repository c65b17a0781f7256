"""Arguments: defaults, bounds, labels, and the tasks that are only announced."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fsearch.tasks import announced, create, label, schemas


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("infill", {"n_simbols": 8}, ["n_simbols", "Extra inputs"]),
        ("infill", {"n_masks": 0}, ["n_masks", "greater than or equal to 1"]),
        ("infill", {"n_symbols": 27}, ["n_symbols", "less than or equal to 26"]),
        ("infill", {"n_train": True}, ["n_train", "valid integer"]),
        ("infill", {"n_val": 1}, ["n_val", "greater than or equal to 2"]),
        ("kv_recall", {"order": "q_last"}, ["order", "'q_after' or 'q_first'"]),
        ("kv_recall", {"n_keys": 2}, ["n_queries is 3, but there are only 2 keys"]),
        ("kv_recall", {"n_values": "8"}, ["n_values", "valid integer"]),
        ("sudoku", {"base": 4}, ["base", "2 or 3"]),
        ("sudoku", {"mask_count": 16}, ["mask_count is 16", "16 cells", "at least one must be given"]),
        ("sudoku", {"mask_region": "middle"}, ["mask_region", "'prefix', 'suffix' or 'random'"]),
    ],
)
def test_bad_arguments_are_refused_in_words(name: str, arguments: dict[str, Any], says: list[str]) -> None:
    """A wrong argument is refused, and the text names the field and what it may be."""
    with pytest.raises(ValidationError) as caught:
        create(name, arguments)
    assert all(words in str(caught.value) for words in says)


def test_unknown_tasks_are_told_from_announced_ones() -> None:
    """Neither can be created; the text says which it is."""
    with pytest.raises(ValueError, match="'arc' is not available yet"):
        create("arc", {})
    with pytest.raises(ValueError, match="'ark' does not exist; there are infill, kv_recall, sudoku"):
        create("ark", {})
    with pytest.raises(ValueError, match="'ark' does not exist"):
        label("ark", {})


@pytest.mark.parametrize("schema", [*schemas().items(), *announced().items()], ids=lambda item: item[0])
def test_every_argument_is_documented_and_bounded(schema: tuple[str, Any]) -> None:
    """Each model is frozen, refuses unknown fields, describes every field and bounds every number."""
    _, model = schema
    instance = model()
    with pytest.raises(ValidationError):
        model(not_a_field=1)
    field = next(iter(model.model_fields))
    with pytest.raises(ValidationError):
        setattr(instance, field, 1)
    assert model.__doc__
    for name, info in model.model_json_schema()["properties"].items():
        assert info.get("description"), name
        if info.get("type") == "integer" and "enum" not in info:
            assert "minimum" in info, name
            assert "maximum" in info, name


def test_announced_tasks_are_those_that_cannot_be_run() -> None:
    """The two lists do not overlap and hold every task of the drafts."""
    assert set(schemas()) == {"infill", "kv_recall", "sudoku"}
    assert set(announced()) == {
        "arc", "hotpot", "mbpp", "protein_ss", "protein_contact", "punctuation", "squad", "retrieval",
        "name_index", "middle_match", "kv_sort", "sft",
    }  # fmt: skip
    announced()["protein_ss"].model_validate({"order": "q_after", "fill_notes_to_max": True})
    announced()["punctuation"].model_validate({"source": "hotpot_qa"})


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("infill", {}, "infill"),
        ("infill", {"n_val": 64, "n_masks": 4}, "infill n_val=64 n_masks=4"),
        ("infill", {"n_masks": 4, "n_val": 64}, "infill n_val=64 n_masks=4"),
        ("kv_recall", {}, "kv_recall q_after"),
        ("kv_recall", {"order": "q_first", "n_keys": 16}, "kv_recall q_first n_keys=16"),
        ("sudoku", {}, "sudoku 4x4 random"),
        ("sudoku", {"base": 3, "mask_region": "prefix", "mask_count": 8}, "sudoku 9x9 prefix"),
        ("sudoku", {"mask_count": 5}, "sudoku 4x4 random mask_count=5"),
        ("protein_ss", {}, "protein_ss q_after"),
        ("punctuation", {"source": "hotpot_qa"}, "punctuation hotpot_qa"),
        ("kv_sort", {}, "kv_sort"),
    ],
)
def test_labels(name: str, arguments: dict[str, Any], expected: str) -> None:
    """A label has what tells a task from its siblings, from a plan's words or from a full model."""
    assert label(name, arguments) == expected
    model = {**schemas(), **announced()}[name].model_validate(arguments)
    assert label(name, model) == label(name, model.model_dump()) == expected
