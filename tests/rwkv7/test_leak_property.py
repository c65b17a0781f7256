"""No leak, as a property: batches of every task's examples, any variant of the grammar, to the bit.

One check finds what a run lets through. It is shown to find what is planted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fsearch import kernels
from fsearch.plan import Variant, canonical
from fsearch.rwkv7 import FutureSeed
from fsearch.tasks import create, schemas
from fsearch.tasks.task import Example
from tests.tables import Tables

from .models import BASELINE, VARIANTS, lively_model, lively_seed

N_LAYER, VOCAB = 3, 257
TASKS: list[tuple[str, dict[str, Any]]] = [
    ("infill", {"n_left": 3, "n_masks": 4}),
    ("kv_recall", {"order": "q_after", "n_keys": 5, "n_values": 4, "n_queries": 3}),
    ("kv_recall", {"order": "q_first", "n_keys": 3, "n_values": 4, "n_queries": 2}),
    ("sudoku", {"mask_region": "prefix", "mask_count": 4}),
    ("sudoku", {"mask_region": "suffix", "mask_count": 2}),
    ("retrieval", {"n_pairs": 3}),
    ("name_index", {"n_names": 4}),
    ("middle_match", {"n_names": 5}),
    ("kv_sort", {"n_pairs": 2}),
    ("arc", {}),
    ("hotpot", {"max_prompt_tokens": 600}),
    ("squad", {}),
    ("mbpp", {"max_answer_tokens": 400}),
    ("punctuation", {"source": "squad"}),
    ("protein_ss", {"min_seq_len": 8, "max_seq_len": 24, "num_queries": 3}),
    ("protein_contact", {"min_seq_len": 8, "max_seq_len": 48, "num_pairs": 2}),
    ("sft", {"data": "rajpurkar/squad", "config": "plain_text", "prompt": "{question}", "answer": "{title}"}),
]
Run = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Tokens [B, T], prompt lengths [B] and lengths [B] to logits [B, T, V] and seeds [layers, B, H, N, N]."""


@pytest.fixture(scope="module", autouse=True)
def compiled(kernel_library: Path) -> None:
    """The portable form rounds around other tokens; to the bit there is only the compiled kernel."""
    kernels.use("auto")


@cache
def examples(task: int) -> list[Example]:
    """A few examples of the task of that number."""
    name, arguments = TASKS[task]
    small = {"n_train": 4, "n_val": 2, "tokenizer": "bytes"}
    known = {field: value for field, value in small.items() if field in schemas()[name].model_fields}
    made = create(name, {**arguments, **known})
    assert made.vocab_size <= VOCAB
    return list(made.build(0, Tables()).train)


def test_every_task_is_among_them() -> None:
    """A task that is added is checked too."""
    assert {name for name, _ in TASKS} == set(schemas())


def collated(chosen: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, right-padded, prompt lengths and lengths."""
    lengths = torch.tensor([len(example.tokens) for example in chosen])
    tokens = torch.zeros(len(chosen), int(lengths.max()), dtype=torch.long)
    for row, example in zip(tokens, chosen, strict=True):
        row[: len(example.tokens)] = torch.from_numpy(example.tokens)
    return tokens, torch.tensor([example.prompt_len for example in chosen]), lengths


class Recorder(FutureSeed):
    """A Future-Seed that remembers the seeds it made."""

    seeds: list[Tensor]

    def seed(self, layer: int, captured: Tensor, x: Tensor, prompt_len: Tensor) -> Tensor:
        self.seeds.append(self.make(layer, captured, x, prompt_len))
        return self.seeds[-1]

    def make(self, layer: int, captured: Tensor, x: Tensor, prompt_len: Tensor) -> Tensor:
        return super().seed(layer, captured, x, prompt_len)


def running(form: dict[str, Any], kind: type[Recorder] = Recorder) -> Run:
    """The model as it is, with a Future-Seed of class `kind`."""
    model, future_seed = lively_model(n_layer=N_LAYER, vocab_size=VOCAB), lively_seed(form, kind)

    @torch.no_grad()
    def run(tokens: Tensor, prompt_len: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if future_seed is None:
            return model(tokens), torch.empty(0, len(tokens))
        future_seed.seeds = []
        logits = model(tokens, prompt_len, future_seed)
        assert len(future_seed.seeds) == len(form["layers"])
        return logits, torch.stack(future_seed.seeds)

    return run


def leaks(run: Run, tokens: Tensor, prompt_len: Tensor, lengths: Tensor) -> set[str]:
    """What reaches a logit or a seed that must not know it: "answer", "padding", "row", or none of them."""
    logits, seeds = run(tokens, prompt_len, lengths)
    found = set()

    def change(what: str, places: Tensor, known: Tensor) -> None:
        """Other tokens at `places` [B, T]; the logits before `known` [B] and, where it is not 0, the seeds
        of a row must stay."""
        others = torch.where(places, (tokens + 1) % VOCAB, tokens)
        new_logits, new_seeds = run(others, prompt_len, lengths)
        for b in known.nonzero()[:, 0]:
            same_logits = torch.equal(new_logits[b, : known[b]], logits[b, : known[b]])
            if not same_logits or not torch.equal(new_seeds[:, b], seeds[:, b]):
                found.add(what)

    place = torch.arange(tokens.shape[1])
    for k in range(int((lengths - prompt_len).max())):  # the k-th answer token of every row that has one
        at = prompt_len + k
        places = (place == at[:, None]) & (place < lengths[:, None])
        change("answer", places, torch.minimum(at, lengths))
    change("padding", place >= lengths[:, None], lengths)
    for b in range(len(tokens)):
        others = torch.arange(len(tokens)) != b
        change("row", others[:, None].expand_as(tokens), torch.where(others, 0, tokens.shape[1]))
    return found


@st.composite
def variants(draw: st.DrawFn) -> Variant:
    """Any variant: each gate, the drafts' too, each schedule, each switch."""
    gate = draw(st.sampled_from(["none", "scalar", "head", "input", "drafts"]))
    drafts = {"gate": "head", "compat": "drafts", "alpha_head": draw(st.floats(-3, 3))}
    fields = draw(
        st.fixed_dictionaries(
            {
                "alpha": st.floats(-3, 3),
                "alpha_lr": st.sampled_from([0.0, 0.01]),
                "layer_start": st.integers(0, N_LAYER),
                "scale": st.sampled_from([-1.0, 0.5, 2.0]),
                "schedule": st.sampled_from(["none", "linear", "cosine"]),
                "norm": st.booleans(),
                "detach": st.booleans(),
                "clip": st.sampled_from([None, 0.05, 1.0]),
            }
        )
    )
    gates = drafts if gate == "drafts" else {"gate": gate}
    return Variant.model_validate({"name": "v", **fields, **gates})


chosen_examples = st.lists(
    st.tuples(st.integers(0, len(TASKS) - 1), st.integers(0, 3)), min_size=2, max_size=4
).map(lambda numbers: [examples(task)[number] for task, number in numbers])


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(variant=variants(), chosen=chosen_examples)
def test_nothing_leaks(variant: Variant, chosen: list[Example]) -> None:
    """Answer token t reaches no logit before t and no seed, padding reaches nothing, nor do other rows."""
    assert leaks(running(canonical(variant, N_LAYER)), *collated(chosen)) == set()


@pytest.mark.parametrize("form", [BASELINE, *VARIANTS.values()], ids=["baseline", *VARIANTS])
def test_nothing_leaks_with_all_tasks_in_one_batch(form: dict[str, Any]) -> None:
    """As above, for each kind of variant once."""
    assert leaks(running(form), *collated([examples(task)[0] for task in range(len(TASKS))])) == set()


class AheadOfThePrompt(Recorder):
    """Its gate reads the first answer token in place of the last prompt token."""

    def make(self, layer: int, captured: Tensor, x: Tensor, prompt_len: Tensor) -> Tensor:
        return super().make(layer, captured, x, (prompt_len + 1).clamp_max(x.shape[1]))


class Averaged(Recorder):
    """Gives every row the mean of all seeds."""

    def make(self, layer: int, captured: Tensor, x: Tensor, prompt_len: Tensor) -> Tensor:
        return super().make(layer, captured, x, prompt_len).mean(0, keepdim=True).expand_as(captured)


def after_the_answer(tokens: Tensor, prompt_len: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Takes the seed after the answer."""
    return running(VARIANTS["last"])(tokens, lengths, lengths)


def after_the_padding(tokens: Tensor, prompt_len: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Takes the seed at the end of the padded row."""
    return running(VARIANTS["last"])(tokens, torch.full_like(lengths, tokens.shape[1]), lengths)


@pytest.mark.parametrize(
    ("run", "planted"),
    [
        (after_the_answer, {"answer"}),
        (after_the_padding, {"answer", "padding"}),
        (
            running(VARIANTS["input"], AheadOfThePrompt),
            {"answer", "padding"},
        ),  # padding after all-prompt rows
        (running(VARIANTS["clipped"], Averaged), {"row"}),
    ],
    ids=["seed after the answer", "seed after the padding", "gate on the answer", "seeds averaged"],
)
def test_the_check_finds_what_is_planted(run: Run, planted: set[str]) -> None:
    """Each leak is found, by its name."""
    assert leaks(run, *collated([examples(task)[0] for task in range(len(TASKS))])) == planted
