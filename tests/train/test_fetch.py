"""Data sets of a hub, prepared by the processes of the daemon: what is asked, kept, checked and refused."""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsearch.tasks import registry
from tests.hub import COMMIT, Fault, Hub, Repository, parquet, repository, tables
from tests.mounted_disk import mounted_disk
from tests.train.preparations import REPO, TASK, Preparation, colours, files, rows, run, run_all

OTHER = "5" * 40
SPLITS = {"train": rows(60), "test": rows(30, 100)}
"""What `colours()` has."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(colours()) as hub:
        yield hub


@pytest.fixture
def preparation(hub: Hub, tmp_path: Path) -> Preparation:
    return Preparation(tmp_path / "one", hub.address)


def blobs(preparation: Preparation) -> list[Path]:
    """The files in the hub's cache, the largest first."""
    found = (path for path in (preparation.home / "hub").rglob("blobs/*") if path.is_file())
    return sorted(found, key=lambda path: -path.stat().st_size)


def forget_prepared(preparation: Preparation) -> None:
    """Remove prepared data, and not what is known of the hub."""
    for folder in (preparation.folder / "cache").glob("sft-*"):
        shutil.rmtree(folder)


def test_a_cold_cache_asks_for_what_it_reads_and_a_warm_one_for_nothing(
    hub: Hub, preparation: Preparation
) -> None:
    """The requests, one by one; origins with commit and hash; nothing is left of what was read in between."""
    first = run(preparation)
    resolve = f"/datasets/{REPO}/resolve/{COMMIT}"
    read = [f"{resolve}/{path}" for path in ("README.md", "plain/test.parquet", "plain/train.parquet")]
    assert [(command, path) for command, path, _ in hub.asked] == [
        ("GET", f"/api/datasets/{REPO}/revision/main?blobs=true"),
        *((command, path) for path in read for command in ("HEAD", "GET")),
    ]
    assert first.phases == ["prepare", *["fetch", "prepare"] * 2]
    test, train = first.result["origins"]
    assert (test["name"], test["revision"], test["commit"]) == (REPO, "main", COMMIT)
    assert test["sha256"] != train["sha256"] and len(test["sha256"]) == 64
    cache = preparation.folder / "cache"
    assert list(cache.glob(".scratch-*")) == [] and not (preparation.home / "datasets").exists()

    forget_prepared(preparation)
    hub.asked.clear()
    again = run(preparation)
    assert hub.asked == [] and again.phases == ["prepare"]
    assert again.result == first.result
    hub.stop()
    forget_prepared(preparation)
    assert run(preparation).result == first.result


def test_only_the_hub_is_looked_up(hub: Hub, preparation: Preparation, tmp_path: Path) -> None:
    """No name but the hub's is resolved, and nobody but the hub is connected to."""
    record = tmp_path / "record"
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import sys\n"
        "def hook(event, asked):\n"
        "    if event in ('socket.getaddrinfo', 'socket.connect', 'socket.gethostbyname'):\n"
        f"        with open({str(record)!r}, 'a') as file:\n"
        "            print(event, asked[-1 if event == 'socket.connect' else 0], file=file)\n"
        "sys.addaudithook(hook)\n"
    )
    preparation.environment = {"PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    assert run(preparation).word == "completed"
    port = hub.server_port
    asked = set(record.read_text().splitlines())
    assert asked == {"socket.getaddrinfo 127.0.0.1", f"socket.connect ('127.0.0.1', {port})"}


def test_every_task_of_the_hub(tmp_path: Path) -> None:
    """Each task that downloads, with its defaults but for bytes and sizes, from tables like the real ones."""
    wanted = {}
    for name, task in registry.TASKS.items():
        arguments: dict[str, Any] = {"n_train": 8, "n_val": 12}
        if "tokenizer" in task.arguments_type.model_fields:
            arguments["tokenizer"] = "bytes"
        if name == "punctuation":
            arguments["min_chars"] = 16  # the made-up questions are short
        if name == "sft":
            arguments |= {"data": "rajpurkar/squad", "prompt": "{context}\n{question}"}
            arguments |= {"answer": "{answers.text.0}", "val_split": "validation"}
        if task.arguments_type(**arguments).download is not None:
            wanted[name] = arguments
    assert {"arc", "hotpot", "mbpp", "protein_ss", "protein_contact", "squad", "sft"} <= set(wanted)
    with Hub(tables()) as hub:
        made = [
            Preparation(tmp_path / name, hub.address, arguments, name) for name, arguments in wanted.items()
        ]
        for ended in run_all(made):
            assert ended.result["data"]["n_train"] == 8 and ended.result["origins"]


def test_the_same_examples_elsewhere(hub: Hub, preparation: Preparation, tmp_path: Path) -> None:
    """Two places with nothing in common, and a cache that was wiped, prepare the same bytes."""
    other = Preparation(tmp_path / "else [where] *", hub.address)
    first, second = run_all([preparation, other])
    assert first.sha256 == second.sha256
    shutil.rmtree(other.folder)
    assert run(other).sha256 == first.sha256


def test_two_at_once_fetch_once(hub: Hub, preparation: Preparation) -> None:
    """Of two processes that want the same data set one downloads it; the other waits and says so."""
    hub.faults = [Fault("GET .*plain/test.parquet", "slow", piece=300, pause_s=0.5)]
    other = Preparation(preparation.folder, hub.address, {**TASK, "prompt": "What colour is {thing}?"})
    first, second = run_all([preparation, other])
    assert first.word == second.word == "completed"
    assert len([path for command, path, _ in hub.asked if command == "GET"]) == 4
    assert max(ended.phases.count("fetch") for ended in (first, second)) > 2


def test_a_branch_that_moves_on(hub: Hub, preparation: Preparation, tmp_path: Path) -> None:
    """What `main` stood for is kept by the cache; elsewhere a pin keeps it, and another pin is obeyed."""
    first = run(preparation)
    moved = {**files(), "plain/train.parquet": parquet(rows(60, 500))}
    hub.repositories[f"datasets/{REPO}"].commits[OTHER] = moved
    forget_prepared(preparation)
    assert run(preparation).sha256 == first.sha256, "what was main before"
    elsewhere = Preparation(tmp_path / "two", hub.address, pins={f"{REPO}@main": COMMIT})
    assert run(elsewhere).sha256 == first.sha256, "the pin"
    elsewhere.pins = {f"{REPO}@main": OTHER}
    newer = run(elsewhere)
    assert newer.sha256 != first.sha256, "prepared data of another commit are not those that are asked for"
    assert {origin["commit"] for origin in newer.result["origins"]} == {OTHER}
    asked = Preparation(tmp_path / "three", hub.address, {**TASK, "revision": OTHER})
    assert {origin["commit"] for origin in run(asked).result["origins"]} == {OTHER}


def test_what_another_program_downloaded_is_used(hub: Hub, preparation: Preparation) -> None:
    """A branch is what it stood for when it was last downloaded by name; what is there is not fetched."""
    program = f"""
from huggingface_hub import hf_hub_download
for path in ("README.md", "plain/train.parquet", "plain/test.parquet"):
    hf_hub_download({REPO!r}, path, repo_type="dataset")
"""
    home = {"HF_ENDPOINT": hub.address, "HF_HOME": str(preparation.home)}
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **home}, check=True)
    hub.repositories[f"datasets/{REPO}"].commits[OTHER] = {}
    hub.asked.clear()
    assert {origin["commit"] for origin in run(preparation).result["origins"]} == {COMMIT}
    assert [path for _, path, _ in hub.asked] == [f"/api/datasets/{REPO}/revision/{COMMIT}?blobs=true"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_fetched_again(damage: str, hub: Hub, preparation: Preparation) -> None:
    """The one that is damaged and no other, whatever has happened to it; without a hub it is waited for."""
    sha256 = run(preparation).sha256
    forget_prepared(preparation)
    DAMAGES[damage](blobs(preparation)[0])
    hub.faults = [Fault("", "reset")]
    assert run(preparation).word == "network_wait", "damaged bytes are not read"
    hub.faults.clear()
    hub.asked.clear()
    assert run(preparation).sha256 == sha256
    assert [command for command, _, _ in hub.asked] == ["HEAD", "GET"]


def test_a_damaged_card_is_fetched_again(hub: Hub, preparation: Preparation) -> None:
    """An empty README would make another data set of it."""
    sha256 = run(preparation).sha256
    shutil.rmtree(preparation.folder / "cache")
    (card,) = (path for path in blobs(preparation) if b"configs:" in path.read_bytes())
    card.write_bytes(b"")
    assert run(preparation).sha256 == sha256


def test_a_file_of_another_commit_in_its_place(hub: Hub, preparation: Preparation) -> None:
    """A snapshot that points to a file which is intact, but not the one of this commit."""
    sha256 = run(preparation).sha256
    forget_prepared(preparation)
    train = next((preparation.home / "hub").rglob("snapshots/*/plain/train.parquet"))
    train.unlink()
    train.symlink_to(next((preparation.home / "hub").rglob("snapshots/*/plain/test.parquet")).resolve())
    assert run(preparation).sha256 == sha256


def test_pieces_of_killed_downloads_are_removed(hub: Hub, preparation: Preparation) -> None:
    """Those that nobody has added to for an hour, in the hub's cache, and folders of killed processes."""
    folder = preparation.home / "hub" / "datasets--acme--colours" / "blobs"
    folder.mkdir(parents=True)
    old, new = folder / "a.1.incomplete", folder / "b.2.incomplete"
    for piece in (old, new):
        piece.write_bytes(b"half")
    os.utime(old, (0, 0))
    scratch = preparation.folder / "cache" / ".scratch-left"
    scratch.mkdir(parents=True)
    (scratch / "rows.arrow").write_bytes(b"rows")
    assert run(preparation).word == "completed"
    assert not old.exists() and new.exists() and not scratch.exists()


def repositories() -> dict[str, Repository]:
    """Data sets that cannot be had, by their name after acme/."""
    plain = {"data/train.jsonl": b'{"thing": "a", "colour": "red"}\n'}
    made = {
        "gated": repository(files(), gated=True),
        "script": repository({"script.py": b"import datasets", **plain}),
        "empty": repository({"README.md": b"# Nothing yet"}),
        "nothing": repository({}),
        "card": repository(
            {"README.md": b"---\nconfigs:\n- config_name: a\n  data_files: gone/*.parquet\n---\n"}
        ),
        "broken": repository({"data/train.jsonl": plain["data/train.jsonl"] + b'{"thing": \n'}),
        "mixed": repository({"data/train.jsonl": plain["data/train.jsonl"] + b'{"other": [1]}\n'}),
        "rowless": repository({"data/train.parquet": parquet(rows(1)[:0])}),
        "pictures": repository({"train/red/a.png": b"png"}),
    }
    return {f"datasets/acme/{name}": one for name, one in made.items()} | colours()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such data set": ({"data": "acme/nowhere"}, "no such data set at the hub, or it is private"),
    "gated": ({"data": "acme/gated"}, "accept its terms"),
    "no such revision": ({"revision": "v9"}, "no such revision"),
    "no such commit": ({"revision": "9" * 40}, "no such revision"),
    "no such configuration": ({"config": "fancy"}, "no configuration 'fancy'. .*'plain'"),
    "no such split": ({"train_split": "dev"}, "no split 'dev'; there are: train, test"),
    "a script": ({"data": "acme/script", "config": None}, "made by a script, script.py"),
    "empty": ({"data": "acme/empty", "config": None}, "holds nothing that `datasets` can read"),
    "no files": ({"data": "acme/nothing", "config": None}, "holds nothing that `datasets` can read"),
    "files that are not there": ({"data": "acme/card", "config": "a"}, "data files found in acme/card"),
    "broken line": ({"data": "acme/broken", "config": None, "val_split": None}, "line 2 of train.jsonl"),
    "no rows": ({"data": "acme/rowless", "config": None, "val_split": None}, "has no rows"),
    "pictures": ({"data": "acme/pictures", "config": None, "val_split": None}, "kept as imagefolder"),
}


def test_what_the_hub_does_not_have(tmp_path: Path) -> None:
    """It is final, with a sentence that says what is missing, and what there is instead."""
    with Hub(repositories()) as hub:
        found = run_all(
            Preparation(tmp_path / str(place), hub.address, {**TASK, **arguments})
            for place, (arguments, _) in enumerate(REFUSED.values())
        )
    for ended, (case, (_, words)) in zip(found, REFUSED.items(), strict=True):
        assert ended.word == "data_refused", f"{case}: {ended.outcome}"
        assert re.search(words, ended.outcome.reason), f"{case}: {ended.outcome.reason}"


def test_a_hub_without_a_card(tmp_path: Path) -> None:
    """Splits by the names of files, in JSON lines, compressed or not."""
    lines = {name: "".join(json.dumps(row) + "\n" for row in made).encode() for name, made in SPLITS.items()}
    plain = {"data/train.jsonl.gz": gzip.compress(lines["train"]), "data/test.jsonl": lines["test"]}
    with Hub({"datasets/acme/plain": repository(plain), **colours()}) as hub:
        one, other = run_all(
            [
                Preparation(tmp_path / "jsonl", hub.address, {**TASK, "data": "acme/plain", "config": None}),
                Preparation(tmp_path / "parquet", hub.address),
            ]
        )
    assert one.result["data"]["n_train"] == other.result["data"]["n_train"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    with mounted_disk(tmp_path / "disk", "64k") as folder:
        yield folder


def test_a_full_disk(hub: Hub, small_disk: Path, tmp_path: Path) -> None:
    """No room for the download, or for the rows: an outcome of its own; all is well once there is room."""
    hub.repositories[f"datasets/{REPO}"].commits[COMMIT]["plain/train.parquet"] = parquet(rows(20_000))
    download = Preparation(tmp_path / "download", hub.address)
    download.environment = {"HF_HOME": str(small_disk / "hf")}
    reading = Preparation(tmp_path / "reading", hub.address, cache=small_disk / "cache")
    for preparation in (download, reading):
        ended = run(preparation)
        assert ended.word == "disk_full", f"{ended.outcome}\n{preparation.log}"
        assert ended.outcome.outcome_class == "infrastructure" and "make room" in ended.outcome.reason
        shutil.rmtree(small_disk / "hf", ignore_errors=True)
    download.environment = {}
    reading.cache = None
    assert run(download).sha256 == run(reading).sha256


def test_a_disk_that_cannot_be_written(hub: Hub, small_disk: Path, tmp_path: Path) -> None:
    """Read-only: an outcome of its own; what is in such a cache of the hub can be used all the same."""
    cold = Preparation(tmp_path / "cold", hub.address)
    warm = Preparation(small_disk / "warm", hub.address, cache=tmp_path / "cache")
    sha256 = run(warm).sha256
    (log := small_disk / "warm" / "log").unlink(missing_ok=True)
    log.symlink_to(tmp_path / "log")
    shutil.rmtree(tmp_path / "cache")
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"none", str(small_disk).encode(), b"tmpfs", 1 | 32, b"") == 0  # read-only, remounted
    cold.environment = {"HF_HOME": str(small_disk / "hf")}
    ended = run(cold)
    assert ended.word == "disk_refused", f"{ended.outcome}\n{cold.log}"
    assert ended.outcome.outcome_class == "infrastructure" and "HF_HOME" in ended.outcome.reason
    assert run(warm).sha256 == sha256
