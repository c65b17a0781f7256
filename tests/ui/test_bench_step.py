"""`fsearch bench step` as a person uses it: the table, the JSON, mistakes."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pytest

from fsearch.ui.cli import parser
from tests.ui.commands import fsearch

REPORT = {"schema", "bench", "date", "fsearch", "load_1min_before", "environment", "rows"} | {
    "shape",
    "targets",
    "variant",
    "parameters",
    "flop",
    "gpu",
    "threads",
    "kernel",
    "torch",
    "clock",
}
ROW = {"precision", "steps", "step_s", "tokens_per_s", "peak_memory_mib", "parts", "operators", "loss"} | {
    "flop_per_s",
    "stated_peak_flop_per_s",
    "mfu",
}


@pytest.mark.usefixtures("state")
def test_both_precisions_side_by_side(tmp_path: Path) -> None:
    """One table with fp32 and bf16; the JSON holds the same and adds up."""
    asked = ["--shape", "demo", "--batch", "4", "--tokens", "8", "--json", "found.json"]
    done = fsearch("bench", "step", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.endswith("Written to ./found.json\n")
    assert done.stdout.count("\n  fp32 ") == done.stdout.count("\n  bf16 ") == 1
    report = json.loads((tmp_path / "found.json").read_text())
    assert set(report) == REPORT
    assert (report["schema"], report["bench"], report["threads"]) == (1, "step", 1)
    assert (report["shape"]["batch"], report["shape"]["tokens"], report["targets"]) == (4, 8, 8)
    assert report["clock"] == "process CPU time"
    assert [row["precision"] for row in report["rows"]] == ["fp32", "bf16"]
    for row in report["rows"]:
        assert set(row) == ROW
        assert row["steps"] >= 4
        assert 0 < row["step_s"]["best"] <= row["step_s"]["median"]
        assert row["tokens_per_s"] == pytest.approx(32 / row["step_s"]["median"])
        assert row["flop_per_s"] == pytest.approx(report["flop"] / row["step_s"]["median"])
        assert row["mfu"] is row["stated_peak_flop_per_s"] is None  # nobody states one for a CPU
        assert 50 < row["peak_memory_mib"] < 4096
        assert sum(row["parts"].values()) == pytest.approx(1) and all(row["parts"].values())
        assert sum(row["operators"].values()) == pytest.approx(1) and min(row["operators"].values()) > 0
    assert report["rows"][0]["loss"] != report["rows"][1]["loss"]


@pytest.mark.long
@pytest.mark.usefixtures("state")
def test_a_model_of_the_released_size(tmp_path: Path) -> None:
    """191 million parameters train for some steps on a CPU within 4 GiB."""
    asked = ["--shape", "0.1b", "--tokens", "64", "--precision", "bf16", "--json", "found.json"]
    done = fsearch("bench", "step", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert row["steps"] >= 4 and row["peak_memory_mib"] < 4096
    assert row["loss"] < math.log(65536)  # what a model that knows nothing has


def test_surface_is_frozen() -> None:
    """The options of `bench step` are a promise too."""
    whole = parser()
    for name in ("bench", "step"):
        inner = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
        whole = inner.choices[name]
    found = {option for action in whole._actions for option in action.option_strings}
    given = {"--device", "--shape", "--batch", "--tokens", "--precision", "--threads", "--json", "--state"}
    assert found == given | {"--help", "-h"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shape", "7b"], "invalid choice: '7b'"),
        (["--precision", "fp16"], "invalid choice: 'fp16'"),
        (["--batch", "0"], "'0' is not a number from 1 to 1000000"),
        (["--tokens", "1"], "an example needs 2 tokens: one to read, one to predict"),
        (["--json", "."], "--json . is a folder."),
        (["--device", "cuda:99"], "There is no cuda:99 here: torch sees "),
    ],
)
def test_mistakes(arguments: list[str], said: str, tmp_path: Path) -> None:
    """A mistake is one sentence and exit code 2, before anything is measured."""
    done = fsearch("bench", "step", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.json"))
