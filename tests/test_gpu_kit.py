"""`tests/gpu/run_all.sh` where there is no GPU: the script itself, and what its summary calls passed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fsearch import tasks
from fsearch.daemon import record_path
from fsearch.plan import parse
from fsearch.store.records import Sample
from tests.gpu.figures import figure_lines, kernels_ran, work_of
from tests.gpu.summary import PARTS, Part, judged, main, markdown, search_fault
from tests.store.store_samples import ready, run_one

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "gpu" / "run_all.sh"


def environment(kernel_library: Path, **changes: str) -> dict[str, str]:
    """No GPU, and the kernel that is built already."""
    given = {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **given, "FSEARCH_KERNEL_CACHE": str(kernel_library.parent), **changes}


def run_all(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=280, check=False)


def outcomes(out: Path) -> dict[str, str]:
    return {part["name"]: part["outcome"] for part in json.loads((out / "summary.json").read_text())["parts"]}


def test_the_script_without_a_gpu(tmp_path: Path, kernel_library: Path) -> None:
    """A real search with an attempt out of memory, and a summary of it. What needs a GPU is skipped and said
    to be; nothing that was skipped has passed."""
    out = tmp_path / "out"
    parts = "machine build memcheck racecheck tune search"
    env = environment(kernel_library, FSEARCH_LOCK_DIR=str(tmp_path))
    done = run_all("--device", "cpu", "--quick", "--out", str(out), "--only", parts, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed: machine, build, search\n" in done.stdout
    assert "skipped: memcheck: it needs a GPU\n" in done.stdout
    assert "skipped: tune: a CPU has one kernel\n" in done.stdout
    found = outcomes(out)
    assert tuple(found) == PARTS
    assert {name for name in found if found[name] == "passed"} == {"machine", "build", "search"}
    assert set(found.values()) == {"passed", "skipped"}
    rows = [json.loads(line) for line in (out / "search.jsonl").read_text().splitlines()]
    assert search_fault(rows) is None
    text = (out / "summary.md").read_text()
    assert "| memcheck | **skipped** | " in text and "| tests | **skipped** | " in text
    assert "## search\n" in text and "1 oom" in text
    assert "| search: the device busy | " in text and " | attempts too short |" in text
    assert json.loads((out / "machine.json").read_text())["gpu"] is None


@pytest.mark.long
def test_every_part_without_a_gpu(tmp_path: Path, kernel_library: Path) -> None:
    """All that a CPU can do passes; the tests of the GPU are skipped, although pytest ended well."""
    out = tmp_path / "out"
    env = environment(kernel_library, FSEARCH_LOCK_DIR=str(tmp_path))
    done = subprocess.run([SCRIPT, "--device", "cpu", "--quick", "--out", out], env=env, timeout=1500)
    assert done.returncode == 0
    found = outcomes(out)
    skipped = {"tests", "memcheck", "racecheck", "tune", "fla_tests", "fla"}
    assert {name for name in found if found[name] == "skipped"} == skipped
    assert set(found) - skipped == {name for name in found if found[name] == "passed"}
    text = (out / "summary.md").read_text()
    measured = ("kernel", "step", "startup", "compare", "daemon", "search", "busy")
    assert all(f"\n## {name}\n" in text for name in measured)
    assert "| the largest batch that fits | 16 examples |" in text


def test_a_part_that_fails_stops_no_other(tmp_path: Path, kernel_library: Path) -> None:
    """Without a compiler nothing is built and nothing measured; the others run, and the exit code says it."""
    out = tmp_path / "out"
    asked = ["--device", "cpu", "--quick", "--out", str(out), "--only", "build kernel machine"]
    done = run_all(*asked, env=environment(kernel_library, CXX="no-such-compiler"))
    assert done.returncode == 1
    assert "passed: machine\n" in done.stdout
    assert "failed: build: " in done.stdout and "failed: kernel: " in done.stdout
    assert "'no-such-compiler'" in (out / "summary.md").read_text()
    again = run_all(*asked, env=environment(kernel_library))
    assert again.returncode == 2 and "has results already" in again.stderr


def test_no_gpu_is_a_failure_unless_it_was_said(tmp_path: Path, kernel_library: Path) -> None:
    """Asked for a card that is not there, it fails and says so."""
    done = run_all("--out", str(tmp_path / "out"), "--only", "machine", env=environment(kernel_library))
    assert done.returncode == 1
    assert "failed: machine: There is no cuda:0 here: torch sees no GPU." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fast"], "unknown argument --fast"),
        (["--device"], "--device needs a value"),
        (["--only", "kernels"], "no part is called kernels; there are machine build "),
    ],
)
def test_mistakes(arguments: list[str], said: str, kernel_library: Path) -> None:
    """A mistake is a sentence and exit code 2, before anything runs."""
    done = run_all(*arguments, env=environment(kernel_library))
    assert done.returncode == 2 and said in done.stderr


def test_stopping(tmp_path: Path, kernel_library: Path) -> None:
    """SIGTERM ends the part that runs, with all that it has started."""
    out = tmp_path / "out"
    command = [str(SCRIPT), "--device", "cpu", "--out", str(out), "--only", "kernel"]
    script = subprocess.Popen(command, env=environment(kernel_library), stderr=subprocess.PIPE, text=True)
    log = out / "logs" / "kernel.log"
    while not (log.is_file() and "cpu" in log.read_text()):
        assert script.poll() is None
        time.sleep(0.1)
    script.send_signal(signal.SIGTERM)
    _, said = script.communicate(timeout=60)
    assert (script.returncode, said) == (130, "run_all.sh: stopped\n")
    own = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(out).encode() in _read(path)]
    assert own == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


ATTEMPT: dict[str, Any] = {
    "role": "screen",
    "outcome": "completed",
    "variant": "open",
    "reason": "",
    "verdict": None,
}
WHOLE = [
    {**ATTEMPT, "role": "probe", "outcome": "oom"},
    ATTEMPT,
    {**ATTEMPT, "role": "confirm", "verdict": "help"},
]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (WHOLE, None),
        ([], "no attempt ran out of memory"),
        (WHOLE[1:], "no attempt ran out of memory"),
        (WHOLE[:2], "no variant was confirmed"),
        ([*WHOLE[:2], {**WHOLE[2], "verdict": None}], "there is no verdict"),
        ([*WHOLE, {**ATTEMPT, "outcome": "oom", "reason": "too large"}], "open ended as oom: too large"),
    ],
)
def test_what_a_search_must_show(rows: list[dict[str, Any]], fault: str | None) -> None:
    """Memory that ran out in a probe, a confirmation, a verdict, and no training that failed."""
    found = search_fault(rows)
    assert found is None if fault is None else found is not None and found.startswith(fault)


@pytest.mark.parametrize(
    ("counts", "code", "outcome"),
    [
        ('tests="90" failures="0" errors="0" skipped="90"', 0, "skipped"),
        ('tests="0" failures="0" errors="0" skipped="0"', 5, "failed"),
        ('tests="90" failures="0" errors="0" skipped="4"', 0, "passed"),
        ('tests="90" failures="1" errors="1" skipped="4"', 1, "failed"),
        (None, 0, "failed"),
    ],
)
def test_skipped_tests_have_not_passed(counts: str | None, code: int, outcome: str, tmp_path: Path) -> None:
    """pytest ends with 0 where every test was skipped; the summary does not take that for passed."""
    if counts:
        (tmp_path / "tests.xml").write_text(f"<testsuites><testsuite {counts}/></testsuites>")
    part = Part("tests", "failed" if code else "passed", code, 1, 2, "")
    assert judged(part, tmp_path).outcome == outcome


def test_a_skipped_part_on_a_gpu_is_not_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without compute-sanitizer a run on a card exits with 1, without another's model with 0; one that left
    no line has failed."""
    judged_by_more = ("tests", "search", "busy")
    lines = {name: f"{name}\tpassed\t0\t1\t2\t" for name in PARTS if name not in judged_by_more}
    lines |= {name: f"{name}\tskipped\t\t0\t0\tnot asked for" for name in judged_by_more}
    lines["fla"] = "fla\tskipped\t\t0\t0\tflash-linear-attention is not installed"
    (tmp_path / "parts.tsv").write_text("\n".join(lines.values()))
    assert main(tmp_path, "cuda:0") == 0
    assert "skipped: fla: flash-linear-attention is not installed" in capsys.readouterr().out
    lines["racecheck"] = "racecheck\tskipped\t\t0\t0\tcompute-sanitizer is not installed"
    (tmp_path / "parts.tsv").write_text("\n".join(lines.values()))
    assert (main(tmp_path, "cpu"), main(tmp_path, "cuda:0")) == (0, 1)
    del lines["kernel"]
    (tmp_path / "parts.tsv").write_text("\n".join(lines.values()))
    assert main(tmp_path, "cpu") == 1
    assert "failed: kernel: it left no outcome" in capsys.readouterr().out


def test_the_page_of_a_card(tmp_path: Path) -> None:
    """Figures that only a card can give find their places: two kernels, a table of choices, a stated peak."""
    took = {"best_s": 0.002, "median_s": 0.003, "ratio_to_kernel": 1.0, "capture_ratio": 1.02}
    took |= {"share_of_floor": 0.2, "peak_memory_bytes": 2**30}
    row = {"B": 8, "T": 4096, "H": 12, "N": 64, "contender": "cuda2", "left_out": None, "wrong": []}
    row |= {"errors": {"y": 0.002, "dw": 0.01}, "forward": took, "forward_backward": took}
    slow = {**row, "contender": "cuda1", "wrong": ["dw"], "errors": {"y": 0.001, "dw": None}}
    slow |= {"forward_backward": {**took, "median_s": 0.006, "ratio_to_kernel": None, "capture_ratio": None}}
    absent = {**dict.fromkeys("BTHN", 8), "contender": "cuda2", "left_out": "it takes no heads of 8"}
    limits = {"copy_bytes_per_s": 4.3e12, "matmul_flop_per_s": 7.9e14}
    kernel = {"kernel": "cuda2", "dtype": "bfloat16", "limits": limits, "rows": [absent, row, slow]}
    kernel |= {"tuning": {"name": "cuda2-tuned-01234567", "file": "x", "rows": [row, slow, absent]}}
    (tmp_path / "kernel.json").write_text(json.dumps(kernel))
    (tmp_path / "tune.json").write_text(json.dumps(kernel))
    step = {
        "precision": "bf16",
        "contender": "scalar_l1",
        "left_out": None,
        "ratio": 1.03,
        "step_s": {"median": 0.1},
        "tokens_per_s": 163840.0,
        "peak_memory_mib": 9000.0,
    }
    step |= {"flop_per_s": 2e14, "mfu": 0.21}
    shape = {"batch": 8, "tokens": 2048}
    base = {**step, **shape, "contender": "no_fs", "ratio": 1.0}
    plain = {"precision": "bf16", "contender": "plain", "left_out": "out of memory"}
    report = {"shape": shape, "parameters": 191e6, "kernel": "cuda2", "fla": None}
    (tmp_path / "step.json").write_text(json.dumps({**report, "rows": [base, step, plain]}))
    other = {**step, "contender": "fla", "ratio": 1.2}
    (tmp_path / "fla.json").write_text(json.dumps({**report, "fla": "0.6.0", "rows": [base, step, other]}))
    several = {"median": 0.2, "best": 0.1, "most": 0.3}
    ways: dict[str, Any] = {way: {"whole_s": several} for way in ("cold", "forked", "warmed")}
    ways["zygote_s"] = 3.0
    startup = {"ways": ways, "gaps": {"idle_s": several, "steps_s": several}, "gap_to_cold": 0.31}
    (tmp_path / "startup.json").write_text(json.dumps(startup))
    sides = {"plan": "quick", "trainings": 2, "wall_ratio": 0.5, "differ": []}
    sides |= {"daemon": {"wall_s": 4.0}, "processes": {"wall_s": 8.0}}
    (tmp_path / "compare.json").write_text(json.dumps({"rows": [sides]}))
    (tmp_path / "machine.json").write_text(json.dumps({"date": "2027-01-02T03:04:05", "gpu": "NVIDIA H200"}))
    text = markdown(tmp_path, [Part("tests", "passed", 0, 5, 9, "90 tests | 2 skipped")])
    assert text.startswith("# 2027-01-02, NVIDIA H200\n")
    assert "| tests | **passed** | 5 s | 9 s | 90 tests / 2 skipped |" in text
    assert "From then on chosen as `cuda2-tuned-01234567`." in text
    assert "| B=8 T=4096 H=12 N=64 | 6.00 ms | 3.00 ms | 2.00 |" in text
    assert "| B=8 T=4096 H=12 N=64 | cuda2 | 2.00 ms | 2.00 ms | 1x | 20 % | 1.02x | 1.00 GiB |" in text
    assert "| cuda1 | 2.00 ms | 2.00 ms WRONG |  | 20 % |  | 1.00 GiB |" in text
    assert "| B=8 T=8 H=8 N=8 | cuda2 | left out: it takes no heads of 8 |" in text
    assert "| cuda2 | 2.0e-03 | 1.0e-02 |" in text and "| cuda1 | 1.0e-03 | inf |" in text
    assert "| bf16 | scalar_l1 | 100 ms | 1.03 | 163,840 | 200 | 21 % | 8.79 GiB |" in text
    assert "| bf16 | plain | left out: out of memory | | | | | |" in text
    assert "| tokens/s of `no_fs`, bf16, 8 x 2048 | 163,840, MFU 21 % |  |  |" in text
    assert "| a step with Future-Seed to one without, bf16 | 1.030 | at most 1.05 | met |" in text
    assert "attention 0.6.0 to ours, bf16 | 1.20 | at least 1.3 | **missed** |" in text
    assert "of a cold start | 31 % (200 ms) | at most 25 % | **missed** |" in text
    assert "| last step to first step, median and most | 200 ms | 300 ms |" in text
    assert "| quick | 2 | 4.00 s | 8.00 s | 0.500 |" in text


def used(role: str, at_s: float, ends_s: float, idle_s: float | None, **phases: float) -> dict[str, Any]:
    """An exported attempt, by seconds after ten o'clock."""
    moments = {
        name: f"2027-01-02T10:{s // 60:02.0f}:{s % 60:06.3f}+00:00"
        for name, s in (("started_at", at_s), ("ended_at", ends_s))
    }
    return {**ATTEMPT, "role": role, "seconds": phases, "idle_s": idle_s, "micro_batch": 71, **moments}


def test_how_busy_a_device_was() -> None:
    """By hand: from the first step at 2 s to the last score at 202 s the device has no work for 1 + 3 + 4 s.

    A probe that ran out of memory has no phases; a search's data and a static no-op are no work.
    """
    rows = [
        used("prepare", -9, -1, None, train=5.0),
        used("probe", 0, 13, None, load=2.0, train=9.0, evaluate=1.0),  # works from 2 to 12
        {**used("probe", 12.5, 21, 1.0), "outcome": "oom"},  # from 13 on
        {**used("screen", 21, 21, None), "outcome": "noop"},
        used("confirm", 22, 100, 3.0, load=2.0, train=70.0, evaluate=5.0),  # from 24 to 99
        used("confirm", 100, 203, 4.0, load=3.0, train=90.0, evaluate=4.0, generate=5.0),  # from 103 to 202
    ]
    work = work_of(rows)
    assert work is not None
    assert (work.wall_s, work.idle_s, work.shortest_s) == (pytest.approx(200), (1.0, 3.0, 4.0), 75.0)
    assert work.busy == pytest.approx(1 - 8 / 200)
    lines = figure_lines({}, {"busy": rows}, {"busy": 0.93}, gpu=True)
    target = "over 95 %, attempts of 60 s and more"
    assert lines[2:] == [
        f"| busy: the device busy | 96.0 %, shortest training 75.0 s | {target} | met |",
        "| busy: idle between two attempts, median | 3.00 s, at most 4.00 s |  |  |",
        "| busy: a kernel ran while a training had the device | 93 % |  |  |",
        "| the largest batch that fits | 71 examples |  |  |",
    ]
    assert work_of(rows[:2]) is None


def test_in_how_much_of_the_time_a_kernel_ran(tmp_path: Path) -> None:
    """The mean of a training's readings; what a card does not give and what a probe had do not count."""
    with ready(record_path(tmp_path)) as store:
        for number, readings in enumerate(([0.9, None, 0.6], [0.0])):
            run_one(store, number)
            samples = [Sample(offset_s=float(at), utilisation=one) for at, one in enumerate(readings)]
            store.add_telemetry(f"a{number}", 1, samples)
    rows = [
        {**used("confirm", 0, 9, None, train=9.0), "id": "a0", "try": 1},
        {**used("probe", 9, 10, None, train=1.0), "id": "a1", "try": 1},
    ]
    assert kernels_ran(tmp_path, rows) == pytest.approx(0.75)
    assert kernels_ran(tmp_path, rows[1:]) is None


@pytest.mark.parametrize("name", ["search.yaml", "search_small.yaml", "busy.yaml", "busy_small.yaml"])
def test_the_plans_are_valid(name: str) -> None:
    """Those for the card cannot be run here, but read."""
    plan = parse((ROOT / "tests" / "gpu" / name).read_text(), tasks.schemas(), name)
    assert plan.name.startswith("gpu kit")
