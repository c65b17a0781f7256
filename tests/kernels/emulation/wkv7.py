"""The CUDA kernels of the WKV7 operator, emulated: csrc/wkv7_cuda.h with torch tensors of the CPU."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cases import NAMES, Case
from .comparison import Operator
from .library import KernelFault, Library, kernel_source

_CONSTANTS = dict(re.findall(r"(kWkv7Cuda\w+) = (\d+)", kernel_source("wkv7_cuda.h")))
CHECKPOINT_EVERY = int(_CONSTANTS["kWkv7CudaCheckpointEvery"])
SEGMENT = int(_CONSTANTS["kWkv7CudaSegment"])


class Struct(ctypes.Structure):
    """Takes tensors, or None, for pointers."""

    def __init__(self, **fields: Tensor | int | None) -> None:
        super().__init__(**{k: x.data_ptr() if isinstance(x, Tensor) else x for k, x in fields.items()})


def pointers(names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_void_p) for name in names.split()]


class _InputStruct(Struct):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("B", "T", "H", "N")),
        *((name, ctypes.c_int32) for name in ("sigmoid", "is_bf16", "w_is_bf16", "device")),
        *pointers("stream r w k v a b s0 p"),
    ]


@dataclass(frozen=True)
class Inputs:
    """A case as a kernel takes it: Wkv7CudaInputs, and what that points to."""

    struct: _InputStruct
    tensors: dict[str, Tensor]
    memory: dict[str, Tensor | None]

    @classmethod
    def of(cls, case: Case, s0: bool) -> Inputs:
        """Of a rounded case; its s0 is not passed unless `s0`."""
        tensors = {name: x.detach().contiguous() for name, x in zip(NAMES, case.tensors, strict=True)}
        B, T, H, N = tensors["r"].shape
        memory: dict[str, Tensor | None] = {
            **tensors,
            "s0": tensors["s0"] if s0 else None,
            "p": None if case.p is None else case.p.to(torch.int32),
        }
        struct = _InputStruct(
            B=B,
            T=T,
            H=H,
            N=N,
            sigmoid=int(case.decay == "sigmoid"),
            is_bf16=int(tensors["r"].dtype == torch.bfloat16),
            w_is_bf16=int(tensors["w"].dtype == torch.bfloat16),
            **memory,
        )
        return cls(struct, tensors, memory)


class _Outputs(Struct):
    _fields_ = pointers("y cap final_state checkpoints")


class _Gradients(Struct):
    _fields_ = pointers("dy dcap checkpoints adjoint states partials dr dw dk dv da db")


class Wkv7(Operator):
    """The operator in `library`, for one type of r, k, v, a, b and one of w."""

    def __init__(
        self, library: Library, io: torch.dtype = torch.float32, w: torch.dtype | None = None
    ) -> None:
        self.library, self.io, self.w = library, io, w or io
        self._c = library.functions
        self._c.wkv7_cuda_panels.argtypes = [ctypes.c_int64]
        self._c.wkv7_cuda_panels.restype = ctypes.c_int64
        self._c.wkv7_cuda_error.restype = ctypes.c_char_p

    def run(
        self, case: Case, upstream: Mapping[str, Tensor] | None = None, *, s0: bool = True, final: bool = True
    ) -> dict[str, Tensor]:
        inputs = Inputs.of(case, s0)
        B, T, H, N = inputs.tensors["r"].shape
        results: dict[str, Tensor | None] = {
            "y": poisoned(B, T, H, N, dtype=self.io),
            "cap": poisoned(B, H, N, N) if case.p is not None else None,
            "sT": poisoned(B, H, N, N) if final else None,
            "checkpoints": poisoned(B * H, -(-T // CHECKPOINT_EVERY), N, N) if upstream is not None else None,
        }
        outputs = _Outputs(
            y=results["y"], cap=results["cap"], final_state=results["sT"], checkpoints=results["checkpoints"]
        )
        with self.library.memory(inputs.memory, results):
            self._check(self._c.wkv7_cuda_forward(ctypes.byref(inputs.struct), ctypes.byref(outputs)))
        checkpoints = results.pop("checkpoints")
        if upstream is not None and checkpoints is not None:
            results |= self._gradients(inputs, checkpoints, upstream)
        return {name: x for name, x in results.items() if x is not None}

    def _gradients(
        self, inputs: Inputs, checkpoints: Tensor, upstream: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        like = inputs.tensors
        B, _, H, N = like["r"].shape
        panels = self._c.wkv7_cuda_panels(N)
        results = {name: torch.full_like(like[name], torch.nan) for name in ("r", "w", "k", "v", "a", "b")}
        given = upstream.get("sT")
        adjoint = torch.zeros(B, H, N, N) if given is None else given.clone()
        read = inputs.memory | {
            "dy": upstream.get("y"),
            "dcap": upstream.get("cap"),
            "checkpoints": checkpoints,
        }
        work = {
            "adjoint": adjoint,
            "states": poisoned(B * H, CHECKPOINT_EVERY // SEGMENT, N, N),
            "partials": poisoned(B * H, CHECKPOINT_EVERY, panels, 5, N),
        }
        gradients = _Gradients(
            dy=read["dy"],
            dcap=read["dcap"],
            checkpoints=checkpoints,
            **work,
            **{"d" + name: x for name, x in results.items()},
        )
        with self.library.memory(read, work | {"d" + name: x for name, x in results.items()}):
            self._check(self._c.wkv7_cuda_backward(ctypes.byref(inputs.struct), ctypes.byref(gradients)))
        return results | {"s0": adjoint}

    def _check(self, error: int) -> None:
        if error:
            raise KernelFault(self._c.wkv7_cuda_error(error).decode())


def poisoned(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.full(shape, torch.nan, dtype=dtype)
