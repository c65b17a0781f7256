"""The sequential CUDA kernels, csrc/wkv7_v1.cu, run and watched by the emulation.

Against the reference in float64; to the bit where bits may not change; and with planted faults, which must
all be noticed.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from .cases import BF16_TOLERANCE, Case, random_case, relative_error, upstream
from .emulation.comparison import (
    OUTPUTS,
    assert_a_batch_is_its_samples,
    assert_any_order_will_do,
    assert_nothing_passes_the_capture,
    assert_one_pass_is_two_calls,
    assert_same_bits,
    assert_samples_are_apart,
    errors_of,
    expected_of,
    run,
    upstream_of,
)
from .emulation.library import KernelFault, Library, compile_kernels, kernel_source
from .emulation.wkv7 import CHECKPOINT_EVERY, SEGMENT, Wkv7
from .errors import assert_within
from .reference import decay_of

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = dict.fromkeys((*OUTPUTS, "s0", "r", "k", "v"), 3e-6) | dict.fromkeys(("a", "b", "w"), 2e-5)
# The types of r, k, v, a, b and of w, with the relative errors that they allow.
TYPES = {
    "float32": (torch.float32, torch.float32, TOLERANCE),
    "bfloat16": (torch.bfloat16, torch.bfloat16, BF16_TOLERANCE),
    "bfloat16, w float32": (torch.bfloat16, torch.float32, BF16_TOLERANCE | {"w": TOLERANCE["w"]}),
}


@pytest.fixture(scope="module")
def library() -> Library:
    return compile_kernels(kernel_source("wkv7_v1.cu"), "wkv7_v1.cu")


@pytest.fixture(scope="module")
def wkv7(library: Library) -> Wkv7:
    """In float32."""
    return Wkv7(library)


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize(("N", "T"), [(8, 131), (16, 25), (32, 17), (64, 11), (128, 9)])
def test_head_sizes_and_types(library: Library, N: int, T: int, types: str) -> None:
    """Every kernel there is, one sample captured within and one between two segments."""
    io, w, tolerance = TYPES[types]
    case = random_case(2, T, 2 if N < 128 else 1, N, p=torch.tensor([5, 8]))
    assert_within(errors_of(Wkv7(library, io, w), case), tolerance)


@pytest.mark.parametrize("N", [64, 128])
def test_the_larger_heads_beyond_a_checkpoint(wkv7: Wkv7, N: int) -> None:
    """Heads of several panels, in more than one slab of tokens."""
    case = random_case(1, CHECKPOINT_EVERY + 1, 1, N, p=torch.tensor([CHECKPOINT_EVERY]))
    assert_within(errors_of(wkv7, case), TOLERANCE)


LENGTHS = [
    1,
    2,
    *(n + d for n in (SEGMENT, 2 * SEGMENT, CHECKPOINT_EVERY) for d in (-1, 0, 1)),
    2 * CHECKPOINT_EVERY + 1,
]


@pytest.mark.parametrize("decay", ["sigmoid", "exp"])
@pytest.mark.parametrize("T", LENGTHS)
def test_lengths(wkv7: Wkv7, T: int, decay: str) -> None:
    """Around the borders of segments, staged tokens and checkpoints, with random captures."""
    x = (-6.0, 3.0) if decay == "sigmoid" else (-6.0, -0.5)
    assert_within(errors_of(wkv7, random_case(3, T, 2, 8, seed=T, decay=decay, x=x)), TOLERANCE)


@pytest.mark.parametrize("N", [8, 32])
def test_captures(wkv7: Wkv7, N: int) -> None:
    """At the ends, at borders and one off each, different in each sample."""
    T = CHECKPOINT_EVERY + SEGMENT + 1
    borders = [0, 1, T - 1, T, *(n + d for n in (SEGMENT, 2 * SEGMENT, CHECKPOINT_EVERY) for d in (-1, 0, 1))]
    assert_within(errors_of(wkv7, random_case(len(borders), T, 1, N, p=torch.tensor(borders))), TOLERANCE)


@pytest.mark.parametrize("used", [("y",), ("cap",), ("sT",), ("y", "cap"), ("cap", "sT")])
def test_gradients_of_some_outputs(wkv7: Wkv7, used: tuple[str, ...]) -> None:
    """An output without an upstream gradient adds nothing."""
    case = random_case(3, 21, 1, 16, p=torch.tensor([0, 8, 21]))
    assert_within(errors_of(wkv7, case, used), TOLERANCE)


def test_no_capture(wkv7: Wkv7) -> None:
    """Without p there is no cap, and the rest is right."""
    assert_within(errors_of(wkv7, replace(random_case(2, 20, 2, 8), p=None)), TOLERANCE)


def test_no_initial_state(wkv7: Wkv7) -> None:
    """No initial state means zeros, to the bit, captured before the first token too."""
    case = random_case(2, 20, 1, 8, p=torch.tensor([0, 7]))
    zeros = replace(case, tensors=(*case.tensors[:6], torch.zeros(2, 1, 8, 8)))
    given = upstream_of(wkv7, case)
    assert_same_bits(wkv7.run(case, given, s0=False), wkv7.run(zeros, given))
    assert_within(errors_of(wkv7, zeros), TOLERANCE)


def test_outputs_that_nobody_wants(wkv7: Wkv7) -> None:
    """Without checkpoints and a final state the rest is the same."""
    case = random_case(2, 20, 1, 8)
    every, some = run(wkv7, case), wkv7.run(case, final=False)
    assert some.keys() == {"y", "cap"}
    assert_same_bits(some, {name: every[name] for name in some})


EXTREMES = [
    *(("sigmoid", x) for x in ((-20, -20), (8, 8), (-200, 200))),
    *(("exp", x) for x in ((1, 2), (2, 4), (80, 80), (200, 200), (-80, -80))),
]


@pytest.mark.parametrize(("decay", "x"), EXTREMES)
def test_extreme_decays(wkv7: Wkv7, decay: str, x: tuple[float, float]) -> None:
    """From a decay of 1 to a decay of 0, and beyond where exp overflows."""
    assert_within(errors_of(wkv7, random_case(2, 40, 1, 8, decay=decay, x=x)), TOLERANCE)


@pytest.mark.parametrize("types", TYPES)
def test_identical_tokens(library: Library, types: str) -> None:
    """256 times the same token, each erasing what its key held."""
    io, w, tolerance = TYPES[types]
    case = random_case(1, 256, 1, 16)
    same = [x[:, :1].expand_as(x) for x in case.tensors[:6]]
    same[5] = -same[4]
    found = errors_of(Wkv7(library, io, w), Case((*same, case.tensors[6]), case.p))
    if io == torch.bfloat16:
        tolerance = tolerance | {"a": 4e-3, "b": 4e-3}
    assert_within(found, tolerance)


def test_large_initial_state(wkv7: Wkv7) -> None:
    """A state ten thousand times the usual one loses no relative precision."""
    *six, s0 = random_case(2, 33, 1, 16).tensors
    assert_within(errors_of(wkv7, Case((*six, s0 * 1e4), torch.tensor([3, 33]))), TOLERANCE)


def test_poison_after_the_capture(wkv7: Wkv7) -> None:
    """NaN in every token from p on reaches neither the captured state nor an earlier output."""
    case = random_case(4, 40, 2, 8, p=torch.tensor([5, 16, 39, 0]))
    assert_nothing_passes_the_capture(wkv7, case)


def test_poison_in_another_sample(wkv7: Wkv7) -> None:
    """NaN in one sample changes no output and no gradient of the others."""
    assert_samples_are_apart(wkv7, random_case(3, 20, 2, 32))


@pytest.mark.parametrize(("N", "T"), [(8, 137), (32, 17)])
def test_a_sample_does_not_depend_on_its_batch(wkv7: Wkv7, N: int, T: int) -> None:
    """A batch of four is four batches of one, to the bit."""
    assert_a_batch_is_its_samples(wkv7, random_case(4, T, 2, N))


@pytest.mark.parametrize("at", [1, 8, 128, 129])
def test_one_pass_is_two_calls(wkv7: Wkv7, at: int) -> None:
    """Capturing at p and going on equals a call for the prompt and one for the answer, to the bit."""
    assert_one_pass_is_two_calls(wkv7, random_case(2, 140, 1, 8), at)


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize(("N", "T"), [(8, 137), (32, 17), (128, 9)])
def test_the_order_of_threads_and_blocks(library: Library, N: int, T: int, types: str) -> None:
    """Two runs and four schedules give the same bits."""
    assert_any_order_will_do(Wkv7(library, *TYPES[types][:2]), random_case(2, T, 1, N))


def test_captures_outside_of_the_tokens(wkv7: Wkv7) -> None:
    """p is held to 0..T: a wrong one costs a wrong answer, not other people's memory."""
    case = random_case(4, 20, 1, 8, p=torch.tensor([-1, 21, -(2**31), 2**31 - 1]))
    assert_same_bits(run(wkv7, case), run(wkv7, replace(case, p=torch.tensor([0, 20, 0, 20]))))


def test_more_heads_than_two_bytes_can_count(wkv7: Wkv7) -> None:
    """Every block of a large grid finds its place."""
    case = replace(random_case(2, 1, 32769, 8), p=None)
    found = wkv7.run(case, final=False)["y"]
    r, w, k, v, a, b, s0 = (x.squeeze(1).double() for x in case.tensors)
    u = torch.einsum("nhij,nhj->nhi", s0, a)
    S = s0 * decay_of(w, "sigmoid")[:, :, None] + u[..., None] * b[:, :, None] + v[..., None] * k[:, :, None]
    assert relative_error(found.squeeze(1), torch.einsum("nhij,nhj->nhi", S, r)) <= TOLERANCE["y"]


@pytest.mark.parametrize(("N", "io", "w"), [(24, torch.float32, None), (8, torch.float32, torch.bfloat16)])
def test_what_there_is_no_kernel_for(
    library: Library, N: int, io: torch.dtype, w: torch.dtype | None
) -> None:
    """An error code, and nothing is launched."""
    wkv7 = Wkv7(library, io, w)
    with pytest.raises(KernelFault, match="invalid argument"):
        wkv7.run(wkv7.rounded(random_case(1, 3, 1, N)))


SOURCE = kernel_source("wkv7_v1.cu")
BARRIERS = [m.start() for m in re.finditer(r"sync_(block|warp)\(\);", SOURCE)]

# What a tired hand might write in the place of an expression that the source has once.
MISTAKES = [
    ("t + i / N", "t + 1 + i / N"),
    ("rows_of<N, IO>(in.v, at, from + m)", "rows_of<N, IO>(in.v, at, from)"),
    ("block_index() / P::kCount", "block_index() / P::kCount / 2 * 2"),
    ("int(block_index() % P::kCount)", "0"),
    (
        "write_global<P::kCols>(of_head + (at.row + i) * N + at.column, row)",
        "write_global<P::kCols>(of_head + at.column * N + at.row + i, row)",
    ),
    ("from_lane_xor(give, half)", "from_lane_xor(give, 1)"),
    ("mask < P::kLanes", "mask < P::kLanes / 2"),
    ("from_lane(sum, first_lane + i)", "from_lane(sum, first_lane)"),
    ("out.cap && at.p == t", "out.cap && at.p == t - 1"),
    ("out.cap && at.p == in.T", "out.cap && at.p == in.T - 1"),
    ("out.dcap && at.p == t + 1", "out.dcap && at.p == t"),
    ("at.p == 0 && begin == 0", "at.p == 0"),
    ("out.checkpoints + slab * N * N", "out.checkpoints"),
    ("at.head * (kSlab / kSegment) + segment", "at.head * (kSlab / kSegment)"),
    ("(t - begin) * P::kCount", "segment * P::kCount"),
    ("m % 2 * P::kGroups", "0 * P::kGroups"),
    ("(vector * capacity + m) * N", "(vector * capacity + m + 1) * N"),
    ("prims::fma(dy[i], r[c], D.x[i][c])", "prims::fma(dy[i], k[c], D.x[i][c])"),
    ("sweep.end - begin < kStaged", "false"),
    ("D.write(out.adjoint + at.head * N * N, at)", "void()"),
    ("panel < kPanels", "panel < kPanels - 1"),
    ("decay.d * decay.slope", "decay.slope"),
    ("head >= in.B * in.H", "head > in.B * in.H"),
]


Telling = tuple[Case, dict[str, Tensor], dict[str, Tensor]]


@pytest.fixture(scope="module")
def faulty() -> Wkv7:
    """The kernels with all faults in them, switched on by number: barriers left out first, then mistakes."""
    parts = re.split(r"(sync_(?:block|warp)\(\);)", SOURCE)
    for n, _ in enumerate(BARRIERS):
        parts[2 * n + 1] = f"if (planted != {n}) {parts[2 * n + 1]}"
    text = "".join(parts)
    for n, (right, wrong) in enumerate(MISTAKES, len(BARRIERS)):
        assert SOURCE.count(right) == text.count(right) == 1, (
            f"{right} is not there once: choose another place"
        )
        text = text.replace(right, f"(planted == {n} ? ({wrong}) : ({right}))")
    switch = 'static int planted = -1;\nextern "C" void plant(int number) { planted = number; }\n'
    return Wkv7(compile_kernels(switch + text, "wkv7_v1.cu"))


@pytest.fixture(scope="module")
def telling() -> Telling:
    """A case in which every fault shows, its upstream gradients, and the results that it should have.

    It has two panels a head, two slabs, a last segment that is not full, captures at the ends and in between.
    """
    T = CHECKPOINT_EVERY + SEGMENT + 1
    case = random_case(3, T, 1, 32, p=torch.tensor([0, 9, T]))
    given = dict(zip(OUTPUTS, upstream((case.tensors[0], case.tensors[6], case.tensors[6])), strict=True))
    return case, given, expected_of(case, given)


def plant(faulty: Wkv7, number: int, case: Case, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs and gradients with a fault. Raises KernelFault."""
    faulty.library.functions.plant(number)
    return faulty.run(case, given)


def test_nothing_planted(faulty: Wkv7, telling: Telling) -> None:
    """Without a fault the kernels that hold them are right."""
    case, given, expected = telling
    found = plant(faulty, -1, case, given)
    assert_within({name: relative_error(x, expected[name]) for name, x in found.items()}, TOLERANCE)


@pytest.mark.parametrize(
    "number", range(len(BARRIERS)), ids=[f"line {SOURCE.count(chr(10), 0, at) + 1}" for at in BARRIERS]
)
def test_every_barrier_is_needed(faulty: Wkv7, telling: Telling, number: int) -> None:
    """Without it there is a race, and the emulation says so whatever the numbers are."""
    case, given, _ = telling
    with pytest.raises(KernelFault, match=r"with no barrier in between|which nobody has written"):
        plant(faulty, number, case, given)


@pytest.mark.parametrize(("right", "wrong"), MISTAKES)
def test_mistakes_are_noticed(faulty: Wkv7, telling: Telling, right: str, wrong: str) -> None:
    """By the emulation, or because the numbers are wrong."""
    case, given, expected = telling
    try:
        found = plant(faulty, len(BARRIERS) + MISTAKES.index((right, wrong)), case, given)
    except KernelFault:
        return
    errors = {name: relative_error(x, expected[name]) for name, x in found.items()}
    assert any(not error <= 100 * TOLERANCE[name] for name, error in errors.items())
