"""`fsearch check`: how long a plan will take, the schema, and who is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsearch.daemon import record_path
from fsearch.plan import expand, json_schema, parse
from fsearch.store import open_reader
from fsearch.tasks import schemas
from fsearch.ui.check import MOST_ROWS
from fsearch.ui.counts import at_least, at_most
from tests.ui.commands import fsearch
from tests.ui.record import PLAN, the_plan

ATTEMPT_S = {180: 0.2 + 180 / 50 + 0.5, 560: 0.2 + 560 / 50 + 0.5}
"""What the made-up runs took: their curves have as many evaluations as those of the plan."""


def words(*arguments: str | Path, cwd: Path) -> str:
    done = fsearch(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def test_the_estimate_of_a_plan(whole: Path, tmp_path: Path) -> None:
    """If nothing is promoted and at most; and of which search nothing is known."""
    (tmp_path / "plan.yaml").write_text(PLAN)
    least = 3 * 9 * ATTEMPT_S[180]  # three searches: the baseline, two more of the noise floor, six variants
    most = least + 3 * 15 * ATTEMPT_S[560]  # and five seeds of the baseline and of two variants
    said = words("check", "plan.yaml", "--state", whole, cwd=tmp_path)
    expected = (
        f"estimated time: about {round(least / 60)} min if nothing is promoted, at most about "
        f"{round(most / 60)} min, for 3 of 4 searches; no run like those of sudoku is recorded"
    )
    assert expected in said


def test_nothing_is_guessed(whole: Path, tmp_path: Path) -> None:
    """Of another model nothing is known, and without a record nothing at all."""
    (tmp_path / "plan.yaml").write_text(PLAN.replace("n_embd: 32", "n_embd: 64"))
    unknown = "estimated time: not known, because the state has no run of these tasks with this model"
    assert unknown in words("check", "plan.yaml", "--state", whole, cwd=tmp_path)
    assert unknown in words("check", "plan.yaml", cwd=tmp_path)


@pytest.mark.parametrize(
    ("stages", "more", "least", "most"),
    [
        (
            "[{name: a, steps: 2}, {name: b, steps: 4, seeds: 5}]",
            "screen: {noise_floor_seeds: 2}",
            [5, 0],
            [5, 15],
        ),
        (
            "[{name: a, steps: 2}, {name: b, steps: 3}, {name: c, steps: 4}]",
            "screen: {promote_at_most: 1}",
            [3, 1, 0],
            [3, 3, 10],
        ),
        ("[{name: b, steps: 4, seeds: 4}]", "", [12], [12]),
        ("[{name: b, steps: 4, seeds: {first: 3, then: 5}}]", "", [9], [15]),
    ],
)
def test_how_many_attempts_there_are(stages: str, more: str, least: list[int], most: list[int]) -> None:
    """Of two variants, where nothing is promoted or undecided, and where everything is."""
    text = (
        f"name: counted\nmodel: {{init: {{n_layer: 3, n_embd: 32, head_size: 8}}}}\ntrain: {{lr: 1.0e-3}}\n"
        f"stages: {stages}\n{more}\nvariants: [scalar_l1, scalar_l2]\ntasks: [{{task: infill, batch: 4}}]\n"
    )
    (search,) = expand(parse(text, schemas()))
    assert (at_least(search), at_most(search)) == (least, most)


def test_what_is_read_of_a_large_record(whole: Path) -> None:
    """The newest rows of a task that have a result, no more than asked for."""
    with open_reader(record_path(whole)) as reader:
        rows = [
            row
            for row in reader.attempts()
            if row.spec.task == "kv_recall"
            and row.outcome == "completed"
            and row.spec.role in ("screen", "confirm")
        ]
        newest = reader.newest_of_task("kv_recall", 7)
        assert [row.sequence for row in newest] == [row.sequence for row in rows[::-1]][:7]
        assert len(reader.newest_of_task("kv_recall", MOST_ROWS)) == len(rows) > 7
        assert reader.newest_of_task("nothing", 7) == []


def test_the_schema_is_printed(tmp_path: Path) -> None:
    """It is that of the plan, and needs no plan."""
    done = fsearch("check", "--schema", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json_schema(schemas())


def test_who_is_told(tmp_path: Path) -> None:
    """A program that is there is named with its place; one that is not is warned of."""
    (tmp_path / "tell.sh").write_text("#!/bin/sh\n")
    (tmp_path / "tell.sh").chmod(0o755)
    for command, said in (
        ("./tell.sh", f"notify: {tmp_path}/tell.sh is told what happens"),
        ("./tel.sh now", "notify: there is no program ./tel.sh that can be run"),
        ("[sh, -c, cat]", "/sh is told what happens"),
    ):
        (tmp_path / "plan.yaml").write_text(f"{PLAN}notify: {command}\n")
        assert said in words("check", tmp_path / "plan.yaml", cwd=tmp_path.parent)
    assert the_plan().notify is None and "notify:" not in words(
        "check", "plans/demo.yaml", cwd=tmp_path.parent
    )
