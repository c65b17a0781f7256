"""The CUDA kernels of the Future-Seed preparation, emulated: csrc/future_seed.h with tensors of the CPU."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from .library import Library
from .wkv7 import KernelFault


class _Inputs(ctypes.Structure):
    _fields_ = [
        ("heads", ctypes.c_int64),
        ("N", ctypes.c_int64),
        ("captured", ctypes.c_void_p),
        ("gate", ctypes.c_void_p),
        ("clip", ctypes.c_float),
        ("norm", ctypes.c_bool),
    ]


class _Gradients(ctypes.Structure):
    _fields_ = [("dcaptured", ctypes.c_void_p), ("dgate", ctypes.c_void_p)]


class FutureSeed:
    """The operator in `library`, for captured [B,H,N,N] and gate [B,H], both float32 and contiguous.

    All memory that the kernels write holds NaN before they run. What fails raises KernelFault.
    """

    def __init__(self, library: Library) -> None:
        self._library, self._c = library, library.functions
        self._c.future_seed_cuda_error.restype = ctypes.c_char_p

    def forward(self, captured: Tensor, gate: Tensor, norm: bool, clip: float | None) -> Tensor:
        """The seed [B,H,N,N]."""
        seed = torch.full_like(captured, torch.nan)
        inputs = self._inputs(captured, gate, norm, clip)
        with self._library.memory({"captured": captured, "gate": gate}, {"seed": seed}):
            self._check(
                self._c.future_seed_cuda_forward(
                    ctypes.byref(inputs), ctypes.c_void_p(seed.data_ptr()), 0, None
                )
            )
        return seed

    def backward(
        self,
        dseed: Tensor,
        captured: Tensor,
        gate: Tensor,
        norm: bool,
        clip: float | None,
        needs: tuple[bool, bool] = (True, True),
    ) -> list[Tensor | None]:
        """The gradients of `captured` and of `gate`, None for one that is not needed."""
        results = [
            torch.full_like(x, torch.nan) if need else None
            for x, need in zip((captured, gate), needs, strict=True)
        ]
        names = ("dcaptured", "dgate")
        gradients = _Gradients(*(None if x is None else x.data_ptr() for x in results))
        inputs = self._inputs(captured, gate, norm, clip)
        read = {"dseed": dseed, "captured": captured, "gate": gate}
        with self._library.memory(read, dict(zip(names, results, strict=True))):
            self._check(
                self._c.future_seed_cuda_backward(
                    ctypes.byref(inputs),
                    ctypes.c_void_p(dseed.data_ptr()),
                    ctypes.byref(gradients),
                    0,
                    None,
                )
            )
        return results

    @staticmethod
    def _inputs(captured: Tensor, gate: Tensor, norm: bool, clip: float | None) -> _Inputs:
        limit = math.inf if clip is None else clip
        return _Inputs(gate.numel(), captured.shape[-1], captured.data_ptr(), gate.data_ptr(), limit, norm)

    def _check(self, error: int) -> None:
        if error:
            raise KernelFault(self._c.future_seed_cuda_error(error).decode())
