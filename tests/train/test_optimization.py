"""Steps of AdamW as the trainer makes them, against numbers worked by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fsearch.train.network import Network
from fsearch.train.optimization import Optimization
from fsearch.train.recipe import Recipe
from tests.train.conftest import MakeJob

LOSS = torch.tensor(1.0)


def optimized(make_job: MakeJob, steps: int, **recipe: Any) -> tuple[Network, Optimization]:
    """A small network with a trained gate, all parameters 1, and its optimizer."""
    job = make_job(recipe=recipe)
    network = Network.from_job(job, vocab_size=10)
    with torch.no_grad():
        for parameter in network.model.parameters():
            parameter.fill_(1.0)
    return network, Optimization(network, Recipe.from_job(job["recipe"]), steps)


def give_gradients(network: Network, value: float) -> None:
    """As a backward pass would, but the same number everywhere."""
    for module in (network.model, network.future_seed):
        assert module is not None
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, value)


def test_a_master_weight_moves_at_once_and_its_bf16_copy_later(make_job: MakeJob) -> None:
    """At lr 3e-5 a full-size update moves the master of a weight of 1 at the first step. What is computed
    with stays 1 until the master has come half-way to the next bf16 number, 1 + 2^-7: for 130 steps, as
    130 * 3e-5 = 0.0039 < 2^-8 < 131 * 3e-5."""
    recipe = {"lr": 3e-5, "weight_decay": 0.0, "grad_clip": None, "warmup": 0.0, "decay": "none"}
    network, optimization = optimized(make_job, 200, precision="bf16", **recipe)
    matrix = network.model.head
    one_channel = torch.eye(network.model.n_embd, dtype=torch.bfloat16)[:1]
    computed_with = []
    for step in range(200):
        give_gradients(network, -1e-3)
        optimization.update(step, LOSS)
        if step == 0:
            assert matrix.weight[0, 0].item() == pytest.approx(1 + 3e-5, abs=1e-7)
        computed_with.append(matrix(one_channel)[0, 0].item())
    assert computed_with == [1.0] * 130 + [1 + 2**-7] * 70
    assert matrix.weight[0, 0].item() == pytest.approx(1 + 200 * 3e-5, rel=1e-5)


def test_rates_decay_and_schedule_of_a_step(make_job: MakeJob) -> None:
    """Adam's first steps move by the learning rate: half of it while warming up, twice it for w0, the gate's
    own for a gate; only large matrices decay."""
    recipe = {"lr": 0.01, "weight_decay": 0.1, "grad_clip": None, "warmup": 0.5, "decay": "none"}
    network, optimization = optimized(make_job, 4, **recipe)
    att = network.model.get_submodule("blocks.0.att")
    assert network.future_seed is not None
    gate = network.future_seed.alpha
    moving = {"matrix": network.model.head.weight, "table": att.w1, "w0": att.w0, "gate": gate}
    for step, factor in enumerate([0.5, 1.0]):
        before = {name: parameter.detach().clone() for name, parameter in moving.items()}
        give_gradients(network, 1e-3)
        optimization.update(step, LOSS)
        expected = {
            "matrix": before["matrix"] * (1 - 0.01 * factor * 0.1) - 0.01 * factor,
            "table": before["table"] - 0.01 * factor,
            "w0": before["w0"] - 0.02 * factor,
            "gate": before["gate"] - 0.01 * factor,  # alpha_lr is 0.01 too
        }
        for name, parameter in moving.items():
            torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("value", "clipped"), [(0.1, True), (1e-4, False)])
def test_clipping_by_hand(make_job: MakeJob, value: float, clipped: bool) -> None:
    """n equal gradients g have the norm g sqrt(n): above the limit each becomes limit / sqrt(n)."""
    network, optimization = optimized(make_job, 4, grad_clip=0.5)
    n = sum(parameter.numel() for parameter in network.model.parameters())
    assert (value * n**0.5 > 0.5) == clipped
    give_gradients(network, value)
    optimization.update(0, LOSS)
    gradient = network.model.head.weight.grad
    assert gradient is not None and network.future_seed is not None
    expected = 0.5 / n**0.5 if clipped else value
    assert gradient.unique().tolist() == pytest.approx([expected], rel=1e-4)
    assert network.future_seed.alpha.grad is not None
    assert network.future_seed.alpha.grad.item() == pytest.approx(value)  # one gate: its norm is below 0.5


def test_nothing_is_clipped_without_a_limit(make_job: MakeJob) -> None:
    """`grad_clip: null` leaves every gradient as it is."""
    network, optimization = optimized(make_job, 4, grad_clip=None)
    give_gradients(network, 100.0)
    optimization.update(0, LOSS)
    gradient = network.model.head.weight.grad
    assert gradient is not None and gradient.unique().tolist() == [100.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_moves_nothing(make_job: MakeJob, bad: float) -> None:
    """Neither weights nor what AdamW remembers; the next step is as if it had not been."""
    recipe = {"lr": 0.01, "weight_decay": 0.1, "warmup": 0.0, "decay": "none"}
    weights = []
    for losses in ([1.0, bad, 1.0], [1.0, 1.0]):
        network, optimization = optimized(make_job, 4, **recipe)
        for loss in losses:
            give_gradients(network, 1e-3 if loss == 1.0 else bad)
            before = [parameter.detach().clone() for parameter in network.model.parameters()]
            optimization.update(0, torch.tensor(loss))
            moved = [not torch.equal(*pair) for pair in zip(before, network.model.parameters(), strict=True)]
            assert all(moved) if loss == 1.0 else not any(moved)
        assert network.future_seed is not None
        weights.append([*network.model.parameters(), network.future_seed.alpha])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
