"""The Future-Seed preparation, compiled and in plain PyTorch: its numbers, and what must not change them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fsearch.kernels import HEAD_SIZES, future_seed, use

from .cases import relative_error

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14}
SWITCHES = [(norm, clip) for norm in (True, False) for clip in (None, 0.8)]


@pytest.fixture(params=["auto", "chunked"])
def form(request: pytest.FixtureRequest, kernel_library: Path) -> Iterator[str]:
    """Runs a test on the compiled operator ("auto") and on the fallback ("chunked")."""
    use(request.param)
    yield request.param
    use("auto")


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def around_one(*shape: int) -> Tensor:
    """Numbers around 1 and -1, of a root mean square a little above 1."""
    x = random(*shape)
    return x.sign() + x / 10


def reference(captured: Tensor, gate: Tensor, norm: bool, clip: float | None) -> Tensor:
    """The formula, one matrix after the other; its autograd is right wherever the rms is not 0."""
    B, H, _, _ = captured.shape
    seeds = []
    for matrix, m in zip(captured.flatten(0, 1), gate.expand(B, H).flatten(), strict=True):
        rms = matrix.pow(2).mean().sqrt().clamp(min=1e-6) if norm else 1
        z = matrix / rms * m
        seeds.append(z if clip is None else z.clamp(-clip, clip))
    return torch.stack(seeds).view_as(captured)


def run(captured: Tensor, gate: Tensor, dseed: Tensor, norm: bool, clip: float | None) -> list[Tensor]:
    """Seed, gradient of `captured`, gradient of `gate`."""
    captured, gate = (x.detach().requires_grad_() for x in (captured, gate))
    seed = future_seed(captured, gate, norm=norm, clip=clip)
    return [seed.detach(), *torch.autograd.grad(seed, (captured, gate), dseed)]


def errors_of(captured: Tensor, gate: Tensor, norm: bool, clip: float | None) -> list[float]:
    """Relative errors of seed and gradients against autograd through `reference` in float64."""
    dseed = random(*captured.shape, seed=9, dtype=captured.dtype)
    C, m = (x.detach().double().requires_grad_() for x in (captured, gate))
    expected = reference(C, m, norm, clip)
    wanted = [expected, *torch.autograd.grad(expected, (C, m), dseed.double())]
    found = run(captured, gate, dseed, norm, clip)
    assert all(x.shape == want.shape for x, want in zip(found, wanted, strict=True))
    return [relative_error(x, want) for x, want in zip(found, wanted, strict=True)]


def assert_same_bits(xs: list[Tensor], ys: list[Tensor]) -> None:
    for x, y in zip(xs, ys, strict=True):
        assert torch.equal(x, y)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("norm", "clip"), SWITCHES)
@pytest.mark.parametrize("N", HEAD_SIZES)
def test_value_and_gradients(N: int, norm: bool, clip: float | None, dtype: torch.dtype) -> None:
    """Every head size with every switch, a good part of the entries clipped."""
    captured, gate = random(2, 3, N, N, dtype=dtype), random(2, 3, seed=1, dtype=dtype)
    assert max(errors_of(captured, gate, norm, clip)) < TOLERANCE[dtype]


@pytest.mark.usefixtures("form")
def test_a_state_of_equal_entries() -> None:
    """All rounding errors of a sum of equal numbers point the same way; they must not pile up."""
    captured, gate = torch.full((1, 1, 128, 128), 0.1), torch.tensor(0.7)
    seed = future_seed(captured, gate, norm=True, clip=None)
    assert relative_error(seed, torch.full_like(seed, 0.7)) < 1e-6


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1), (1, 3)])
def test_gate_shapes(shape: tuple[int, ...]) -> None:
    """A gate for everything, a head, a sample, or each matrix; its gradient has its shape."""
    captured, gate = random(2, 3, 16, 16, dtype=torch.float64), random(*shape, seed=4, dtype=torch.float64)
    assert max(errors_of(captured, gate, True, 0.8)) < 1e-14


@pytest.mark.usefixtures("kernel_library")
@pytest.mark.parametrize(("norm", "clip"), SWITCHES)
def test_gradcheck(norm: bool, clip: float | None) -> None:
    """The compiled backward pass is the finite difference of the compiled forward pass, in double."""
    captured = random(2, 1, 8, 8, seed=2, dtype=torch.float64).requires_grad_()
    gate = random(2, 1, seed=3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda C, m: future_seed(C, m, norm=norm, clip=clip), (captured, gate), eps=1e-7
    )


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gradient_at_the_clip_is_that_of_torch_clamp(dtype: torch.dtype, norm: bool) -> None:
    """At the limit itself the gradient passes, one bit beyond it does not: the same bits as torch.clamp."""
    limit = torch.tensor(0.75, dtype=dtype)
    beyond = torch.nextafter(limit, 2 * limit)
    edges = torch.stack([limit, -limit, beyond, -beyond, limit / 2, -limit / 2, 2 * limit, 0 * limit])
    if norm:  # entries of 1 have an rms of exactly 1; the gates bring them to the edges
        signs = random(1, 8, 8, 8, dtype=dtype).sign()
        captured, gate = signs, edges
    else:
        captured, gate = edges.expand(1, 8, 8, 8) / 2, torch.full((8,), 2, dtype=dtype)
    dseed = torch.randint(-9, 9, (1, 8, 8, 8), generator=torch.Generator().manual_seed(0)).to(dtype)
    z = (gate[:, None, None] * captured).requires_grad_()
    clamped = z.clamp(-0.75, 0.75)
    (dz,) = torch.autograd.grad(clamped, z, dseed)
    seed, dcaptured, dgate = run(captured, gate, dseed, norm, 0.75)
    assert torch.equal(seed, clamped)
    assert torch.equal(dgate, (dz * captured).sum((0, 2, 3)))
    if not norm:
        assert torch.equal(dcaptured, 2 * dz)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-9, 9e-7])
def test_floor_of_the_rms(scale: float, dtype: torch.dtype) -> None:
    """A state below the floor is divided by the floor, which has no gradient; an empty one gives no NaN."""
    signs, gate = random(1, 2, 16, 16, dtype=dtype).sign(), torch.tensor([0.5, 0.25], dtype=dtype)
    dseed = random(1, 2, 16, 16, seed=5, dtype=dtype)
    seed, dcaptured, dgate = run(scale * signs, gate, dseed, True, None)
    unit = scale * signs.double() / 1e-6
    weights = gate.double()[:, None, None]
    assert relative_error(seed, weights * unit) < TOLERANCE[dtype]
    assert relative_error(dcaptured, weights * dseed.double() / 1e-6) < TOLERANCE[dtype]
    assert relative_error(dgate, (dseed.double() * unit).sum((0, 2, 3))) < TOLERANCE[dtype]


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e15])
def test_sizes_above_the_floor(scale: float, dtype: torch.dtype) -> None:
    """A state of any size above the floor, and be it a little, is normalised."""
    captured, gate = scale * around_one(1, 2, 16, 16).to(dtype), torch.tensor([0.5, 0.25], dtype=dtype)
    assert max(errors_of(captured, gate, True, 0.3)) < TOLERANCE[dtype]


class BackwardCalls(TorchDispatchMode):
    """Records what each call of the backward operator was asked for: (captured, gate)."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[bool, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.fsearch.future_seed_backward.default:
            self.asked.append(args[-2:])
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("kernel_library")
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True), (False, False)])
def test_only_what_is_needed_is_computed(needs: tuple[bool, bool], norm: bool) -> None:
    """A detached state costs no gradient of it, a fixed gate none of it; what there is has the same bits."""
    captured, gate, dseed = random(2, 3, 8, 8), random(3, seed=1), random(2, 3, 8, 8, seed=2)
    _, *wanted = run(captured, gate, dseed, norm, 0.5)
    inputs = [x.clone().requires_grad_(need) for x, need in zip((captured, gate), needs, strict=True)]
    seed = future_seed(inputs[0], inputs[1], norm=norm, clip=0.5)
    assert seed.requires_grad == any(needs)
    with BackwardCalls() as calls:
        if any(needs):
            seed.backward(dseed)
    assert calls.asked == ([needs] if any(needs) else [])
    for x, want, need in zip(inputs, wanted, needs, strict=True):
        assert (x.grad is not None) == need
        assert x.grad is None or torch.equal(x.grad, want)
    dcaptured, dgate = torch.ops.fsearch.future_seed_backward(
        dseed, captured, gate.expand(2, 3), norm, 0.5, *needs
    )
    assert (dcaptured.numel() > 0, dgate.numel() > 0) == needs


@pytest.mark.usefixtures("kernel_library")
def test_a_gradient_asked_for_alone() -> None:
    """Where both could have a gradient and only one is asked for, only that one is computed."""
    captured, gate = random(1, 2, 8, 8).requires_grad_(), random(2).requires_grad_()
    seed = future_seed(captured, gate, norm=True, clip=None)
    with BackwardCalls() as calls:
        torch.autograd.grad(seed.sum(), gate)
    assert calls.asked == [(False, True)]


@pytest.mark.usefixtures("kernel_library")
def test_second_derivative() -> None:
    """Differentiating the operator twice is refused in words, and the fallback it names can be."""
    captured, gate = random(1, 1, 8, 8, dtype=torch.float64), random(1, dtype=torch.float64)
    inputs = (captured.requires_grad_(), gate.requires_grad_())
    seed = future_seed(captured, gate, norm=True, clip=0.8)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice; the fallback") as refused:
        torch.autograd.grad(seed.sum(), inputs, create_graph=True)
    assert "use('chunked')" in str(refused.value)
    try:
        use("chunked")
        assert torch.autograd.gradgradcheck(lambda C, m: future_seed(C, m, norm=True, clip=0.8), inputs)
    finally:
        use("auto")


@pytest.mark.usefixtures("kernel_library")
def test_strides_do_not_matter() -> None:
    """Transposed, expanded and unaligned tensors give the bits of contiguous ones, in every gradient."""
    memory = random(2 * 3 * 8 * 8 + 1)
    transposed = memory[1:].view(3, 2, 8, 8).transpose(0, 1).mT
    expanded = memory[:64].view(8, 8).expand(2, 3, 8, 8)
    unaligned = memory[1:].view(2, 3, 8, 8)
    gate, dseed = random(3, seed=1), random(2, 3, 8, 8, seed=2)
    for captured in (transposed, expanded, unaligned):
        wanted = run(captured.clone(memory_format=torch.contiguous_format), gate, dseed, True, 0.8)
        assert_same_bits(run(captured, gate, dseed.mT.contiguous().mT, True, 0.8), wanted)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("N", [8, 64])
def test_a_matrix_does_not_depend_on_its_batch(N: int) -> None:
    """A batch of five is five batches of one, gradients included."""
    captured, gate, dseed = random(5, 3, N, N), random(5, 3, seed=1), random(5, 3, N, N, seed=2)
    together = run(captured, gate, dseed, True, 0.8)
    for n in range(5):
        rows = slice(n, n + 1)
        alone = run(captured[rows], gate[rows], dseed[rows], True, 0.8)
        assert_same_bits(alone, [x[rows] for x in together])


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("poisoned", ["captured", "gate", "dseed"])
def test_poison_in_another_matrix(poisoned: str) -> None:
    """NaN in one matrix is not hidden by norm and clip, and reaches no other matrix."""
    clean = {"captured": random(3, 2, 8, 8), "gate": random(3, 2, seed=1)}
    clean["dseed"] = random(3, 2, 8, 8, seed=2)
    dirty = {**clean, poisoned: clean[poisoned].clone()}
    dirty[poisoned][1, 1] = torch.nan
    found, wanted = (run(**x, norm=True, clip=0.8) for x in (dirty, clean))
    for x, want in zip(found, wanted, strict=True):
        others = torch.ones(3, 2, dtype=torch.bool)
        others[1, 1] = False
        assert torch.equal(x[others], want[others])
    seed, *gradients = (x[1, 1].isnan().any() for x in found)
    assert seed == (poisoned != "dseed")
    assert poisoned == "gate" or all(gradients)


@pytest.mark.usefixtures("form")
def test_a_nan_stays_where_it_is_without_norm() -> None:
    """Without norm a NaN entry makes that entry of the seed NaN and no other."""
    captured = random(1, 1, 8, 8)
    captured[0, 0, 3, 5] = torch.nan
    seed = future_seed(captured, torch.tensor(0.5), norm=False, clip=0.8)
    assert torch.equal(seed.isnan(), captured.isnan())


@pytest.mark.usefixtures("form", "threads")
def test_threads_and_repetition() -> None:
    """One thread, two threads and a second run give the same bits."""
    arguments = (random(6, 4, 64, 64), random(6, 4, seed=1), random(6, 4, 64, 64, seed=2), True, 0.8)
    torch.set_num_threads(1)
    alone = run(*arguments)
    torch.set_num_threads(2)
    assert_same_bits(run(*arguments), alone)
    assert_same_bits(run(*arguments), alone)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(("norm", "clip"), SWITCHES)
def test_uninitialised_memory_is_never_read(norm: bool, clip: float | None) -> None:
    """With every fresh tensor filled with NaN, results and gradients stay finite."""
    torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
    try:
        assert torch.empty(3).isnan().all()
        found = run(random(2, 2, 16, 16), random(2, seed=1), random(2, 2, 16, 16, seed=2), norm, clip)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(x.isfinite().all() for x in found)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(("norm", "clip"), SWITCHES)
def test_in_a_compiled_graph(norm: bool, clip: float | None) -> None:
    """torch.compile takes it whole, gate and all, and changes no bit."""

    def function(captured: Tensor, alpha: Tensor) -> Tensor:
        return future_seed(captured, torch.sigmoid(alpha), norm=norm, clip=clip) * 2

    torch.compiler.reset()
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    results = []
    for call in (function, compiled):
        inputs = random(2, 3, 8, 8).requires_grad_(), random(3, seed=1).requires_grad_()
        seed = call(*inputs)
        results.append([seed.detach(), *torch.autograd.grad(seed.square().sum(), inputs)])
    assert_same_bits(*results)


@pytest.mark.usefixtures("kernel_library")
@pytest.mark.parametrize(("norm", "clip"), SWITCHES)
def test_fake_kernels(norm: bool, clip: float | None) -> None:
    """Schema, autograd registration, fake kernels and AOT dispatch as PyTorch itself checks them."""
    captured, gate = random(2, 3, 8, 8), random(2, 3, seed=1)
    ops = torch.ops.fsearch
    needing = captured.clone().requires_grad_(), gate.clone().requires_grad_()
    torch.library.opcheck(ops.future_seed.default, (*needing, norm, clip))
    for needs in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(
            ops.future_seed_backward.default, (captured, captured, gate, norm, clip, *needs)
        )


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("captured", torch.zeros(2, 8, 8), ValueError, r"must have the shape \[B,H,N,N\], not \[2, 8, 8\]"),
        ("captured", torch.zeros(2, 3, 8, 16), ValueError, r"must have the shape \[B,H,N,N\], not"),
        ("captured", torch.zeros(2, 3, 12, 12), ValueError, "must have a head size N among .* not 12"),
        ("captured", torch.zeros(0, 3, 8, 8), ValueError, "must have at least one sample and head"),
        ("captured", torch.zeros(2, 3, 8, 8).half(), TypeError, "must be float32 or float64, not"),
        ("gate", torch.zeros(2), ValueError, r"must broadcast to \[B,H\] = \[2, 3\]; its shape is \[2\]"),
        ("gate", torch.zeros(1, 2, 3), ValueError, r"must broadcast to \[B,H\]"),
        ("gate", torch.zeros(4, 3), ValueError, r"must broadcast to \[B,H\]"),
        ("gate", torch.zeros(3).double(), TypeError, "must be torch.float32 like captured, not"),
        ("gate", torch.zeros(3, device="meta"), ValueError, "must be on cpu like captured, not on meta"),
        ("clip", 0.0, ValueError, "must be positive, or None for no clipping, not 0.0"),
        ("clip", -1.0, ValueError, "must be positive"),
        ("clip", float("nan"), ValueError, "must be positive"),
    ],
)
def test_wrong_argument(name: str, value: Any, error: type[Exception], message: str) -> None:
    """Each wrong shape, dtype, device or limit is told apart and named, whatever would have run."""
    arguments = {"captured": torch.zeros(2, 3, 8, 8), "gate": torch.zeros(3), "norm": True, "clip": 1.0}
    with pytest.raises(error, match=f"{name} {message}"):
        future_seed(**{**arguments, name: value})


@pytest.mark.usefixtures("kernel_library")
def test_raw_operators_refuse_what_would_read_beyond_memory() -> None:
    """The operators themselves check sizes and types, for callers that go around the front."""
    ops, captured, gate = torch.ops.fsearch, torch.zeros(2, 3, 8, 8), torch.zeros(2, 3)
    with pytest.raises(ValueError, match="gate must be a cpu tensor of the shape"):
        ops.future_seed(captured, gate[0], True, None)
    with pytest.raises(TypeError, match="gate must be Float"):
        ops.future_seed(captured, gate.double(), True, None)
    with pytest.raises(ValueError, match="captured must have a head size"):
        ops.future_seed(captured[..., :4, :4], gate, True, None)
    with pytest.raises(ValueError, match="dseed must be a cpu tensor of the shape"):
        ops.future_seed_backward(captured[:1], captured, gate, True, None, True, True)
