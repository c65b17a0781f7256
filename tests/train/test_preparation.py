"""Preparation and kernel build as processes: what they report, and that they leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fsearch.tasks import prepared
from tests.alive import runs, wait_until_gone
from tests.train.processes import run_cold, start_cold

SLOW_COMPILER = """#!/bin/sh
[ "$1" = --version ] && echo slow 1 && exit
echo $$ >> {pids}
sleep 60
"""


NO_COMPILER = """#!/bin/sh
[ "$1" = --version ] && echo none 1 && exit
while [ "$1" != -o ]; do shift; done
touch "$2"
"""


def prepare_job(cache: Path, **arguments: Any) -> dict[str, Any]:
    return {
        "kind": "prepare",
        "task": "infill",
        "arguments": arguments,
        "master_seed": 3,
        "cache": str(cache),
    }


def test_prepared_data_is_reported_as_it_lies_there(tmp_path: Path) -> None:
    """The result names a directory that holds what it says, and a second run finds the same one."""
    job = prepare_job(tmp_path / "cache", n_train=100, n_val=30)
    first, second = (run_cold("prepare", job, tmp_path) for _ in range(2))
    assert first == second
    data = prepared.load(Path(first["data"]["path"]))
    meta = data.meta
    assert first["outcome"] == "completed"
    assert first["data"] == {
        "path": str(data.path),
        "sha256": meta.sha256,
        "code_sha256": meta.code_sha256,
        "vocab_size": meta.vocab_size,
        "n_train": 100,
        "n_val_screen": len(data.split("screen")),
        "n_val_confirm": len(data.split("confirm")),
        "max_tokens": 34,
        "chance": 0.125,
        "majority": meta.majority,
        "documents": first["data"]["documents"],
    }
    assert first["origins"] == [], "drawn examples come from nowhere"


def test_documents_are_told_apart_by_number(tmp_path: Path) -> None:
    """One number for each document, running over both halves, as the prepared data have them."""
    result = run_cold("prepare", prepare_job(tmp_path / "cache", n_train=100, n_val=60), tmp_path)
    data = prepared.load(Path(result["data"]["path"]))
    numbers = result["data"]["documents"]
    hashes = {half: data.split(half).document.tolist() for half in ("screen", "confirm")}
    by_number: dict[int, int] = {}
    for half in ("screen", "confirm"):
        for number, document in zip(numbers[half], hashes[half], strict=True):
            assert by_number.setdefault(number, document) == document
    assert len(set(by_number.values())) == len(by_number)


def test_too_few_examples_is_a_result(tmp_path: Path) -> None:
    """A task that cannot give as many examples as asked for ends as data_short, with the counts by filter."""
    job = prepare_job(tmp_path / "cache", n_symbols=2, n_left=0, n_masks=3, n_train=50, n_val=10)  # of 8
    result = run_cold("prepare", job, tmp_path)
    assert result["outcome"] == "data_short"
    assert "asked for" in result["reason"]
    assert "data" not in result


def test_a_wrong_task_is_an_error(tmp_path: Path) -> None:
    """A task that does not exist is an error in the phase prepare, with its traceback in the log."""
    worker, started = start_cold(
        "prepare", {**prepare_job(tmp_path / "cache"), "task": "no_such_task"}, tmp_path
    )
    error = worker.wait_for(lambda message: message["type"] == "error")
    assert (error["exception"], error["phase"]) == ("ValueError", "prepare")
    assert started.wait(20) == 1
    assert "Traceback" in worker.log.read_text()


def test_preparation_needs_no_torch(tmp_path: Path) -> None:
    """Preparing data imports no torch: several such processes run beside an attempt."""
    program = "import sys, fsearch.train.prepare; print(sorted(m for m in sys.modules if m == 'torch'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_compiler_is_a_result(tmp_path: Path) -> None:
    """Without a compiler on the PATH the build ends as kernel_build_failed and says what to install."""
    environment = {key: value for key, value in os.environ.items() if key not in ("CXX", "PATH")}
    environment["PATH"] = str(tmp_path)
    job = {"kind": "build", "cache": str(tmp_path / "cache"), "cuda": []}
    result = run_cold("build", job, tmp_path, environment=environment)
    assert (result["outcome"], result["backend"]) == ("kernel_build_failed", "torch-chunked")
    assert "install" in result["reason"]
    assert (tmp_path / "build.log").read_text() == ""  # no compiler has said anything


def test_a_build_reports_its_progress(tmp_path: Path) -> None:
    """A handful of messages on the way, so that whoever started it sees life; then where the library is."""
    compiler = tmp_path / "compiler"
    compiler.write_text(NO_COMPILER)
    compiler.chmod(0o755)
    job = {"kind": "build", "cache": str(tmp_path / "cache"), "cuda": []}
    environment = {**os.environ, "CXX": str(compiler)}
    worker, started = start_cold("build", job, tmp_path, environment=environment)
    result = worker.finish()
    assert started.wait(20) == 0
    assert result["outcome"] == "completed" and Path(result["library"]).is_file()
    said = [message["doing"] for message in worker.messages if message["type"] == "progress"]
    assert said[0].startswith("compiled 0 of ") and said[-1].endswith(": linked")
    assert "wkv7_cpu.cpp (generic)" in " ".join(said) and len(said) < 30


def test_a_dead_parent_takes_the_compilers_with_it(tmp_path: Path) -> None:
    """kill -9 of whoever started a build: within two seconds neither it nor its compilers run."""
    compiler = tmp_path / "slow-compiler"
    compiler.write_text(SLOW_COMPILER.format(pids=tmp_path / "pids"))
    compiler.chmod(0o755)
    job = {"kind": "build", "cache": str(tmp_path / "cache"), "cuda": []}
    program = """
import json, os, sys
from pathlib import Path
from tests.train.processes import start_cold
worker, started = start_cold("build", json.loads(sys.argv[1]), Path(sys.argv[2]))
print(started.pid, flush=True)
started.wait()
"""
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(job), str(tmp_path)],
        env={**os.environ, "CXX": str(compiler), "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    build = int(parent.stdout.readline())
    deadline = time.monotonic() + 60
    while not (tmp_path / "pids").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert runs(build) and all(runs(pid) for pid in pids)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_until_gone([build, *pids]) == []
