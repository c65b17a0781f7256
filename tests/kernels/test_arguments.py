"""Wrong arguments are refused with a message that names the argument, whatever would have run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fsearch.kernels import library, use, wkv7_fs

from .cases import NAMES, random_case

pytestmark = pytest.mark.usefixtures("kernel_library")


def arguments() -> dict[str, Any]:
    case = random_case(2, 6, 1, 8)
    return {**dict(zip(NAMES, case.tensors, strict=True)), "p": torch.tensor([1, 6])}


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("r", torch.zeros(2, 6, 8), ValueError, r"r must have the shape \[B,T,H,N\], not \[2, 6, 8\]"),
        (
            "r",
            torch.zeros(2, 6, 1, 8, dtype=torch.float16),
            TypeError,
            "r must be float32, bfloat16 or float64",
        ),
        ("r", torch.zeros(2, 0, 1, 8), ValueError, "r must have at least one sample, token and head"),
        ("r", torch.zeros(2, 6, 1, 12), ValueError, "r must have a head size N among .* not 12"),
        ("w", torch.zeros(2, 5, 1, 8), ValueError, r"w must have the shape of r, .* not \[2, 5, 1, 8\]"),
        ("k", torch.zeros(2, 6, 1, 8, dtype=torch.float64), TypeError, "k must be torch.float32 like r"),
        ("v", torch.zeros(2, 6, 1, 8, device="meta"), ValueError, "v must be on cpu like r, not on meta"),
        ("a", torch.zeros(1, 6, 1, 8), ValueError, "a must have the shape of r"),
        ("b", torch.zeros(2, 6, 1, 8).half(), TypeError, "b must be torch.float32 like r"),
        ("s0", torch.zeros(2, 8, 8), ValueError, r"s0 must have the shape \[B,H,N,N\] = \[2, 1, 8, 8\]"),
        (
            "s0",
            torch.zeros(2, 1, 8, 8).half(),
            TypeError,
            "s0 must be torch.float32 beside r of torch.float32, not torch.float16",
        ),
        ("p", torch.tensor([1]), ValueError, r"p must have the shape \[B\] = \[2\], not \[1\]"),
        ("p", torch.tensor([1.0, 2.0]), TypeError, "p must be int32 or int64"),
        ("p", torch.tensor([0, 7]), ValueError, "p must lie between 0 and T = 6, it holds 7"),
        ("p", torch.tensor([-1, 3]), ValueError, "p must lie between 0 and T = 6, it holds -1"),
        ("decay", "linear", ValueError, "decay must be 'sigmoid' or 'exp', not 'linear'"),
        ("impl", "gpu", ValueError, "impl must be 'auto', 'cpu', 'cuda1', 'cuda2' or 'chunked', not 'gpu'"),
    ],
)
@pytest.mark.parametrize("impl", ["cpu", "chunked"])
def test_wrong_argument(impl: str, name: str, value: Any, error: type[Exception], message: str) -> None:
    """Each wrong shape, dtype, device, range or name is told apart and named."""
    with pytest.raises(error, match=message):
        wkv7_fs(**{"impl": impl, **arguments(), name: value})


@pytest.mark.parametrize("impl", ["cpu", "chunked"])
def test_wrong_dtype_beside_bf16(impl: str) -> None:
    """Beside bfloat16 only w may be float32, and the state must be."""
    given = {name: x.bfloat16() if name not in ("s0", "p") else x for name, x in arguments().items()}
    wkv7_fs(**{**given, "w": given["w"].float()}, impl=impl)
    for name, dtype, message in [
        ("k", torch.float32, "k must be torch.bfloat16 like r, not torch.float32"),
        ("w", torch.float16, "w must be torch.bfloat16 like r, or torch.float32, not torch.float16"),
        ("s0", torch.bfloat16, "s0 must be torch.float32 beside r of torch.bfloat16, not torch.bfloat16"),
    ]:
        with pytest.raises(TypeError, match=message):
            wkv7_fs(**{**given, name: given[name].to(dtype)}, impl=impl)


def chunked_arguments(N: int, dtype: torch.dtype) -> dict[str, Any]:
    tensors = random_case(2, 6, 1, N).tensors[:6]
    return dict(zip(NAMES, (x.to(dtype) for x in tensors), strict=False))


def test_the_cuda_kernels_where_there_are_none() -> None:
    """Asking for a kernel that the library does not hold says what to do."""
    with pytest.raises(RuntimeError, match=r"impl='cuda1' needs the compiled kernel.*cuda=native_targets"):
        wkv7_fs(**arguments(), impl="cuda1")
    with pytest.raises(RuntimeError, match=r"impl='cuda2' needs the compiled kernel.*cuda=native_targets"):
        wkv7_fs(**chunked_arguments(64, torch.bfloat16), impl="cuda2")


@pytest.mark.parametrize(
    ("N", "dtype", "are"),
    [(64, torch.float32, "torch.float32 with 64"), (128, torch.float64, "torch.float64 with 128")]
    + [(N, torch.bfloat16, f"torch.bfloat16 with {N}") for N in (8, 16, 32)],
)
def test_what_the_chunked_cuda_kernels_cannot_take(N: int, dtype: torch.dtype, are: str) -> None:
    """It is said before anything else is missing, with the sizes and the type that they take."""
    says = rf"impl='cuda2' takes bfloat16 tensors with a head size among \(64, 128\), r is {are}"
    with pytest.raises(ValueError, match=says):
        wkv7_fs(**chunked_arguments(N, dtype), impl="cuda2")


def test_raw_operators_refuse_what_would_read_beyond_memory() -> None:
    """The operators themselves check sizes and types, for callers that go around the front."""
    r, w, k, v, a, b, s0 = (arguments()[name] for name in NAMES)
    with pytest.raises(ValueError, match="w must be a cpu tensor of the shape"):
        torch.ops.fsearch.wkv7(r, w[:, :2], k, v, a, b, s0, None, True, False)
    with pytest.raises(TypeError, match="v must be"):
        torch.ops.fsearch.wkv7(r, w, k, v.double(), a, b, s0, None, True, False)
    with pytest.raises(ValueError, match="s0 must be a cpu tensor of the shape"):
        torch.ops.fsearch.wkv7(r, w, k, v, a, b, s0[:1], None, True, False)


def test_absent_outputs_are_none() -> None:
    """What was not asked for is None in every implementation."""
    six = [arguments()[name] for name in NAMES[:6]]
    for impl in ("cpu", "chunked"):
        _, cap, sT = wkv7_fs(*six, impl=impl)
        assert cap is None and sT is None


def test_forcing_the_fallback() -> None:
    """`use` makes "auto" the fallback and back again, and the backend's name follows."""
    with_kernel = library.backend()
    assert with_kernel.startswith("cpu-")
    case = random_case(1, 20, 1, 8)
    try:
        use("chunked")
        assert library.backend() == "torch-chunked"
        automatic, _, _ = wkv7_fs(*case.tensors)
    finally:
        use("auto")
    assert library.backend() == with_kernel
    assert torch.equal(automatic, wkv7_fs(*case.tensors, impl="chunked")[0])
    with pytest.raises(ValueError, match="impl must be 'auto' or 'chunked'"):
        use("cpu")
