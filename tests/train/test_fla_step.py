"""flash-linear-attention's model for `bench step --against fla`, where it is not installed.

That its losses and gradients are ours is shown where it is: tests/gpu/test_fla_step.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils import deterministic

from fsearch.rwkv7 import RWKV7
from fsearch.system import messages
from fsearch.train import fla_step
from fsearch.train.job import Channel
from fsearch.train.step_measurement import StepMeasurement

NAMES = {
    "emb.weight": "model.embeddings.weight",
    "blocks.0.ln0.bias": "model.layers.0.pre_norm.bias",
    "blocks.0.ln1.weight": "model.layers.0.attn_norm.weight",
    "blocks.2.ln2.weight": "model.layers.2.ffn_norm.weight",
    "blocks.2.att.x_r": "model.layers.2.attn.x_r",
    "blocks.2.att.k_k": "model.layers.2.attn.k_k",
    "blocks.2.att.r_k": "model.layers.2.attn.r_k",
    "blocks.2.att.w0": "model.layers.2.attn.w_lora.lora.2.bias",
    "blocks.2.att.v1": "model.layers.2.attn.v_lora.lora.0.weight",
    "blocks.2.att.g2": "model.layers.2.attn.g_lora.lora.2.weight",
    "blocks.2.att.receptance.weight": "model.layers.2.attn.r_proj.weight",
    "blocks.2.att.key.weight": "model.layers.2.attn.k_proj.weight",
    "blocks.2.att.value.weight": "model.layers.2.attn.v_proj.weight",
    "blocks.2.att.output.weight": "model.layers.2.attn.o_proj.weight",
    "blocks.2.att.ln_x.weight": "model.layers.2.attn.g_norm.weight",
    "blocks.2.ffn.x_k": "model.layers.2.ffn.x_k",
    "blocks.2.ffn.key.weight": "model.layers.2.ffn.key.weight",
    "blocks.2.ffn.value.weight": "model.layers.2.ffn.value.weight",
    "ln_out.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
"""By flash-linear-attention's own conversion of released checkpoints, utils/convert_from_rwkv7.py."""


def test_names() -> None:
    """Of every kind of parameter, and no two of a model are one of theirs."""
    assert {name: fla_step.their_name(name) for name in NAMES} == NAMES
    ours = [name for name, _ in RWKV7(n_layer=2, n_embd=32, head_size=8, vocab_size=10).named_parameters()]
    assert len({fla_step.their_name(name) for name in ours}) == len(ours)


@pytest.mark.parametrize(
    ("device", "said"),
    [("cpu", "--against fla needs a GPU: "), ("cuda", "Say `pip install flash-linear-attention`")],
)
def test_it_is_refused_in_a_sentence(device: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, and where it is not whole: nothing is measured."""
    monkeypatch.setitem(sys.modules, "fla", ModuleType("fla"))
    with pytest.raises(ValueError, match=said):
        fla_step.refuse(torch.device(device))


@pytest.fixture
def torch_as_it_is() -> Iterator[None]:
    """A measurement in this process changes torch's settings."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]


@pytest.mark.usefixtures("kernel_library", "torch_as_it_is")
def test_a_step_of_others_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row says why in its own words; the baseline's has its figures."""
    broken = ModuleType("fla")
    broken.__version__ = "0.0.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fla", broken)
    cases = [{"contender": name, "batch": 2, "tokens": 6} for name in ("no_fs", "fla")]
    job: dict[str, Any] = {"shape": "demo", "cases": cases, "precision": "fp32", "threads": 1}
    read, write = os.pipe()
    StepMeasurement(job, torch.device("cpu"), Channel(write)).run()
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        sent = messages.Decoder().feed(pipe.read())
    (setting,) = [message["setting"] for message in sent if message["type"] == "setting"]
    ours, other = [message["row"] for message in sent if message["type"] == "row"]
    assert (setting["fla"], ours["left_out"], ours["ratio"]) == ("0.0.1", None, 1.0)
    assert other["contender"] == "fla" and "loss" not in other
    assert other["left_out"].startswith("it failed: ModuleNotFoundError: No module named 'fla.models'")
