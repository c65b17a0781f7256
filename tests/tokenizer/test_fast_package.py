"""A fast package that is wrong, panics or is missing is not used, and the ids stay right.

Each case is a package of that name which shadows the installed one in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fsearch.tokenizer import world
from fsearch.tokenizer.encoder import PACKAGE

TEXT = "The same ids, whoever counts: \u00e4\u6f22\U0001f600"
REPORT = f"""
from fsearch.tokenizer import world
print(world().encode({TEXT!r}).tolist())
print(world().encoder)
"""
RIGHT = """
from fsearch.tokenizer import vocabulary
from fsearch.tokenizer.greedy import Greedy
greedy = Greedy(vocabulary.read(vocabulary.find()))
class PanicException(BaseException):
    pass
class RWKVTokenizer:
    def encode(self, text):
        return greedy.encode(text.encode())
"""
CASES = {
    "right": (RIGHT, PACKAGE),
    "wrong on whitespace": (
        RIGHT + "    def encode(self, text): return greedy.encode(text.replace('  ', ' ').encode())",
        "are wrong",
    ),
    "one wrong token": (
        RIGHT + "    def encode(self, text): return [i - (i == 65000) for i in greedy.encode(text.encode())]",
        "are wrong",
    ),
    "panics": (RIGHT + "    def encode(self, text): raise PanicException('index')", "PanicException: index"),
    "panics later": (
        RIGHT + f"    def encode(self, text):\n"
        f"        if text == {TEXT!r}: raise PanicException('late')\n"
        "        return greedy.encode(text.encode())",
        "PanicException: late",
    ),
    "panics when made": (
        RIGHT + "    def __init__(self): raise PanicException('made')",
        "PanicException: made",
    ),
    "answers nonsense": (RIGHT + "    def encode(self, text): return None", "are wrong"),
    "has no such class": ("", "AttributeError"),
    "cannot be imported": ("import a_module_that_is_missing", "ModuleNotFoundError"),
    "is no Python": ("def", "SyntaxError"),
}


@pytest.mark.parametrize(("source", "encoder"), CASES.values(), ids=CASES)
def test_only_a_package_that_agrees_encodes(tmp_path: Path, source: str, encoder: str) -> None:
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "__init__.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", REPORT]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    ids, used = run.stdout.splitlines()
    assert ids == str(world().encode(TEXT).tolist())
    assert encoder in used
    assert (used == PACKAGE) == (encoder == PACKAGE)


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"{PACKAGE} has no wheel for this Python")
def test_the_installed_package_agrees() -> None:
    """It is the pinned version; if this fails, ids still stay right, but slowly."""
    assert world().encode(TEXT).tolist()
    assert world().encoder == PACKAGE
