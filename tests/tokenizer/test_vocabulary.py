"""The vocabulary file: found without importing anything, refused if it is not whole."""

from __future__ import annotations

import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fsearch.tokenizer import VocabularyError, world
from fsearch.tokenizer.vocabulary import FILE, PACKAGES, SHA256, find, read

LINES = find().read_bytes().replace(b"\r", b"").splitlines(keepends=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_both_packages_carry_the_same_vocabulary(package: str) -> None:
    """One with CRLF line ends, the other with LF."""
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip(f"{package} has no wheel for this Python")
    path = Path(spec.submodule_search_locations[0]) / FILE
    assert hashlib.sha256(path.read_bytes().replace(b"\r", b"")).hexdigest() == SHA256
    assert len(read(path)) == 65530
    assert world(path).encode("either file").tolist() == world().encode("either file").tolist()


def swapped(lines: list[bytes]) -> list[bytes]:
    """Two tokens of one length have changed places: every line is well formed."""
    first, second = (lines[at].split(b" ", 1) for at in (1000, 1001))
    assert first[1] != second[1]
    return [*lines[:1000], first[0] + b" " + second[1], second[0] + b" " + first[1], *lines[1002:]]


DAMAGED = {
    "a changed token": ([*LINES[:99], b"100 'cc' 1\n", *LINES[100:]], "line 100 .*100 'cc' 1"),
    "a missing line": ([*LINES[:99], *LINES[100:]], "line 100 should be `100 LITERAL LENGTH`"),
    "a torn line": ([*LINES[:64_000], LINES[64_000][:9]], "line 64001"),
    "a torn file": (LINES[:64_000], "has 64000 tokens"),
    "swapped tokens": (swapped(LINES), "SHA-256"),
    "an empty file": ([], "has 0 tokens"),
    "an expression": ([b"1 __import__('os').getpid() 1\n"], "line 1 "),
    "a number": ([b"1 7 1\n"], "line 1 "),
    "a text that is no literal": ([b"hello\n"], "line 1 "),
    "nested too deep": ([b"1 " + b"(" * 100_000 + b" 1\n"], "line 1 "),
    "something binary": ([b"PK\x03\x04\xff\xfe\n"], "line 1 "),
    "a lone surrogate": ([b"1 '\\ud800' 3\n"], "line 1 "),
}


@pytest.mark.parametrize(("lines", "sentence"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path, lines: list[bytes], sentence: str) -> None:
    path = tmp_path / FILE
    path.write_bytes(b"".join(lines))
    with pytest.raises(VocabularyError, match=sentence) as refusal:
        world(path)
    assert str(refusal.value).startswith(f"{path} is not the World vocabulary")
    assert len(str(refusal.value)) < len(str(path)) + 400


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="cannot be read: No such file"):
        world(tmp_path / "missing.txt")
    with pytest.raises(VocabularyError, match="cannot be read: Is a directory"):
        world(tmp_path)


def test_without_a_package_the_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder of that name without the file is no package."""
    (tmp_path / "rwkv").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.split(".")[0] in PACKAGES]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(VocabularyError, match=r"pip install 'fsearch\[world\]'"):
        find()
