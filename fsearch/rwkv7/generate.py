"""Generation: the prompts in one pass, then the answers token by token from the states the prompts left.

The first pass is the one of training: Future-Seed starts its layers there, and every layer's state is
captured at the end of each row's own prompt. From then on each layer goes on from what it carries, so every
token of an answer is the one that teacher forcing on that answer predicts.

A row that has met a stop token runs on unheard: dropping it would change the shape of the batch, and with
that the rounding of the other rows. So what a row gives depends on the number of prompts and the length of
the longest, but not on what the other rows hold or when they end.

Shapes: B prompts, T tokens in the longest, V words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fsearch.rwkv7.future_seed import FutureSeed
from fsearch.rwkv7.model import RWKV7, LayerState


@torch.no_grad()
def generate(
    model: RWKV7,
    prompts: Sequence[Sequence[int] | Tensor],
    *,
    max_tokens: int,
    future_seed: FutureSeed | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    stop: Collection[int] = (),
    generator: torch.Generator | None = None,
    before_token: Callable[[int], None] = lambda token: None,
) -> list[list[int]]:
    """The answers to some prompts, each without its prompt and without the stop token that ended it.

    An answer is shorter than `max_tokens` only if a stop token ended it.

    Args:
        model: it computes where its weights are and in their dtype, and is left as it is.
        prompts: token ids of each, without padding; lengths may differ. No prompts give no answers.
        future_seed: the one the model was trained with. It acts in the prompts alone.
        temperature: 0 takes the likeliest token, the first of equals. Above 0, tokens are drawn with the
            probabilities softmax(logits / temperature).
        top_p: draw only among the fewest likeliest tokens whose probabilities add up to at least this.
        generator: required if the temperature is above 0. One number is taken from it for each prompt, the
            seed of that row's own stream; one number of the stream decides one token.
        before_token: told of every token, 0 first, before it is generated for all rows; it may raise.

    Raises:
        ValueError: an argument is out of range, a prompt is empty or has the wrong shape, a token is not in
            the vocabulary, or a logit is not finite. TypeError: the tokens of a prompt are not integers.
    """
    _check(max_tokens, temperature, top_p, stop, model.vocab_size)
    streams = _streams(len(prompts), max_tokens, generator) if temperature > 0 else None
    if not prompts:
        return []
    tokens, counts = _right_padded(prompts, model.vocab_size, model.emb.weight.device)

    answers: list[list[int]] = [[] for _ in prompts]
    unfinished = list(range(len(prompts)))
    rows = torch.arange(len(prompts), device=tokens.device)
    carried = [LayerState() for _ in range(model.n_layer)]
    for step in range(max_tokens):
        before_token(step)
        hidden = model.hidden(tokens, counts, future_seed, carried)
        logits = model.head(hidden[rows, counts - 1])
        _check_finite(logits, unfinished, step)
        chosen = logits.argmax(-1) if streams is None else _draw(logits, temperature, top_p, streams[:, step])
        words = chosen.tolist()
        unfinished = [row for row in unfinished if words[row] not in stop]
        for row in unfinished:
            answers[row].append(words[row])
        if not unfinished:
            break
        tokens, counts, future_seed = chosen[:, None], torch.ones_like(counts), None
    return answers


def _streams(n_rows: int, length: int, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers [rows, length], float64 on the CPU. A longer stream begins as a shorter one does."""
    if generator is None:
        raise ValueError("A temperature above 0 draws tokens and needs a torch.Generator to draw with.")
    streams = torch.empty(n_rows, length, dtype=torch.float64)
    for stream in streams:
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        stream.uniform_(generator=torch.Generator().manual_seed(seed))
    return streams


def _draw(logits: Tensor, temperature: float, top_p: float, where: Tensor) -> Tensor:
    """One token a row, [B]: the one that `where` [B], in [0, 1), meets among the likeliest tokens.

    The tokens' probabilities are laid end to end, the likeliest first, up to the one that reaches `top_p`.
    """
    scaled = logits.double()
    scaled = (scaled - scaled.amax(-1, keepdim=True)) / temperature
    probabilities, tokens = F.softmax(scaled, -1).sort(dim=-1, descending=True, stable=True)
    ends = probabilities.cpu().cumsum(-1)  # on a GPU the rounding of a running sum is left to chance
    starts = F.pad(ends, (1, -1))
    last = (starts < top_p).sum(-1, keepdim=True) - 1
    met = torch.searchsorted(ends, where[:, None] * ends.gather(-1, last), right=True)
    drawn: Tensor = tokens.gather(-1, torch.minimum(met, last).to(tokens.device))[:, 0]
    return drawn


def _right_padded(
    prompts: Sequence[Sequence[int] | Tensor], vocab_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Tokens [B, T], padded with zeros, and each prompt's number of tokens [B], both int64."""
    rows = []
    for i, prompt in enumerate(prompts):
        row = torch.as_tensor(prompt)
        if row.dim() != 1:
            raise ValueError(f"Prompt {i} must be one row of token ids, but has the shape {list(row.shape)}.")
        if len(row) == 0:
            raise ValueError(f"Prompt {i} is empty; the model needs at least one token to go on from.")
        if row.is_floating_point() or row.is_complex() or row.dtype == torch.bool:
            raise TypeError(f"The token ids of prompt {i} must be integers, not {row.dtype}.")
        low, high = int(row.min()), int(row.max())
        if low < 0 or high >= vocab_size:
            raise ValueError(
                f"Prompt {i} holds token {low if low < 0 else high}, but the model's tokens are 0 to "
                f"{vocab_size - 1}; were model and tokenizer made for each other?"
            )
        rows.append(row.to(device, torch.int64))
    counts = torch.tensor([len(row) for row in rows], device=device)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), counts


def _check(max_tokens: int, temperature: float, top_p: float, stop: Collection[int], vocab_size: int) -> None:
    if max_tokens < 0:
        raise ValueError(f"max_tokens is {max_tokens}, but must not be negative.")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}, but must be 0 (the likeliest token) or positive.")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}, but must be above 0 and at most 1 (all tokens).")
    unknown = sorted(token for token in stop if not 0 <= token < vocab_size)
    if unknown:
        raise ValueError(f"Stop token {unknown[0]} does not exist; the model's are 0 to {vocab_size - 1}.")


def _check_finite(logits: Tensor, rows: list[int], step: int) -> None:
    finite = logits.isfinite().all(-1).tolist()
    for row in rows:
        if not finite[row]:
            raise ValueError(
                f"Prompt {row} has logits that are not finite after {step} tokens of its answer; the weights "
                "are broken, or their training diverged."
            )
