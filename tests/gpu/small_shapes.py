"""Runs every CUDA kernel on small shapes, for compute-sanitizer: python -m tests.gpu.small_shapes LIBRARY"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from fsearch.kernels import HEAD_SIZES, choice, future_seed, library, load, wkv7_fs
from fsearch.kernels.library import Implementation

from ..kernels.cases import random_case


def run(T: int, N: int, dtype: torch.dtype, impl: Implementation, decay: str) -> None:
    """Forward and backward, with captures, final state and a seed made of what was captured."""
    case = random_case(2, T, 2, N, decay=decay).to(dtype)
    tensors = [x.cuda().requires_grad_() for x in case.tensors]
    assert case.p is not None
    y, cap, sT = wkv7_fs(*tensors, case.p.cuda(), decay=decay, return_final=True, impl=impl)
    assert cap is not None and sT is not None
    seed = future_seed(cap, torch.full((2,), 0.5, device="cuda"), norm=True, clip=1.0)
    (y.float().square().sum() + seed.square().sum() + sT.sum()).backward()


def main() -> None:
    load(Path(sys.argv[1]))
    for N in HEAD_SIZES:
        for dtype in (torch.float32, torch.bfloat16):
            run(140 if N < 64 else 20, N, dtype, "cuda1", "sigmoid")
            if library.has_cuda2() and choice.v2_takes(str(dtype).removeprefix("torch."), N):
                for decay in ("sigmoid", "exp"):
                    run(140, N, dtype, "cuda2", decay)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
