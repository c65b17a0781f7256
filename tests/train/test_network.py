"""The head and its loss, in one chunk and in many: the same numbers, never more than a chunk of logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fsearch.train import network as module
from fsearch.train.batches import Batch, Examples
from fsearch.train.evaluate import evaluate
from fsearch.train.network import Network
from tests.train.conftest import MakeJob
from tests.train.variable_split import VOCAB_SIZE, variable_split

EXAMPLES = Examples([variable_split()], only_scored=False)


def batch() -> Batch:
    """Eleven examples of many lengths."""
    return EXAMPLES.batch(np.arange(11))


def network_of(make_job: MakeJob, precision: str) -> Network:
    """A small network in which everything has an influence."""
    torch.set_num_threads(1)
    network = Network.from_job(make_job(recipe={"precision": precision}), VOCAB_SIZE)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.model.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return network


def gradients(network: Network) -> dict[str, Tensor]:
    """Those of every parameter, by name, which are then forgotten."""
    assert network.future_seed is not None
    both = [*network.model.named_parameters(), *network.future_seed.named_parameters()]
    found = {name: parameter.grad for name, parameter in both if parameter.grad is not None}
    for _, parameter in both:
        parameter.grad = None
    return found


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers how many rows of VOCAB_SIZE words any operator has made, matrices of C by V apart."""

    def __init__(self, n_embd: int) -> None:
        super().__init__()
        self.n_embd, self.rows = n_embd, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        rows_of_words = isinstance(out, Tensor) and out.dim() == 2 and out.shape[1] == VOCAB_SIZE
        if rows_of_words and out.shape[0] != self.n_embd:
            self.rows = max(self.rows, out.shape[0])
        return out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_chunk_is_plain_cross_entropy(make_job: MakeJob, precision: str) -> None:
    """Loss and every gradient are to the bit those of all logits at once, left to autograd."""
    network, trained = network_of(make_job, precision), 97
    loss = network.learn(batch(), trained)
    ours = gradients(network)
    logits = network.model.head(network.hidden_at_targets(batch())).float()
    plain = F.cross_entropy(logits, torch.from_numpy(batch().targets), reduction="sum") / trained
    plain.backward()  # type: ignore[no-untyped-call]
    assert torch.equal(loss, plain.detach())
    theirs = gradients(network)
    assert ours.keys() == theirs.keys() and "alpha" in ours
    for name, gradient in ours.items():
        assert torch.equal(gradient, theirs[name]), name


@pytest.mark.parametrize(("precision", "rounding"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_many_chunks(
    make_job: MakeJob, precision: str, rounding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks of five rows the loss and the gradients are the same to rounding, twice the same to the bit,
    and no operator ever makes logits of more than five."""
    network = network_of(make_job, precision)
    whole, at_once = network.learn(batch(), 97), gradients(network)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 5 * VOCAB_SIZE + 3)
    with Largest(network.model.n_embd) as largest:
        loss = network.learn(batch(), 97)
    assert largest.rows == 5 < len(batch().targets)
    in_chunks = gradients(network)
    torch.testing.assert_close(loss, whole, rtol=1e-6, atol=0)
    for name, gradient in in_chunks.items():
        scale = at_once[name].abs().max().item()
        torch.testing.assert_close(gradient, at_once[name], rtol=rounding, atol=rounding * scale)
    assert torch.equal(network.learn(batch(), 97), loss)
    again = gradients(network)
    assert all(torch.equal(again[name], gradient) for name, gradient in in_chunks.items())


def test_evaluation_in_chunks(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks of two rows every figure of every example is the same, and no more logits exist."""
    network, indices = network_of(make_job, "fp32"), np.arange(len(EXAMPLES))
    choices = np.array([3, 1], np.int32)
    whole = evaluate(network, EXAMPLES, indices, 8, lambda: None, choices)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 2 * VOCAB_SIZE)
    with Largest(network.model.n_embd) as largest:
        in_chunks = evaluate(network, EXAMPLES, indices, 8, lambda: None, choices)
    assert largest.rows == 2
    assert in_chunks.correct.tolist() == whole.correct.tolist()
    assert in_chunks.predicted.tolist() == whole.predicted.tolist()
    assert in_chunks.loss == pytest.approx(whole.loss, rel=1e-6)
    assert in_chunks.choice_logits == pytest.approx(whole.choice_logits, rel=1e-5, abs=1e-6)
