"""The CUDA kernels of the small operators, emulated: csrc/fused.h with tensors of the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .library import KernelFault, Library

_MOST_MIXES, _CHUNK = 6, 16  # as in csrc/fused.h
_COUNT, _POINTER, _POINTERS = ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p * _MOST_MIXES


def _struct(**fields: Any) -> type[ctypes.Structure]:
    return type("Struct", (ctypes.Structure,), {"_fields_": list(fields.items())})


_Launch = _struct(bf16=ctypes.c_bool, device=ctypes.c_int, stream=_POINTER)
_ShiftMix = _struct(M=_COUNT, C=_COUNT, T=_COUNT, mixes=_COUNT, x=_POINTER, mix=_POINTERS)
_ShiftMixOutputs = _struct(out=_POINTERS)
_ShiftMixGradients = _struct(dout=_POINTERS, dx=_POINTER, sums=_POINTER)
_Keys = _struct(M=_COUNT, C=_COUNT, N=_COUNT, **dict.fromkeys(("k", "rate", "k_k", "k_a"), _POINTER))
_KeysOutputs = _struct(**dict.fromkeys(("forget", "relearn", "learn"), _POINTER))
_KeysGradients = _struct(
    **dict.fromkeys(("dforget", "drelearn", "dlearn", "dk", "drate", "sums"), _POINTER),
)
_Readout = _struct(
    M=_COUNT,
    C=_COUNT,
    N=_COUNT,
    eps=ctypes.c_float,
    **dict.fromkeys(("y", "r", "k", "v", "gate", "r_k", "weight", "bias"), _POINTER),
)
_ReadoutOutputs = _struct(out=_POINTER)
_ReadoutGradients = _struct(
    **dict.fromkeys(("dout", "dy", "dr", "dk", "dv", "dgate", "sums"), _POINTER),
)

_SquaredRelu = _struct(M=_COUNT, C=_COUNT, x=_POINTER)
_SquaredReluOutputs = _struct(y=_POINTER)
_SquaredReluGradients = _struct(dy=_POINTER, dx=_POINTER)


class Fused:
    """The operators in `library` under the names of torch.ops.fsearch: rows bfloat16 or float32, channels
    float32, all contiguous.

    All memory that the kernels write holds NaN before they run. What fails raises KernelFault.
    """

    def __init__(self, library: Library) -> None:
        self._library, self._c = library, library.functions
        self._c.fused_cuda_error.restype = ctypes.c_char_p

    def shift_mix(self, x: Tensor, mixes: Sequence[Tensor]) -> list[Tensor]:
        read = {"x": x, **_numbered("mix", mixes)}
        written = _numbered("out", [_like_rows(x) for _ in mixes])
        self._run("shift_mix", x, read, written, self._shift_mix(x, mixes), _ShiftMixOutputs(_all(written)))
        return [*written.values()]

    def shift_mix_backward(
        self, douts: Sequence[Tensor], x: Tensor, mixes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        read = {"x": x, **_numbered("mix", mixes), **_numbered("dout", douts)}
        written = {"dx": torch.full_like(x, torch.nan), **_sums(x, len(mixes))}
        given = _all(_numbered("dout", douts))
        grad = _ShiftMixGradients(given, written["dx"].data_ptr(), written["sums"].data_ptr())
        self._run("shift_mix_backward", x, read, written, self._shift_mix(x, mixes), grad)
        return written["dx"], written["total"]

    def keys(self, k: Tensor, rate: Tensor, k_k: Tensor, k_a: Tensor, head_size: int) -> list[Tensor]:
        read = {"k": k, "rate": rate, "k_k": k_k, "k_a": k_a}
        written = {name: _like_rows(k) for name in ("forget", "relearn", "learn")}
        self._run("keys", k, read, written, self._call(_Keys, read, head_size), _fill(_KeysOutputs, written))
        return [*written.values()]

    def keys_backward(self, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, head_size = arguments
        names = ("dforget", "drelearn", "dlearn", "k", "rate", "k_k", "k_a")
        read = dict(zip(names, tensors, strict=True))
        written = {name: _like_rows(read["k"]) for name in ("dk", "drate")} | _sums(read["k"], 2)
        inputs, grad = self._call(_Keys, read, head_size), _fill(_KeysGradients, read | written)
        self._run("keys_backward", read["k"], read, written, inputs, grad)
        return written["dk"], written["drate"], written["total"]

    def readout(self, *arguments: Any) -> Tensor:
        *tensors, head_size, eps = arguments
        names = ("y", "r", "k", "v", "gate", "r_k", "weight", "bias")
        read = dict(zip(names, tensors, strict=True))
        written = {"out": _like_rows(read["y"])}
        inputs = self._call(_Readout, read, head_size, eps=eps)
        self._run("readout", read["y"], read, written, inputs, _fill(_ReadoutOutputs, written))
        return written["out"]

    def readout_backward(self, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, head_size, eps = arguments
        names = ("dout", "y", "r", "k", "v", "gate", "r_k", "weight", "bias")
        read = dict(zip(names, tensors, strict=True))
        gradients = ("dy", "dr", "dk", "dv", "dgate")
        written = {name: _like_rows(read["y"]) for name in gradients} | _sums(read["y"], 3)
        inputs = self._call(_Readout, read, head_size, eps=eps)
        self._run(
            "readout_backward", read["y"], read, written, inputs, _fill(_ReadoutGradients, read | written)
        )
        return *(written[name] for name in gradients), written["total"]

    def squared_relu(self, x: Tensor) -> Tensor:
        written = {"y": _like_rows(x)}
        self._run(
            "squared_relu",
            x,
            {"x": x},
            written,
            self._squared_relu(x),
            _SquaredReluOutputs(written["y"].data_ptr()),
        )
        return written["y"]

    def squared_relu_backward(self, dy: Tensor, x: Tensor) -> Tensor:
        written = {"dx": _like_rows(x)}
        grad = _SquaredReluGradients(dy.data_ptr(), written["dx"].data_ptr())
        self._run("squared_relu_backward", x, {"x": x, "dy": dy}, written, self._squared_relu(x), grad)
        return written["dx"]

    @staticmethod
    def _squared_relu(x: Tensor) -> ctypes.Structure:
        return _SquaredRelu(*x.shape, x.data_ptr())

    @staticmethod
    def _shift_mix(x: Tensor, mixes: Sequence[Tensor]) -> ctypes.Structure:
        B, T, C = x.shape
        return _ShiftMix(B * T, C, T, len(mixes), x.data_ptr(), _all(_numbered("mix", mixes)))

    @staticmethod
    def _call(
        kind: type[ctypes.Structure], tensors: Mapping[str, Tensor], N: int, **settings: Any
    ) -> ctypes.Structure:
        M, C = next(iter(tensors.values())).shape
        return _fill(kind, tensors, M=M, C=C, N=N, **settings)

    def _run(
        self,
        name: str,
        rows: Tensor,
        read: Mapping[str, Tensor],
        written: Mapping[str, Tensor],
        inputs: ctypes.Structure,
        outputs: ctypes.Structure,
    ) -> None:
        launch = _Launch(rows.dtype == torch.bfloat16, 0, None)
        structs = [ctypes.byref(x) for x in (launch, inputs, outputs)]
        total = [ctypes.c_void_p(written["total"].data_ptr())] if "total" in written else []
        with self._library.memory(read, written):
            error = getattr(self._c, f"fused_cuda_{name}")(*structs, *total)
        if error:
            raise KernelFault(self._c.fused_cuda_error(error).decode())


def _like_rows(x: Tensor) -> Tensor:
    return torch.full((x.numel() // x.shape[-1], x.shape[-1]), torch.nan, dtype=x.dtype)


def _sums(x: Tensor, count: int) -> dict[str, Tensor]:
    M, C = x.numel() // x.shape[-1], x.shape[-1]
    shapes = {"sums": (-(-M // _CHUNK), count, C), "total": (count, C)}
    return {name: torch.full(shape, torch.nan) for name, shape in shapes.items()}


def _numbered(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{name}{i}": x for i, x in enumerate(tensors)}


def _all(tensors: Mapping[str, Tensor]) -> Any:
    return _POINTERS(*(x.data_ptr() for x in tensors.values()))


def _fill(kind: type[ctypes.Structure], tensors: Mapping[str, Tensor], **settings: Any) -> ctypes.Structure:
    """A struct with the tensors and settings that it has fields for."""
    fields = {name for name, *_ in kind._fields_}
    return kind(**{name: x.data_ptr() for name, x in tensors.items() if name in fields}, **settings)
