"""What is imported when: help is quick, and no screen ever loads torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ui.commands import ROOT

HEAVY = (
    *("torch", "matplotlib", "jinja2", "sqlalchemy", "alembic", "rich", "pydantic", "numpy", "scipy"),
    "yaml",
)


def loaded(code: str, tmp_path: Path) -> set[str]:
    """Top-level modules in a fresh process after `code`."""
    told = f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", told],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "verb", ["", "run", "status", "check", "report", "export", "replay", "data", "bench"]
)
def test_help_imports_nothing_heavy(verb: str, tmp_path: Path) -> None:
    """Help is answered by argparse alone."""
    arguments = f"{[verb] if verb else []} + ['--help']"
    code = f"from fsearch.ui.cli import main\ntry: main({arguments})\nexcept SystemExit: pass"
    assert not loaded(code, tmp_path) & set(HEAVY)


def test_no_screen_imports_torch(tmp_path: Path) -> None:
    """All of ui, and the daemon with it, run without torch and without alembic."""
    modules = [f"fsearch.ui.{file.stem}" for file in sorted((ROOT / "fsearch" / "ui").glob("[a-z]*.py"))]
    found = loaded("import " + ", ".join(modules), tmp_path)
    assert "sqlalchemy" in found
    assert not found & {"torch", "alembic", "matplotlib"}
