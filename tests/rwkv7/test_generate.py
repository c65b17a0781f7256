"""Generation against teacher forcing, and drawing against probabilities worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import chdtrc
from torch import Tensor

from fsearch.rwkv7 import RWKV7, FutureSeed, generate, weights_sha256
from fsearch.rwkv7.fused import token_shift_mix

from .models import BASELINE, VARIANTS, batch, generator, lively_model, lively_seed, variant

VOCAB_SIZE = 64
LENGTHS = [6, 1, 17, 2]  # the portable kernel cuts chunks of 16
PROMPTS = [row[:length].tolist() for row, length in zip(batch(LENGTHS, VOCAB_SIZE), LENGTHS, strict=True)]
TOKENS = 64
FORMS = {
    "baseline": BASELINE,
    **VARIANTS,
    "norm alone": variant({"1": 1.0, "2": 1.0}, 1.0, clip=None),
    "heads of one layer": variant({"2": 0.4}, 1.0, gate="head", norm=False),
    "beyond the model": variant({"3": 1.0}, 2.0),
}
Answers = list[list[int]]

every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


def talkative() -> RWKV7:
    """A model whose answers hardly repeat themselves."""
    return lively_model(4, vocab_size=VOCAB_SIZE)


def overheard(
    model: RWKV7, prompts: Sequence[list[int]], max_tokens: int = TOKENS, **arguments: Any
) -> tuple[Answers, Tensor]:
    """The answers, and the logits [steps, B, V] that they were chosen by."""
    steps: list[Tensor] = []
    handle = model.head.register_forward_hook(lambda module, inputs, output: steps.append(output))
    answers = generate(model, prompts, max_tokens=max_tokens, **arguments)
    handle.remove()
    return answers, torch.stack(steps)


@torch.no_grad()
def forced(
    model: RWKV7, future_seed: FutureSeed | None, prompts: Sequence[list[int]], answers: Answers
) -> Tensor:
    """The logits [TOKENS, B, V] of one pass over prompts and answers, where the answers are predicted."""
    rows = [torch.tensor(prompt + answer) for prompt, answer in zip(prompts, answers, strict=True)]
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    logits = model(tokens, lengths, future_seed)
    places = range(len(prompts))
    return torch.stack([logits[i, lengths[i] - 1 : lengths[i] - 1 + TOKENS] for i in places], 1)


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of a logit, relative to the largest logit of its place."""
    return float(((ours - theirs).abs().amax(-1) / theirs.abs().amax(-1)).max())


@pytest.mark.usefixtures("backend")
@every_form
def test_greedy_answers_are_teacher_forcing_s(form: dict[str, Any]) -> None:
    """64 tokens, each the likeliest after those before it in one pass over all of them."""
    model = talkative()
    future_seed = lively_seed(form)
    answers, logits = overheard(model, PROMPTS, future_seed=future_seed)
    theirs = forced(model, future_seed, PROMPTS, answers)
    assert [len(answer) for answer in answers] == [TOKENS] * len(PROMPTS)
    assert min(len(set(answer)) for answer in answers) > 5  # more than one word over and over
    assert torch.equal(theirs.argmax(-1).T, torch.tensor(answers))
    assert distance(logits, theirs) < 1e-5


@pytest.mark.usefixtures("kernel_library")
@every_form
def test_step_logits_are_teacher_forcing_s_in_double(form: dict[str, Any]) -> None:
    """In float64 nothing is left of the difference, also for drawn tokens."""
    model = talkative().double()
    future_seed = lively_seed(form)
    if future_seed is not None:
        future_seed.double()
    answers, logits = overheard(
        model, PROMPTS, future_seed=future_seed, temperature=1.0, generator=generator(0)
    )
    assert distance(logits, forced(model, future_seed, PROMPTS, answers)) < 1e-12


@pytest.mark.usefixtures("kernel_library")
def test_every_variant_answers_differently() -> None:
    """The comparisons above can tell the variants apart, but for the one that seeds nothing."""
    model = talkative()
    logits = {}
    for name, form in FORMS.items():
        logits[name] = overheard(model, PROMPTS, future_seed=lively_seed(form), max_tokens=1)[1]
    assert torch.equal(logits.pop("beyond the model"), logits["baseline"])
    for name, ours in logits.items():
        for other, theirs in logits.items():
            assert name == other or distance(ours, theirs) > 1e-3


@pytest.mark.usefixtures("kernel_library")
def test_the_token_shift_goes_on_to_the_bit() -> None:
    x, mix = torch.randn(2, 7, 16, generator=generator(0)), torch.rand(1, 1, 16, generator=generator(1))
    whole = token_shift_mix(x, mix)[0].view_as(x)
    for t in range(1, 7):
        assert torch.equal(token_shift_mix(x[:, t:], mix, last=x[:, t - 1])[0], whole[:, t:].flatten(0, 1))


@pytest.mark.usefixtures("kernel_library")
@pytest.mark.parametrize("form", [BASELINE, VARIANTS["head"]], ids=["baseline", "head"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_batch_answers_as_its_prompts_alone(form: dict[str, Any], temperature: float) -> None:
    """The same tokens; only the rounding of the logits depends on the shape of the batch."""
    model = talkative()
    arguments: dict[str, Any] = {"future_seed": lively_seed(form), "temperature": temperature}
    answers, logits = overheard(model, PROMPTS, generator=generator(3), **arguments)
    streams = generator(3)  # a call takes one number a prompt
    for row, prompt in enumerate(PROMPTS):
        alone, alone_logits = overheard(model, [prompt], generator=streams, **arguments)
        assert alone == [answers[row]]
        assert distance(alone_logits[:, 0], logits[:, row]) < 1e-5


@pytest.mark.usefixtures("kernel_library")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_depends_on_no_other(temperature: float) -> None:
    """At equal shapes a row's logits are the same to the bit, whatever the others hold."""
    model = talkative()
    arguments: dict[str, Any] = {"future_seed": lively_seed(VARIANTS["drafts"]), "temperature": temperature}
    answers, logits = overheard(model, PROMPTS, generator=generator(0), **arguments)
    others = [[10], [9, 9, 9], PROMPTS[2], [8, 7]]
    new_answers, new_logits = overheard(model, others, generator=generator(0), **arguments)
    assert new_answers[2] == answers[2]
    assert torch.equal(new_logits[:, 2], logits[:, 2])
    assert new_answers[0] != answers[0] and new_answers[3] != answers[3]


@pytest.mark.usefixtures("kernel_library")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_stop_tokens_end_their_row_alone(temperature: float) -> None:
    """With stop tokens an answer is the one without them up to the first; the others go on as they would."""
    model = talkative()
    answers, logits = overheard(model, PROMPTS, temperature=temperature, generator=generator(1))
    ended = set()
    for stop in ({answers[0][3]}, {answers[1][0], answers[2][20]}, set(range(50)), set(range(VOCAB_SIZE))):
        stopped, new_logits = overheard(
            model, PROMPTS, stop=stop, temperature=temperature, generator=generator(1)
        )
        ends = [next((t for t, word in enumerate(a) if word in stop), TOKENS) for a in answers]
        assert stopped == [answer[:end] for answer, end in zip(answers, ends, strict=True)]
        steps = min(TOKENS, max(ends) + 1)  # nothing runs after the last row's end
        assert torch.equal(new_logits, logits[:steps])
        ended.update(ends)
    assert len(ended) > 3  # rows did end, at different times


# Words 0 to 3 with probabilities that are in no order.
WORDS = np.array([0.15, 0.5, 0.1, 0.25])
WARMER = np.sqrt(WORDS)  # not yet normalised: exp(log(p) / 2)


def die() -> RWKV7:
    """A model that predicts WORDS, whatever it reads."""
    model = RWKV7(1, 8, 8, 4)
    with torch.no_grad():
        model.ln_out.weight.zero_()
        model.ln_out.bias[0] = 1.0
        model.head.weight[:, 0] = torch.tensor(WORDS).log()
    return model


def p_value(counts: np.ndarray, weights: np.ndarray) -> float:
    """Pearson's test that the counts come from probabilities in proportion to the weights, all positive."""
    expected = counts.sum() * weights / weights.sum()
    return float(chdtrc(counts.size - 1, ((counts - expected) ** 2 / expected).sum()))


@pytest.mark.usefixtures("kernel_library")
@pytest.mark.parametrize(
    ("temperature", "top_p", "weights"),
    [
        (1.0, 1.0, WORDS),
        (0.5, 1.0, WORDS**2),
        (2.0, 1.0, WARMER),
        (1.0, 0.4, WORDS * [0, 1, 0, 0]),
        (1.0, 0.7, WORDS * [0, 1, 0, 1]),
        (1.0, 0.8, WORDS * [1, 1, 0, 1]),
        (2.0, 0.7, WARMER * [1, 1, 0, 1]),  # .370 + .262 do not reach .7: the temperature comes first
        (0.5, 0.7, WORDS * [0, 1, 0, 0]),  # .725
        (1e-300, 1.0, WORDS * [0, 1, 0, 0]),
        (1.0, 1e-300, WORDS * [0, 1, 0, 0]),
    ],
)
def test_words_are_drawn_with_their_probabilities(temperature: float, top_p: float, weights: Any) -> None:
    """The words drawn are exactly those of positive weight, in proportion to it and independently."""
    answers = np.array(
        generate(
            die(),
            [[0]] * 500,
            max_tokens=20,
            temperature=temperature,
            top_p=top_p,
            generator=generator(0),
        )
    )
    counts = np.bincount(answers.ravel(), minlength=4)
    assert ((counts > 0) == (weights > 0)).all()
    drawn = np.flatnonzero(weights)
    if len(drawn) > 1:
        assert p_value(counts[drawn], weights[drawn]) > 0.01
        in_time = np.bincount(answers[:, :-1:2].ravel() * 4 + answers[:, 1::2].ravel(), minlength=16)
        in_rows = np.bincount(answers[::2].ravel() * 4 + answers[1::2].ravel(), minlength=16)
        both = np.outer(weights, weights).ravel()
        for pairs in (in_time, in_rows):
            assert p_value(pairs[both > 0], both[both > 0]) > 0.01


@pytest.mark.usefixtures("kernel_library")
def test_the_generator_decides() -> None:
    """Equal generators draw equal answers; longer answers begin as shorter; every row has its own stream."""
    arguments: dict[str, Any] = {"temperature": 1.0, "top_p": 0.9}
    model, same = talkative(), [PROMPTS[0]] * 5

    def draw(seed: int, prompts: list[list[int]], max_tokens: int = 40) -> Answers:
        return generate(model, prompts, max_tokens=max_tokens, generator=generator(seed), **arguments)

    first = draw(0, same)
    assert draw(0, same) == first
    assert draw(1, same) != first
    assert draw(0, same, 7) == [answer[:7] for answer in first]
    assert all(a != b for a, b in pairwise(first))
    source = generator(0)
    once, again = (generate(model, same, max_tokens=9, generator=source, **arguments) for _ in range(2))
    assert once != again
    before = torch.get_rng_state()
    draw(0, same, 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("kernel_library")
def test_prompts_may_be_tensors() -> None:
    model = talkative()
    tensors = [torch.tensor(prompt, dtype=torch.int32) for prompt in PROMPTS]
    assert generate(model, tensors, max_tokens=5) == generate(model, PROMPTS, max_tokens=5)


@pytest.mark.usefixtures("kernel_library")
def test_the_model_is_left_as_it_is() -> None:
    model = talkative()
    before = weights_sha256(model)
    for training in (True, False):
        model.train(training)
        _, logits = overheard(model, PROMPTS, max_tokens=3)
        assert model.training == training and torch.is_grad_enabled()
        assert not logits.requires_grad
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert weights_sha256(model) == before


def test_nothing_asked_for_is_nothing_given() -> None:
    model = talkative()
    assert generate(model, PROMPTS, max_tokens=0) == [[]] * len(PROMPTS)
    assert generate(model, [], max_tokens=3) == []


@pytest.mark.parametrize(
    ("prompts", "error", "words"),
    [
        ([[1], []], ValueError, "Prompt 1 is empty"),
        ([1, 2], ValueError, r"Prompt 0 must be one row of token ids, but has the shape \[\]"),
        ([[[1, 2]]], ValueError, r"has the shape \[1, 2\]"),
        ([[1.0]], TypeError, "must be integers, not torch.float32"),
        ([[True]], TypeError, "must be integers, not torch.bool"),
        ([[1, 64]], ValueError, "holds token 64, but the model's tokens are 0 to 63"),
        ([[1, -1]], ValueError, "holds token -1"),
    ],
)
def test_prompts_that_are_refused(prompts: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        generate(talkative(), prompts, max_tokens=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"temperature": -0.5}, "temperature is -0.5"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": 1.0}, "needs a torch.Generator"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"stop": {0, 64}}, "Stop token 64 does not exist"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        generate(talkative(), PROMPTS, **{"max_tokens": 1} | arguments)


def test_a_broken_model_is_not_listened_to() -> None:
    model = talkative()
    with torch.no_grad():
        model.emb.weight[PROMPTS[1][0]] = math.nan
    with pytest.raises(ValueError, match=r"Prompt \d has logits that are not finite after 0 tokens"):
        generate(model, PROMPTS, max_tokens=1)
