"""Files of RWKV-7 weights in the official format: read, checked key by key, written.

The format is that of RWKV-LM's x070 models: tensors by name in a zip of torch.save (.pth), or under the same
names in a .safetensors file. Names and shapes are those of `RWKV7`'s parameters, with one liberty: releases
may carry att.v0, v1, v2 in layer 0 as well, where nothing uses them. They are left out when read, and are
not written, as in the reference's own model.

A file is used only if all of it is understood. What pickles could do beyond holding tensors is never done.

Not here: the state of an interrupted training (fsearch.train.checkpoint), downloads (`hub`).
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from fsearch.rwkv7 import hub
from fsearch.rwkv7.init import initialise
from fsearch.rwkv7.model import RWKV7, Ranks
from fsearch.system import files

_UNUSED = {f"blocks.0.att.v{i}" for i in range(3)}
_LAYER = re.compile(r"blocks\.(\d+)\.")
_FACTOR = re.compile(r"(blocks\.\d+\.att\.[wavg])[12]")
_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
_NAMED_AT_MOST = 3


class CheckpointError(Exception):
    """A file that cannot be used; `why` names the key, what it is and what was expected."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be used: {why}.")


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the shapes in a checkpoint tell: the arguments of `RWKV7`."""

    n_layer: int
    n_embd: int
    head_size: int
    vocab_size: int
    ranks: Ranks

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every key of the official format with its shape."""
        return {name: tuple(value.shape) for name, value in self.empty_model().state_dict().items()}

    def empty_model(self) -> RWKV7:
        """A model without memory for its weights (on the meta device)."""
        with torch.device("meta"):
            return RWKV7(self.n_layer, self.n_embd, self.head_size, self.vocab_size, self.ranks)


def load(
    path_or_init: str | os.PathLike[str] | Mapping[str, int],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> RWKV7:
    """A model with the weights of a file, or with seeded initial values; every parameter in `dtype`.

    Takes the path of a .pth or .safetensors file, an address hf://owner/repo/file, or a mapping with
    n_layer, n_embd, head_size, vocab_size and seed.

    Raises CheckpointError for a file that is not RWKV-7, is cut off, has a key too many or too few, a wrong
    shape, or a value that is not finite in `dtype`; OSError for one that cannot be opened; hub.HubError.
    """
    if isinstance(path_or_init, Mapping):
        return _initial(**path_or_init).to(device, dtype)
    path = _local(path_or_init)
    weights = _read(path)
    model = _architecture(weights, path).empty_model()
    for name, stored in weights.items():
        value = stored.detach().to(device, dtype, copy=True)  # a copy: `stored` is the mapped file
        weights[name] = value
        if not bool(value.isfinite().all()):
            bad = int((~value.isfinite()).sum())
            raise CheckpointError(
                path,
                f"{bad} of the {value.numel()} values of {name} are not finite in {_word(dtype)}, expected "
                "finite numbers; it may come from a training that diverged",
            )
    model.load_state_dict(weights, assign=True)
    return model


def inspect(path: str | os.PathLike[str]) -> Architecture:
    """What is in the file at `path`, from its names and shapes alone: no weight is read.

    Takes and raises what `load` does, but for values that are not finite.
    """
    local = _local(path)
    return _architecture(_read(local), local)


def save(model: RWKV7, path: str | os.PathLike[str], dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a model's weights in the official format: .safetensors by the name of `path`, else .pth.

    Releases are bfloat16; float32 keeps every bit of a trained model. The gates of a Future-Seed have no
    place in the format. An existing file is replaced as a whole. Raises OSError with it untouched.
    """
    path = Path(path)
    weights = {
        name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()
    }
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if path.suffix == ".safetensors":
            safetensors.torch.save_file(weights, temporary, metadata={"format": "pt"})
        else:
            torch.save(weights, temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    files.sync_directory(path.parent)


def _initial(n_layer: int, n_embd: int, head_size: int, vocab_size: int, seed: int) -> RWKV7:
    model = RWKV7(n_layer, n_embd, head_size, vocab_size)
    return initialise(model, torch.Generator().manual_seed(seed))


def _local(path: str | os.PathLike[str]) -> Path:
    if isinstance(path, str) and path.startswith(hub.SCHEME):
        return hub.download(path)
    return Path(path)


def _read(path: Path) -> dict[str, Tensor]:
    """Every tensor that counts, by name, still backed by the file. Raises CheckpointError, OSError."""
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pth(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(path, f"it holds a {type(content).__name__}, expected tensors by name")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(path, f"{name} is a {type(value).__name__}, expected a tensor")
        if value.layout is not torch.strided or value.dtype not in _DTYPES:
            found = f"{_word(value.layout)} tensor of {_word(value.dtype)}"
            raise CheckpointError(
                path, f"{name} is a {found}, expected a strided one of bfloat16, float16, float32 or float64"
            )
    return {str(name): value for name, value in content.items() if name not in _UNUSED}


def _read_safetensors(path: Path) -> object:
    with open(path, "rb"):  # says why a file cannot be opened; safetensors' own errors do not
        pass
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise CheckpointError(path, f"it is cut off, or no .safetensors file ({error})") from error


def _read_pth(path: Path) -> object:
    with open(path, "rb") as file:
        start = file.read(4)
    if not zipfile.is_zipfile(path):  # the directory of a zip is at its end
        if start == b"PK\x03\x04":
            size = path.stat().st_size
            raise CheckpointError(
                path, f"it is cut off, its end is missing after {size} bytes; fetch it again"
            )
        raise CheckpointError(
            path, f"it is no .pth file; expected the zip that torch.save writes, but it starts with {start!r}"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError:
        raise
    except Exception as error:  # what a damaged pickle raises has no bounds
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and asked:
            raise CheckpointError(
                path,
                f"its pickle asks for {asked[1]}, expected tensors alone; nothing of it was run",
            ) from error
        first_line = str(error).strip().split("\n")[0]
        raise CheckpointError(path, f"it is damaged, or a zip of something else ({first_line})") from error


def _architecture(weights: Mapping[str, Tensor], path: Path) -> Architecture:
    """The architecture that fits all the names and shapes. Raises CheckpointError."""
    vocab_size, n_embd = _matrix(weights, "emb.weight", "[vocabulary, width]", path)
    n_head, head_size = _matrix(weights, "blocks.0.att.r_k", "[heads, head size]", path)
    if n_head * head_size != n_embd:
        raise CheckpointError(
            path,
            f"blocks.0.att.r_k is {[n_head, head_size]}, expected [heads, head size] with the product "
            f"{n_embd}, the width of emb.weight",
        )
    n_layer = len({found[1] for name in weights if (found := _LAYER.match(name))})

    def rank(adapter: str) -> int:
        key = f"blocks.{1 if adapter == 'v' else 0}.att.{adapter}1"
        rows, columns = _matrix(weights, key, f"[{n_embd}, rank]", path)
        return rows if rows != n_embd and columns == n_embd else columns

    v = rank("v") if n_layer > 1 else Ranks.official(n_embd).v  # one layer alone has no such adapter
    ranks = Ranks(w=rank("w"), a=rank("a"), v=v, g=rank("g"))
    architecture = Architecture(n_layer, n_embd, head_size, vocab_size, ranks)
    problems = _problems(weights, architecture.shapes())
    if problems:
        more = len(problems) - _NAMED_AT_MOST
        named = "; ".join(problems[:_NAMED_AT_MOST])
        raise CheckpointError(path, f"{named}; and {more} more" if more > 0 else named)
    return architecture


def _problems(weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is wrong with the names and shapes, a clause each; names first, for they explain shapes."""
    missing = [
        f"{name} is missing, expected {list(expected[name])}" for name in expected if name not in weights
    ]
    surplus = [f"{name} is no part of RWKV-7" for name in weights if name not in expected]
    misshapen = []
    for name in weights.keys() & expected.keys():
        found, wanted = list(weights[name].shape), list(expected[name])
        if found != wanted:
            adapter = _FACTOR.fullmatch(name)
            hint = ""
            if adapter is not None and found == wanted[::-1]:
                hint = f" (the factors {adapter[1]}1 and {adapter[1]}2 are swapped or transposed)"
            misshapen.append(f"{name} is {found}, expected {wanted}{hint}")
    return missing + surplus + sorted(misshapen)


def _matrix(weights: Mapping[str, Tensor], name: str, expected: str, path: Path) -> tuple[int, int]:
    """The two sizes of the matrix `name`. Raises CheckpointError if it is none."""
    if name not in weights:
        older = any(".time_decay" in key for key in weights)
        hint = "like RWKV-4, 5 or 6, it has keys with time_decay" if older else f"it has {list(weights)[:3]}"
        raise CheckpointError(path, f"it is no RWKV-7: {name} is missing, expected {expected}; {hint}")
    shape = list(weights[name].shape)
    if len(shape) != 2 or min(shape) < 1:
        raise CheckpointError(path, f"{name} is {shape}, expected {expected}")
    return shape[0], shape[1]


def _word(kind: torch.dtype | torch.layout) -> str:
    return str(kind).removeprefix("torch.")
