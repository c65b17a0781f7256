"""Files of weights: what is read, what is refused and in which words, what is written."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from fsearch.rwkv7 import RWKV7, Architecture, CheckpointError, Ranks, initialise, inspect, load, save

from . import official
from .models import lively_model

RANKS = Ranks(w=24, a=16, v=8, g=40)
ARCHITECTURE = Architecture(n_layer=2, n_embd=128, head_size=64, vocab_size=50, ranks=RANKS)


def weights(dtype: torch.dtype = torch.bfloat16, n_layer: int = 2) -> official.Weights:
    return official.weights(n_layer, 128, vocab_size=50, ranks=(24, 16, 8, 40), dtype=dtype)


def written(content: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    return path


def assert_holds(model: RWKV7, expected: official.Weights) -> None:
    """Every parameter of the model is the tensor of its name, and there is none beside."""
    state = model.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(state[name], value.to(state[name].dtype)), name


@pytest.fixture(params=["model.pth", "model.safetensors"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_every_key_arrives(path: Path, stored: torch.dtype) -> None:
    expected = weights(stored)
    model = load(written(expected, path))
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert all(value.requires_grad for value in model.parameters())
    assert_holds(model, expected)


def test_shapes_tell_the_architecture(path: Path) -> None:
    assert inspect(written(weights(), path)) == ARCHITECTURE


def test_one_layer_has_no_value_residual(path: Path) -> None:
    expected = weights(n_layer=1)
    assert_holds(load(written(expected, path)), expected)


def test_unused_keys_of_layer_0_are_left_out(path: Path) -> None:
    expected = weights()
    assert_holds(load(written(official.with_unused(expected), path)), expected)


def test_the_model_outlives_its_file(path: Path) -> None:
    """Nothing of a model lies in the file: it may be overwritten, and training does not write to it."""
    before = written(weights(torch.float32), path).read_bytes()
    model = load(path)
    with torch.no_grad():
        for value in model.parameters():
            value += 1
    assert path.read_bytes() == before
    expected = model.head.weight.clone()
    path.write_bytes(bytes(len(before)))
    assert torch.equal(model.head.weight, expected)


def test_parameters_in_the_file(tmp_path: Path) -> None:
    """As torch.save leaves them when a module's parameters are written themselves."""
    expected = weights()
    content = {name: torch.nn.Parameter(value) for name, value in expected.items()}
    model = load(written(content, tmp_path / "model.pth"))
    assert_holds(model, expected)
    assert all(value.is_leaf and value.requires_grad for value in model.parameters())


def test_dtype(path: Path) -> None:
    model = load(written(weights(), path), device="cpu", dtype=torch.bfloat16)
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}
    assert_holds(model, weights())


def test_initial_values_are_those_of_the_seed() -> None:
    init = {"n_layer": 2, "n_embd": 16, "head_size": 8, "vocab_size": 11}
    expected = initialise(RWKV7(**init), torch.Generator().manual_seed(5))
    assert_holds(load(init | {"seed": 5}), dict(expected.state_dict()))
    other = load(init | {"seed": 6})
    assert not torch.equal(other.head.weight, expected.head.weight)


# --- writing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_saved_and_loaded_again_is_the_same_to_the_bit(path: Path, dtype: torch.dtype) -> None:
    model = lively_model().to(dtype)
    save(model, path, dtype)
    assert_holds(load(path, dtype=dtype), dict(model.state_dict()))


def test_a_release_saved_again_is_the_same_to_the_bit(path: Path) -> None:
    """bfloat16 by default, names and shapes as they were: what other tools read, they read again."""
    save(load(written(weights(), path)), path)
    again = (
        safetensors.torch.load_file(path) if path.suffix == ".safetensors" else torch.load(path, mmap=True)
    )
    assert type(again) is dict and again.keys() == weights().keys()
    for name, value in weights().items():
        assert again[name].dtype == torch.bfloat16 and torch.equal(again[name], value), name


def test_saving_that_fails_leaves_the_old_file(path: Path) -> None:
    save(lively_model(), path)
    before = path.read_bytes()
    broken = lively_model()
    broken.register_buffer("not_a_tensor_of_memory", torch.empty(1, device="meta"))
    with pytest.raises(NotImplementedError):
        save(broken, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# --- refused --------------------------------------------------------------------------------------------


def without(name: str) -> Callable[[official.Weights], Any]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


def changed(name: str, change: Callable[[Tensor], Any]) -> Callable[[official.Weights], Any]:
    return lambda weights: weights | {name: change(weights[name])}


def swapped(weights: official.Weights) -> official.Weights:
    w1, w2 = "blocks.1.att.w1", "blocks.1.att.w2"
    return weights | {w1: weights[w2], w2: weights[w1]}


def with_value(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[3] = value
        return tensor

    return change


def older(weights: official.Weights) -> official.Weights:
    """As RWKV-4 has it."""
    c = weights["emb.weight"].shape[1]
    out = {name: value for name, value in weights.items() if ".att." not in name}
    return out | {"blocks.0.att.time_decay": torch.zeros(c), "blocks.0.att.time_first": torch.zeros(c)}


def llama(weights: official.Weights) -> official.Weights:
    return {
        "model.embed_tokens.weight": torch.zeros(50, 128),
        "model.layers.0.self_attn.q_proj.weight": torch.zeros(128, 128),
    }


REFUSED: dict[str, tuple[Callable[[official.Weights], Any], str]] = {
    "older": (older, r"no RWKV-7: blocks\.0\.att\.r_k is missing, .* time_decay"),
    "llama": (llama, r"no RWKV-7: emb\.weight is missing, .*model\.embed_tokens\.weight"),
    "empty": (lambda weights: {}, r"no RWKV-7: emb\.weight is missing"),
    "missing": (
        without("blocks.1.att.k_a"),
        r"blocks\.1\.att\.k_a is missing, expected \[1, 1, 128\]\.$",
    ),
    "missing layer": (
        lambda weights: {name.replace("blocks.1", "blocks.4"): value for name, value in weights.items()},
        r"blocks\.1\.att\.v1 is missing, expected \[128, rank\]",
    ),
    "surplus": (
        lambda weights: weights | {"blocks.1.ffn.s_emb.weight": torch.zeros(50, 1024)},
        r"blocks\.1\.ffn\.s_emb\.weight is no part of RWKV-7\.$",
    ),
    "shape": (
        changed("blocks.1.ffn.key.weight", lambda tensor: tensor[:448].clone()),
        r"blocks\.1\.ffn\.key\.weight is \[448, 128\], expected \[512, 128\]\.$",
    ),
    "vector": (
        changed("blocks.0.att.x_r", lambda tensor: tensor.view(-1).clone()),
        r"blocks\.0\.att\.x_r is \[128\], expected \[1, 1, 128\]\.$",
    ),
    "heads": (
        changed("blocks.0.att.r_k", lambda tensor: tensor[:1].clone()),
        r"blocks\.0\.att\.r_k is \[1, 64\], expected \[heads, head size\] with the product 128",
    ),
    "head": (
        changed("head.weight", lambda tensor: tensor[:40].clone()),
        r"head\.weight is \[40, 128\], expected \[50, 128\]\.$",
    ),
    "swapped": (
        swapped,
        r"blocks\.1\.att\.w1 is \[24, 128\], expected \[128, 24\] \(the factors blocks\.1\.att\.w1 and "
        r"blocks\.1\.att\.w2 are swapped or transposed\); blocks\.1\.att\.w2 is \[128, 24\], expected \[24, ",
    ),
    "transposed": (
        lambda weights: {
            name: value.T.contiguous() if re.search(r"att\.[wavg][12]$", name) else value
            for name, value in weights.items()
        },
        r"blocks\.0\.att\.a1 is \[16, 128\], expected \[128, 16\] \(the factors .*; and 11 more\.$",
    ),
    "nan": (
        changed("blocks.1.att.w2", with_value(float("nan"))),
        r"1 of the 3072 values of blocks\.1\.att\.w2 are not finite in float32, expected finite numbers",
    ),
    "infinite": (
        changed("ln_out.bias", with_value(float("inf"))),
        r"1 of the 128 values of ln_out\.bias are not finite",
    ),
    "integers": (
        changed("blocks.0.att.key.weight", lambda tensor: tensor.to(torch.int8)),
        r"blocks\.0\.att\.key\.weight is a strided tensor of int8, expected a strided one of bfloat16",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_key_and_expectation(name: str, path: Path) -> None:
    change, words = REFUSED[name]
    written(change(weights()), path)
    with pytest.raises(CheckpointError, match=words) as refusal:
        load(path)
    assert str(refusal.value).startswith(f"{path} cannot be used: ")


def test_overflow_is_refused(path: Path) -> None:
    """A number of the file that the asked type cannot hold."""
    written(changed("ln_out.bias", with_value(1e6))(weights(torch.float32)), path)
    load(path)
    with pytest.raises(CheckpointError, match=r"ln_out\.bias are not finite in float16"):
        load(path, dtype=torch.float16)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_cut_off(path: Path, share: float) -> None:
    """A download or a copy that ended early, at any place."""
    data = written(weights(), path).read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"cut off|no \.pth file"):
        load(path)


def test_damaged(tmp_path: Path) -> None:
    """Whole at both ends, but the list of tensors in it is not what it was."""
    path = written(weights(), tmp_path / "model.pth")
    data = bytearray(path.read_bytes())
    at = data.index(b"blocks.0")
    data[at - 200 : at - 100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="cannot be used: "):
        load(path)


def test_text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 382 100 000\n")
    with pytest.raises(CheckpointError, match=r"no \.(pth|safetensors) file"):
        load(path)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("word/document.xml", "<w/>")
    with pytest.raises(CheckpointError, match="a zip of something else"):
        load(path)


class Opening:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "opened"
    path = written(weights() | {"emb.weight": Opening(trap)}, tmp_path / "model.pth")
    with pytest.raises(
        CheckpointError, match=r"its pickle asks for (posix|nt)\.mkdir, expected tensors alone"
    ):
        load(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists(), "the trap would not have been seen"


def test_a_bare_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps({"emb.weight": 1}))
    with pytest.raises(CheckpointError, match=r"no \.pth file"):
        load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.zeros(2)], r"it holds a list, expected tensors by name"),
        ({"state_dict": weights(), "epoch": 3}, r"state_dict is a dict, expected a tensor"),
        ({"emb.weight": torch.zeros(50, 8).to_sparse()}, r"emb\.weight is a sparse_coo tensor of float32"),
    ],
)
def test_other_contents_of_a_pth(content: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=words):
        load(written(content, tmp_path / "model.pth"))


def test_no_file(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=path.name):
        load(path)
