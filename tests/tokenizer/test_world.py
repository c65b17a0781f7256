"""World ids equal those of the `rwkv` package's own tokenizer, and every text comes back."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, strategies
from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

from fsearch.tokenizer import END, World, world
from fsearch.tokenizer.greedy import Greedy
from fsearch.tokenizer.vocabulary import find, read

from .texts import TEXTS, integers, python_text, unicode_text


@pytest.fixture(scope="module")
def official() -> TRIE_TOKENIZER:
    return TRIE_TOKENIZER(str(find()))


@pytest.fixture(scope="module")
def greedy() -> Greedy:
    return Greedy(read(find()))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_ids_are_those_of_the_official_tokenizer(official: TRIE_TOKENIZER, greedy: Greedy, text: str) -> None:
    expected = official.encode(text)
    assert greedy.encode(text.encode()) == expected
    assert world().encode(text).tolist() == expected
    assert world().decode(expected) == text


def test_ids_of_a_text_of_all_tokens(official: TRIE_TOKENIZER, greedy: Greedy) -> None:
    """Tokens beside other tokens than usual, halves of characters among them."""
    pieces = list(official.idx2token.values())
    random.Random(0).shuffle(pieces)
    source = b"".join(pieces)
    expected = official.encodeBytes(source)
    assert greedy.encode(source) == expected
    text = source.decode(errors="replace")
    assert world().encode(text).tolist() == official.encode(text)
    assert world().decode(expected) == text


def test_every_token_has_its_official_text(official: TRIE_TOKENIZER) -> None:
    assert len(official.idx2token) == 65529
    for token, piece in official.idx2token.items():
        assert world().decode([token]) == piece.decode(errors="replace")


@given(source=strategies.binary())
def test_any_bytes_are_cut_as_the_official_tokenizer_does(
    official: TRIE_TOKENIZER, greedy: Greedy, source: bytes
) -> None:
    assert greedy.encode(source) == official.encodeBytes(source)


@given(text=unicode_text)
def test_any_text_has_the_official_ids_and_comes_back(official: TRIE_TOKENIZER, text: str) -> None:
    ids = world().encode(text)
    assert ids.dtype == np.int32
    assert ids.tolist() == official.encode(text)
    assert world().decode(ids) == text
    assert world().out_of_range(ids) == 0 and END not in ids


@given(text=python_text)
def test_lone_surrogates_become_one_replacement_character_each(text: str) -> None:
    """What comes back is what UTF-16 makes of the text, and can be written down."""
    expected = "".join(
        "\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c
        for c in text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    )
    assert world().decode(world().encode(text)) == expected


def test_a_pair_of_surrogates_is_the_character_it_stands_for() -> None:
    assert world().encode("\ud83d\ude00!").tolist() == world().encode("\U0001f600!").tolist()


@given(ids=strategies.lists(integers))
def test_any_ids_decode(ids: list[int]) -> None:
    """To something that is Unicode; ids without a text are left out and counted."""
    text = world().decode(ids)
    text.encode()
    known = [i for i in ids if 0 <= i <= 65529]
    assert text == world().decode(known)
    assert world().out_of_range(ids) == len(ids) - len(known)


def test_ids_of_the_padding_negative_ids_and_half_characters() -> None:
    tokenizer = world()
    assert tokenizer.vocab_size == 65536
    ids = np.array([END, 65529, 65530, 65535, 65536, -1, 0xF0 + 1, 0x9F + 1])
    assert tokenizer.decode(ids) == " " * 128 + "\ufffd"
    assert tokenizer.out_of_range(ids) == 4


def test_a_text_that_is_one_token_needs_no_encoder(greedy: Greedy) -> None:
    """Every token that is a text is its own encoding, as the greedy match says, and no encoder is made."""
    pieces = read(find())
    tokenizer = World(pieces)
    texts = [piece.decode() for piece in pieces if piece and piece.decode(errors="ignore").encode() == piece]
    assert len(texts) > 60_000
    for text in texts:
        assert tokenizer.encode(text).tolist() == greedy.encode(text.encode()), text
    assert "_encoder" not in vars(tokenizer)
    assert tokenizer.encode("").tolist() == []


def test_reading_encoding_and_decoding_import_no_torch() -> None:
    """And importing the room reads no file and imports neither package."""
    code = """
        import sys
        from fsearch.tokenizer import world
        assert not {"rwkv", "pyrwkv_tokenizer"} & set(sys.modules)
        assert not world.cache_info().currsize
        tokenizer = world()
        assert tokenizer.decode(tokenizer.encode("no torch")) == "no torch"
        assert world() is tokenizer
        print(sorted({"torch", "rwkv", "tokenizers"} & set(sys.modules)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
