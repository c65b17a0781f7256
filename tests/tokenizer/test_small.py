"""Bytes and characters: what comes back, and what their ids are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies

from fsearch.tokenizer import END, Bytes, Characters, world

from .texts import TEXTS, integers, python_text, unicode_text

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


@given(text=unicode_text)
def test_bytes_give_back_any_text(text: str) -> None:
    ids = Bytes().encode(text)
    assert ids.dtype == np.int32
    assert ids.tolist() == [byte + 1 for byte in text.encode()]
    assert Bytes().decode(ids) == text


def test_the_ids_of_bytes_are_those_of_the_world_vocabulary() -> None:
    """So a text of bytes reads the same under both."""
    assert Bytes().vocab_size == 257
    ids = Bytes().encode("".join(TEXTS.values()))
    assert world().decode(ids) == Bytes().decode(ids)


@given(text=strategies.text("ABCäöü漢\U0001f600"))
def test_characters_give_back_any_text_of_their_alphabet(text: str) -> None:
    tokenizer = Characters("ABCäöü漢\U0001f600")
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32 and len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_the_ids_of_characters_follow_the_alphabet() -> None:
    """END is 0, what is unknown 1."""
    tokenizer = Characters(AMINO_ACIDS)
    assert tokenizer.vocab_size == 22
    assert tokenizer.encode(AMINO_ACIDS).tolist() == list(range(2, 22))
    assert tokenizer.encode("AXYz\0\U0010ffff").tolist() == [2, 1, 21, 1, 1, 1]
    assert tokenizer.decode([2, 1, 21, END]) == "A\ufffdY"


@given(text=python_text)
def test_characters_take_any_text(text: str) -> None:
    """Every character outside the alphabet is one unknown character, a lone surrogate too."""
    tokenizer = Characters(AMINO_ACIDS)
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    expected = "".join(c if c in AMINO_ACIDS else "\ufffd" for c in joined)
    assert tokenizer.decode(tokenizer.encode(text)) == expected


@pytest.mark.parametrize(
    ("alphabet", "advice"), [("BA", "'AB'"), ("AA", "'A'"), ("", "at least one"), ("\ud800", "fffd")]
)
def test_an_alphabet_is_sorted_and_has_every_character_once(alphabet: str, advice: str) -> None:
    with pytest.raises(ValueError, match="sorted string") as refusal:
        Characters(alphabet)
    assert advice in ascii(str(refusal.value))


@pytest.mark.parametrize("tokenizer", [Bytes(), Characters(AMINO_ACIDS)], ids=lambda t: t.name)
@given(ids=strategies.lists(integers))
def test_any_ids_decode(tokenizer: Bytes | Characters, ids: list[int]) -> None:
    tokenizer.decode(ids).encode()
    assert tokenizer.out_of_range(ids) == sum(i not in range(tokenizer.vocab_size) for i in ids)


def test_vocabularies_are_told_apart_by_name_and_hash() -> None:
    """Equal ones are equal; different alphabets differ."""
    vocabularies = [Bytes(), Characters("AB"), Characters("ABC"), world()]
    assert len({(v.name, v.sha256) for v in vocabularies}) == 4
    assert Characters("AB").sha256 == Characters("AB").sha256
