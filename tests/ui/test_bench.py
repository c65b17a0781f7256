"""`fsearch bench kernel` as a person uses it: the table, the JSON, mistakes, and stopping it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fsearch.ui.bench_kernel import refuse_wrong
from fsearch.ui.bench_table import seconds, shape_lines, size
from fsearch.ui.cli import parser
from fsearch.ui.errors import FAILED, UserError
from tests.alive import wait_until_gone
from tests.ui.commands import ROOT, fsearch

PASS = {
    "best_s",
    "median_s",
    "timings",
    "ratio_to_kernel",
    "capture_ratio",
    "floor_by_bytes_s",
    "floor_by_flops_s",
    "share_of_floor",
    "peak_memory_bytes",
}
ROW = {"B", "T", "H", "N", "contender", "left_out", "errors", "wrong", "checkpoint_bytes"}
REPORT = {"schema", "bench", "date", "fsearch", "quick", "load_1min_before", "environment", "rows"} | {
    "peers",
    "tuning",
    "machine",
    "versions",
    "kernel",
    "dtype",
    "clock",
    "limits",
}


def test_quick_look_on_a_cpu(state: Path, tmp_path: Path) -> None:
    """One table, every shape and contender once; the JSON holds the same and is plausible."""
    done = fsearch("bench", "kernel", "--quick", "--device", "cpu", "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.endswith("Written to ./found.json\n")
    report = json.loads((tmp_path / "found.json").read_text())
    assert set(report) == REPORT
    assert (report["schema"], report["bench"], report["quick"]) == (1, "kernel", True)
    assert (report["dtype"], report["clock"]) == ("float32", "process CPU time")
    assert set(report["limits"]) == {"copy_bytes_per_s", "matmul_flop_per_s"}
    assert all(rate > 1e8 for rate in report["limits"].values())
    shapes = [tuple(row[name] for name in "BTHN") for row in report["rows"]]
    assert shapes == [(32, 34, 4, 8)] * 4 + [(2, 128, 4, 64)] * 4
    for shape in ("B=32 T=34 H=4 N=8 ", "B=2 T=128 H=4 N=64 "):
        assert done.stdout.count(shape) == 1
    for name in ("cpu", "chunked", "loop", "unbound"):
        assert done.stdout.count(f"\n  {name} ") == 3  # in two shapes, and with its largest errors
    assert done.stdout.count("cpu saves ") == 2 and (report["peers"], report["tuning"]) == ({}, None)
    for row in report["rows"]:
        plausible(row)
    # The state after every 32 tokens but the last: one after 32 of 34, three after 32, 64 and 96 of 128.
    kept = {row["T"]: row["checkpoint_bytes"] for row in report["rows"] if row["contender"] == "cpu"}
    assert kept == {34: 32 * 4 * 8 * 8 * 4 * 1, 128: 2 * 4 * 64 * 64 * 4 * 3}


def plausible(row: dict[str, Any]) -> None:
    """What must hold of a row on any machine."""
    assert set(row) == ROW | {"forward", "forward_backward"}
    assert row["left_out"] is None and row["wrong"] == []
    assert all(0 < error < 1e-5 for error in row["errors"].values()) and len(row["errors"]) == 9
    for found in (row["forward"], row["forward_backward"]):
        assert set(found) == PASS
        assert 0 < found["best_s"] <= found["median_s"]
        assert found["timings"] >= 3
        assert found["ratio_to_kernel"] > 0 and (row["contender"] != "cpu" or found["ratio_to_kernel"] == 1)
        assert (found["capture_ratio"] is not None) == (row["contender"] == "cpu")
        assert found["capture_ratio"] is None or 0.2 < found["capture_ratio"] < 5
        floor_s = max(found["floor_by_bytes_s"], found["floor_by_flops_s"])
        assert found["share_of_floor"] == pytest.approx(floor_s / found["best_s"])
        assert 0 < found["share_of_floor"] <= 1.5
        assert found["peak_memory_bytes"] is None or found["peak_memory_bytes"] >= 0
    assert row["forward_backward"]["best_s"] > row["forward"]["best_s"]


def test_peers_stand_beside_ours(state: Path, tmp_path: Path) -> None:
    """Kernels that others bring do the same work: a right one has a line, a wrong one is loud and the command
    fails, and one that cannot run a shape is left out with its own words."""
    peers = ["--peer", "toy=toy_peers:loop", "--peer", "wrong=toy_peers:forgetful", "--peer"]
    asked = ["--quick", "--device", "cpu", "--json", "found.json", *peers, "broken=toy_peers:broken"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "toy_peers.py").write_bytes((ROOT / "tests" / "train" / "toy_peers.py").read_bytes())
    path = {"PYTHONPATH": f"{ROOT}:{scratch}"}
    done = fsearch("bench", "kernel", *asked, cwd=tmp_path, **path)
    assert done.returncode == 1
    assert done.stderr == "WRONG results from wrong, see above: their times mean nothing.\n"
    assert max(map(len, done.stdout.splitlines())) <= 80
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["peers"]["toy"] == "toy_peers:loop"
    by_name = {name: [row for row in report["rows"] if row["contender"] == name] for name in report["peers"]}
    for row in by_name["toy"]:
        plausible(row)
        assert row["checkpoint_bytes"] is None
    assert all("ds0" in row["wrong"] for row in by_name["wrong"])  # a zero; y is off while s0 is remembered
    assert [row["left_out"] for row in by_name["broken"]] == [
        "it failed: RuntimeError: T must be a multiple of 16"
    ] * 2
    assert " ".join(done.stdout.split()).count("broken was left out: it failed: RuntimeError") == 2


def test_the_json_goes_to_the_state_unless_told(state: Path, tmp_path: Path) -> None:
    """Without --json there is one file with the date in its name in the state."""
    done = fsearch("bench", "kernel", "--quick", "--device", "cpu", "--threads", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (file,) = (state / "bench").iterdir()
    assert done.stdout.endswith(f"Written to ./state/bench/{file.name}\n")
    assert json.loads(file.read_text())["clock"] == "wall clock"


def test_surface_is_frozen() -> None:
    """The options of `bench kernel` are a promise too."""
    whole = parser()
    for name in ("bench", "kernel"):
        inner = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
        whole = inner.choices[name]
    found = sorted(option for action in whole._actions for option in action.option_strings)
    ours = ["--device", "--help", "--json", "--peer", "--quick", "--state", "--threads", "--tune", "-h"]
    assert found == ours


def test_alone_it_prints_its_help(tmp_path: Path) -> None:
    """`fsearch bench` says what can be measured."""
    done = fsearch("bench", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: fsearch bench") and "kernel" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["kernel", "--device", "gpu"], "'gpu' is not a device: say auto, cpu or cuda:0"),
        (["kernel", "--threads", "0"], "'0' is not a number of threads"),
        (["kernel", "--json", "."], "--json . is a folder."),
        (["kernel", "--json", "no/f.json"], "--json no/f.json lies in no folder that may be written."),
        (["kernel", "--device", "cuda:99"], "There is no cuda:99 here: torch sees "),
        (["kernel", "--device", "cpu", "--tune"], "There is nothing to tune on a CPU: it has one kernel."),
        (["kernel", "--peer", "official"], "'official' is no peer: say NAME=MODULE:FUNCTION"),
        (["kernel", "--peer", "my_official=x:y"], "with a name of at most 8 letters"),
        (["kernel", "--peer", "chunked=x:y"], "'chunked' is one of ours: call the peer something else"),
        (["kernel", "--peer", "wind=nowhere:f"], "The peer nowhere:f cannot be had (ModuleNotFoundError: "),
        (["kernel", "--peer", "wind=math:f"], "Is its folder in PYTHONPATH?"),
    ],
)
def test_mistakes(arguments: list[str], said: str, tmp_path: Path) -> None:
    """A mistake is one sentence and exit code 2, before anything is measured."""
    done = fsearch("bench", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.json"))


def test_no_compiler(tmp_path: Path) -> None:
    """Without a compiler there is no kernel to measure: exit code 1 and what to install."""
    done = fsearch("bench", "kernel", "--device", "cpu", cwd=tmp_path, CXX="no-such-compiler")
    assert done.returncode == 1
    assert "'no-such-compiler'" in done.stderr and "install" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_stopping(sent: signal.Signals, code: int, state: Path, tmp_path: Path) -> None:
    """Ctrl-C, SIGTERM and kill -9 end the measuring process too; no half JSON is left."""
    command = [sys.executable, "-m", "fsearch.ui.cli", "bench", "kernel", "--device", "cpu"]
    started = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None and started.stderr is not None
    for line in started.stdout:  # until the first shape is done
        if line.startswith("  cpu"):
            break
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(started.pid, sent)
    assert started.wait(timeout=60) == code
    assert not wait_until_gone([int(children[0])])
    assert started.stderr.read() == ""
    assert not list((state / "bench").iterdir())


def test_a_wrong_result_is_loud() -> None:
    """It is named with its tensors below its line, and the command fails."""
    found = dict.fromkeys(PASS, 1.0) | {"peak_memory_bytes": None}
    row = {**dict.fromkeys("BTHN", 8), "contender": "cpu", "left_out": None, "checkpoint_bytes": 0}
    row |= {"errors": {"y": 1e-7, "dw": None, "db": 0.25}, "wrong": ["dw", "db"]}
    row |= {"forward": found, "forward_backward": found}
    text = "\n".join(line.plain for line in shape_lines([row], 80))
    assert "WRONG: relative errors dw nan, db 2.5e-01" in text
    with pytest.raises(UserError, match="WRONG results from cpu, see above") as error:
        refuse_wrong([row, {"contender": "loop", "left_out": "out of memory"}])
    assert error.value.code == FAILED


def test_figures_have_three_digits() -> None:
    """Times and sizes, over the borders between units."""
    assert [seconds(s) for s in (8.34e-5, 9.994e-4, 0.0167, 0.0999, 0.3, 1.238, 151.2)] == [
        *("83.4 µs", "999 µs", "16.7 ms", "99.9 ms", "300 ms", "1.24 s", "151 s")
    ]
    assert [size(n) for n in (None, 32768, 2**20 * 36, 2**20 * 999, 2**30)] == [
        *("", "0.03 MiB", "36.0 MiB", "999 MiB", "1.00 GiB")
    ]
