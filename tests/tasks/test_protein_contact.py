"""protein_contact: layout, how pairs are drawn, filters, what keeps the splits apart, levels, rankings."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from fsearch.tasks import DataShort, Sources, create
from fsearch.tasks.protein_contact import average_precision, precision_at
from fsearch.tasks.task import Answered, Built, Example, Task, document_hash
from tests.tables import contact_data, protein_contact
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

SMALL = {"n_train": 40, "n_val": 30}
OFFLINE = {"source": "offline", "n_train": 300, "n_val": 100, "examples_per_chain": 4}
TITLE = "Pairs of residues of a protein, 1 for contact and 0 for none."

SEQUENCE = "MKVLAEGHTWRD"
# A hairpin: residues 1-6 go to the right, 7-12 come back 5 Å above them.
HAIRPIN = [[3.8 * min(place, 11 - place), 5.0 * (place > 5), 0.0] for place in range(12)]
CONTACTS = {"1-12", "1-11", "2-12", "2-11", "2-10", "3-11"}  # at 5 or 6.3 Å, of those 8 or more apart
OTHERS = {"1-10", "3-12", "1-9", "4-12"}  # at 9.1 or 12.4 Å
OF_TABLE = {row["seq"]: row for part in protein_contact.splits().values() for row in part}
PACKAGED = {row["seq"]: row for row in map(Sources().packaged("proteins").__getitem__, range(256))}


def hand(row: dict[str, Any] | None = None, **arguments: Any) -> tuple[Task[Any], Built]:
    """The hairpin as the only chain for training."""
    row = row or protein_contact.row("hand", SEQUENCE.lower(), HAIRPIN, [True] * 12)
    others = protein_contact.splits()["valid"][20:40]
    defaults = {"source": "contact_data", "n_train": 1, "n_val": 2, "min_seq_len": 12, "num_pairs": 3}
    return make("protein_contact", sources=Given([row], others), **{**defaults, **arguments})


def read(task: Task[Any], example: Example) -> tuple[str, list[str], str]:
    """Sequence, pairs and bits, as a reader of the prompt finds them."""
    prompt, answer = task.render(example)
    (sequence,) = re.findall(r"\n\nSequence: ([A-Z]+)\n\n", prompt)
    (pairs,) = re.findall(r"\n\nPairs: ([\d -]+)\n\n", prompt)
    return sequence, pairs.split(), answer


def separations(pairs: list[str]) -> list[int]:
    return [int(second) - int(first) for first, second in (pair.split("-") for pair in pairs)]


@pytest.mark.parametrize("tokenizer", ["world", "bytes"])
@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_a_row_by_hand(order: str, tokenizer: str) -> None:
    """All ten pairs of a hairpin, each with the right bit; the layout, word for word; a token a bit."""
    task, built = hand(order=order, tokenizer=tokenizer, num_pairs=10, pair_sampling="random")
    (example,) = built.train
    sequence, pairs, bits = read(task, example)
    asked, chain = f"Pairs: {' '.join(pairs)}", f"Sequence: {SEQUENCE}"
    blocks = [asked, chain] if order == "q_first" else [chain, asked]
    assert task.render(example)[0] == "\n\n".join([TITLE, *blocks, "Contacts: "])
    assert sequence == example.document == SEQUENCE
    assert len(pairs) == 10
    assert {pair for pair, bit in zip(pairs, bits, strict=True) if bit == "1"} == CONTACTS
    assert {pair for pair, bit in zip(pairs, bits, strict=True) if bit == "0"} == OTHERS
    assert example.tokens[example.prompt_len :].tolist() == [ord(bit) + 1 for bit in bits]
    assert example.scored.sum() == 10


def test_masked_residues_are_in_the_sequence_and_not_asked_for() -> None:
    """Whatever their coordinates are."""
    row = protein_contact.row("hand", SEQUENCE, [[None] * 3, *HAIRPIN[1:]], [False] + [True] * 11)
    task, built = hand(row, num_pairs=6, pair_sampling="random")
    sequence, pairs, _ = read(task, built.train[0])
    assert sequence == SEQUENCE
    assert set(pairs) == {pair for pair in CONTACTS | OTHERS if not pair.startswith("1-")}


@pytest.mark.parametrize("sampling", ["random", "balanced", "matched"])
def test_bits_are_the_contacts_of_the_structure(sampling: str) -> None:
    """In random crops too: distances computed here, for the crop that gives all bits."""
    arguments = {**SMALL, "pair_sampling": sampling, "max_seq_len": 110, "num_pairs": 12, "min_sep": 6}
    task, built = make("protein_contact", **arguments)
    cropped = 0
    for example in every(built):
        sequence, pairs, bits = read(task, example)
        row = OF_TABLE[example.document]
        places = [[int(place) - 1 for place in pair.split("-")] for pair in pairs]
        answers = []
        for match in re.finditer(f"(?={sequence})", example.document):
            at = np.array(row["tertiary"][match.start() :])
            answers.append("".join(str(int(np.linalg.norm(at[i] - at[j]) <= 8)) for i, j in places))
        assert bits in answers
        assert len(set(pairs)) == 12
        assert min(separations(pairs)) >= 6
        cropped += len(sequence) < len(example.document)
    assert cropped > 10


def test_matched_pairs_have_the_separations_of_contacts() -> None:
    """In the hairpin only three contacts have others of their separation: two of 8 residues, one of 9."""
    seen = Counter[str]()
    for seed in range(60):
        task, built = hand(seed=seed)
        _, pairs, bits = read(task, built.train[0])
        assert sorted(separations(pairs)) == [8, 8, 9]
        assert len(set(pairs)) == 3
        seen.update(f"{pair}:{bit}" for pair, bit in zip(pairs, bits, strict=True))
    assert {entry[:-2] for entry in seen if entry[-1] == "1"} == {"2-10", "3-11", "2-11"}
    assert {entry[:-2] for entry in seen if entry[-1] == "0"} == {"1-9", "4-12", "1-10", "3-12"}
    with pytest.raises(DataShort, match=r"fewer contacts than num_pairs +1 "):
        hand(num_pairs=4)


def score_of(task: Task[Any], built: Built, rule: dict[int, float]) -> tuple[float, float]:
    """Score of saying contact where `rule` has more than half for a separation, and its standard error."""
    right = []
    for example in built.validation:
        _, pairs, bits = read(task, example)
        for separation, bit in zip(separations(pairs), bits, strict=True):
            right.append((rule.get(separation // 8, 0.0) > 0.5) == (bit == "1"))
    return float(np.mean(right)), 0.5 / len(right) ** 0.5


def shares_of_contacts(task: Task[Any], built: Built) -> dict[int, float]:
    """Eighth of the separation -> share of contacts among the training pairs that have it."""
    bits_of = defaultdict(list)
    for example in built.train:
        _, pairs, bits = read(task, example)
        for separation, bit in zip(separations(pairs), bits, strict=True):
            bits_of[separation // 8].append(bit == "1")
    return {separation: float(np.mean(bits)) for separation, bits in bits_of.items()}


def test_separation_alone_tells_nothing_of_matched_pairs() -> None:
    """The rule that knows each separation's share of contacts: at chance, and far above with balanced."""
    arguments = {"source": "offline", "n_train": 500, "n_val": 250, "examples_per_chain": 6}
    task, built = make("protein_contact", sources=Sources(), pair_sampling="matched", **arguments)
    score, error = score_of(task, built, shares_of_contacts(task, built))
    assert error < 0.007
    assert score == pytest.approx(0.5, abs=4 * error)
    task, built = make("protein_contact", sources=Sources(), pair_sampling="balanced", **arguments)
    score, error = score_of(task, built, shares_of_contacts(task, built))
    assert score > 0.55
    assert score > 0.5 + 10 * error


@pytest.mark.parametrize("sampling", ["balanced", "matched"])
def test_earlier_bits_tell_nothing_of_a_bit(sampling: str) -> None:
    """Saying what has been rarer so far, in the answer or at this separation, is right half the time."""
    arguments = {**OFFLINE, "pair_sampling": sampling}
    task, built = make("protein_contact", sources=Sources(), **arguments)
    overall, at_separation = [], []
    for example in built.train:
        _, pairs, bits = read(task, example)
        balance, balance_at = 0, Counter[int]()
        for separation, bit in zip(separations(pairs), bits, strict=True):
            sign = 1 if bit == "1" else -1
            if balance:
                overall.append((balance < 0) == (bit == "1"))
            if balance_at[separation] and sampling == "matched":
                at_separation.append((balance_at[separation] < 0) == (bit == "1"))
            balance += sign
            balance_at[separation] += sign
    for right in filter(None, (overall, at_separation)):
        assert len(right) > 500
        assert np.mean(right) == pytest.approx(0.5, abs=4 * 0.5 / len(right) ** 0.5)


def test_pos_ratio_is_the_share_of_contacts() -> None:
    """With balanced; matched has half, and random about as many as there are."""

    def share_of_contacts(**arguments: Any) -> float:
        task, built = make("protein_contact", sources=Sources(), **OFFLINE, **arguments)
        bits = "".join(read(task, example)[2] for example in every(built))
        assert len(bits) == 400 * 32
        return bits.count("1") / len(bits)

    error = 0.5 / (400 * 32) ** 0.5
    assert share_of_contacts(pair_sampling="balanced", pos_ratio=0.2) == pytest.approx(0.2, abs=4 * error)
    assert share_of_contacts() == pytest.approx(0.5, abs=4 * error)
    assert share_of_contacts(pair_sampling="random") < 0.04


def test_each_data_set_has_its_own_name_of_the_validation_split() -> None:
    """valid in the one, validation in the other; nothing is downloaded for the packaged table."""
    for source in ("hub", "contact_data"):
        _, built = make("protein_contact", source=source, **SMALL)
        chains = {row["seq"] for row in contact_data.splits()["validation"]}
        assert {example.document for example in built.validation} <= chains
    assert create("protein_contact", {}).arguments.download == protein_contact.REPO
    assert create("protein_contact", {"source": "contact_data"}).arguments.download == contact_data.REPO
    assert create("protein_contact", {"source": "offline"}).arguments.download is None


def test_filled_prompts() -> None:
    """Exactly max_prompt_tokens; the question is before the notes or next to the answer."""
    for order in ("q_after", "q_first"):
        arguments = {"fill_notes_to_max": True, "max_prompt_tokens": 900, "order": order, "num_pairs": 20}
        task, built = make("protein_contact", **SMALL, **arguments)
        for example in every(built):
            assert example.prompt_len == 900
            prompt, _ = task.render(example)
            question = prompt.index("\n\nPairs: ")
            notes = [match.start() for match in re.finditer("\n\nAnother protein: ", prompt)]
            sequence = prompt.index("\n\nSequence: ")
            assert notes
            assert notes[-1] < sequence
            assert question < notes[0] if order == "q_first" else sequence < question


def test_every_filter_is_counted() -> None:
    """Each kind of bad row under its own reason, near-copies too, and nothing is lost."""
    removed = left_out("protein_contact")
    short = {
        split: sum(88 <= len(row["seq"]) < 96 for row in protein_contact.splits()[name])
        for split, name in (("train", "train"), ("validation", "valid"))
    }
    for split in ("train", "validation"):
        assert removed[split].pop("chain shorter than min_seq_len", 0) == short[split]
        assert removed[split].pop("fewer contacts than num_pairs") >= (2 if split == "train" else 1)
    bad = {
        "empty sequence": 1,
        "residue that is not a letter": 1,
        "coordinates that are not three numbers a residue": 1,
        "sequence, coordinates and mask of different lengths": 1,
        "coordinate that is not finite": 1,
    }
    assert removed["validation"] == bad
    similar = removed["train"].pop("similar to a chain of the other split")
    assert removed["train"] == {**bad, "document of the other split": 1}
    assert similar >= 5


def test_splits_share_no_chain_and_no_relative() -> None:
    """Though the table has copies and near-copies in both."""
    _, built = make("protein_contact", **SMALL)
    assert_apart(built)
    validation = {example.document for example in built.validation}
    for chain in {example.document for example in built.train}:
        assert all(share(chain, other) <= 0.1 for other in validation)


def test_offline_splits_share_no_family() -> None:
    """Validation chains are alone in their family; copies of a chain are in one half."""
    _, built = make("protein_contact", sources=Sources(), **OFFLINE)
    assert_apart(built)
    sizes = Counter(row["family"] for row in PACKAGED.values())
    assert all(sizes[PACKAGED[example.document]["family"]] == 1 for example in built.validation)
    halves = Counter(document_hash(example.document) & 1 for example in built.validation)
    assert min(halves.values()) > 20


@pytest.mark.parametrize("sampling", ["random", "balanced", "matched"])
def test_levels(sampling: str) -> None:
    """Chance is one of two bits; the majority answer is at chance but for random pairs."""
    task, built = make("protein_contact", sources=Sources(), pair_sampling=sampling, **OFFLINE)
    assert_chance(task, built.validation, lambda _: task.choice_tokens.tolist())
    assert_majority(task, built)
    assert task.chance(built.validation) == 0.5
    majority = task.majority(built.train, built.validation)
    error = 0.5 / (100 * 32) ** 0.5
    assert majority > 0.96 if sampling == "random" else majority == pytest.approx(0.5, abs=4 * error)


def test_the_seed_decides_the_examples() -> None:
    """Same seed, same bytes; another seed, others; with notes too."""
    assert_seeded("protein_contact", **SMALL)
    assert_seeded(
        "protein_contact", **SMALL, fill_notes_to_max=True, tokenizer="bytes", pair_sampling="balanced"
    )


def test_a_shortage_says_how_many_there_are() -> None:
    """Validation chains run out; several examples of each are another argument."""
    with pytest.raises(DataShort, match=r"of 500 validation examples \(n_val\)"):
        make("protein_contact", n_train=40, n_val=500)
    _, built = make("protein_contact", n_train=40, n_val=120, examples_per_chain=4)
    assert max(Counter(example.document for example in built.validation).values()) <= 4


def brute_average_precision(scores: list[float], right: list[bool]) -> float:
    """The sum over thresholds of precision times the recall gained, each counted anew."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [r for s, r in zip(scores, right, strict=True) if s >= threshold]
        gained = sum(taken) / sum(right)
        total += (gained - recall) * sum(taken) / len(taken)
        recall = gained
    return total


def test_average_precision_equals_brute_force() -> None:
    """With and without ties; by hand for one ranking."""
    assert average_precision(np.array([3.0, 2, 1]), np.array([True, False, True])) == pytest.approx(5 / 6)
    rng = np.random.default_rng(0)
    for kinds in (2, 3, 1000):
        for _ in range(50):
            scores = rng.integers(kinds, size=12).astype(float)
            right = rng.random(12) < 0.4
            right[0] = True
            expected = brute_average_precision(scores.tolist(), right.tolist())
            assert average_precision(scores, right) == pytest.approx(expected, abs=1e-12)


def test_precision_at_equals_all_ways_to_break_ties() -> None:
    """The mean over every order of six pairs, sorted stably."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, right = rng.integers(3, size=6).astype(float), rng.random(6) < 0.5
        for k in (1, 2, 4, 6):
            hits = []
            for order in permutations(range(6)):
                first = sorted(order, key=lambda place: -scores[place])[:k]
                hits.append(np.mean(right[first]))
            assert precision_at(k, scores, right) == pytest.approx(np.mean(hits), abs=1e-12)


def answered(task: Task[Any], example: Example, scores: list[float]) -> Answered:
    """Logits of 0 and 1 that differ by `scores`."""
    logits = np.array([[0.25, 0.25 + score] for score in scores], np.float32)
    return Answered(example, task.choice_tokens[(np.array(scores) > 0).astype(int)], logits)


def of_length(task: Task[Any], length: int, bits: str) -> Example:
    """An example with `length` residues in its prompt and `bits` as its answer."""
    row = protein_contact.row("made", "MKVLAEGHTW" * (length // 10), [], [])
    prompt = task.prompt(TITLE, row["seq"], "Pairs: 1-9", "Contacts")
    tokens = np.concatenate([task.encode(part) for part in prompt])
    answer = np.array([task.choice_tokens[int(bit)] for bit in bits], np.int32)
    scored = np.zeros(len(tokens) + len(answer), np.bool_)
    scored[len(tokens) - 1 : -1] = True
    targets = np.full(len(scored), -1, np.int32)
    targets[len(tokens) - 1 : -1] = answer
    return Example(np.concatenate([tokens, answer]), len(tokens), targets, scored, "made")


@pytest.mark.parametrize("order", ["q_after", "q_first"])
def test_metrics_by_hand(order: str) -> None:
    """Three answers to five pairs: chains of 20 and 30 residues, and one without contacts."""
    task = create("protein_contact", {"num_pairs": 5, "min_seq_len": 20, "order": order})
    first = answered(task, of_length(task, 20, "10100"), [2.0, 3.0, 1.0, -1.0, -2.0])
    second = answered(task, of_length(task, 30, "00001"), [-5.0, -4.0, -3.0, -2.0, -1.0])
    third = answered(task, of_length(task, 20, "00000"), [-1.0] * 5)
    figures = task.metrics([first, second, third])
    assert figures == pytest.approx(
        {
            "whole_answer": 1 / 3,
            # Contacts rank second and third of five, then first.
            "average_precision": ((1 / 2 + 2 / 3) / 2 + 1) / 2,
            # L/5 is 4, 6 and 4: the second answer has too few pairs.
            "precision_at_l5": (2 / 4 + 0) / 2,
            "f1_contact": 2 * 2 / (3 + 3),
        }
    )
    assert set(task.metrics([third])) == {"whole_answer", "precision_at_l5"}
    assert set(task.metrics([second])) == {"whole_answer", "average_precision", "f1_contact"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"pos_ratio": 0.3}, "pos_ratio is 0.3, but only pair_sampling: balanced uses it"),
        ({"pair_sampling": "hard"}, "'random', 'balanced' or 'matched'"),
        ({"min_seq_len": 385}, "min_seq_len is 385, above max_seq_len, which is 384"),
        ({"contact_cutoff": 0.0}, "greater than 0"),
    ],
)
def test_bad_arguments_are_refused_in_words(arguments: dict[str, Any], says: str) -> None:
    """The text names the fields and their values."""
    with pytest.raises(ValueError, match=says):
        create("protein_contact", arguments)
