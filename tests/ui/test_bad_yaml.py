"""Whatever lies in a plan file, `fsearch check` answers: a plan, or where its first mistake is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsearch.ui.cli import main
from tests.plan.plan_texts import GOOD, edit
from tests.plan.test_plan_fuzz import EDIT, mutated
from tests.ui.commands import fsearch


def laughs(depth: int) -> str:
    """A few lines that are 9 ** depth words once they are written out."""
    lines = ["a0: &a0 [ha, ha, ha]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, depth)]
    return "\n".join(lines) + "\n"


def bad(old: str, new: str) -> bytes:
    return edit(old, new).encode()


CORPUS: dict[str, tuple[bytes, int]] = {
    # a file, and the line of its first mistake (0: it is a plan after all)
    "a good plan": (GOOD.encode(), 0),
    "windows line ends": (GOOD.replace("\n", "\r\n").encode(), 0),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), 0),
    "no line end at the end": (GOOD.rstrip().encode(), 0),
    "UTF-16": (GOOD.encode("utf-16"), 1),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), 1),
    "UTF-32": (GOOD.encode("utf-32"), 1),
    "latin-1": (edit("name: small", "name: größe").encode("latin-1"), 1),
    "latin-1 further down": (edit("name: strong", "name: stärk").encode("latin-1"), 12),
    "half a character": (GOOD.encode() + b"# \xe2\x82", 16),
    "a surrogate": (GOOD.encode() + b"# \xed\xa0\x80", 16),
    "a NUL": (bad("name: small", "name: sm\0all"), 1),
    "only NULs": (bytes(1000), 1),
    "a program": (b"\x7fELF\x02\x01\x01" + bytes(range(256)), 2),
    "a compressed file": (b"\x1f\x8b\x08\x00" + bytes(range(128, 256)), 1),
    "a mark in the middle": (bad("seed: 7", "seed: \ufeff7"), 2),
    "a tab": (bad("  - {name: quick", "\t- {name: quick"), 6),
    "a tab after spaces": (bad("  - scalar_l1\n", "  \t- scalar_l1\n"), 11),
    "an anchor": (bad("seed: 7", "seed: &seed 7"), 2),
    "an alias": (bad("seed: 7", "seed: *name"), 2),
    "a merge key": (bad("model: {init", "model: {<<: {a: 1}, init"), 3),
    "billion laughs": (laughs(10).encode() + GOOD.encode(), 1),
    "an alias of itself": (b"a: &a [*a]\n", 1),
    "a key twice": (bad("seed: 7", "seed: 7\nseed: 7"), 3),
    "a key of a thousand, twice": (GOOD.encode() + b"k" * 1000 + b": 1\n" + b"k" * 1000 + b": 2\n", 17),
    "an object": (bad("seed: 7", "seed: !!python/object/apply:os.system ['touch pwned']"), 2),
    "a module": (bad("seed: 7", "seed: !!python/module:os"), 2),
    "a new tag": (bad("seed: 7", "seed: !mine 7"), 2),
    "a verbatim tag": (bad("seed: 7", "seed: !<tag:yaml.org,2002:int> 7"), 2),
    "a binary": (bad("name: small", "name: !!binary aGE="), 1),
    "a directive": (b"%YAML 9.9\n---\n" + GOOD.encode(), 1),
    "a tag directive": (b"%TAG ! tag:evil,2000:\n---\n" + bad("seed: 7", "seed: !x 7"), 4),
    "a huge integer": (bad("seed: 7", "seed: " + "9" * 5000), 2),
    "a huge hexadecimal": (bad("seed: 7", "seed: 0x" + "f" * 5000), 2),
    "a number of base sixty": (bad("steps: 180", "steps: 3:00"), 6),
    "an octal": (bad("steps: 180", "steps: 0o264"), 6),
    "a huge float": (bad("lr: 5.0e-3", "lr: 1e999999999"), 4),
    "a tiny float": (bad("lr: 5.0e-3", "lr: 1e-999999999"), 4),
    "not a number": (bad("at_least: 0.01", "at_least: .nan"), 9),
    "minus infinity": (bad("alpha: 2", "alpha: -.INF"), 12),
    "a date": (bad("name: small", "name: 2024-01-01"), 0),
    "deep lists": (bad("[8, 16]", "[" * 50_000 + "]" * 50_000), 15),
    "deep mappings": (bad("[8, 16]", "{a: " * 5_000 + "1" + "}" * 5_000), 15),
    "deep block lists": (b"a:\n" + b"".join(b" " * n + b"-\n" for n in range(1, 600)), 33),
    "a long line": (bad("name: small", "name: " + "x" * 200_000), 1),
    "a long comment": (GOOD.encode() + b"#" * 200_000, 0),
    "many lines": (b"\n" * 200_000, 1),
    "many keys": (b"".join(b"k%d: 1\n" % n for n in range(3_000)), 1),
    "many tasks": (GOOD.encode() + b"  - {task: infill, batch: 32, n_masks: 8}\n" * 500, 16),
    "too large": (GOOD.encode() + b"#" * 300_000, 1),
    "two documents": (GOOD.encode() + b"---\n" + GOOD.encode(), 16),
    "an end in the middle": (bad("claim: {", "...\nclaim: {"), 10),
    "a quote left open": (bad("name: small", "name: 'small"), 1),
    "a block left open": (bad("stages:\n", "stages: [\n"), 6),
    "a bracket too many": (bad("[8, 16]", "[8, 16]]"), 15),
    "JSON that is cut off": (b'{"name": "small", "seed": ', 1),
    "HTML": (b"<!DOCTYPE html>\n<html><body>Log in: yes</body></html>\n", 2),
    "a terminal's colours": (bad("name: small", "name: \x1b[31msmall"), 1),
    "an unknown escape": (bad("name: small", 'name: "sm\\qall"'), 1),
    "a lone carriage return": (bad("seed: 7", "seed: 7\rseed: 8"), 3),
    "a line separator": (bad("seed: 7", "seed: 7\u2028seed: 8"), 3),
    "another alphabet's digits": (bad("seed: 7", "seed: ٣"), 2),
}


def answer(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """The exit code of `fsearch check`, and what it complains of, a line each."""
    code = main(["check", str(path), "--state", str(path.parent / "state")])
    captured = capsys.readouterr()
    return code, captured.err.splitlines()


def assert_answered(path: Path, code: int, complaints: list[str]) -> int:
    """A plan, or complaints that each name a place in the file; gives the line of the first, 0 for none."""
    if code == 0:
        return 0
    assert code == 2 and complaints
    for complaint in complaints:
        assert re.match(rf"{re.escape(str(path))}:\d+:\d+: \S", complaint), complaint[:300]
        assert len(complaint) < 1000 and "Traceback" not in complaint
    return int(complaints[0].removeprefix(f"{path}:").split(":")[0])


@pytest.mark.parametrize("name", CORPUS)
def test_a_bad_file_is_answered(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the line where it goes wrong."""
    content, line = CORPUS[name]
    path = tmp_path / "plan.yaml"
    path.write_bytes(content)
    assert assert_answered(path, *answer(path, capsys)) == line
    assert [file.name for file in tmp_path.iterdir()] == ["plan.yaml"]


@pytest.mark.parametrize("name", ["an object", "billion laughs", "UTF-16"])
def test_the_command_says_the_same(name: str, tmp_path: Path) -> None:
    """In a process of its own, and `run` as `check`."""
    path = tmp_path / "plan.yaml"
    path.write_bytes(CORPUS[name][0])
    for verb in ("check", "run"):
        done = fsearch(verb, path, "--state", tmp_path / "state", cwd=tmp_path)
        assert assert_answered(path, done.returncode, done.stderr.splitlines()) == CORPUS[name][1]
    assert [file.name for file in tmp_path.iterdir()] == ["plan.yaml"]


def changed(content: bytes, at: int, byte: int, how: str) -> bytes:
    at %= len(content) + 1
    middle = {"put": bytes([byte]), "instead": bytes([byte]), "none": b""}[how]
    return content[:at] + middle + content[at + (how != "put") :]


BYTES = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 255), st.sampled_from(["put", "instead", "none"])),
    max_size=3,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(EDIT, max_size=3), bytes_=BYTES)
def test_any_mutation_is_answered(
    edits: list[tuple[str, int, int, str]],
    bytes_: list[tuple[int, int, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Words and lines moved about, and then bytes."""
    text = GOOD
    for how, at, other, word in edits:
        text = mutated(text, how, at, other, word)
    content = text.encode("utf-8", "surrogatepass")
    for at, byte, kind in bytes_:
        content = changed(content, at, byte, kind)
    path = tmp_path / "plan.yaml"
    path.write_bytes(content)
    assert_answered(path, *answer(path, capsys))
