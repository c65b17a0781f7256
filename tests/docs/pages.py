"""What is read from the pages: fenced blocks, and the commands of those that a shell would take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_HERE_DOCUMENT = re.compile(r"<<-?\s*['\"]?(\w+)")


@dataclass(frozen=True)
class Command:
    """A command of a page's `sh` block, with its here-document, and where it begins."""

    page: Path
    line: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def fences(page: Path) -> list[tuple[str, int, str]]:
    """Language, number of the first line and text of each fenced block."""
    text = page.read_text()
    return [(found[2], text.count("\n", 0, found.start(3)) + 1, found[3]) for found in _FENCE.finditer(text)]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def commands(page: Path) -> list[Command]:
    """Every command of the page's `sh` blocks: a line, with what continues it and its here-document."""
    found = []
    for language, first, text in fences(page):
        if language != "sh":
            continue
        lines = iter(enumerate(text.splitlines(), start=first))
        for number, line in lines:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            whole = [line]
            end = _HERE_DOCUMENT.search(line)
            while whole[-1].endswith("\\") or (end and whole[-1] != end[1]):
                whole.append(next(lines)[1])
            found.append(Command(page, number, "\n".join(whole)))
    return found
