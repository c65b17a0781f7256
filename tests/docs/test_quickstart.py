"""The quickstart as a new user follows it: fresh clone, environment and home, every command as it stands.

It downloads torch, so it needs the package index that pip knows, and takes as long as the quickstart says.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, commands, fences

PAGE = ROOT / "docs" / "quickstart.md"
ON_A_GPU = "## 7. "
"""The heading from which on a reader needs a GPU and the hub."""

LIMIT_S = 7200
SAME_MACHINE = ("(cpu-avx512)", "torch==2.13.0")
"""Where the shown figures are promised to the digit: the kernel, and what `requirements` installs."""


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
def test_a_new_user_gets_what_the_quickstart_promises(tmp_path: Path) -> None:
    """Every command ends well, and prints the lines that are shown, in their order."""
    last = PAGE.read_text().split(ON_A_GPU)[0].count("\n")
    lines = ["set -euo pipefail"]
    for command in commands(PAGE):
        if command.line < last:
            lines += [f"echo '>>> {command.line}'", command.text.replace("ADDRESS", str(ROOT))]
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "locks").mkdir()
    output = tmp_path / "output"
    with output.open("w") as file:
        done = subprocess.run(
            ["bash", "-c", "\n".join(lines)],
            cwd=home,
            env=environment(home, tmp_path / "locks"),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
    told = output.read_text()
    assert done.returncode == 0, told[-5000:]
    kernel, torch = SAME_MACHINE
    if kernel in told and torch in (ROOT / "requirements" / "run.txt").read_text():
        found = missing(shown(last), told)
        assert not found, f"not printed, or not in this order: {found}\n{told}"
    assert re.search(r"raw_strong +\S+ +promote +at_least_delta", told)
    assert re.search(r"open +\S+ +promote +at_least_delta", told)


def test_a_line_that_was_not_printed_is_seen() -> None:
    """The comparison minds words, figures and order, and no durations."""
    told = "a  1.0 s\n  b 2.5 pp\nc ends here, later\n"
    assert not missing(["a  7.5 s", "b  2.5 pp", "c ends ..."], told)
    assert missing(["a 1.0 s", "b 2.6 pp"], told) == ["b 2.6 pp"]
    assert missing(["c ends ...", "a 1.0 s"], told) == ["a 1.0 s"]


def shown(last: int) -> list[str]:
    """The lines of the outputs that the page shows, before line `last`, without those left out."""
    texts = [text for language, line, text in fences(PAGE) if language == "text" and line < last]
    assert len(texts) == 5
    return [line for text in texts for line in text.splitlines() if line.strip() not in ("", "...")]


def missing(wanted: list[str], told: str) -> list[str]:
    """The first of the lines that does not come after the one before it; [] if all do."""
    rest = iter([plain(line) for line in told.splitlines()])
    for line in wanted:
        begin, whole = plain(line.removesuffix(" ...")), not line.endswith(" ...")
        if not any(other == begin if whole else other.startswith(begin) for other in rest):
            return [line]
    return []


def plain(line: str) -> str:
    """A line without what no two runs have in common: durations, and the width of columns."""
    return " ".join(re.sub(r"(\d+ min )?\d+(\.\d+)? s$", "", line).split())


def environment(home: Path, locks: Path) -> dict[str, str]:
    """That of a new user: nothing of ours, but the way to a package index, and locks of the test's own."""
    ours = Path(sys.prefix) / "bin"
    places = [place for place in os.environ["PATH"].split(":") if Path(place) != ours]
    index = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {
        **index,
        **proxies,
        "PATH": ":".join(places),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "FSEARCH_LOCK_DIR": str(locks),
        "CUDA_VISIBLE_DEVICES": "",
    }
