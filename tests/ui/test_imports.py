"""What is imported when: help is quick, and no screen ever loads torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fsearch.ui.cli import parser, verbs
from tests.ui.commands import ROOT

HEAVY = {
    *("torch", "sqlalchemy", "alembic", "rich", "pydantic", "numpy", "scipy", "yaml", "pandas", "jinja2"),
    *("matplotlib", "datasets", "pyarrow", "huggingface_hub", "pynvml", "safetensors", "importlib_metadata"),
}


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


@pytest.mark.parametrize("verb", verbs(parser()), ids=lambda verb: " ".join(verb) or "fsearch")
def test_help_imports_nothing_heavy(verb: tuple[str, ...], tmp_path: Path) -> None:
    """Help is answered by argparse alone, for every verb and subject that there is."""
    code = f"from fsearch.ui.cli import main\ntry: main({[*verb, '--help']})\nexcept SystemExit: pass"
    assert not loaded(code, tmp_path) & HEAVY


def test_every_verb_is_looked_at() -> None:
    """Verbs, subjects of verbs, and fsearch itself."""
    assert {(), ("run",), ("doctor",), ("bench", "kernel")} <= set(verbs(parser()))


def test_no_screen_imports_torch(tmp_path: Path) -> None:
    """All of ui, and the daemon with it, run without torch and without alembic."""
    modules = [f"fsearch.ui.{file.stem}" for file in sorted((ROOT / "fsearch" / "ui").glob("[a-z]*.py"))]
    found = loaded("import " + ", ".join(modules), tmp_path)
    assert "sqlalchemy" in found
    assert not found & {"torch", "alembic", "matplotlib", "pandas", "datasets", "huggingface_hub"}
