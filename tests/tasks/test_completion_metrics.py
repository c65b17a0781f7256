"""Metrics of completions: against published examples, tables worked by hand, and counting over all cases."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest

from fsearch.tasks import Sources, create, programs
from fsearch.tasks.boards import all_boards, violated_units
from fsearch.tasks.code_exec import Ran, Verdict
from fsearch.tasks.edits import edit_distance, edit_similarity
from fsearch.tasks.short_answer import exact_match, f1, normalised
from fsearch.tasks.task import Answered, Completed, Example, Judgement, Task, answer_of
from tests.tables import Tables


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "`Needs\tA_LOT of the 'normalization'.\"\u2018",
            "needs alot of normalization\u2018",
        ),  # tests of T5 (squad)
        ("needs no normalization", "needs no normalization"),
        ("   Rock    n  Roll.", "rock n roll"),
        ("The Quick Brown Fox", "quick brown fox"),
        ("a cat and the dog", "cat and dog"),
        ("An apple, theatre & Anna", "apple theatre anna"),  # articles are whole words
        ("the", ""),
        ("24\u201310", "24\u201310"),  # a dash is no ASCII punctuation
        ("U.S.A.", "usa"),
    ],
)
def test_normalisation_of_short_answers(text: str, expected: str) -> None:
    """As evaluate-v1.1.py of SQuAD does it: the published examples, and cases worked by hand."""
    assert normalised(text) == expected


@pytest.mark.parametrize(
    ("given", "answers", "exact", "expected"),
    [
        ("1976", ["1976"], 1, 1),  # metric card of SQuAD
        ("this is the best span", ["this is a good span", "something irrelevant"], 0, 3 / 4),  # AllenNLP
        ("2 時間 21 分", ["2 時間"], 0, 2 / 3),  # torchmetrics
        ("rock", ["rock n roll"], 0, 1 / 2),  # precision 1, recall 1/3
        ("The Broncos", ["Denver Broncos", "broncos"], 1, 1),  # the best of several
        ("x x y", ["x y y"], 0, 2 / 3),  # a word counts as often as both have it
        ("", ["x"], 0, 0),
        ("the", ["an"], 1, 1),  # both without words
        ("yes", ["yes indeed"], 0, 0),  # hotpot_evaluate_v1.py: a yes is right or wrong
        ("no idea", ["no"], 0, 0),
        ("Yes.", ["yes"], 1, 1),
    ],
)
def test_exact_match_and_f1(given: str, answers: list[str], exact: float, expected: float) -> None:
    """Published examples and hand-worked ones."""
    assert exact_match(given, answers) == exact
    assert f1(given, answers) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_is_the_share_of_all_choices(n: int) -> None:
    """Of all subsets of k samples of n: those in which one passes, counted one by one."""
    for c in range(n + 1):
        for k in range(1, n + 1):
            chosen = list(combinations([True] * c + [False] * (n - c), k))
            assert programs.pass_at_k(n, c, k) == pytest.approx(
                sum(map(any, chosen)) / len(chosen), abs=1e-12
            )


def test_pass_at_k_as_published() -> None:
    """The numerically stable product of Chen et al. 2021, figure 3, and exact integers at 200 samples."""
    for n, c, k in ((200, 3, 100), (100, 99, 1), (1000, 7, 10), (10, 0, 10)):
        product = 1.0 if n - c < k else 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))
        assert programs.pass_at_k(n, c, k) == pytest.approx(product, abs=1e-12)
    assert programs.pass_at_k(200, 3, 100) == 1 - comb(197, 100) / comb(200, 100)


def ran(verdict: str, passed: int, exec_ok: bool) -> Ran:
    return Ran(Verdict(verdict), passed, 4, "", 0.1, exec_ok)


def test_what_executed_programs_come_to() -> None:
    """Two examples of three samples, worked by hand."""
    first = [
        ran("passed", 4, True),
        ran("failed_assertion", 2, True),
        ran("error", 0, False),
    ]
    second = [
        ran("syntax_error", 0, False),
        ran("timeout", 1, True),
        ran("blocked", 0, True),
    ]
    found = programs.judged([first, second])
    assert tuple(found.by_example) == programs.metrics_of(3)
    assert found.by_example["exec_ok"] == pytest.approx([2 / 3, 2 / 3])
    assert found.by_example["tests_passed"] == pytest.approx([6 / 12, 1 / 12])
    assert found.by_example["pass_at_1"] == pytest.approx([1 / 3, 0])
    assert found.by_example["pass_at_3"] == [1, 0]
    assert found.figures == {f"programs_{verdict}": 1.0 for verdict in Verdict}
    assert programs.metrics_of(1) == ("exec_ok", "tests_passed", "pass_at_1")
    assert tuple(programs.judged([first[:1]]).by_example) == programs.metrics_of(1)


def recursive(given: str, wanted: str) -> int:
    """The definition of the edit distance, as such."""

    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(
            distance(i - 1, j) + 1,
            distance(i, j - 1) + 1,
            distance(i - 1, j - 1) + (given[i - 1] != wanted[j - 1]),
        )

    return distance(len(given), len(wanted))


def test_edit_distance() -> None:
    """Textbook pairs, and the recursive definition on random ones."""
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("saturday", "sunday") == 3
    assert (edit_distance("", "abc"), edit_distance("abc", ""), edit_distance("", "")) == (3, 3, 0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        one, other = ("".join(rng.choice(list("ab,. "), rng.integers(0, 9))) for _ in range(2))
        assert edit_distance(one, other) == recursive(one, other)
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert (edit_similarity("", ""), edit_similarity("", "a"), edit_similarity("a", "a")) == (1, 0, 1)


def test_violated_units_of_boards() -> None:
    """Every solved 4x4 board has none; a changed cell breaks its row, column and block, as as counted."""
    for board in all_boards(2):
        assert violated_units(board, 2) == []
    board = [1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1]
    assert violated_units(board, 2) == []
    board[5] = 1  # row 1, column 1, block 0
    assert violated_units(board, 2) == [1, 4 + 1, 8 + 0]
    assert len(violated_units([0] * 16, 2)) == 12
    assert len(violated_units([1] * 81, 3)) == 27


def judged(
    name: str, arguments: dict[str, Any], texts: Sequence[Any], sources: Sources | None = None
) -> tuple[Judgement, list[Example], Task[Any]]:
    """What a task says of completions: what functions make of the right answers of validation examples."""
    task = create(name, {"tokenizer": "bytes", **arguments} if name != "sudoku" else arguments)
    examples = list(task.build(0, sources or Tables()).validation)[: len(texts)]

    def tokens(text: Any, example: Example) -> Any:
        answer = task.render(example)[1].replace("\n", "") if name == "sudoku" else task.render(example)[1]
        encoded = [] if (made := text(answer)) is None else made.encode()
        return np.array([byte + 1 for byte in encoded], np.int32)

    completed = [
        Completed(example, tuple(tokens(text, example) for text in some))
        for example, some in zip(examples, texts, strict=True)
    ]
    return task.judge(completed, "off"), examples, task


def same(answer: str) -> str:
    return answer


def test_tasks_judge_their_own_answers_as_right() -> None:
    """Every task with completions gives the highest value of every metric to its own answers."""
    small = {"n_train": 8, "n_val": 8, "max_answer_tokens": 800, "max_prompt_tokens": 12000}
    for name, arguments in (
        ("squad", {}),
        ("hotpot", {}),
        ("punctuation", {"min_chars": 20}),
        ("mbpp", {}),
        ("arc", {}),
        ("sudoku", {}),
    ):
        chosen = {**small, **arguments} if name != "sudoku" else {"n_train": 8, "n_val": 8}
        found, examples, task = judged(name, chosen, [[same]] * 4)
        assert set(found.by_example) == set(task.arguments.judged), name
        assert all(values == [1.0] * 4 for values in found.by_example.values()), name
        assert all(len(answer_of(example)) for example in examples)
        own = task.arguments.metrics(0, executes=True)
        assert own[0] == "whole_answer" and not set(own) & set(found.by_example)


def test_squad_takes_the_best_of_all_answers() -> None:
    """The reference has every answer of the question, not the first alone, which is the target."""
    small = {"n_train": 8, "n_val": 8, "max_prompt_tokens": 12000}
    found, examples, _ = judged("squad", small, [[lambda a: f" The{a}!", lambda a: "nonsense"]] * 3)
    assert found.by_example == {"exact_match": [0.5] * 3, "f1": [0.5] * 3}
    assert all(example.reference.startswith("[") for example in examples)


def test_punctuation_by_edits() -> None:
    """A lost mark is one edit of the line's length."""
    small = {"n_train": 8, "n_val": 8, "max_prompt_tokens": 12000, "max_answer_tokens": 800, "min_chars": 20}
    found, examples, task = judged("punctuation", small, [[lambda a: a[:-1], same]] * 3)
    lengths = [len(task.render(example)[1]) for example in examples[:3]]
    assert found.by_example["edit_similarity"] == pytest.approx([1 - 1 / n / 2 for n in lengths])
    assert found.by_example["exact_match"] == [0.5] * 3
    assert found.figures == {"edit_distance": 0.5}


def test_sudoku_boards_by_the_rules() -> None:
    """A right board, one with two cells of a row exchanged, a short one, no digits at all."""
    arguments = {"n_train": 8, "n_val": 8, "mask_count": 8}

    def exchanged(answer: str) -> str:
        return answer[1] + answer[0] + answer[2:]  # two columns are broken, no row and no block

    texts = [[same], [exchanged], [lambda a: a[:-1]], [lambda a: "?" * 20]]
    found, examples, task = judged("sudoku", arguments, texts)
    assert found.by_example["solved"] == [1, 0, 0, 0]
    assert found.by_example["exact_match"] == [1, 0, 0, 0]
    assert found.by_example["rules_kept"] == pytest.approx([1, 10 / 12, 9 / 12, 0])
    assert found.figures["violations"] == pytest.approx((0 + 2 + 3 + 12) / 4)
    puzzles = [task.render(example)[0].replace("\n", "").removesuffix("=") for example in examples]
    changed = [
        0,
        sum(cell != "." for cell in puzzles[1][:2]),
        int(puzzles[2][-1] != "."),
        16 - puzzles[3].count("."),
    ]
    assert found.figures["givens_changed"] == pytest.approx(np.mean(changed))


@pytest.mark.parametrize("name", ["arc", "protein_ss", "protein_contact", "punctuation", "sudoku"])
def test_a_plan_may_decide_on_figures_that_there_are(name: str) -> None:
    """What a task names is among the figures that it gives of right answers, and is 1 there."""
    arguments: dict[str, Any] = {"n_train": 8, "n_val": 8}
    if name != "sudoku":
        arguments |= {"tokenizer": "bytes", "max_answer_tokens": 800, "max_prompt_tokens": 12000}
    if name == "punctuation":
        arguments["min_chars"] = 20
    if name.startswith("protein"):
        arguments |= {"source": "offline", "examples_per_chain": 8, "n_val": 16}
    task = create(name, arguments)
    built = task.build(0, Sources() if "offline" in arguments.values() else Tables())
    answered = []
    for example in built.validation:
        wanted = example.targets[example.scored]
        logits = None
        if task.choice_tokens is not None:
            logits = 50.0 * (wanted[:, None] == task.choice_tokens).astype(np.float32)
        answered.append(Answered(example, wanted, logits))
    found = task.metrics(answered)
    own = task.arguments.metrics(0, executes=False)
    assert len(own) > 1
    assert all(0.5 < found[figure] <= 1 for figure in own)  # of L/5 pairs not all need be contacts
    most = [figure for figure in own if figure != "precision_at_l5"]
    assert {figure: found[figure] for figure in most} == pytest.approx(dict.fromkeys(most, 1.0))
