"""Arguments: defaults, bounds, labels, and which tasks there are."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fsearch.tasks import create, label, schemas


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
        ("retrieval", {"n_pairs": 1297}, ["n_pairs", "less than or equal to 1296"]),
        ("retrieval", {"query_last": 1}, ["query_last", "valid boolean"]),
        ("name_index", {"n_names": 677}, ["n_names", "less than or equal to 676"]),
        ("middle_match", {"n_names": 2}, ["n_names", "greater than or equal to 3"]),
        ("kv_sort", {"order": "q_first"}, ["order", "Extra inputs"]),
        ("kv_sort", {"n_digits": 19}, ["n_digits", "less than or equal to 18"]),
    ],
)
def test_bad_arguments_are_refused_in_words(name: str, arguments: dict[str, Any], says: list[str]) -> None:
    """A wrong argument is refused, and the text names the field and what it may be."""
    with pytest.raises(ValidationError) as caught:
        create(name, arguments)
    assert all(words in str(caught.value) for words in says)


def test_an_unknown_task_is_refused_with_those_there_are() -> None:
    """It can neither be created nor named."""
    with pytest.raises(ValueError, match=f"'ark' does not exist; there are {', '.join(schemas())}"):
        create("ark", {})
    with pytest.raises(ValueError, match="'ark' does not exist"):
        label("ark", {})


@pytest.mark.parametrize("schema", schemas().items(), ids=lambda item: item[0])
def test_every_argument_is_documented_and_bounded(schema: tuple[str, Any]) -> None:
    """Each model is frozen, refuses unknown fields, describes every field and bounds every number."""
    _, model = schema
    instance = model.model_construct()  # some have fields without a default
    with pytest.raises(ValidationError, match="Extra inputs"):
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


def test_every_task_of_the_drafts_is_there() -> None:
    """Those of the drafts, and the two that the demo is made of."""
    assert set(schemas()) == {
        "infill", "kv_recall", "sudoku", "retrieval", "name_index", "middle_match", "kv_sort", "arc",
        "hotpot", "mbpp", "protein_ss", "protein_contact", "punctuation", "squad", "sft",
    }  # fmt: skip


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
        ("protein_ss", {}, "protein_ss q_after hub"),
        ("punctuation", {"source": "hotpot_qa"}, "punctuation q_after hotpot_qa"),
        ("retrieval", {"query_last": True}, "retrieval q_after query_last=True"),
        ("name_index", {"order": "q_first"}, "name_index q_first"),
        ("kv_sort", {}, "kv_sort"),
    ],
)
def test_labels(name: str, arguments: dict[str, Any], expected: str) -> None:
    """A label has what tells a task from its siblings, from a plan's words or from a full model."""
    assert label(name, arguments) == expected
    model = schemas()[name].model_validate(arguments)
    assert label(name, model) == label(name, model.model_dump()) == expected
