"""Prepared data on disk: what is read is what was built, for ever the same, and mended where it is not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsearch.tasks import Sources, create
from fsearch.tasks.prepared import SPLITS, DataDamaged, load, prepare
from fsearch.tasks.task import document_hash

SMALL: dict[str, Any] = {"n_train": 300, "n_val": 60}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("infill", SMALL),
    ("kv_recall", {**SMALL, "order": "q_first"}),
    ("sudoku", SMALL),
    ("retrieval", SMALL),
]


def never(done: int, of: int) -> None:
    raise AssertionError("built again")


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_splits_hold_the_examples_as_built(name: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    """Every example comes back as it was built, and the halves divide the validation set by document."""
    built = create(name, arguments).build(7, Sources())
    prepared = prepare(name, arguments, 7, tmp_path)
    halves = {
        "screen": [e for e in built.validation if document_hash(e.document) % 2 == 0],
        "confirm": [e for e in built.validation if document_hash(e.document) % 2 == 1],
    }
    for split, expected in {"train": list(built.train), **halves}.items():
        stored = prepared.split(split)  # type: ignore[arg-type]
        assert len(stored) == len(expected) > 0
        assert stored.lengths.tolist() == [len(e.tokens) for e in expected]
        for i, example in enumerate(expected):
            found = stored.example(i)
            assert found.prompt_len == example.prompt_len
            assert found.document == f"{document_hash(example.document):016x}"
            for field in ("tokens", "targets", "scored"):
                assert np.array_equal(getattr(found, field), getattr(example, field))
                assert getattr(found, field).dtype == getattr(example, field).dtype
    screen, confirm, train = (
        set(prepared.split(s).document.tolist()) for s in ("screen", "confirm", "train")
    )
    assert screen.isdisjoint(confirm)
    assert train.isdisjoint(screen | confirm)


def test_meta_describes_the_data(tmp_path: Path) -> None:
    """Sizes and levels in `meta` are those of the examples, and the arguments are written out in full."""
    task = create("kv_recall", SMALL)
    prepared = prepare("kv_recall", SMALL, 0, tmp_path)
    meta = prepared.meta
    assert meta.arguments == task.arguments.model_dump()
    assert meta.vocab_size == task.vocab_size == 3 + 12 + 8
    assert (meta.n_train, meta.n_val_screen, meta.n_val_confirm) == tuple(
        len(prepared.split(s)) for s in SPLITS
    )
    assert meta.n_val_screen + meta.n_val_confirm == 60
    assert meta.max_tokens == 32
    assert meta.chance == 1 / 8
    built = task.build(0, Sources())
    assert meta.majority == task.majority(built.train, built.validation)
    assert meta.counts["train"]["built"] == 300


GOLDEN = [
    (
        "infill",
        {},
        "G H D G F E D D | _ _ _ _ _ _ _ _ _ _ _ _ | G B B E B E F B B D A D",
        "G B B E B E F B B D A D",
    ),
    (
        "kv_recall",
        {},
        "k7:v6 k8:v2 k4:v4 k2:v7 k11:v6 k6:v5 k9:v7 k5:v5 k1:v1 k10:v6 k3:v1 k0:v1 | k3 k8 k1 ?",
        "v1 v2 v1",
    ),
    ("sudoku", {}, "...3 3... 4231 1..2", "2413 3124 4231 1342"),
    (
        "sudoku",
        {"base": 3, "mask_count": 30},
        "8794..513 254..76.9 13..9527. 7..3.98.. 4.3578..1 9852.1.47 ..8.1.7.2 39.7..465 62.9..13.",
        "879426513 254137689 136895274 712349856 463578921 985261347 548613792 391782465 627954138",
    ),
    (
        "retrieval",
        {},
        "0y=284020;dy=130812;ke=930440;nw=956788;qf=670623;i1=501462;38=077384;j0=837447;6f=219539;fe=185308?i1=",
        "501462",
    ),
    (
        "name_index",
        {"n_names": 12, "order": "q_first"},
        "10?ar,op,lo,ip,kw,kb,ox,da,dw,at,qx,vc=",
        "qx",
    ),
    ("middle_match", {"n_names": 12}, "ze,ly,oj,de,kb,jh,da,an,xv,yo,wb,hg?oj_kb=", "de"),
    (
        "kv_sort",
        {},
        "17=641708;26=704067;16=073166;98=968405;35=463900;13=296707;95=912717=",
        "296707,073166,641708,704067,463900,912717,968405",
    ),
]


@pytest.mark.parametrize(("name", "arguments", "prompt", "answer"), GOLDEN)
def test_examples_never_change(name: str, arguments: dict[str, Any], prompt: str, answer: str) -> None:
    """The streams of random numbers are part of the record: a new numpy must not change them unseen."""
    task = create(name, {**arguments, "n_train": 4, "n_val": 2})
    found = task.render(task.build(1, Sources()).train[0])
    assert tuple(text.replace("\n", " ") for text in found) == (prompt, answer)


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from fsearch.tasks.prepared import prepare
name, arguments, cache, kill = json.loads(sys.argv[1])
calls = []
def progress(done, of):
    calls.append(done)
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)
prepared = prepare(name, arguments, 7, Path(cache), progress)
print(json.dumps([prepared.meta.sha256, prepared.path.name, len(calls)]))
"""


def elsewhere(name: str, arguments: dict[str, Any], cache: Path, kill: bool = False) -> subprocess.Popen[str]:
    """`prepare` in a process of its own, with another seed for Python's hashes."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SCRIPT, json.dumps([name, arguments, str(cache), kill])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_another_process_prepares_the_same_bytes(tmp_path: Path) -> None:
    """Same task, arguments and seed in another process and cache: same content hash, same directory name."""
    for name, arguments in CASES:
        here = prepare(name, arguments, 7, tmp_path / "here")
        output, _ = elsewhere(name, arguments, tmp_path / "there").communicate(timeout=60)
        sha256, directory, _ = json.loads(output)
        assert (sha256, directory) == (here.meta.sha256, here.path.name)


def test_prepared_data_is_reused(tmp_path: Path) -> None:
    """A second call builds nothing; defaults written out or left out are the same data."""
    first = prepare("infill", SMALL, 0, tmp_path)
    second = prepare("infill", {**SMALL, "n_masks": 12}, 0, tmp_path, progress=never)
    assert second.path == first.path
    assert second.meta == first.meta


def test_what_decides_the_examples_decides_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed, argument, task or code: another directory. Same examples: same hash."""
    first = prepare("infill", SMALL, 0, tmp_path)
    others = [
        prepare("infill", SMALL, 1, tmp_path),
        prepare("infill", {**SMALL, "n_left": 7}, 0, tmp_path),
        prepare("kv_recall", SMALL, 0, tmp_path),
    ]
    assert len({p.path for p in [first, *others]}) == len({p.meta.sha256 for p in [first, *others]}) == 4
    monkeypatch.setattr("fsearch.tasks.prepared.code_sha256", lambda: "other code")
    rebuilt = prepare("infill", SMALL, 0, tmp_path)
    assert rebuilt.path != first.path
    assert rebuilt.meta.sha256 == first.meta.sha256


def test_code_hash_sees_every_source_file(tmp_path: Path) -> None:
    """The code hash changes with a byte of any module of the room, and not with caches of Python's."""
    package = Path(__file__).parents[2] / "fsearch"
    for room in ("tasks", "tokenizer", "system"):
        shutil.copytree(
            package / room, tmp_path / "fsearch" / room, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(package / "__init__.py", tmp_path / "fsearch")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    code = "from fsearch.tasks.prepared import code_sha256; print(code_sha256())"

    def code_hash() -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout

    before = code_hash()
    (tmp_path / "fsearch/tasks/__pycache__").mkdir()
    (tmp_path / "fsearch/tasks/__pycache__/x.pyc").write_bytes(b"x")
    assert code_hash() == before
    with open(tmp_path / "fsearch/tasks/infill.py", "a") as file:
        file.write("\n")
    assert code_hash() != before


def truncate(path: Path) -> None:
    os.truncate(path / "train/tokens.npy", os.path.getsize(path / "train/tokens.npy") - 4)


def empty(path: Path) -> None:
    os.truncate(path / "screen/targets.npy", 0)


def flip_a_bit(path: Path) -> None:
    data = bytearray((path / "confirm/scored.npy").read_bytes())
    data[-1] ^= 1
    (path / "confirm/scored.npy").write_bytes(data)


def break_a_header(path: Path) -> None:
    data = (path / "train/offsets.npy").read_bytes()
    (path / "train/offsets.npy").write_bytes(data.replace(b"<i8", b"<i4", 1))


def lose_a_file(path: Path) -> None:
    (path / "screen/document.npy").unlink()


def lose_a_split(path: Path) -> None:
    shutil.rmtree(path / "confirm")


def cut_meta(path: Path) -> None:
    os.truncate(path / "meta.json", 100)


def lose_the_checksums(path: Path) -> None:
    (path / "SHA256SUMS").unlink()


def change_a_level(path: Path) -> None:
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**meta, "majority": 0.9}))


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        empty,
        flip_a_bit,
        break_a_header,
        lose_a_file,
        lose_a_split,
        cut_meta,
        lose_the_checksums,
        change_a_level,
    ],
)
def test_damage_is_found_and_mended(damage: Callable[[Path], None], tmp_path: Path) -> None:
    """A damaged directory is never opened; preparing again gives the same bytes as before."""
    first = prepare("kv_recall", SMALL, 0, tmp_path)
    damage(first.path)
    with pytest.raises(DataDamaged, match="prepare it again"):
        load(first.path)
    mended = prepare("kv_recall", SMALL, 0, tmp_path)
    assert mended.path == first.path
    assert mended.meta == first.meta
    assert load(first.path).meta == first.meta


def test_missing_data_is_not_called_damaged(tmp_path: Path) -> None:
    """A path without a directory is FileNotFoundError."""
    with pytest.raises(FileNotFoundError, match="no prepared data"):
        load(tmp_path / "infill-0")


def test_a_killed_preparation_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """After SIGKILL while building, and with the remains of one while writing, preparing again works."""
    killed = elsewhere("infill", SMALL, tmp_path, kill=True)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("infill-*"))
    name = prepare("infill", SMALL, 7, tmp_path / "other").path.name
    partial = tmp_path / f".{name}.partial"
    (partial / "train").mkdir(parents=True)
    (partial / "train/tokens.npy").write_bytes(b"half")
    assert load(prepare("infill", SMALL, 7, tmp_path).path).meta.n_train == 300
    assert not partial.exists()


def test_two_processes_build_once(tmp_path: Path) -> None:
    """Of two processes that want the same data at once one builds, and the other opens what it built."""
    arguments = {"base": 3, "mask_count": 30, "n_train": 300, "n_val": 60}
    both = [elsewhere("sudoku", arguments, tmp_path) for _ in range(2)]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert results[0][:2] == results[1][:2]
    assert sorted(calls > 0 for _, _, calls in results) == [False, True]
    assert len(list(tmp_path.glob("sudoku-*"))) == 1


def test_tasks_do_not_import_torch() -> None:
    """The room needs numpy and pydantic only."""
    code = "import sys, fsearch.tasks, fsearch.tasks.prepared; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code]
    assert (
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        == "False\n"
    )
