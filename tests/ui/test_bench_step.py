"""`fsearch bench step` as a person uses it: the table, the JSON, mistakes."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pytest

from fsearch.ui.bench_step import footnotes, row_lines
from fsearch.ui.cli import parser
from tests.ui.commands import fsearch

REPORT = {"schema", "bench", "date", "fsearch", "load_1min_before", "environment", "rows"} | {
    "shape",
    "targets",
    "parameters",
    "gpu",
    "threads",
    "kernel",
    "torch",
    "fla",
    "clock",
}
ROW = {"contender", "batch", "tokens", "precision", "steps", "step_s", "ratio", "tokens_per_s", "parts"} | {
    "left_out",
    "operators",
    "loss",
    "peak_memory_mib",
    "flop",
    "flop_per_s",
    "stated_peak_flop_per_s",
    "mfu",
}
VARIANTS = ["no_fs", "scalar_l1", "scalar_l1_nodetach", "head_l1_nodetach"]


@pytest.mark.usefixtures("state")
def test_variants_and_the_plain_step_side_by_side(tmp_path: Path) -> None:
    """One table with every variant and the plain step; the JSON holds the same and adds up."""
    asked = ["--shape", "demo", "--batch", "4", "--tokens", "8", "--precision", "bf16", "--against", "plain"]
    done = fsearch("bench", "step", *asked, "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.endswith("Written to ./found.json\n")
    assert "\nbf16: a step with Future-Seed takes " in done.stdout
    report = json.loads((tmp_path / "found.json").read_text())
    assert set(report) == REPORT
    assert (report["schema"], report["bench"], report["threads"]) == (1, "step", 1)
    assert (report["shape"]["batch"], report["shape"]["tokens"], report["targets"]) == (4, 8, 8)
    assert (report["clock"], report["fla"]) == ("process CPU time", None)
    assert [row["contender"] for row in report["rows"]] == [*VARIANTS, "plain"]
    for row in report["rows"]:
        assert set(row) == ROW and row["left_out"] is None
        assert f"\n  bf16 {row['contender']} " in done.stdout
        assert (row["precision"], row["batch"], row["tokens"]) == ("bf16", 4, 8)
        assert row["steps"] >= 5
        assert 0 < row["step_s"]["best"] <= row["step_s"]["median"]
        assert row["tokens_per_s"] == pytest.approx(32 / row["step_s"]["median"])
        assert row["flop_per_s"] == pytest.approx(row["flop"] / row["step_s"]["median"])
        assert row["mfu"] is row["stated_peak_flop_per_s"] is None  # nobody states one for a CPU
        assert 50 < row["peak_memory_mib"] < 4096
        own = row["contender"] != "plain"
        assert list(row["parts"]) == ["forward", *["head"] * own, "backward", "update"]
        assert sum(row["parts"].values()) == pytest.approx(1) and all(row["parts"].values())
    first, *others = report["rows"]
    assert first["ratio"] == 1.0 and all(row["ratio"] > 0 and row["operators"] is None for row in others)
    operators = first["operators"].values()
    assert sum(operators) == pytest.approx(1) and min(operators) > 0


@pytest.mark.usefixtures("state")
def test_lengths_share_the_tokens_of_a_step(tmp_path: Path) -> None:
    """Every length has as many tokens a step as one example, or `--batch` of them, of the longest."""
    asked = ["--shape", "demo", "--lengths", "4,16", "--batch", "2", "--precision", "fp32"]
    done = fsearch("bench", "step", *asked, "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [(row["contender"], row["batch"], row["tokens"]) for row in rows] == [
        ("scalar_l1", 8, 4),
        ("scalar_l1", 2, 16),
    ]
    assert "Future-Seed" not in done.stdout


@pytest.mark.long
@pytest.mark.usefixtures("state")
def test_a_model_of_the_released_size(tmp_path: Path) -> None:
    """191 million parameters train for some steps on a CPU within 4 GiB."""
    asked = ["--shape", "0.1b", "--lengths", "64", "--precision", "bf16", "--json", "found.json"]
    done = fsearch("bench", "step", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert row["steps"] >= 5 and row["peak_memory_mib"] < 4096
    assert row["loss"] < math.log(65536)  # what a model that knows nothing has


def test_a_step_that_was_left_out() -> None:
    """Its line says why, and no figure is made of it."""
    row = {"precision": "bf16", "contender": "fla", "left_out": "it failed: RuntimeError: no triton"}
    lines = [line.plain for line in row_lines(row, 80)]
    assert lines == ["  bf16 fla", "    left out: it failed: RuntimeError: no triton"]
    own = {"precision": "bf16", "contender": "no_fs", "left_out": None, "ratio": 1.0}
    notes = footnotes({"gpu": "NVIDIA H200", "clock": "CUDA events", "fla": "0.6.0", "rows": [own, row]})
    assert notes[-1].startswith("fla: the RWKV-7 of flash-linear-attention 0.6.0 with the same weights, ")
    assert "nan" not in " ".join(notes)


def test_surface_is_frozen() -> None:
    """The options of `bench step` are a promise too."""
    whole = parser()
    for name in ("bench", "step"):
        inner = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
        whole = inner.choices[name]
    found = {option for action in whole._actions for option in action.option_strings}
    given = {"--device", "--shape", "--batch", "--tokens", "--precision", "--threads", "--json", "--state"}
    given |= {"--against", "--lengths"}
    assert found == given | {"--help", "-h"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shape", "7b"], "invalid choice: '7b'"),
        (["--precision", "fp16"], "invalid choice: 'fp16'"),
        (["--batch", "0"], "'0' is not a number from 1 to 1000000"),
        (["--tokens", "1"], "an example needs 2 tokens: one to read, one to predict"),
        (["--against", "fast"], "invalid choice: 'fast'"),
        (["--against", "fla"], "--against fla needs a GPU: its kernels are Triton's."),
        (["--lengths", "256,100"], "--lengths: 100 does not divide 256, the longest."),
        (["--lengths", "8,16", "--tokens", "8"], "--lengths goes neither with --against nor with --tokens."),
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
