"""protein_ss: the secondary structure of some residues of a protein, one DSSP letter each.

Prompts are those of `fsearch.tasks.protein`. The labels are H (alpha helix), B (bridge), E (strand), G (3-10
helix), I (pi helix), T (turn), S (bend) and ~ (none); guessing scores 1/8. No label is in a prompt, and the
residues are asked for in random order, so that a label says little of the one after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fsearch.tasks.protein import ProteinArguments, ProteinTask, family, letters, packaged_chains
from fsearch.tasks.sieve import Rejected, SplitName
from fsearch.tasks.sources import Row, Rows, Sources
from fsearch.tasks.table import part_of, with_columns
from fsearch.tasks.task import Answered, Example, Int32Array
from fsearch.tasks.text import Draft, Part

REPO = "lamm-mit/protein_secondary_structure_from_PDB"
COLUMNS = ("Sequence", "Secondary_structure")
VALIDATION_SHARE = 0.2

LABELS = "HBEGITS~"
STATES = np.array([0, 1, 1, 0, 0, 2, 2, 2])
"""Label -> helix, strand or coil: the three states of Q3."""

TITLE = f"Secondary structure of residues of a protein, one of {LABELS} each."


class ProteinSsArguments(ProteinArguments):
    """The secondary structure of some residues of a protein."""

    figures = ("q8", "q3", "f1_macro")

    source: Literal["hub", "offline"] = "hub"
    """The data set at the hub, or the table of 256 chains that comes with fsearch."""

    n_train: int = Field(1600, ge=1, le=10_000_000)
    """Training examples."""

    n_val: int = Field(320, ge=2, le=1_000_000)
    """Validation examples, split into a screen half and a confirm half by chain."""

    num_queries: int = Field(48, ge=1, le=100_000)
    """Residues that are asked for."""

    query_region: Literal["random", "prefix", "suffix"] = "random"
    """Which residues are asked for: any, the first ones, or the last ones."""

    @property
    def download(self) -> str | None:
        return REPO if self.source == "hub" else None

    @model_validator(mode="after")
    def _queries_fit(self) -> ProteinSsArguments:
        if self.num_queries > self.min_seq_len:
            raise ValueError(
                f"num_queries is {self.num_queries}, but a chain may have only {self.min_seq_len} residues "
                "(min_seq_len)"
            )
        return self


class ProteinSs(ProteinTask[ProteinSsArguments]):
    """See the module's docstring. The answer has num_queries tokens."""

    name = "protein_ss"
    arguments_type = ProteinSsArguments

    @property
    def choice_tokens(self) -> Int32Array:
        return self.encode(Part(LABELS, symbols=True))

    def chains(self, sources: Sources, split: SplitName) -> Rows:
        if self.arguments.source == "offline":
            return packaged_chains(sources, split, *COLUMNS)
        table = with_columns(sources.hub(REPO, None, "train", self.arguments.revision), REPO, *COLUMNS)
        return part_of(table, split, VALIDATION_SHARE, self.sequence)

    def sequence(self, row: Row) -> str:
        return letters(row["Sequence"]).upper()

    def drafts(self, row: Row, rng: np.random.Generator) -> Iterator[Draft | Rejected]:
        yield self._draft(row, rng)

    def chance(self, validation: Sequence[Example]) -> float:
        return 1 / len(LABELS)

    def metrics(self, answered: Sequence[Answered]) -> dict[str, float]:
        """`q8`, `q3` and `f1_<label>` over all residues, each given the most likely of the eight labels.

        f1 = 2 TP / (2 TP + FP + FN), left out for a label that neither occurs nor is given; `f1_macro` is
        the mean of those there are.
        """
        given = np.concatenate([_most_likely(answer) for answer in answered])
        right = self._label_of[
            np.concatenate([answer.example.targets[answer.example.scored] for answer in answered])
        ]
        figures = {
            "q8": float(np.mean(given == right)),
            "q3": float(np.mean(STATES[given] == STATES[right])),
        }
        f1 = {}
        for number, label in enumerate(LABELS):
            hits = np.sum((given == number) & (right == number))
            either = np.sum(given == number) + np.sum(right == number)
            if either:
                f1[f"f1_{label.lower() if label != '~' else 'none'}"] = float(2 * hits / either)
        return {**super().metrics(answered), **figures, **f1, "f1_macro": float(np.mean(list(f1.values())))}

    def _draft(self, row: Row, rng: np.random.Generator) -> Draft | Rejected:
        sequence, labels = self.sequence(row), letters(row["Secondary_structure"])
        if reason := self.refusal(sequence):
            return Rejected(reason)
        if len(labels) != len(sequence):
            return Rejected("sequence and structure of different lengths")
        if not set(labels) <= set(LABELS):
            return Rejected(f"label that is none of {LABELS}")
        crop = self.crop(len(sequence), rng)
        shown, right = sequence[crop], labels[crop]
        places = self._places(len(shown), rng)
        positions = " ".join(str(place + 1) for place in places)
        return Draft(
            self.prompt(TITLE, shown, f"Positions: {positions}", "Labels"),
            Part("".join(right[place] for place in places), symbols=True),
            document=sequence,
            sources=family(row),
        )

    def _places(self, length: int, rng: np.random.Generator) -> list[int]:
        """The residues that are asked for, from 0, in random order.

        Neighbours mostly have one label: asked for along the chain, the answers before it would tell a label.
        """
        n = self.arguments.num_queries
        first = {"random": 0, "prefix": 0, "suffix": length - n}[self.arguments.query_region]
        among = length if self.arguments.query_region == "random" else n
        places: list[int] = (first + rng.permutation(among)[:n]).tolist()
        return places

    @cached_property
    def _label_of(self) -> NDArray[np.int64]:
        """Token -> place in LABELS; -1 for other tokens."""
        places = np.full(self.vocab_size, -1)
        places[self.choice_tokens] = np.arange(len(LABELS))
        return places


def _most_likely(answer: Answered) -> NDArray[np.int64]:
    """The place in LABELS of every given label: [S]."""
    assert answer.choice_logits is not None
    places: NDArray[np.int64] = answer.choice_logits.argmax(axis=1)
    return places
