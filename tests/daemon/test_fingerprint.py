"""The fingerprint: the same for the same code and machine, another one for whatever decides numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fsearch.daemon.fingerprint import environment

ROOT = Path(__file__).parents[2]
ASK = """
import json
from fsearch.daemon.fingerprint import environment
print(json.dumps(environment("cpu", 1)))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of its own, with its sources only."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("fsearch", "csrc"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def environment_of(root: Path) -> dict[str, Any]:
    """What the code in `root` says of itself, in a process of its own."""
    answer = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_it_depends_on_the_contents_alone(copy: Path) -> None:
    """Another folder, another process, other times of change: the same."""
    first = environment_of(copy)
    for path in copy.rglob("*.py"):
        os.utime(path, (1, 1))
    assert environment_of(copy) == first
    assert set(first) >= {"train", "rwkv7", "kernels", "tasks", "csrc", "torch", "device", "threads"}
    assert first["torch"] and first["device"]


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("fsearch/train/trainer.py", "train"),
        ("fsearch/rwkv7/model.py", "rwkv7"),
        ("fsearch/kernels/operator.py", "kernels"),
        ("fsearch/tasks/infill.py", "tasks"),
        ("csrc/wkv7_cpu.cpp", "csrc"),
        ("csrc/wkv7_math.h", "csrc"),
    ],
)
def test_a_changed_source_changes_its_part_and_no_other(file: str, part: str, copy: Path) -> None:
    """What decides numbers is covered file by file."""
    before = environment_of(copy)
    path = copy / file
    text = path.read_text()
    path.write_text(text + "\n")
    changed = environment_of(copy)
    path.write_text(text)
    assert {name for name in before if before[name] != changed[name]} == {part}


def test_what_decides_no_numbers_is_left_out(copy: Path) -> None:
    """A changed screen or a compiled file throws no result away."""
    before = environment_of(copy)
    with (copy / "fsearch" / "ui" / "cli.py").open("a") as file:
        file.write("\n")
    (copy / "fsearch" / "train" / "__pycache__").mkdir()
    (copy / "fsearch" / "train" / "__pycache__" / "trainer.cpython-311.pyc").write_bytes(b"compiled")
    assert environment_of(copy) == before


def test_threads_are_part_of_it() -> None:
    """Sums over threads round differently."""
    one, two = environment("cpu", 1), environment("cpu", 2)
    assert one == environment("cpu", 1)
    assert {name for name in one if one[name] != two[name]} == {"threads"}
