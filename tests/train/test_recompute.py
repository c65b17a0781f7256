"""Layers computed anew in the backward pass: the same numbers to the bit, in less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fsearch.train.network import Network
from fsearch.train.step_contender import random_batch
from tests.train.conftest import SEED_FORM, MakeJob
from tests.train.processes import ZygoteProcess, numbers

LAYERS = {"recompute": "layers"}
FORMS = {
    "no_fs": {"gate": "none", "stream": 0},
    "trained": {**SEED_FORM, "layers": {"1": 1.0, "2": 0.5}},
    "detached": {**SEED_FORM, "alpha_lr": 0.0, "detach": True, "norm": True, "clip": 1.0},
    "input": {**SEED_FORM, "gate": "input", "weight_lr": 0.01, "bias_lr": 0.02},
}
MODEL = {"init": {"n_layer": 3, "n_embd": 32, "head_size": 8}}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("kernel_library")
def test_loss_and_gradients_are_the_same_to_the_bit(make_job: MakeJob, form: str, precision: str) -> None:
    """Of every parameter, gates included, in a network in which everything has an influence; and the layers
    are indeed computed twice."""
    torch.set_num_threads(1)
    found = []
    for more in ({}, LAYERS):
        recipe = {"precision": precision, **more}
        network = Network.from_job(make_job(model=MODEL, form=FORMS[form], recipe=recipe), vocab_size=11)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in network.model.parameters():
                parameter.normal_(0, 0.3, generator=generator)
        calls: list[Any] = []
        network.model.blocks[1].register_forward_pre_hook(lambda *_, calls=calls: calls.append(None))
        loss = network.learn(random_batch(4, 40, 11), 40)
        seed = [] if network.future_seed is None else [*network.future_seed.parameters()]
        found.append([loss, *(parameter.grad for parameter in [*network.model.parameters(), *seed])])
        assert len(calls) == (2 if more else 1)
    for plain, recomputed in zip(*found, strict=True):
        assert plain is not None and recomputed is not None and torch.equal(plain, recomputed)


def test_an_attempt_is_the_same_in_less_memory(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """Every number of the result; more than a third less memory, where activations are most of it."""
    model = {"init": {"n_layer": 8, "n_embd": 64, "head_size": 16}}
    plain, recomputed = (
        shared_zygote.fork(make_job(model=model, batch=128, micro_batch=128, steps=3, recipe=more)).finish()
        for more in ({}, LAYERS)
    )
    assert numbers(plain) == numbers(recomputed)
    assert recomputed["late_torch_imports"] == []
    assert recomputed["peak_memory_mib"] < plain["peak_memory_mib"] / 1.5
