"""The emulation of CUDA: of small kernels (emulation/toys.cu) right ones run and wrong ones are caught."""

from __future__ import annotations

import ctypes
import re
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor

from .emulation.library import Library, compile_kernels

TOYS = Path(__file__).parent / "emulation" / "toys.cu"


@pytest.fixture(scope="module")
def toys() -> Library:
    library = compile_kernels(TOYS.read_text(), TOYS.name)
    library.functions.toy_error.restype = ctypes.c_char_p
    return library


def run(
    toys: Library, toy: str, data: Tensor, *, blocks: int = 1, threads: int = 64, schedule: int = 0
) -> str:
    """Runs a toy, which may read and write `data`; what the emulation found, or nothing."""
    kernel = getattr(toys.functions, toy)
    kernel.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int]
    toys.schedule(schedule)
    with toys.memory(read={}, written={"data": data}):
        error = kernel(data.data_ptr(), blocks, threads)
    return toys.functions.toy_error(error).decode() if error else ""


NUMBERS = torch.arange(64.0)
LANES = NUMBERS.reshape(2, 32)


@pytest.mark.parametrize("schedule", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("toy", "expected"),
    [
        ("mirror", NUMBERS.flip(0)),
        ("mirror_in_warps", LANES.flip(1)),
        ("three_rounds", NUMBERS.roll(-3)),
        ("sum_of_lanes", LANES.sum(1, keepdim=True).expand(2, 32)),
        ("next_lane", LANES.roll(-1, 1)),
        ("through_global", NUMBERS.flip(0)),
        ("pairs_of_packs", torch.tensor([[3.0, i + 1] for i in range(32)])),
        ("copied", NUMBERS.flip(0)),
        ("copied_in_groups", LANES.flip(1)),
        ("zeros_copied", NUMBERS * (NUMBERS < 32)),
    ],
)
def test_right_kernels(toys: Library, toy: str, expected: Tensor, schedule: int) -> None:
    """Barriers, shuffles and memory do what they say, in any order of the threads."""
    data = NUMBERS.clone()
    assert run(toys, toy, data, schedule=schedule) == ""
    assert torch.equal(data, expected.flatten())


def test_arithmetic(toys: Library) -> None:
    """exp, sqrt, and a fused multiply-add that rounds once."""
    data = torch.cat([torch.linspace(-20, 3, 20), torch.linspace(0, 9, 20), 1 + torch.arange(24) * 2.0**-20])
    exact = data.double()
    expected = torch.cat([exact[:20].exp(), exact[20:40].sqrt(), exact[40:] ** 2 - 1])
    assert run(toys, "arithmetic", data) == ""
    torch.testing.assert_close(data.double(), expected, rtol=2e-7, atol=0)


def test_bf16(toys: Library) -> None:
    """To bf16 and back as torch does: each bf16 and numbers up to the next, with ties and specials."""
    bits = torch.arange(1 << 16, dtype=torch.int64) << 16
    between = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    patterns = (bits[:, None] + between).flatten()
    numbers = patterns.to(torch.uint32).view(torch.float32)
    to = torch.zeros_like(numbers, dtype=torch.bfloat16)
    back = torch.zeros_like(numbers)
    convert = toys.functions.to_bf16
    convert.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    with toys.memory(read={"numbers": numbers}, written={"to": to, "back": back}):
        assert convert(numbers.data_ptr(), to.data_ptr(), back.data_ptr(), numbers.numel()) == 0
    expected = numbers.to(torch.bfloat16)
    assert torch.equal(to.isnan(), numbers.isnan()) and torch.equal(back.isnan(), numbers.isnan())
    real = ~numbers.isnan()
    assert torch.equal(to[real].view(torch.int16), expected[real].view(torch.int16))
    assert torch.equal(back[real], expected[real].float())


@pytest.mark.parametrize("schedule", [0, 1, 2])
def test_matrix_products(toys: Library, schedule: int) -> None:
    """Registers as the PTX ISA numbers them: its formulas for mma.m16n8k16 (9.7.14.5.8)."""
    source = torch.Generator().manual_seed(1)
    a, b = (torch.randn(32, n, generator=source).bfloat16() for n in (8, 4))
    d = torch.randn(32, 4, generator=source)
    A, B, C = torch.zeros(16, 16), torch.zeros(16, 8), torch.zeros(16, 8)
    for lane in range(32):
        group, thread = lane >> 2, lane % 4
        for i in range(8):
            row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
            A[row, thread * 2 + (i & 1) + (8 if i >= 4 else 0)] = a[lane, i]
        for i in range(4):
            B[thread * 2 + (i & 1) + (8 if i >= 2 else 0), group] = b[lane, i]
            C[group if i < 2 else group + 8, thread * 2 + (i & 1)] = d[lane, i]
    result = C + A @ B
    left, right, found = a.view(torch.int32), b.view(torch.int32), d.clone()
    toys.schedule(schedule)
    with toys.memory(read={"a": left, "b": right}, written={"d": found}):
        error = toys.functions.product(*(ctypes.c_void_p(x.data_ptr()) for x in (left, right, found)))
    assert error == 0, toys.functions.toy_error(error)
    for lane in range(32):
        for i in range(4):
            expected = result[(lane >> 2) + (8 if i >= 2 else 0), lane % 4 * 2 + (i & 1)]
            assert found[lane, i].item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("schedule", [0, 1, 2])
def test_matrices_from_shared_memory(toys: Library, schedule: int) -> None:
    """Row l / 4, columns 2 (l % 4) and the next, to lane l: ldmatrix; or of the transpose: movmatrix."""
    matrices = torch.arange(256.0).bfloat16().view(4, 8, 8)
    found = torch.full((32, 9, 2), torch.nan, dtype=torch.bfloat16)
    toys.schedule(schedule)
    with toys.memory(read={"from": matrices}, written={"to": found}):
        error = toys.functions.matrices(*(ctypes.c_void_p(x.data_ptr()) for x in (matrices, found)))
    assert error == 0, toys.functions.toy_error(error)
    for lane in range(32):
        row, columns = lane // 4, slice(lane % 4 * 2, lane % 4 * 2 + 2)
        assert torch.equal(found[lane, :4], matrices[:, row, columns])
        assert torch.equal(found[lane, 4:8], matrices.mT[:, row, columns])
        assert torch.equal(found[lane, 8], matrices[0].T[row, columns])


@pytest.mark.parametrize("schedule", [0, 1, 2])
def test_many_blocks(toys: Library, schedule: int) -> None:
    """More blocks than two bytes can count, each at its place, in any order."""
    data = torch.full((65537,), torch.nan)
    assert run(toys, "one_per_block", data, blocks=65537, threads=32, schedule=schedule) == ""
    assert torch.equal(data, torch.arange(65537.0))


SHARED = "index {} of shared memory 'x', which "
NO_BARRIER = " with no barrier in between"
SHARED_FAULTS = [
    ("no_barrier", "thread 1 reads " + SHARED.format(0) + "thread 0 wrote" + NO_BARRIER),
    ("no_barrier_before_reuse", "thread 5 writes " + SHARED.format(0) + "thread 0 read" + NO_BARRIER),
    ("barrier_of_the_warp", "thread 63 reads " + SHARED.format(31) + "thread 31 wrote" + NO_BARRIER),
    (
        "barrier_of_the_warp_before_reuse",
        "thread 5 writes " + SHARED.format(0) + "thread 62 read" + NO_BARRIER,
    ),
    ("shuffle_as_barrier", "thread 31 reads " + SHARED.format(30) + "thread 30 wrote" + NO_BARRIER),
    ("same_value", "thread 1 writes " + SHARED.format(0) + "thread 0 wrote" + NO_BARRIER),
    ("one_not_written", "block 0, thread 54 reads " + SHARED.format(9) + "nobody has written"),
    ("of_another_block", "block 1, thread 63 reads " + SHARED.format(63) + "nobody has written"),
    ("after_the_end", "thread 16 writes 4 numbers from " + SHARED.format(64) + "has 64"),
    ("before_the_start", "thread 0 writes " + SHARED.format(-1) + "has 64"),
    ("shared_not_aligned", "thread 0 writes 2 numbers from " + SHARED.format(1) + "is not aligned"),
    ("too_much", "thread 0 declares shared memory 'y', which makes more than 48 KiB"),
    ("declared_in_a_branch", "thread 1 declares shared memory 'y' [4] where another thread declared 'x' [4]"),
]
ON_ITS_WAY = "index {} of shared memory 'x', which a copy is on its way to"
COPY_FAULTS = [
    ("copy_not_awaited", "thread 63 reads " + ON_ITS_WAY.format(63)),
    ("copy_that_ends_no_group", "thread 63 reads " + ON_ITS_WAY.format(63)),
    ("copy_of_the_last_group", "thread 63 reads " + ON_ITS_WAY.format(63)),
    ("copy_used_by_its_own_thread", "thread 0 reads " + ON_ITS_WAY.format(0)),
    ("copy_written_over", "thread 63 writes " + ON_ITS_WAY.format(0)),
    ("copy_without_barrier", "thread 1 reads " + SHARED.format(0) + "thread 0 wrote" + NO_BARRIER),
    ("copy_over_what_is_read", "thread 5 reads " + SHARED.format(0) + "thread 0 wrote" + NO_BARRIER),
    ("copy_not_there_at_the_end", "thread 0 ends before the copy that it started"),
    ("copy_not_aligned", "thread 0 writes 4 numbers from index 2 of shared memory 'x', which is not aligned"),
    ("copy_from_outside", "thread 0 reads 4 numbers from index 64 of 'data', which has 64"),
    ("arena_too_small", "thread 0 takes shared memory 'x', 16 bytes more than the launch gives"),
]
MATRIX_FAULTS = [
    ("matrices_without_barrier", "thread 0 reads 8 numbers from " + SHARED.format(0) + "nobody has written"),
    ("matrices_not_aligned", "thread 0 reads 8 numbers from " + SHARED.format(4) + "is not aligned"),
]
GLOBAL_FAULTS = [
    ("after_the_array", "block 0, thread 63 reads index 64 of 'data', which has 64"),
    ("before_the_array", "block 0, thread 0 reads global memory at 0x"),
    ("another_type", "thread 0 writes index 0 of 'data', as if it held another type"),
    ("global_not_aligned", "thread 2 reads 4 numbers from index 1 of 'data', which is not aligned"),
    ("global_no_barrier", "thread 1 reads index 0 of 'data', which thread 0 wrote" + NO_BARRIER),
    ("blocks_write_one_place", "block 1, thread 0 writes index 5 of 'data', which block 0 wrote in the same"),
    (
        "blocks_read_the_next_ones",
        "block 1, thread 0 writes index 1 of 'data', which block 0 read in the same",
    ),
    (
        "many_read_and_one_writes",
        "block 2, thread 40 writes index 7 of 'data', which block 1 read in the same",
    ),
]
DIVERGENCE = [
    ("half_at_a_barrier", "32 (thread 32, ...) have finished; 32 (thread 0, ...) wait for sync_block"),
    ("one_left_before_a_shuffle", "33 (thread 3, ...) have finished; 31 (thread 0, ...) wait for a shuffle"),
    ("two_barriers", "thread 40 reaches sync_block while others wait: the threads have diverged"),
    ("barrier_and_shuffle", "thread 16 reaches a shuffle while others wait: the threads have diverged"),
    ("barriers_in_a_loop", "32 (thread 0, ...) have finished; 32 (thread 32, ...) wait for sync_block"),
    ("lane_32", "thread 0 takes a value from lane 32 of 0..31"),
    ("half_at_a_product", "48 (thread 16, ...) have finished; 16 (thread 0, ...) wait for multiply_add"),
]


@pytest.mark.parametrize(
    ("toy", "sentence"), [*SHARED_FAULTS, *COPY_FAULTS, *MATRIX_FAULTS, *GLOBAL_FAULTS, *DIVERGENCE]
)
def test_wrong_kernels(toys: Library, toy: str, sentence: str) -> None:
    """Each is caught, in any order of the threads, and a right kernel runs after it."""
    found = run(toys, toy, NUMBERS.clone(), blocks=3)
    assert sentence in re.sub(r" in line \d+", "", found)
    for schedule in (1, 2, 3):
        assert run(toys, toy, NUMBERS.clone(), blocks=3, schedule=schedule) != ""
    assert run(toys, "mirror", NUMBERS.clone()) == ""


def test_sentences_name_the_lines(toys: Library) -> None:
    """Of both sides of a race."""
    lines = TOYS.read_text().split("\n")
    first = lines.index("TOY(same_value) {") + 3
    expected = f"toys.cu:{first}: block 0, thread 1 writes .* thread 0 wrote in line {first} "
    assert re.match(expected, run(toys, "same_value", NUMBERS.clone()))
    first = lines.index("TOY(half_at_a_barrier) {") + 2
    assert f"wait for sync_block in line {first}." in run(toys, "half_at_a_barrier", NUMBERS.clone())


@pytest.mark.parametrize("toy", ["barrier_of_the_warp", "barrier_of_the_warp_before_reuse"])
@pytest.mark.parametrize("schedule", [0, 1, 2])
def test_a_barrier_of_the_warp_orders_the_warp(toys: Library, toy: str, schedule: int) -> None:
    """What is wrong with two warps is right with one."""
    assert run(toys, toy, NUMBERS.clone(), threads=32, schedule=schedule) == ""


READ, WRITE, SYNC_WARP, SYNC_BLOCK = 0, 100, -1, -2  # as in toys.cu; the first two plus an index


def random_program(random: Random, blocks: int, steps: int) -> list[list[list[int]]]:
    """What each thread of 64 does in each step of each block; an idle one reads a number of its own."""
    program = []
    for _ in range(blocks * steps):
        step = [READ + 7] * 64
        kind = random.random()
        if kind < 0.25:
            step = [SYNC_BLOCK] * 64
        elif kind < 0.5:
            warp = random.randrange(2)
            step[32 * warp : 32 * warp + 32] = [SYNC_WARP] * 32
        else:
            for thread in random.sample((0, 1, 31, 32, 40), k=random.randint(1, 2)):
                step[thread] = random.choice((READ, READ, WRITE)) + random.randrange(3)
        program.append(step)
    return [program[b * steps : (b + 1) * steps] for b in range(blocks)]


def has_race(program: list[list[list[int]]]) -> bool:
    """By definition: one number, two threads, one of them writes, and no barrier of both in between."""
    accesses = [
        (b, i, thread, what)
        for b, steps in enumerate(program)
        for i, step in enumerate(steps)
        for thread, what in enumerate(step)
        if what >= 0 and what != READ + 7
    ]
    for (b, i, x, does), (c, j, y, other) in combinations(accesses, 2):
        if does % 100 != other % 100 or max(does, other) < WRITE or (b, x) == (c, y):
            continue
        between = program[b][i:j] if b == c else []
        if not any(
            step[x] == SYNC_BLOCK or (step[x] == SYNC_WARP and x // 32 == y // 32) for step in between
        ):
            return True
    return False


@pytest.mark.parametrize(("shared", "blocks"), [(True, 1), (False, 1), (False, 3)])
def test_races_are_found_exactly(toys: Library, shared: bool, blocks: int) -> None:
    """Random reads, writes and barriers: a fault if and only if there is a race, in every order."""
    execute = toys.functions.run_program
    execute.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int]
    random, verdicts = Random(1), set()
    for _ in range(300):
        steps = random.randint(2, 12 // blocks)
        program = random_program(random, blocks, steps)
        code, data = torch.tensor(program, dtype=torch.int32), torch.zeros(8)
        expected = has_race(program)
        verdicts.add(expected)
        for schedule in range(4):
            toys.schedule(schedule)
            with toys.memory(read={"program": code}, written={"data": data}):
                error = execute(code.data_ptr(), blocks, steps, data.data_ptr(), shared)
            assert (error != 0) == expected, (program, toys.functions.toy_error(error))
    assert verdicts == {True, False}


def test_memory_that_is_not_allowed(toys: Library) -> None:
    """Inputs are read-only, and what has been allowed is forgotten again."""
    data = NUMBERS.clone()
    assert run(toys, "writes", data.clone()) == ""
    with toys.memory(read={"data": data}, written={}):
        error = toys.functions.writes(data.data_ptr(), 1, 32)
    assert b"thread 0 writes index 0 of 'data', which is read-only" in toys.functions.toy_error(error)
    error = toys.functions.writes(data.data_ptr(), 1, 32)
    assert b"which is in no allocation" in toys.functions.toy_error(error)
    assert torch.equal(data, NUMBERS)


@pytest.mark.parametrize(("blocks", "threads"), [(0, 32), (2**31, 32), (1, 0), (1, 40), (1, 1056)])
def test_sizes_that_no_device_takes(toys: Library, blocks: int, threads: int) -> None:
    """A launch says so, and runs nothing."""
    found = run(toys, "writes", NUMBERS.clone(), blocks=blocks, threads=threads)
    assert f"a launch of {blocks} blocks of {threads} threads" in found
