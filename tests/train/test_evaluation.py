"""Evaluation: equal to a plain recomputation, whatever the grouping."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fsearch.rwkv7 import RWKV7, FutureSeed
from fsearch.train.batches import Examples
from fsearch.train.evaluate import Scores, evaluate
from fsearch.train.network import Network
from tests.train.variable_split import VOCAB_SIZE, variable_split


@pytest.fixture(scope="module")
def network() -> Network:
    """A network in which everything has an influence: all parameters random, Future-Seed wide open."""
    torch.set_num_threads(1)
    model = RWKV7(n_layer=2, n_embd=16, head_size=8, vocab_size=VOCAB_SIZE)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    return Network(model, FutureSeed({1: 1.0}, n_gate=1, alpha=3.0, norm=False, detach=False, clip=None))


CHOICES = np.array([7, 0, 12], np.int32)


def plainly(network: Network) -> Scores:
    """The same figures one example at a time: no padding, all logits, log-softmax in float64 by hand."""
    split = variable_split()
    correct, total, loss = [], [], []
    predicted, choice_logits = [], []
    for i in range(len(split)):
        example = split.example(i)
        tokens = torch.from_numpy(example.tokens.astype(np.int64))[None]
        with torch.no_grad():
            logits = network.model(tokens, torch.tensor([example.prompt_len]), network.future_seed)[0]
        z = logits.double().numpy()
        log_p = z - z.max(1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
        places = np.flatnonzero(example.scored)
        wanted = example.targets[places]
        correct.append((z[places].argmax(1) == wanted).sum())
        total.append(len(places))
        loss.append(-log_p[places, wanted].sum())
        predicted += z[places].argmax(1).tolist()
        choice_logits += z[places][:, CHOICES].tolist()
    return Scores(
        correct=np.array(correct, np.int32),
        total=np.array(total, np.int32),
        loss=np.array(loss),
        predicted=np.array(predicted, np.int32),
        choice_logits=np.array(choice_logits, np.float32),
    )


@pytest.mark.parametrize("batch_size", [1, 4, 7, 1000])
def test_evaluation_equals_a_plain_recomputation(network: Network, batch_size: int) -> None:
    """Per example and over all: right tokens exactly, losses to rounding, for every grouping."""
    examples = Examples([variable_split()], only_scored=True)
    calls: list[None] = []
    got = evaluate(
        network,
        examples,
        np.arange(len(examples)),
        batch_size,
        before_batch=lambda: calls.append(None),
        choice_tokens=CHOICES,
    )
    plain = plainly(network)
    assert got.correct.tolist() == plain.correct.tolist()
    assert got.total.tolist() == plain.total.tolist()
    assert got.loss == pytest.approx(plain.loss, rel=1e-5)
    assert got.score == pytest.approx((plain.correct / plain.total).mean(), abs=1e-15)
    assert got.score != pytest.approx(got.acc_pooled, abs=1e-4)
    assert got.mean_loss == pytest.approx(plain.loss.sum() / plain.total.sum(), rel=1e-6)
    assert len(calls) == -(-len(examples) // batch_size)
    assert (got.predicted.dtype, got.predicted.tolist()) == (np.int32, plain.predicted.tolist())
    assert got.choice_logits is not None and got.choice_logits.dtype == np.float32
    assert got.choice_logits.shape == (len(plain.predicted), len(CHOICES))
    assert got.choice_logits == pytest.approx(plain.choice_logits, rel=1e-4, abs=1e-5)


def test_no_logits_are_kept_that_nobody_asked_for(network: Network) -> None:
    """Without choice tokens there are none, and all else is the same to the bit."""
    examples = Examples([variable_split()], only_scored=True)
    chosen, plain = (
        evaluate(network, examples, np.arange(len(examples)), 7, lambda: None, choice_tokens)
        for choice_tokens in (CHOICES, None)
    )
    assert plain.choice_logits is None
    for name in ("correct", "total", "loss", "predicted"):
        assert getattr(plain, name).tobytes() == getattr(chosen, name).tobytes(), name


def test_a_loss_that_is_no_number_is_not_averaged_away() -> None:
    """One infinite or undefined loss makes the mean loss undefined, and no exception."""
    for bad in (np.inf, -np.inf, np.nan):
        ones = np.ones(2, np.int32)
        scores = Scores(ones, ones, np.array([bad, 1.0]), predicted=ones, choice_logits=None)
        assert np.isnan(scores.mean_loss)
