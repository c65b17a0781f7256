"""First values, names and shapes, parameter groups, and the hash of the weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fsearch.rwkv7 import RWKV7, FutureSeed, Ranks, initialise, parameter_groups, weights_sha256

from .models import fresh_model, generator, lively_model, variant


def test_same_seed_same_weights() -> None:
    """Weights are a function of the seed alone; the global generator is neither read nor moved."""
    torch.manual_seed(1)
    first = weights_sha256(fresh_model(seed=3))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert weights_sha256(fresh_model(seed=3)) == first
    assert weights_sha256(fresh_model(seed=4)) != first
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_hash_sees_one_bit() -> None:
    """Two models have one hash only if every parameter agrees to the last bit, the sign of zero included."""
    model = fresh_model()
    before = weights_sha256(model)
    with torch.no_grad():
        model.blocks[1].get_parameter("att.output.weight")[3, 4] = -0.0
    assert weights_sha256(model) != before


def test_official_names_and_shapes() -> None:
    """Two layers, 4 heads of 16: exactly the parameters that an official checkpoint of that size has."""
    c, v = 64, 50
    vectors = ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "k_k", "k_a"]
    expected: dict[str, tuple[int, ...]] = {"emb.weight": (v, c), "head.weight": (v, c)}
    norms = ["ln_out"]
    for block in ("blocks.0", "blocks.1"):
        for name in vectors + ["v0"] * (block == "blocks.1"):
            expected[f"{block}.att.{name}"] = (1, 1, c)
        for name in "wag" + "v" * (block == "blocks.1"):
            expected[f"{block}.att.{name}1"] = (c, 32)
            expected[f"{block}.att.{name}2"] = (32, c)
        expected[f"{block}.att.r_k"] = (4, 16)
        for name in ("receptance", "key", "value", "output"):
            expected[f"{block}.att.{name}.weight"] = (c, c)
        expected[f"{block}.ffn.x_k"] = (1, 1, c)
        expected[f"{block}.ffn.key.weight"] = (4 * c, c)
        expected[f"{block}.ffn.value.weight"] = (c, 4 * c)
        norms += [f"{block}.ln1", f"{block}.ln2", f"{block}.att.ln_x"] + ["blocks.0.ln0"] * (
            block == "blocks.0"
        )
    for norm in norms:
        expected |= {f"{norm}.weight": (c,), f"{norm}.bias": (c,)}
    model = RWKV7(n_layer=2, n_embd=c, head_size=16, vocab_size=v)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected


@pytest.mark.parametrize(
    ("n_embd", "ranks"),
    [(32, Ranks(16, 16, 16, 16)), (64, Ranks(32, 32, 32, 32)), (768, Ranks(64, 64, 32, 128))],
)
def test_ranks_follow_the_width(n_embd: int, ranks: Ranks) -> None:
    """At width 768 the ranks are the published 0.1B model's; a tiny model's are half its width."""
    assert Ranks.official(n_embd) == ranks


def test_official_first_values() -> None:
    """Spot checks, computed by hand from the reference, in the middle layer of three with 4 heads of 8."""
    model = initialise(RWKV7(n_layer=3, n_embd=32, head_size=8, vocab_size=128), generator(0))
    block = model.blocks[1]

    def at(name: str, channel: int) -> float:
        return block.get_parameter(name).flatten()[channel].item()

    assert at("att.x_r", 0) == 1
    assert at("att.x_r", 16) == pytest.approx(1 - 0.5 ** (0.2 * 2 / 3))
    assert at("att.x_w", 16) == pytest.approx(1 - 0.5 ** (0.9 * 2 / 3))
    assert at("ffn.x_k", 16) == pytest.approx(1 - 0.5 ** ((2 / 3) ** 4))
    assert at("att.w0", 0) == pytest.approx(-6 + 0.5 - 2.5)  # the first channel of a head: zigzag -1
    assert at("att.w0", 31) == pytest.approx(0 + 0.5 + 2.5)  # the last: zigzag 1
    assert at("att.w0", 10) == pytest.approx(
        -6 + 6 * (10 / 31) ** (1 + 0.5**0.3) + 0.5 - 2.5 * (1.5 / 3.5) ** 2, rel=1e-5
    )
    assert at("att.a0", 0) == pytest.approx(-0.19 - 0.3 - 0.2)
    assert at("att.v0", 31) == pytest.approx(0.73 - 0.2)
    assert at("att.k_k", 0) == pytest.approx(0.71 + 0.05)
    assert at("att.k_a", 5) == pytest.approx(1.02)
    assert at("att.r_k", 5) == pytest.approx(-0.04)
    assert at("att.ln_x.weight", 5) == pytest.approx((2 / 3) ** 0.7)
    for name in ("att.w1", "att.a1", "att.v1", "att.g1", "att.output.weight", "ffn.value.weight"):
        assert not block.get_parameter(name).any()
    assert 0 < model.emb.weight.abs().max() <= 1e-4
    gains = {"att.receptance.weight": 1.0, "att.key.weight": 0.1, "att.value.weight": 1.0, "att.w2": 0.1}
    for name, gain in gains.items():
        matrix = block.get_parameter(name)
        torch.testing.assert_close(matrix @ matrix.T, gain**2 * torch.eye(len(matrix)), atol=1e-5, rtol=0)
    gain = 0.5 * math.sqrt(128 / 32)
    torch.testing.assert_close(model.head.weight.T @ model.head.weight, gain**2 * torch.eye(32))


def test_a_matrix_is_decayed_and_nothing_else() -> None:
    """Weight decay on embedding, head and the blocks' matrices; not on adapters, vectors, norms or gates."""
    model = lively_model()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    future_seed = FutureSeed.from_form(variant({"1": 1.0}, -2.0, alpha_lr=0.3), 2, 16)
    assert future_seed is not None
    groups = parameter_groups(model, future_seed, lr=0.01, weight_decay=0.1)
    members = {g["name"]: [names.get(id(p), "alpha") for p in g["params"]] for g in groups}
    assert sorted(name for group in members.values() for name in group) == sorted([*names.values(), "alpha"])

    matrices = {"receptance", "key", "value", "output"}
    assert all(name.split(".")[-2] in matrices | {"emb", "head"} for name in members["matrices"])
    assert len(members["matrices"]) == 3 * 6 + 2
    assert members["w0"] == [f"blocks.{i}.att.w0" for i in range(3)]
    assert members["alpha"] == ["alpha"]
    settings = {g["name"]: (g["lr"], g["weight_decay"]) for g in groups}
    assert settings == {"matrices": (0.01, 0.1), "w0": (0.02, 0), "others": (0.01, 0), "alpha": (0.3, 0)}


@pytest.mark.parametrize("alpha_lr", [None, 0.0])
def test_fixed_gates_are_in_no_group(alpha_lr: float | None) -> None:
    """Without trained gates the groups are the baseline's."""
    form = {"gate": "none"} if alpha_lr is None else variant({"1": 1.0}, -2.0, alpha_lr=alpha_lr)
    groups = parameter_groups(fresh_model(), FutureSeed.from_form(form, 2, 16), lr=0.01, weight_decay=0.1)
    assert [g["name"] for g in groups] == ["matrices", "w0", "others"]


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({"gate": "input", "weight_lr": 0.2, "bias_lr": 0.1}, {"weight": 0.2, "bias": 0.1}),
        ({"gate": "input", "weight_lr": 0.0, "bias_lr": 0.1}, {"bias": 0.1}),
        (
            {"gate": "input", "weight_lr": 0.2, "bias_lr": 0.1, "alpha_lr": 0.4},
            {"alpha": 0.4, "weight": 0.2, "bias": 0.1},
        ),
        ({"gate": "head", "alpha_head": -3.0, "alpha_head_lr": 0.3}, {"alpha_head": 0.3}),
    ],
    ids=["input", "bias alone", "all three", "multiplied"],
)
def test_each_part_of_a_gate_has_its_own_rate(changes: dict[str, Any], rates: dict[str, float]) -> None:
    """What a gate trains is one group each, undecayed, at its rate; what has no rate is in no group."""
    future_seed = FutureSeed.from_form(variant({"1": 1.0}, -2.0, **changes), 2, 16)
    assert future_seed is not None
    groups = parameter_groups(fresh_model(), future_seed, lr=0.01, weight_decay=0.1)[3:]
    assert {g["name"]: g["lr"] for g in groups} == rates
    for group in groups:
        assert group["weight_decay"] == 0
        (parameter,) = group["params"]
        assert parameter is getattr(future_seed, group["name"])


def test_heads_must_divide_the_width() -> None:
    """A width that is not a number of heads is refused with both numbers."""
    with pytest.raises(ValueError, match="20 and 8"):
        RWKV7(n_layer=1, n_embd=20, head_size=8, vocab_size=5)
