"""The chunked CUDA kernels of the WKV7 operator, emulated: csrc/wkv7_v2.h with torch tensors of the CPU."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..cases import Case
from .comparison import Operator
from .library import KernelFault, Library, compile_files, kernel_source
from .wkv7 import Inputs, Struct, pointers, poisoned

FILES = ("wkv7_v2_prep.cu", "wkv7_v2_scan.cu", "wkv7_v2_grad.cu", "wkv7_v2.cu")
_CONSTANTS = dict(re.findall(r"(kWkv7V2\w+) = (\d+)", kernel_source("wkv7_v2.h")))
CHUNK = {"sigmoid": int(_CONSTANTS["kWkv7V2SigmoidChunk"]), "exp": int(_CONSTANTS["kWkv7V2ExpChunk"])}
CHECKPOINT_EVERY = int(_CONSTANTS["kWkv7V2CheckpointEvery"])


class _Side(Struct):
    _fields_ = pointers("w u k b r m_v m_u")


class _Chunks(ctypes.Structure):
    _fields_ = [("forward", _Side), ("backward", _Side), ("keep", ctypes.c_void_p)]


class _Scan(Struct):
    _fields_ = (
        ("backward", ctypes.c_int32),
        *pointers("start restart"),
        ("segment", ctypes.c_int64),
        *pointers("v y at_p_add at_p end saved"),
        ("save_every", ctypes.c_int64),
        ("keep_u", ctypes.c_int32),
    )


class _KernelGradients(Struct):
    _fields_ = pointers("dy states adjoints dr dw dk da db")


class _Outputs(Struct):
    _fields_ = pointers("y cap final_state checkpoints")


class _Upstream(Struct):
    _fields_ = pointers("dy dcap dfinal checkpoints states adjoints dr dw dk dv da db ds0")


def saved_states(T: int, decay: str, *, captured: bool) -> int:
    """States of a head that the forward pass leaves for the backward pass."""
    slots = -(-T // CHUNK[decay]) + captured
    return -(-slots // (CHECKPOINT_EVERY // CHUNK[decay]))


def compile_v2() -> Library:
    return compile_files({name: kernel_source(name) for name in FILES})


class Wkv7V2(Operator):
    """The operator in `library`; r, k, v, a, b are bfloat16, and w of type `w`."""

    io = torch.bfloat16

    def __init__(self, library: Library, w: torch.dtype = torch.bfloat16) -> None:
        self.library, self.w = library, w
        self._c = library.functions
        self._c.wkv7_v2_slots.restype = ctypes.c_int64
        self._c.wkv7_v2_error.restype = ctypes.c_char_p

    def run(
        self, case: Case, upstream: Mapping[str, Tensor] | None = None, *, s0: bool = True, final: bool = True
    ) -> dict[str, Tensor]:
        inputs = Inputs.of(case, s0)
        B, T, H, N = case.tensors[0].shape
        _, slots, L, _ = self._sizes(case)
        assert self._c.wkv7_v2_slots(ctypes.byref(inputs.struct)) == slots
        saved = saved_states(T, case.decay, captured=case.p is not None)
        results: dict[str, Tensor | None] = {
            "y": poisoned(B, T, H, N, dtype=self.io),
            "cap": poisoned(B, H, N, N) if case.p is not None else None,
            "sT": poisoned(B, H, N, N) if final else None,
            "checkpoints": None if upstream is None else poisoned(B * H, saved, N, N, dtype=self.io),
        }
        outputs = _Outputs(
            y=results["y"], cap=results["cap"], final_state=results["sT"], checkpoints=results["checkpoints"]
        )
        chunks, work = forward_chunks(B * H, slots, L, N)
        with self.library.memory(inputs.memory, results | work):
            self._check(
                self._c.wkv7_v2_forward(
                    ctypes.byref(inputs.struct), ctypes.byref(chunks), ctypes.byref(outputs)
                )
            )
        checkpoints = results.pop("checkpoints")
        found = {name: x for name, x in results.items() if x is not None}
        if checkpoints is not None and upstream is not None:
            found |= self._gradients(inputs, checkpoints, upstream, slots, L)
        return found

    def _gradients(
        self, inputs: Inputs, checkpoints: Tensor, upstream: Mapping[str, Tensor], slots: int, L: int
    ) -> dict[str, Tensor]:
        B, _, H, N = inputs.tensors["r"].shape
        results = {name: torch.full_like(inputs.tensors[name], torch.nan) for name in "rwkvab"}
        ds0 = poisoned(B, H, N, N)
        read = {name: upstream.get(of) for name, of in (("dy", "y"), ("dcap", "cap"), ("dfinal", "sT"))}
        read["checkpoints"] = checkpoints
        states = {name: poisoned(B * H, slots, N, N, dtype=torch.bfloat16) for name in ("states", "adjoints")}
        written = {"d" + name: x for name, x in results.items()} | {"ds0": ds0} | states
        chunks, work = backward_chunks(B * H, slots, L, N)
        gradients = _Upstream(**read, **written)
        with self.library.memory(inputs.memory | read, written | work):
            self._check(
                self._c.wkv7_v2_backward(
                    ctypes.byref(inputs.struct), ctypes.byref(chunks), ctypes.byref(gradients)
                )
            )
        return results | {"s0": ds0}

    # Each kernel by itself, on a rounded case; tensors of chunks are [B*H, slots, ...].

    def prepare(self, case: Case, dy: Tensor | None = None) -> dict[str, Tensor]:
        """What the first kernel makes for the forward pass, or with `dy` for the backward pass."""
        inputs, sizes = Inputs.of(case, False), self._sizes(case)
        chunks, work = (forward_chunks if dy is None else backward_chunks)(*sizes)
        arguments = (ctypes.byref(inputs.struct), ctypes.byref(chunks))
        with self.library.memory(inputs.memory | {"dy": dy}, work):
            if dy is None:
                self._check(self._c.wkv7_v2_prepare_forward(*arguments))
            else:
                self._check(self._c.wkv7_v2_prepare_backward(*arguments, ctypes.c_void_p(dy.data_ptr())))
        return work

    def scan(
        self, case: Case, work: dict[str, Tensor], *, backward: bool, start: Tensor
    ) -> dict[str, Tensor]:
        """y, the states it came to chunks with and the last one, and u, from what `prepare` made.

        Backward, the case's v stands for dy, and y for dv.
        """
        inputs, (heads, slots, L, N) = Inputs.of(case, False), self._sizes(case)
        chunks, memory = (backward_chunks if backward else forward_chunks)(heads, slots, L, N)
        for name, x in work.items():
            memory[name].copy_(x)
        written = {
            "y": torch.full_like(inputs.tensors["v"], torch.nan),
            "saved": poisoned(heads, slots, N, N, dtype=self.io),
            "end": poisoned(heads, N, N),
        }
        run = _Scan(
            backward=int(backward),
            start=start,
            segment=slots,
            v=inputs.tensors["v"],
            save_every=1,
            keep_u=1,
            **written,
        )
        with self.library.memory(inputs.memory | {"start": start}, written | memory):
            self._check(
                self._c.wkv7_v2_scan(ctypes.byref(inputs.struct), ctypes.byref(chunks), ctypes.byref(run))
            )
        return written | {"u": memory["z" if backward else "u"]}

    def gradients(
        self, case: Case, dy: Tensor, u: Tensor, z: Tensor, states: Tensor, adjoints: Tensor
    ) -> dict[str, Tensor]:
        """What the last kernel makes of r, w, k, a and b."""
        inputs = Inputs.of(case, False)
        results = {name: torch.full_like(inputs.tensors[name], torch.nan) for name in "rwkab"}
        read = {"dy": dy, "states": states, "adjoints": adjoints}
        chunks = _Chunks(_Side(u=u), _Side(u=z), None)
        gradients = _KernelGradients(**read, **{"d" + name: x for name, x in results.items()})
        with self.library.memory(
            inputs.memory | read | {"u": u, "z": z}, {"d" + n: x for n, x in results.items()}
        ):
            self._check(
                self._c.wkv7_v2_gradients(
                    ctypes.byref(inputs.struct), ctypes.byref(chunks), ctypes.byref(gradients)
                )
            )
        return results

    def _sizes(self, case: Case) -> tuple[int, int, int, int]:
        """Heads, chunks that there is memory for, tokens of a chunk, head size."""
        B, T, H, N = case.tensors[0].shape
        L = CHUNK[case.decay]
        return B * H, -(-T // L) + (case.p is not None), L, N

    def _check(self, error: int) -> None:
        if error:
            raise KernelFault(self._c.wkv7_v2_error(error).decode())


def _memory(heads: int, slots: int, L: int, N: int, wide: str, narrow: str) -> dict[str, Tensor]:
    bf16 = torch.bfloat16
    return {
        **{name: poisoned(heads, slots, L, N, dtype=bf16) for name in wide.split()},
        **{name: poisoned(heads, slots, L, L, dtype=bf16) for name in narrow.split()},
        "keep": poisoned(heads, slots, N),
    }


def forward_chunks(heads: int, slots: int, L: int, N: int) -> tuple[_Chunks, dict[str, Tensor]]:
    """What the forward pass needs of a Wkv7V2Chunks, and its tensors."""
    x = _memory(heads, slots, L, N, "w u k b r", "m_rk m_rb")
    forward = _Side(w=x["w"], u=x["u"], k=x["k"], b=x["b"], r=x["r"], m_v=x["m_rk"], m_u=x["m_rb"])
    return _Chunks(forward, _Side(), x["keep"].data_ptr()), x


def backward_chunks(heads: int, slots: int, L: int, N: int) -> tuple[_Chunks, dict[str, Tensor]]:
    """The same of the backward pass."""
    x = _memory(heads, slots, L, N, "w u k b w_2 z r a", "m_rk m_ak")
    forward = _Side(w=x["w"], u=x["u"], k=x["k"], b=x["b"])
    backward = _Side(w=x["w_2"], u=x["z"], k=x["r"], b=x["a"], r=x["k"], m_v=x["m_rk"], m_u=x["m_ak"])
    return _Chunks(forward, backward, x["keep"].data_ptr()), x
