"""Runs every CUDA kernel on small shapes, for compute-sanitizer: python -m tests.gpu.small_shapes LIBRARY"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from fsearch.kernels import HEAD_SIZES, future_seed, load, wkv7_fs

from ..kernels.cases import random_case


def main() -> None:
    load(Path(sys.argv[1]))
    for N in HEAD_SIZES:
        for dtype in (torch.float32, torch.bfloat16):
            case = random_case(2, 140 if N < 64 else 20, 2, N).to(dtype)
            tensors = [x.cuda().requires_grad_() for x in case.tensors]
            assert case.p is not None
            y, cap, sT = wkv7_fs(*tensors, case.p.cuda(), return_final=True, impl="cuda1")
            assert cap is not None and sT is not None
            seed = future_seed(cap, torch.full((2,), 0.5, device="cuda"), norm=True, clip=1.0)
            (y.float().square().sum() + seed.square().sum() + sT.sum()).backward()
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
