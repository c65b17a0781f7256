"""The wheel is whole: what a user installs works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_sources_plans_and_migrations(wheel: Path) -> None:
    """The kernel's C++ and CUDA, the plans and the record's migrations are package data."""
    names = zipfile.ZipFile(wheel).namelist()
    sources = {f"fsearch/csrc/{path.name}" for path in (ROOT / "csrc").iterdir()}
    assert {Path(name).suffix for name in sources} == {".cpp", ".h", ".cu"}
    plans = {f"fsearch/plans/{name}" for name in ("demo.yaml", "rounds/r20.yaml", "rounds/README.md")}
    assert {*sources, *plans, "fsearch/tasks/data/proteins.jsonl.gz"} <= set(names)
    templates = {f"fsearch/ui/templates/{name}" for name in ("report.html", "report.css")}
    assert templates <= set(names)
    migrations = {path.name for path in (ROOT / "fsearch/store/migrations").glob("*.py")}
    assert {f"fsearch/store/migrations/{name}" for name in migrations} <= set(names)
    assert not [name for name in names if "tests" in name or "__pycache__" in name]


def test_an_installed_fsearch_runs_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    """`fsearch check demo` finds the packaged plan, and the build finds the packaged sources."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return run.stdout

    assert "valid  demo" in python("-m", "fsearch", "check", "plans/demo.yaml")
    where = python("-c", "from fsearch.kernels import build; print(build.csrc_dir())").strip()
    assert Path(where) == site / "fsearch" / "csrc"
    code = "from fsearch.daemon.fingerprint import environment as e; print(e('cpu', 1)['csrc'])"
    installed, checkout = python("-c", code), python("-c", f"import sys; sys.path[0] = {str(ROOT)!r}; {code}")
    assert installed == checkout
