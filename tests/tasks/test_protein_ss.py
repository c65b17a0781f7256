"""protein_ss: layout, filters, what keeps the splits apart, levels, and Q8, Q3 and F1."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fsearch.tasks import DataShort, Sources, create
from fsearch.tasks.protein_ss import LABELS
from fsearch.tasks.task import Answered, Example, Task, document_hash
from tests.tables import Tables, protein_ss
from tests.tasks.question_tasks import (
    Given,
    assert_apart,
    assert_chance,
    assert_majority,
    assert_seeded,
    every,
    left_out,
    make,
)
from tests.tasks.test_homology import share

SEQUENCE, STRUCTURE = "MKVLAEGHTW", "~EEEE~TTS~"
SMALL = {"n_train": 60, "n_val": 16}
OFFLINE = {"source": "offline", "n_train": 300, "n_val": 100, "examples_per_chain": 4}
ROWS = protein_ss.splits()["train"]
OF_TABLE = {row["Sequence"]: row["Secondary_structure"] for row in ROWS}
PACKAGED = {row["Sequence"]: row for row in map(Sources().packaged("proteins").__getitem__, range(256))}
OF_PACKAGE = {sequence: row["Secondary_structure"] for sequence, row in PACKAGED.items()}
TITLE = "Secondary structure of residues of a protein, one of HBEGITS~ each."


def of_validation(sequence: str) -> bool:
    """A fifth of all sequences, by their hash."""
    return document_hash(sequence) < 0.2 * 2**64


def hand(**arguments: Any) -> tuple[Task[Any], Example]:
    """The only training example of a table of three chains."""
    others = [row for row in protein_ss.packaged() if of_validation(row["Sequence"])][-2:]
    rows = [protein_ss.row("hand", " mkvlaeghtw\n", STRUCTURE), *others]
    assert not of_validation(SEQUENCE)
    arguments = {"n_train": 1, "n_val": 2, "min_seq_len": 8, "num_queries": 4, **arguments}
    task, built = make("protein_ss", sources=Given(rows, []), **arguments)
    return task, built.train[0]


def read(task: Task[Any], example: Example) -> tuple[str, list[int], str]:
    """Sequence, positions from 1 and labels, as a reader of the prompt finds them."""
    prompt, answer = task.render(example)
    (sequence,) = re.findall(r"\n\nSequence: ([A-Z]+)\n\n", prompt)
    (positions,) = re.findall(r"\n\nPositions: ([\d ]+)\n\n", prompt)
    return sequence, [int(position) for position in positions.split()], answer


@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
@pytest.mark.parametrize(
    ("order", "region", "prompt", "labels"),
    [
        ("q_after", "prefix", "\n\nSequence: MKVLAEGHTW\n\nPositions: {}\n\nLabels: ", "~EEE"),
        ("q_after", "suffix", "\n\nSequence: MKVLAEGHTW\n\nPositions: {}\n\nLabels: ", "TTS~"),
        ("q_first", "suffix", "\n\nPositions: {}\n\nSequence: MKVLAEGHTW\n\nLabels: ", "TTS~"),
    ],
)
def test_a_row_by_hand(order: str, region: str, prompt: str, labels: str, tokenizer: str) -> None:
    """The layout, word for word; one token a residue and a label; END is trained and not scored."""
    task, example = hand(order=order, query_region=region, tokenizer=tokenizer)
    _, positions, answer = read(task, example)
    first = 1 if region == "prefix" else 7
    assert sorted(positions) == list(range(first, first + 4))
    assert answer == "".join(labels[position - first] for position in positions)
    assert task.render(example)[0] == TITLE + prompt.format(" ".join(map(str, positions)))
    assert example.tokens[example.prompt_len :].tolist() == [ord(c) + 1 for c in answer]
    assert example.scored.sum() == 4
    residues = [ord(c) + 1 for c in SEQUENCE]
    starts = [s for s in range(example.prompt_len) if example.tokens[s : s + 10].tolist() == residues]
    assert len(starts) == 1
    assert example.document == SEQUENCE


@pytest.mark.parametrize("source", ["hub", "offline"])
@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_answers_are_the_labels_of_the_positions(order: str, source: str) -> None:
    """In random crops too: some crop has the sequence, and at the positions the structure has the answer."""
    arguments = {**SMALL, "order": order, "source": source, "max_seq_len": 120}
    task, built = make("protein_ss", sources=Sources() if source == "offline" else Tables(), **arguments)
    cropped = 0
    for example in every(built):
        sequence, positions, answer = read(task, example)
        structure = (OF_PACKAGE if source == "offline" else OF_TABLE)[example.document]
        starts = [m.start() for m in re.finditer(f"(?={sequence})", example.document)]
        labels = ["".join(structure[start + position - 1] for position in positions) for start in starts]
        assert answer in labels
        assert len(positions) == len(set(positions)) == 48
        assert 96 <= len(sequence) <= 120
        cropped += len(sequence) < len(example.document)
    assert cropped > 10


@pytest.mark.parametrize("region", ["random", "prefix", "suffix"])
def test_the_label_before_tells_no_more_than_any_other(region: str) -> None:
    """Giving the label before again is right as often as giving any other label of the answer."""
    task, built = make("protein_ss", sources=Sources(), **{**OFFLINE, "query_region": region})
    before, any_other, variance = 0.0, 0.0, 0.0
    for example in built.train:
        answer = read(task, example)[2]
        n = len(answer)
        share = sum(count * (count - 1) for count in Counter(answer).values()) / (n * (n - 1))
        before += sum(a == b for a, b in pairwise(answer))
        any_other += share * (n - 1)
        variance += share * (1 - share) * (n - 1)
    assert abs(before - any_other) < 4 * variance**0.5
    assert before > 0


def test_positions_are_drawn_evenly() -> None:
    """Random queries reach every third of a sequence equally often."""
    task, built = make("protein_ss", sources=Sources(), **OFFLINE)
    thirds = Counter[int]()
    for example in built.train:
        sequence, positions, _ = read(task, example)
        thirds.update(3 * (position - 1) // len(sequence) for position in positions)
    assert set(thirds) == {0, 1, 2}
    expected = thirds.total() / 3
    assert all(abs(count - expected) < 4 * expected**0.5 for count in thirds.values())


@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_the_question_stands_where_the_order_says(order: str) -> None:
    """Filled prompts: notes between title and sequence, the question at the one end or the other."""
    task, built = make("protein_ss", order=order, fill_notes_to_max=True, max_prompt_tokens=1200, **SMALL)
    for example in every(built):
        assert example.prompt_len == 1200
        sequence, positions, _ = read(task, example)
        assert sequence in example.document
        blocks = task.render(example)[0].split("\n\n")
        asked = "Positions: " + " ".join(map(str, positions))
        own = [TITLE, asked, f"Sequence: {sequence}", "Labels: "]
        notes = [block for block in blocks if block not in own]
        assert all(note.startswith("Another protein: ") for note in notes[:-1])
        assert notes[-1].startswith("Another protein:") or "Another protein:".startswith(notes[-1])  # cut
        middle = [*notes, f"Sequence: {sequence}"]
        inner = [asked, *middle] if order == "q_first" else [*middle, asked]
        assert blocks == [TITLE, *inner, "Labels: "]


def test_both_orders_have_the_same_lengths() -> None:
    """So that a limit on the length keeps the same rows in both."""
    lengths = []
    for order in ("q_after", "q_first"):
        arguments = {**OFFLINE, "query_region": "prefix", "order": order, "examples_per_chain": 1}
        _, built = make("protein_ss", sources=Sources(), **{**arguments, "n_train": 130, "n_val": 40})
        lengths.append({example.document: example.prompt_len for example in every(built)})
    common = lengths[0].keys() & lengths[1].keys()
    assert len(common) > 100
    assert [lengths[0][chain] for chain in sorted(common) if len(chain) <= 512] == [
        lengths[1][chain] for chain in sorted(common) if len(chain) <= 512
    ]


def test_notes_are_other_chains_of_the_same_split_without_labels() -> None:
    """Each note begins a chain of its split, whole or 40 residues of it; its own chain is in no prompt."""
    arguments = {**SMALL, "fill_notes_to_max": True, "max_prompt_tokens": 1500, "max_note_seq_len": 40}
    task, built = make("protein_ss", **arguments)
    for split, examples in (("train", built.train), ("validation", built.validation)):
        chains = [
            row["Sequence"]
            for row in ROWS
            if row["Sequence"] and of_validation(row["Sequence"]) == (split == "validation")
        ]
        begins = {chain[:40]: chain for chain in chains}
        for example in examples:
            notes = re.findall(r"\n\nAnother protein: ([A-Z-]+)(?=\n\n)", task.render(example)[0])
            assert len(notes) > 5
            assert all(note in begins for note in notes[:-1])
            assert any(begin.startswith(notes[-1]) for begin in begins)
            assert example.document[:40] not in notes[:-1]


def test_every_filter_is_counted() -> None:
    """Each kind of bad row under its own reason, wherever its hash puts it, and nothing is lost."""
    removed = left_out("protein_ss")
    total = Counter[str]()
    for counts in removed.values():
        total.update(counts)
    small = [row for row in ROWS if row["Sequence"] and len(row["Sequence"]) < 96]
    similar = total.pop("similar to a chain of the other split")
    assert total == {
        "empty sequence": 2,
        "residue that is not a letter": 1,
        "sequence and structure of different lengths": 2,
        "label that is none of HBEGITS~": 1,
        "chain shorter than min_seq_len": len(small),
    }
    good = [row["Sequence"] for row in ROWS[: -len(protein_ss.refused())] if len(row["Sequence"]) >= 96]
    validation = [sequence for sequence in good if of_validation(sequence)]
    train = [sequence for sequence in good if not of_validation(sequence)]
    by_hand = sum(any(share(one, other) > 0.1 for other in validation) for one in train)
    assert similar == by_hand > 5


def test_splits_share_no_chain_and_no_relative() -> None:
    """Hub: a fifth by hash, and no training chain has a tenth of its 5-mers in a validation chain."""
    _, built = make("protein_ss", n_train=80, n_val=24)
    assert_apart(built)
    assert all(of_validation(example.document) for example in built.validation)
    assert not any(of_validation(example.document) for example in built.train)
    validation = {example.document for example in built.validation}
    for chain in {example.document for example in built.train}:
        assert all(share(chain, other) <= 0.1 for other in validation)


def test_offline_splits_share_no_family_and_halves_no_chain() -> None:
    """Validation chains have no relative in the table; copies of a chain are in one half, all are used."""
    _, built = make("protein_ss", sources=Sources(), **{**OFFLINE, "examples_per_chain": 10})
    assert_apart(built)
    sizes = Counter(row["family"] for row in PACKAGED.values())
    for example in built.validation:
        assert sizes[PACKAGED[example.document]["family"]] == 1
        assert example.sources == {f"family {PACKAGED[example.document]['family']}"}
    validation, train = ({e.document for e in part} for part in (built.validation, built.train))
    assert len(validation) > 40
    assert len(train) > 120
    assert max(share(a, b) for a in train for b in validation) <= 0.1
    screen = [document_hash(chain) & 1 for chain in validation]
    assert 0.3 < np.mean(screen) < 0.7


def test_examples_per_chain_gives_more_examples() -> None:
    """One table, more crops and queries: at most as many of each chain; asking for more is a shortage."""
    arguments = {"source": "offline", "n_train": 10_000, "n_val": 10_000}
    built = {}
    for n in (1, 3):
        with pytest.raises(DataShort, match=r"training examples \(n_train\) and \d+ of 10000 val") as caught:
            make("protein_ss", sources=Sources(), examples_per_chain=n, **arguments)
        built[n] = {split: counts["built"] for split, counts in caught.value.counts.items()}
    assert built[3] == {split: 3 * count for split, count in built[1].items()}
    task = create("protein_ss", {**OFFLINE, "examples_per_chain": 3})
    used = Counter(example.document for example in task.build(0, Sources()).train)
    assert max(used.values()) == 3


def test_levels() -> None:
    """Chance is that of eight labels, majority that of the most frequent one of training."""
    task, built = make("protein_ss", sources=Sources(), **OFFLINE)
    assert_chance(task, built.validation, lambda _: task.choice_tokens.tolist())
    assert_majority(task, built)
    assert task.chance(built.validation) == 1 / 8
    assert 0.15 < task.majority(built.train, built.validation) < 0.4


def test_the_seed_decides_the_examples() -> None:
    """Same seed, same bytes; another seed, others; with notes too."""
    assert_seeded("protein_ss", **SMALL)
    assert_seeded("protein_ss", **SMALL, fill_notes_to_max=True, order="q_first", tokenizer="bytes")


def answered(task: Task[Any], example: Example, given: str) -> Answered:
    """An answer whose most likely labels are `given`, in logits that are not all the same."""
    rng = np.random.default_rng(len(given))
    logits = rng.normal(size=(len(given), len(LABELS))).astype(np.float32)
    for place, label in enumerate(given):
        logits[place, LABELS.index(label)] = 9
    tokens = np.array([task.tokens.encode(label)[0] for label in given], np.int32)
    return Answered(example, tokens, logits)


def test_metrics_by_hand() -> None:
    """Four residues ~EEE and four TTS~, each figure counted by hand."""
    task, first = hand(query_region="prefix")
    _, second = hand(query_region="suffix")
    assert task.choice_tokens.tolist() == [task.tokens.encode(label)[0] for label in LABELS]
    given = [
        (example, "".join(labels[at - start] for at in read(task, example)[1]))
        for example, labels, start in ((first, "~EBH", 1), (second, "TTS~", 7))
    ]
    figures = task.metrics([answered(task, example, labels) for example, labels in given])
    assert figures == pytest.approx(
        {
            "whole_answer": 1 / 2,
            "q8": 6 / 8,  # the second and third E are wrong
            "q3": 7 / 8,  # B is a strand too
            "f1_h": 0,  # given once, never right
            "f1_b": 0,
            "f1_e": 2 * 1 / (1 + 3),
            "f1_t": 1,
            "f1_s": 1,
            "f1_none": 1,
            "f1_macro": (0.5 + 3) / 6,  # G and I neither occur nor are given
        }
    )


def test_metrics_equal_a_confusion_matrix() -> None:
    """Random answers: F1 from precision and recall of each label, Q3 from the letters."""
    task, built = make("protein_ss", sources=Sources(), **OFFLINE)
    rng = np.random.default_rng(0)
    answers, right = [], ""
    for example in built.validation:
        truth = task.render(example)[1]
        guess = "".join(t if rng.random() < 0.4 else rng.choice(list(LABELS)) for t in truth)
        answers.append((answered(task, example, guess), guess))
        right += truth
    given = "".join(guess for _, guess in answers)
    figures = task.metrics([answer for answer, _ in answers])
    pairs = Counter(zip(right, given, strict=True))
    assert figures["q8"] == pytest.approx(sum(pairs[a, a] for a in LABELS) / len(right))
    states = {
        **dict.fromkeys("HGI", "helix"),
        **dict.fromkeys("EB", "strand"),
        **dict.fromkeys("TS~", "coil"),
    }
    same = sum(n for (a, b), n in pairs.items() if states[a] == states[b])
    assert figures["q3"] == pytest.approx(same / len(right))
    scores = []
    for label in LABELS:
        precision = pairs[label, label] / given.count(label)
        recall = pairs[label, label] / right.count(label)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0)
        assert figures[f"f1_{label.lower() if label != '~' else 'none'}"] == pytest.approx(scores[-1])
    assert figures["f1_macro"] == pytest.approx(np.mean(scores))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"num_queries": 97}, "num_queries is 97, but a chain may have only 96 residues"),
        ({"min_seq_len": 600}, "min_seq_len is 600, above max_seq_len, which is 512"),
        ({"query_region": "middle"}, "'random', 'prefix' or 'suffix'"),
    ],
)
def test_bad_arguments_are_refused_in_words(arguments: dict[str, Any], says: str) -> None:
    """The text names the fields and their values."""
    with pytest.raises(ValueError, match=says):
        create("protein_ss", arguments)


def test_what_it_needs_from_a_network() -> None:
    """Only the hub's data set; the origin of the packaged table is its hash."""
    assert create("protein_ss", {}).arguments.download == protein_ss.REPO
    assert create("protein_ss", {"source": "offline"}).arguments.download is None
    sources = Sources()
    make("protein_ss", sources=sources, **OFFLINE)
    (origin,) = sources.origins
    assert (origin.name, len(origin.sha256), origin.commit) == ("fsearch: proteins", 64, "")
