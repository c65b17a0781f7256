"""What the benchmark of the kernel compares and what it compares with: contenders, checks and the floor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fsearch.kernels import choice, tuning
from fsearch.train import kernel_tuning
from fsearch.train.contender import (
    RESULTS,
    Case,
    Shape,
    Work,
    loop,
    operator,
    part_of,
    peer,
    random_case,
    unbound_loop,
)
from fsearch.train.job import Channel
from fsearch.train.kernel_measurement import Measurement
from fsearch.train.machine_limit import Clock, Floor, floor_of, least_bytes, least_flops
from tests.kernels.cases import relative_error
from tests.kernels.reference import reference
from tests.train import toy_peers
from tests.train.processes import run_cold

CPU = torch.device("cpu")
EVERYBODY = ("cpu", "chunked", "loop", "unbound")


def compiled(case: Case) -> Work:
    return operator(case, "cpu")


def chunked(case: Case) -> Work:
    return operator(case, "chunked")


def two_calls(case: Case) -> Work:
    return peer(case, toy_peers.loop)


@pytest.mark.parametrize("contender", [loop, unbound_loop, chunked, compiled, two_calls])
@pytest.mark.parametrize("T", [1, 2, 35])
@pytest.mark.usefixtures("kernel_library")
def test_contenders_do_the_same_work(contender: Callable[[Case], Work], T: int) -> None:
    """y, the captured state and all gradients are those of the token-by-token reference in float64."""
    if (contender, T) == (two_calls, 1):
        pytest.skip("one token cannot be dealt to two calls")
    case = random_case(Shape(2, T, 3, 8), CPU, torch.float32)
    leaves = [x.double().requires_grad_() for x in case.tensors]
    p = torch.full((2,), T // 2)
    y, cap, _ = reference(*leaves, p, "sigmoid")
    assert cap is not None
    gradients = torch.autograd.grad([y, cap], leaves, [case.dy.double(), case.dcap.double()])
    found = contender(case).results()
    assert tuple(found) == RESULTS
    errors = {
        name: relative_error(found[name], want)
        for name, want in zip(RESULTS, (y, cap, *gradients), strict=True)
    }
    assert max(errors.values()) < 2e-6, errors


def test_a_part_alone_is_as_among_the_rest() -> None:
    """The check of a large shape looks at its first samples and heads: they must not depend on the others."""
    case = random_case(Shape(3, 20, 4, 8), CPU, torch.float64)
    whole, part = loop(case).results(), loop(case.part(1, 2, torch.float64)).results()
    assert part["y"].shape == (1, 20, 2, 8) and part["cap"].shape == (1, 2, 8, 8)
    for name in RESULTS:
        torch.testing.assert_close(part[name], part_of(name, whole[name], 1, 2))


def test_floor_by_hand() -> None:
    """B=2, T=3, H=4, N=8: 24 token-heads, 8 heads of 64 values of state."""
    shape = Shape(2, 3, 4, 8)
    # 7 values of 8 numbers for each token-head; s0 is read and the captured state written.
    assert least_bytes(shape, "forward", 2) == 24 * 7 * 8 * 2 + 2 * 8 * 64 * 4
    # 13 more, and the gradients of both states.
    assert least_bytes(shape, "forward_backward", 4) == 24 * 20 * 8 * 4 + 4 * 8 * 64 * 4
    assert least_flops(shape, "forward", "cpu") == 24 * 9 * 64
    assert least_flops(shape, "forward_backward", "cpu") == 24 * 35 * 64
    assert least_flops(shape, "forward", "cuda") == 24 * (8 * 64 + 16 * 16 * 8)
    assert least_flops(shape, "forward_backward", "cuda") == 24 * (26 * 64 + 60 * 16 * 8)
    assert (Floor(2.0, 1.0).seconds, Floor(1.0, 2.0).seconds) == (2.0, 2.0)


def test_floor_is_at_the_measured_rates() -> None:
    """The part by flops is their number over the given rate, the part by bytes that of a real copy."""
    shape = Shape(1, 1000, 2, 64)
    floor = floor_of(shape, "forward", CPU, Clock(CPU, 1), 4, 1e9)
    assert floor.by_flops_s == pytest.approx(2000 * 9 * 64**2 / 1e9)
    assert 1e8 < least_bytes(shape, "forward", 4) / floor.by_bytes_s < 1e13


@pytest.mark.usefixtures("kernel_library")
def test_a_wrong_contender_is_marked() -> None:
    """A gradient that is off by a hundredth is named, and nothing else is."""

    def wrong(case: Case) -> Work:
        work = loop(case)
        return Work(work.leaves, work.call, work.upstream, lambda y, d: [*y, *d[:-2], d[-2] * 1.01, d[-1]])

    with open(os.devnull, "wb") as nowhere:
        measurement = Measurement(CPU, 1, True, Channel(nowhere.fileno()))
        measurement._contenders["loop"] = wrong
        measurement._flop_per_s = 1e9
        rows: list[dict[str, Any]] = next(measurement.rows([Shape(1, 8, 2, 8)], EVERYBODY))
    assert {row["contender"]: row["wrong"] for row in rows} == {
        "cpu": [],
        "chunked": [],
        "loop": ["db"],
        "unbound": [],
    }


def test_what_would_take_too_long_is_left_out_and_named() -> None:
    """Estimated from the last shape; over the limit there is a row that says why instead of figures."""
    with open(os.devnull, "wb") as nowhere:
        measurement = Measurement(CPU, 1, True, Channel(nowhere.fileno()))
        measurement._last = {
            "cpu": (10**6, 0.1, 0),
            "chunked": (10**6, 1.0, 0),
            "loop": (10**6, 1e-9, 2**40),
            "unbound": (10**6, 1.0, 0),
        }
        rows = next(measurement.rows([Shape(1, 10**6, 1, 8)], EVERYBODY))
    assert [row["left_out"] for row in rows] == [
        "about 6 s a pass, over the limit of 3 s",
        "about 64 s a pass, over the limit of 3 s",
        "about 65536 GiB of memory, over half of what is free",
        "about 64 s a pass, over the limit of 3 s",
    ]


@pytest.mark.usefixtures("kernel_library")
def test_without_a_capture_the_rest_is_the_same() -> None:
    """What the capture's cost is compared with: the same y, and gradients of y alone."""
    case = random_case(Shape(2, 35, 3, 8), CPU, torch.float32)
    whole = operator(case, "cpu")
    bare = operator(case, "cpu", capture=False)
    assert len(bare.forward()) == 1 and torch.equal(bare.forward()[0], whole.forward()[0])
    outputs = whole.call(whole.leaves)
    wanted = torch.autograd.grad(outputs[0], whole.leaves, case.dy)
    for gradient, want in zip(bare.both()[1], wanted, strict=True):
        torch.testing.assert_close(gradient, want)


@pytest.mark.usefixtures("kernel_library")
def test_a_table_of_choices_is_measured(tmp_path: Path) -> None:
    """Both kernels at every shape, by their medians, and the table that is read is the one that was written.
    The faster of two that are five times apart wins, in whichever place it stands."""
    shapes = [Shape(1, 64, 4, 64), Shape(2, 128, 4, 64)]
    with open(os.devnull, "wb") as nowhere:
        measurement = Measurement(CPU, 1, True, Channel(nowhere.fileno()))
        measurement._flop_per_s = 1e9
        rows = [row for some in measurement.rows(shapes, ("cpu", "chunked")) for row in some]
    assert [row["contender"] for row in rows] == ["cpu", "chunked"] * 2
    table = kernel_tuning.table_of(rows, "sm_90", ("cpu", "chunked"))
    assert [(one.architecture, one.B, one.T, one.kernel) for one in table] == [
        ("sm_90", 1, 64, "cuda1"),
        ("sm_90", 2, 128, "cuda1"),
    ]
    assert table[0].v1_ms == rows[0]["forward_backward"]["median_s"] * 1e3
    other = kernel_tuning.table_of(rows, "sm_90", ("chunked", "cpu"))
    assert {one.kernel for one in other} == {"cuda2"}
    left_out = {**rows[0], "left_out": "out of memory"}
    assert kernel_tuning.table_of([left_out, *rows[1:]], "sm_90", ("cpu", "chunked")) == table[1:]
    tuning.write(tmp_path / "kernel.so", table, {})
    assert list(tuning.read(tmp_path / "kernel.so")) == table
    call = choice.Call("sm_90", "bfloat16", 2, 100, 4, 64)
    assert choice.chosen(call, table, has_v2=True) == "cuda1"
    assert choice.chosen(call, other, has_v2=True) == "cuda2"


def test_what_is_tuned() -> None:
    """Shapes of which the choice is open: head sizes that v2 takes, from its shortest length on."""
    assert len(set(kernel_tuning.SHAPES)) == len(kernel_tuning.SHAPES) == 24
    for shape in kernel_tuning.SHAPES:
        assert choice.v2_takes("bfloat16", shape.N) and shape.T >= choice.LEAST_TOKENS
        assert shape.H * shape.N == 768


@pytest.mark.skipif(torch.cuda.device_count() > 99, reason="this machine has a hundred GPUs")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    """Asking for a GPU that torch does not see is answered in a sentence, before anything is built."""
    job = {"device": "cuda:99", "threads": 1, "quick": True, "cache": str(tmp_path / "kernel")}
    result = run_cold("bench_kernel", {**job, "tune": False, "peers": {}}, tmp_path)
    assert result["outcome"] == "refused"
    assert result["reason"].startswith("There is no cuda:99 here: torch sees ")
    assert not (tmp_path / "kernel").exists()
