"""Which of the two CUDA kernels serves a call, by the rule and by measurements; and the file of those."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

from fsearch.kernels import choice, tuning
from fsearch.kernels.choice import Call, Measurement, chosen, name

CALL = Call("sm_90", "bfloat16", B=8, T=4096, H=12, N=64)


def measured(T: int, kernel: str, B: int = 8, **fields: Any) -> Measurement:
    """One in which `kernel` was faster."""
    times = (2.0, 1.0) if kernel == "cuda2" else (1.0, 2.0)
    return Measurement(**{"architecture": "sm_90", "decay": "sigmoid", "B": B, "T": T, "H": 12, "N": 64}
                       | {"v1_ms": times[0], "v2_ms": times[1]} | fields)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "kernel"),
    [
        ({}, "cuda2"),
        ({"N": 128}, "cuda2"),
        ({"decay": "exp"}, "cuda2"),
        ({"architecture": "sm_80"}, "cuda2"),
        ({"architecture": "sm_120"}, "cuda2"),
        ({"T": 64}, "cuda2"),
        ({"T": 63}, "cuda1"),
        ({"N": 32}, "cuda1"),
        ({"N": 8}, "cuda1"),
        ({"dtype": "float32"}, "cuda1"),
    ],
)
def test_the_rule(changed: dict[str, Any], kernel: str) -> None:
    """Where nothing was measured: v2 for all that it takes from 64 tokens on, v1 for the rest."""
    assert choice.SHIPPED == ()  # a figure that ships needs its card and date in docs/benchmarks
    assert chosen(replace(CALL, **changed), (), has_v2=True) == kernel
    assert chosen(replace(CALL, **changed), (), has_v2=False) == "cuda1"


def test_the_nearest_measurement_counts() -> None:
    """In octaves of tokens and of heads in flight, whatever stands first; samples and heads are one thing."""
    table = [measured(256, "cuda1"), measured(4096, "cuda2"), measured(4096, "cuda1", B=1)]
    for order in permutations(table):
        assert chosen(CALL, order, has_v2=True) == "cuda2"
        assert chosen(replace(CALL, T=512), order, has_v2=True) == "cuda1"
        assert chosen(replace(CALL, T=2048), order, has_v2=True) == "cuda2"
        assert chosen(replace(CALL, B=2), order, has_v2=True) == "cuda1"
        assert chosen(replace(CALL, B=3), order, has_v2=True) == "cuda2"
        assert chosen(replace(CALL, B=1, H=96), order, has_v2=True) == "cuda2"
        assert chosen(replace(CALL, T=1024), order, has_v2=True) == "cuda1"  # as near to both: the smaller


@pytest.mark.parametrize("other", [{"architecture": "sm_89"}, {"decay": "exp"}, {"N": 128}])
def test_other_measurements_say_nothing(other: dict[str, Any]) -> None:
    """Those of another GPU, decay or head size are passed over; nor can one give v2 what it does not take."""
    assert chosen(CALL, [measured(4096, "cuda1", **other)], has_v2=True) == "cuda2"
    table = [measured(32, "cuda2"), measured(4096, "cuda2")]
    assert chosen(replace(CALL, T=32), table, has_v2=True) == "cuda1"
    assert chosen(replace(CALL, dtype="float32"), table, has_v2=True) == "cuda1"
    assert chosen(CALL, table, has_v2=False) == "cuda1"


def test_the_machines_own_comes_before_the_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipped figure counts where the machine has none of its kind."""
    monkeypatch.setattr(choice, "SHIPPED", (measured(4096, "cuda1"),))
    assert chosen(CALL, (), has_v2=True) == "cuda1"
    assert chosen(CALL, [measured(256, "cuda2")], has_v2=True) == "cuda2"
    assert chosen(CALL, [measured(256, "cuda2", N=128)], has_v2=True) == "cuda1"


def test_a_choice_has_a_name() -> None:
    """Other winners, another name; other times of the same winners, in any order, the same one."""
    table = [measured(256, "cuda1"), measured(4096, "cuda2")]
    assert (name((), has_v2=False), name((), has_v2=True)) == ("cuda1", "cuda2")
    assert name(table, has_v2=False) == "cuda1"
    tuned = name(table, has_v2=True)
    assert tuned.startswith("cuda2-tuned-") and len(tuned) == len("cuda2-tuned-") + 8
    slower = [replace(one, v1_ms=one.v1_ms * 1.5, v2_ms=one.v2_ms * 1.5) for one in reversed(table)]
    assert name(slower, has_v2=True) == tuned
    assert name([measured(256, "cuda2"), table[1]], has_v2=True) != tuned
    assert name(table[:1], has_v2=True) != tuned
    assert measured(256, "cuda1", v1_ms=1.0, v2_ms=1.0).kernel == "cuda1"


def test_torch_compile_takes_it_whole() -> None:
    """A choice inside a compiled function is made for the shape at hand, without a break in the graph."""
    table = (measured(64, "cuda1"), measured(4096, "cuda2"))

    def scaled(x: torch.Tensor) -> torch.Tensor:
        B, T, H, N = x.shape
        call = Call("sm_90", str(x.dtype).removeprefix("torch."), B, T, H, N)
        return x * (2 if chosen(call, table, has_v2=True) == "cuda2" else 1)

    torch.compiler.reset()
    compiled = torch.compile(scaled, backend="aot_eager", fullgraph=True)
    for T, factor in ((64, 1), (100, 1), (4000, 2), (4096, 2)):
        x = torch.ones(8, T, 12, 64, dtype=torch.bfloat16)
        assert torch.equal(compiled(x), x * factor)


def test_it_needs_no_torch() -> None:
    """The module is plain Python: it can be read where torch cannot be loaded."""
    code = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('choice', sys.argv[1]); "
        "sys.modules['choice'] = m = u.module_from_spec(s); s.loader.exec_module(m); "
        "call = m.Call('sm_90', 'bfloat16', 8, 4096, 12, 64); "
        "print(m.chosen(call, (), has_v2=True), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, choice.__file__], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("cuda2 False\n", "")


def test_a_table_is_what_was_written(tmp_path: Path) -> None:
    """It lies beside its library, and a new one takes its place; without one it is empty, without a word."""
    library, other = tmp_path / "wkv7-0123.so", tmp_path / "wkv7-4567.so"
    table = (measured(256, "cuda1"), measured(4096, "cuda2", v1_ms=7.25))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tuning.read(library) == ()
        for written in (table[:1], table):
            file = tuning.write(library, written, {"gpu": "a card", "date": "2026-11-22"})
            assert tuning.read(library) == written
        assert tuning.read(other) == ()
    assert [path.name for path in tmp_path.iterdir()] == ["wkv7-0123.tuned.json"] == [file.name]
    assert json.loads(file.read_text())["gpu"] == "a card"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: '"' + "\x00" * 9,
        lambda text: "[" * 100_000,
        lambda text: text.replace('"schema": 1', '"schema": 2'),
        lambda text: text.replace('"v2_ms": 1.0', '"v2_ms": -1.0'),
        lambda text: text.replace('"v2_ms": 1.0', '"v2_ms": NaN'),
        lambda text: text.replace('"v2_ms": 1.0', '"v2_ms": true'),
        lambda text: text.replace('"T": 4096', '"T": 0'),
        lambda text: text.replace('"T": 4096', '"T": "4096"'),
        lambda text: text.replace('"decay": "sigmoid",', ""),
        lambda text: text.replace('"measurements": [', '"measurements": [7, '),
    ],
)
def test_a_damaged_table_is_a_sentence_and_the_rule(damage: Any, tmp_path: Path) -> None:
    """Whatever is wrong with it, nothing of it is used."""
    library = tmp_path / "wkv7-0123.so"
    file = tuning.write(library, (measured(4096, "cuda2"),), {})
    whole = file.read_text()
    assert damage(whole) != whole
    file.write_text(damage(whole))
    with pytest.warns(RuntimeWarning, match="cannot be used .* are chosen by the rule"):
        assert tuning.read(library) == ()


def test_a_table_that_may_not_be_read(tmp_path: Path) -> None:
    """A folder in its place is no crash either."""
    (tmp_path / "wkv7-0123.tuned.json").mkdir()
    with pytest.warns(RuntimeWarning, match="IsADirectoryError"):
        assert tuning.read(tmp_path / "wkv7-0123.so") == ()
