"""The chunked CUDA kernels, csrc/wkv7_v2*.cu, run and watched by the emulation: the whole operator.

Against the reference in float64, and to the bit where bits may not change. Each kernel by itself, and planted
faults, are in test_emulated_chunks.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from .cases import CHUNKED_TOLERANCE, IDENTICAL_TOKENS_TOLERANCE, Case, random_case, relative_error
from .emulation.comparison import (
    assert_a_batch_is_its_samples,
    assert_any_order_will_do,
    assert_nothing_passes_the_capture,
    assert_one_pass_is_two_calls,
    assert_same_bits,
    assert_samples_are_apart,
    errors_of,
    run,
    upstream_of,
)
from .emulation.library import KernelFault, Library, compile_kernels, kernel_source
from .emulation.wkv7 import Wkv7
from .emulation.wkv7_v2 import CHECKPOINT_EVERY, CHUNK, Wkv7V2, compile_v2, saved_states
from .errors import assert_within

pytestmark = pytest.mark.usefixtures("one_thread")

BF16, FLOAT = torch.bfloat16, torch.float32
SLOW = {"sigmoid": (-6.0, 3.0), "exp": (-6.0, -0.5)}
"""Inputs of usual decays."""


@pytest.fixture(scope="module")
def library() -> Library:
    return compile_v2()


@pytest.fixture(scope="module")
def wkv7(library: Library) -> Wkv7V2:
    return Wkv7V2(library)


@pytest.mark.parametrize("w", [BF16, FLOAT], ids=["w bfloat16", "w float32"])
@pytest.mark.parametrize("decay", CHUNK)
@pytest.mark.parametrize("N", [64, 128])
def test_every_kernel(library: Library, N: int, decay: str, w: torch.dtype) -> None:
    """Two samples, one captured within what would be a chunk, one between two chunks."""
    case = random_case(2, 37, 1, N, decay=decay, x=SLOW[decay], p=torch.tensor([5, 32]))
    assert_within(errors_of(Wkv7V2(library, w), case), CHUNKED_TOLERANCE)


@pytest.mark.parametrize("decay", CHUNK)
@pytest.mark.parametrize("T", [1, 2, 15, 16, 17, 31, 33, 64, 65])
def test_lengths(wkv7: Wkv7V2, T: int, decay: str) -> None:
    """Around the borders of chunks, with random captures."""
    case = random_case(3, T, 2 if T < 20 else 1, 64, seed=T, decay=decay, x=SLOW[decay])
    assert_within(errors_of(wkv7, case), CHUNKED_TOLERANCE)


@pytest.mark.parametrize("decay", CHUNK)
def test_beyond_checkpoints(wkv7: Wkv7V2, decay: str) -> None:
    """More chunks than lie between two saved states, captured between two of them and at one."""
    p = torch.tensor([CHECKPOINT_EVERY, 77])
    assert_within(
        errors_of(wkv7, random_case(2, 257, 1, 64, decay=decay, x=SLOW[decay], p=p)), CHUNKED_TOLERANCE
    )


@pytest.mark.long
@pytest.mark.parametrize("decay", CHUNK)
@pytest.mark.parametrize("N", [64, 128])
@pytest.mark.parametrize("T", [1, 2, 15, 16, 17, 31, 33, 64, 65, 257])
def test_lengths_of_several_heads(library: Library, T: int, N: int, decay: str) -> None:
    """The same with several heads, both head sizes, and w in float32."""
    case = random_case(3, T, 2, N, seed=T + N, decay=decay, x=SLOW[decay])
    assert_within(errors_of(Wkv7V2(library, FLOAT), case), CHUNKED_TOLERANCE)


@pytest.mark.parametrize("decay", CHUNK)
def test_captures(wkv7: Wkv7V2, decay: str) -> None:
    """At the ends, at borders and one off each, different in each sample."""
    T, L = 67, CHUNK[decay]
    p = torch.tensor([0, 1, L - 1, L, L + 1, 2 * L - 1, 2 * L, 2 * L + 1, T - 1, T])
    assert_within(
        errors_of(wkv7, random_case(len(p), T, 1, 64, decay=decay, x=SLOW[decay], p=p)), CHUNKED_TOLERANCE
    )


@pytest.mark.parametrize("used", [("y",), ("cap",), ("sT",), ("y", "cap"), ("cap", "sT")])
def test_gradients_of_some_outputs(wkv7: Wkv7V2, used: tuple[str, ...]) -> None:
    """An output without an upstream gradient adds nothing."""
    case = random_case(3, 41, 1, 64, p=torch.tensor([0, 32, 41]))
    assert_within(errors_of(wkv7, case, used), CHUNKED_TOLERANCE)


def test_no_capture(wkv7: Wkv7V2) -> None:
    """Without p there is no cap, and the rest is right."""
    assert_within(errors_of(wkv7, replace(random_case(2, 40, 2, 64), p=None)), CHUNKED_TOLERANCE)


def test_no_initial_state(wkv7: Wkv7V2) -> None:
    """No initial state means zeros, to the bit, captured before the first token too."""
    case = wkv7.rounded(random_case(2, 40, 1, 64, p=torch.tensor([0, 7])))
    zeros = replace(case, tensors=(*case.tensors[:6], torch.zeros(2, 1, 64, 64)))
    given = upstream_of(wkv7, case)
    assert_same_bits(wkv7.run(case, given, s0=False), wkv7.run(zeros, given))
    assert_within(errors_of(wkv7, zeros), CHUNKED_TOLERANCE)


def test_outputs_that_nobody_wants(wkv7: Wkv7V2) -> None:
    """Without checkpoints and a final state the rest is the same."""
    case = wkv7.rounded(random_case(2, 40, 1, 64))
    every, some = run(wkv7, case), wkv7.run(case, final=False)
    assert some.keys() == {"y", "cap"}
    assert_same_bits(some, {name: every[name] for name in some})


EXTREMES = [
    *(("sigmoid", x) for x in ((-20, -20), (8, 8), (-200, 200))),
    *(("exp", x) for x in ((1, 2), (2, 4), (1.1, 1.6), (80, 80), (200, 200), (-80, -80))),
]


@pytest.mark.parametrize("w", [BF16, FLOAT], ids=["w bfloat16", "w float32"])
@pytest.mark.parametrize(("decay", "x"), EXTREMES)
def test_extreme_decays(library: Library, decay: str, x: tuple[float, float], w: torch.dtype) -> None:
    """From a decay of 1 to one of 0; its gradient keeps its tolerance where gates are pinned."""
    assert_within(
        errors_of(Wkv7V2(library, w), random_case(2, 70, 2, 64, decay=decay, x=x)), CHUNKED_TOLERANCE
    )


def identical_tokens(T: int, heads: int, decay: str, x: tuple[float, float], *, erase: bool) -> Case:
    """One token T times; if `erase`, each erases all that its key held."""
    case = random_case(1, T, heads, 64, decay=decay, x=x)
    same = [x[:, :1].expand_as(x) for x in case.tensors[:6]]
    if erase:
        same[5] = -same[4]
    return Case((*same, case.tensors[6]), case.p, decay)


@pytest.mark.parametrize("erase", [True, False])
@pytest.mark.parametrize(("decay", "x"), [("sigmoid", (-6, 3)), ("sigmoid", (-8, -8)), ("exp", (-6, -0.5))])
def test_identical_tokens(wkv7: Wkv7V2, decay: str, x: tuple[float, float], erase: bool) -> None:
    """256 times the same token, where an inverse by powers or in half precision is lost."""
    case = identical_tokens(256, 6, decay, x, erase=erase)
    assert_within(errors_of(wkv7, case), IDENTICAL_TOKENS_TOLERANCE)


def test_one_hot_keys(wkv7: Wkv7V2) -> None:
    """Keys that are ones and zeros, some of them again and again."""
    *six, s0 = random_case(2, 70, 2, 64).tensors
    at = torch.randint(0, 5, (2, 70, 2), generator=torch.Generator().manual_seed(0))
    key = torch.nn.functional.one_hot(at, 64).float()
    r, w, _, v, _, b = six
    gate = b.norm(dim=-1, keepdim=True).clamp(max=1)
    assert_within(
        errors_of(wkv7, Case((r, w, key, v, -key, key * gate, s0), torch.tensor([3, 40]))), CHUNKED_TOLERANCE
    )


@pytest.mark.parametrize("name", ["r", "k", "v"])
def test_zeros(wkv7: Wkv7V2, name: str) -> None:
    """One of the inputs is zero everywhere."""
    case = random_case(2, 40, 1, 64)
    tensors = list(case.tensors)
    index = ("r", "w", "k", "v").index(name)
    tensors[index] = torch.zeros_like(tensors[index])
    assert_within(errors_of(wkv7, replace(case, tensors=tuple(tensors))), CHUNKED_TOLERANCE)


def test_large_initial_state(wkv7: Wkv7V2) -> None:
    """A state ten thousand times the usual one loses no relative precision."""
    *six, s0 = random_case(2, 70, 1, 64).tensors
    assert_within(errors_of(wkv7, Case((*six, s0 * 1e4), torch.tensor([3, 70]))), CHUNKED_TOLERANCE)


def test_as_the_sequential_kernel(wkv7: Wkv7V2) -> None:
    """Both kernels give the same on the same numbers, within what bfloat16 operands cost."""
    sequential = Wkv7(compile_kernels(kernel_source("wkv7_v1.cu"), "wkv7_v1.cu"), BF16)
    case = wkv7.rounded(random_case(2, 70, 1, 64))
    given = upstream_of(wkv7, case)
    found, expected = wkv7.run(case, given), sequential.run(case, given)
    assert found.keys() == expected.keys()
    assert_within({name: relative_error(x, expected[name]) for name, x in found.items()}, CHUNKED_TOLERANCE)


def test_poison_after_the_capture(wkv7: Wkv7V2) -> None:
    """NaN in every token from p on reaches neither the captured state nor an earlier output."""
    case = random_case(4, 70, 1, 64, p=torch.tensor([5, 32, 69, 0]))
    assert_nothing_passes_the_capture(wkv7, case)


def test_poison_in_another_sample(wkv7: Wkv7V2) -> None:
    """NaN in one sample changes no output and no gradient of the others."""
    assert_samples_are_apart(wkv7, random_case(3, 40, 1, 64))


@pytest.mark.parametrize(("N", "B", "T"), [(64, 8, 50), (128, 2, 40)])
def test_a_sample_does_not_depend_on_its_batch(wkv7: Wkv7V2, N: int, B: int, T: int) -> None:
    """A batch is as many batches of one, to the bit."""
    assert_a_batch_is_its_samples(wkv7, random_case(B, T, 1, N))


@pytest.mark.parametrize("at", [1, 32, 45, 69])
def test_one_pass_is_two_calls(wkv7: Wkv7V2, at: int) -> None:
    """Capturing at p and going on equals a call for the prompt and one for the answer, to the bit."""
    assert_one_pass_is_two_calls(wkv7, random_case(2, 70, 1, 64), at)


@pytest.mark.parametrize(("N", "decay"), [(64, "sigmoid"), (128, "exp")])
def test_the_order_of_threads_and_blocks(library: Library, N: int, decay: str) -> None:
    """Two runs and four schedules give the same bits."""
    assert_any_order_will_do(Wkv7V2(library), random_case(2, 40, 1, N, decay=decay, x=SLOW[decay]))


def test_captures_outside_of_the_tokens(wkv7: Wkv7V2) -> None:
    """p is held to 0..T: a wrong one costs a wrong answer, not other people's memory."""
    case = random_case(4, 40, 1, 64, p=torch.tensor([-1, 41, -(2**31), 2**31 - 1]))
    assert_same_bits(run(wkv7, case), run(wkv7, replace(case, p=torch.tensor([0, 40, 0, 40]))))


def test_memory_of_saved_states() -> None:
    """Twelve layers at B=8, T=4096, H=12, N=64: at most 0.7 GB; the kernels' writes are watched elsewhere."""
    assert 12 * 8 * 12 * saved_states(4096, "sigmoid", captured=True) * 64 * 64 * 2 <= 0.7e9


@pytest.mark.parametrize(("N", "io"), [(32, BF16), (64, FLOAT)])
def test_what_there_is_no_kernel_for(library: Library, N: int, io: torch.dtype) -> None:
    """An error code, and nothing is launched."""
    case = random_case(1, 3, 1, N)
    tensors = (*(x.to(io) for x in case.tensors[:6]), case.tensors[6])
    with pytest.raises(KernelFault, match="invalid argument"):
        Wkv7V2(library).run(replace(case, tensors=tensors))
