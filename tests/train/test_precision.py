"""bf16: what is bf16 and what stays float32, and that such a training learns, repeats and resumes."""

from __future__ import annotations

import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fsearch.train.batches import Batch
from fsearch.train.network import Network
from fsearch.train.optimization import Optimization
from fsearch.train.recipe import Recipe
from tests.train.conftest import MakeJob
from tests.train.processes import ZygoteProcess, numbers
from tests.train.test_attempt import stop_in_the_middle

BF16 = {"precision": "bf16"}
LOW, FULL = torch.bfloat16, torch.float32


class Operators(TorchDispatchMode):
    """Remembers the dtypes of the tensors that every operator was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: dict[str, set[tuple[torch.dtype, ...]]] = defaultdict(set)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [x for x in args if isinstance(x, Tensor) and x.is_floating_point()]
        self.dtypes[func.name().split(".")[0]].add(tuple(x.dtype for x in given))
        return func(*args, **(kwargs or {}))


def batch() -> Batch:
    """Two examples of eight tokens, the last two of each trained."""
    tokens = np.random.default_rng(0).integers(10, size=(2, 8))
    return Batch(tokens, np.array([6, 6]), np.array([5, 6, 13, 14]), tokens[:, 6:].ravel())


@pytest.mark.usefixtures("kernel_library")
def test_what_is_bf16_and_what_is_float32(make_job: MakeJob) -> None:
    """Activations and large products are bf16; decay, norms, states, seeds, softmax and everything that
    lasts from step to step are float32."""
    job = make_job(recipe=BF16)
    network = Network.from_job(job, vocab_size=10)
    optimization = Optimization(network, Recipe.from_job(job["recipe"]), 10)
    outputs: dict[str, torch.dtype] = {}

    def note(name: str) -> Any:
        return lambda module, given, out: outputs.update(
            {name: (out[0] if type(out) is tuple else out).dtype}
        )

    for name, module in network.model.named_modules():
        if name:
            module.register_forward_hook(note(name))
    with Operators() as operators:
        hidden = network.hidden_at_targets(batch())
        loss, d_hidden = network.learn_head(hidden, batch(), 4)
    hidden.backward(d_hidden)  # type: ignore[no-untyped-call]
    optimization.update(0, loss)

    assert {f"blocks.{i}{part}" for i in (0, 1) for part in ("", ".att", ".ffn", ".ln1", ".ln2")} < set(
        outputs
    )
    assert {name for name, dtype in outputs.items() if dtype != LOW} == set()
    seen = operators.dtypes
    with_state, without = (
        (LOW, FULL, LOW, LOW, LOW, LOW, FULL),
        (LOW, FULL, LOW, LOW, LOW, LOW),
    )  # r w k v a b s0
    assert seen["fsearch::wkv7_forward"] == {with_state, without}
    assert seen["fsearch::future_seed"] == {(FULL, FULL)}
    assert {given[0] for given in seen["aten::native_layer_norm"]} == {FULL}
    assert seen["fsearch::keys"] == {(LOW, LOW, FULL, FULL)}  # k rate, k_k k_a: normalised in float32 within
    assert seen["fsearch::readout"] == {(*[LOW] * 5, *[FULL] * 3)}  # y r k v gate, r_k weight bias: the same
    assert seen["aten::_log_softmax"] == {(FULL,)}
    assert (LOW, LOW) in seen["aten::mm"] and (FULL, FULL) not in seen["aten::mm"]
    assert loss.dtype == FULL
    lasting = [*network.model.parameters(), *network.state_dict()["future_seed"].values()]
    lasting += [parameter.grad for parameter in network.model.parameters()]
    lasting += [x for state in optimization.state_dict()["state"].values() for x in state.values()]
    assert {x.dtype for x in lasting} == {FULL}


def test_fp32_is_float32_throughout(make_job: MakeJob) -> None:
    """Nothing is cast in fp32, not even to its own precision."""
    network = Network.from_job(make_job(), vocab_size=10)
    with Operators() as operators:
        network.learn(batch(), 4)
    assert "aten::_to_copy" not in operators.dtypes
    assert {dtype for calls in operators.dtypes.values() for call in calls for dtype in call} == {FULL}


def test_a_bf16_training_learns_and_repeats(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """The loss falls as in fp32, and two runs are equal to the digit."""
    fields: dict[str, Any] = {"steps": 120}
    first, second = (shared_zygote.fork(make_job(recipe=BF16, **fields)).finish() for _ in range(2))
    assert numbers(first) == numbers(second)
    full = shared_zygote.fork(make_job(**fields)).finish()
    assert first["first_losses"][0] == pytest.approx(full["first_losses"][0], rel=1e-2)
    assert first["weights_sha256"] != full["weights_sha256"]
    assert first["loss"] < 0.9 * first["first_losses"][0]
    assert first["loss"] == pytest.approx(full["loss"], rel=0.1)


def test_a_bf16_training_goes_on_where_it_was_stopped(
    make_job: MakeJob, shared_zygote: ZygoteProcess, tmp_path: Path
) -> None:
    """The masters are in the checkpoint: resumed, the numbers are those of a straight run."""
    fields: dict[str, Any] = {"steps": 200, "recipe": BF16, "micro_batch": 8}
    expected = shared_zygote.fork(make_job(**fields)).finish()
    fields["checkpoint"] = {"path": str(tmp_path / "checkpoint"), "every_s": 1000.0}
    first = shared_zygote.fork(make_job(**fields))
    stop_in_the_middle(first, signal.SIGTERM, after_step=1)
    assert first.finish()["outcome"] == "interrupted"
    resumed = shared_zygote.fork(make_job(**fields)).finish()
    assert 0 < resumed["resumed_from_step"] < 200
    assert numbers(resumed) == numbers(expected)


def test_bf16_accumulation_is_the_same_step(make_job: MakeJob, shared_zygote: ZygoteProcess) -> None:
    """Sums over micro-batches are float32: a batch of 16 in parts of 2 trains as one of 16 does."""
    whole, parts = (
        shared_zygote.fork(make_job(micro_batch=size, steps=12, recipe=BF16)).finish() for size in (16, 2)
    )
    assert parts["first_losses"] == pytest.approx(whole["first_losses"], rel=2e-3)
    assert parts["loss"] == pytest.approx(whole["loss"], rel=5e-3)
