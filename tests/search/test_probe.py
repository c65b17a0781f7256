"""The search for the largest size that fits, against simulated memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from fsearch.search.probe import TRIES, Tried, largest_that_fits, next_size, probe_memory_mib

Peak = Callable[[int], float]


def sought(
    peak: Peak, memory_mib: int, sizes: Sequence[int], first: int, *, tries: int = TRIES, tells: bool = True
) -> tuple[int | None, list[Tried]]:
    """What is found where a try takes `peak(size)` MiB, and the tries; each size is asked for once."""
    tried: list[Tried] = []
    within = probe_memory_mib(memory_mib)
    while len(tried) < tries:
        size = next_size(sizes, tried, within, first)
        if size is None:
            break
        assert size in sizes and size not in {one.size for one in tried}
        assert next_size(sizes, tried, within, first) == size
        taken = peak(size)
        tried.append(Tried(size, taken <= within, taken if tells and taken <= within else None))
    return largest_that_fits(tried), tried


CONSTANT = st.floats(0.0, 0.4)  # share of the memory that is taken whatever the size
CAPACITY = st.floats(1.0, 2e4)  # examples that fit, at no margin
MEMORY = st.sampled_from([300, 1000, 5000, 24_000])
BOUND = st.one_of(st.none(), st.integers(1, 10**5))


@settings(max_examples=400, deadline=None)
@given(
    constant=CONSTANT,
    capacity=CAPACITY,
    memory_mib=MEMORY,
    bound=BOUND,
    noise=st.floats(0.0, 0.003),
    seed=st.integers(0, 10**6),
)
def test_an_affine_memory_is_found_in_six_tries(
    constant: float, capacity: float, memory_mib: int, bound: int | None, noise: float, seed: int
) -> None:
    """Within 10 % or one example of the true largest, 12 % where noise has it so; never above what fits."""
    rng = random.Random(seed)
    base = constant * memory_mib
    each = (memory_mib - base) / capacity

    def peak(size: int) -> float:
        return (base + each * size) * (1 + rng.uniform(-noise, noise))

    sizes = range(1, (bound or 10**5) + 1)
    found, tried = sought(peak, memory_mib, sizes, bound or 1)
    true = min(int(capacity), sizes[-1])
    assert len(tried) <= TRIES
    if found is None:
        assert base + each > 0.9 * memory_mib or memory_mib - base - each < 6
        return
    assert found <= true
    if true >= 16:
        allowed = 0.10 if noise == 0 else 0.12
        assert true - found <= max(1, allowed * true), (true, tried)


@settings(max_examples=300, deadline=None)
@given(
    fits=st.integers(0, 3000),
    batch=st.integers(1, 3000),
    tells=st.booleans(),
    first_is_largest=st.booleans(),
)
def test_of_the_divisors_the_largest_is_found(
    fits: int, batch: int, tells: bool, first_is_largest: bool
) -> None:
    """Exactly, whether or not memory is known, and without a walk through all of them."""
    divisors = [size for size in range(1, batch + 1) if batch % size == 0]
    within = probe_memory_mib(1000)

    def peak(size: int) -> float:
        if not tells:
            return 0.0 if size <= fits else 1e9
        return 50 + (within - 50) / max(fits, 0.5) * size * (1 - 1e-9)

    first = divisors[-1] if first_is_largest else 1
    found, tried = sought(peak, 1000, divisors, first, tries=10**6, tells=tells)
    assert found == max((size for size in divisors if size <= fits), default=None)
    assert len(tried) <= 12


@settings(max_examples=300, deadline=None)
@given(
    base=st.floats(1.0, 400.0),
    each=st.floats(0.01, 50.0),
    cliff_at=st.integers(1, 3000),
    cliff=st.floats(0.0, 600.0),
    steeper=st.floats(1.0, 10.0),
    bound=st.integers(1, 5000),
    first_is_bound=st.booleans(),
)
def test_whatever_grows_ends_with_something_that_fits(
    base: float, each: float, cliff_at: int, cliff: float, steeper: float, bound: int, first_is_bound: bool
) -> None:
    """A cliff or a kink may cost tries and size, never safety: what is found was tried, and 1 is tried before
    nothing is said to fit. With more tries the largest is closed in on."""
    within = probe_memory_mib(1000)

    def peak(size: int) -> float:
        over = max(0, size - cliff_at)
        return base + each * (size + (steeper - 1) * over) + (cliff if over else 0.0)

    sizes = range(1, bound + 1)
    first = bound if first_is_bound else 1
    for tries in (TRIES, 60):
        found, tried = sought(peak, 1000, sizes, first, tries=tries)
        if found is None:
            assert peak(1) > within or len(tried) == tries
        else:
            assert peak(found) <= within and found in {one.size for one in tried}
    true = max((size for size in sizes if peak(size) <= within), default=None)
    if true is None:
        assert found is None
    else:
        assert found is not None
        straight = cliff_at >= true
        assert not straight or true - found <= max(1, 0.05 * true), (true, tried)


def test_a_flat_beginning_is_not_taken_for_no_limit() -> None:
    """Loading may take more than small steps do: then the first sizes all take the same."""
    found, tried = sought(lambda size: max(400.0, 50 + 2.0 * size), 1000, range(1, 10**5), 1)
    assert found is not None and 0.95 * 460 <= found <= 460, tried


def test_a_probe_has_less_than_a_training() -> None:
    """3 %, and at least 10 MiB."""
    assert [probe_memory_mib(mib) for mib in (1, 10, 100, 1000, 24_000)] == [1, 1, 90, 970, 23_280]
