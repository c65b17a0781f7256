"""protein_contact: which pairs of residues of a protein are in contact, one bit each.

Prompts are those of `fsearch.tasks.protein`, with pairs such as "12-40 3-99" as the question. What can be
learned depends on how the pairs are drawn (`pair_sampling`):

    random     any pairs: about 2 % are in contact, and "never" is right nearly always
    balanced   as many contacts as pos_ratio says; contacts are closer along the chain, and that alone tells
    matched    a contact or, by a fair coin, a pair without contact that has the same separation in the same
               chain: separation tells nothing, and the best constant answer scores 0.5

In balanced and matched every bit is drawn by its own coin, so that the bits before it tell nothing of a bit.
With a fixed number of contacts, counting the answers given so far would score 0.6 (16 of 32).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fsearch.tasks.protein import ProteinArguments, ProteinTask, family, letters, packaged_chains
from fsearch.tasks.sieve import Rejected, SplitName
from fsearch.tasks.sources import Row, Rows, Sources
from fsearch.tasks.table import with_columns
from fsearch.tasks.task import Answered, BoolArray, Example, Int32Array
from fsearch.tasks.text import Draft, Part

REPOS = {"hub": "heya5/protein_contact_map", "contact_data": "fredzzp/contact_data"}
SPLITS: dict[str, dict[SplitName, str]] = {
    "hub": {"train": "train", "validation": "valid"},
    "contact_data": {"train": "train", "validation": "validation"},
}
COLUMNS = ("seq", "tertiary", "valid_mask")

TITLE = "Pairs of residues of a protein, 1 for contact and 0 for none."

Places = NDArray[np.int64]


class ProteinContactArguments(ProteinArguments):
    """Which pairs of residues of a protein are in contact."""

    shown = ("order", "source", "pair_sampling")
    figures = ("average_precision", "precision_at_l5", "f1_contact")

    source: Literal["hub", "contact_data", "offline"] = "hub"
    """The data set at the hub, another one there with the same chains, or the table of 256 chains that comes
    with fsearch, which has C-alpha where the other two have C-beta."""

    n_train: int = Field(2000, ge=1, le=10_000_000)
    """Training examples."""

    n_val: int = Field(128, ge=2, le=1_000_000)
    """Validation examples, split into a screen half and a confirm half by chain."""

    max_seq_len: int = Field(384, ge=1, le=100_000)
    """Longest sequence in a prompt, in residues: of a longer chain a random stretch is taken."""

    num_pairs: int = Field(32, ge=1, le=100_000)
    """Pairs that are asked for."""

    min_sep: int = Field(8, ge=1, le=100_000)
    """Smallest separation along the chain, in residues."""

    contact_cutoff: float = Field(8.0, gt=0, le=1000)
    """Largest distance of a contact, in Å."""

    pair_sampling: Literal["random", "balanced", "matched"] = "matched"
    """How pairs are drawn: any, a share of pos_ratio contacts, or half contacts and half others of the same
    separations."""

    pos_ratio: float = Field(0.5, gt=0, lt=1)
    """Probability that a pair is a contact, with pair_sampling: balanced."""

    @property
    def download(self) -> str | None:
        return REPOS.get(self.source)

    @model_validator(mode="after")
    def _ratio_is_used(self) -> ProteinContactArguments:
        if self.pos_ratio != 0.5 and self.pair_sampling != "balanced":
            raise ValueError(
                f"pos_ratio is {self.pos_ratio}, but only pair_sampling: balanced uses it, and "
                f"pair_sampling is {self.pair_sampling}"
            )
        return self


class ProteinContact(ProteinTask[ProteinContactArguments]):
    """See the module's docstring. The answer has num_pairs tokens."""

    name = "protein_contact"
    arguments_type = ProteinContactArguments

    @property
    def choice_tokens(self) -> Int32Array:
        return self.encode(Part("01", symbols=True))

    def chains(self, sources: Sources, split: SplitName) -> Rows:
        source = self.arguments.source
        if source == "offline":
            return packaged_chains(sources, split, *COLUMNS)
        table = sources.hub(REPOS[source], None, SPLITS[source][split], self.arguments.revision)
        return with_columns(table, REPOS[source], *COLUMNS)

    def sequence(self, row: Row) -> str:
        return letters(row["seq"]).upper()

    def drafts(self, row: Row, rng: np.random.Generator) -> Iterator[Draft | Rejected]:
        yield self._draft(row, rng)

    def chance(self, validation: Sequence[Example]) -> float:
        return 1 / 2

    def metrics(self, answered: Sequence[Answered]) -> dict[str, float]:
        """`average_precision` and `precision_at_l5`, means over examples, and `f1_contact` over all pairs.

        Pairs are ranked by logit(1) - logit(0). L is the number of residues in the prompt. Average precision
        takes the examples that have both kinds of pairs, the other one those that ask for more than L/5.
        """
        contact = int(self.choice_tokens[1])
        averages, at_l5 = [], []
        hits = either = 0
        for answer in answered:
            example = answer.example
            right = example.targets[example.scored] == contact
            assert answer.choice_logits is not None
            scores = answer.choice_logits[:, 1].astype(np.float64) - answer.choice_logits[:, 0]
            given = scores > 0
            hits += int(np.sum(given & right))
            either += int(np.sum(given) + np.sum(right))
            if right.any() and not right.all():
                averages.append(average_precision(scores, right))
            if len(right) > self.arguments.min_seq_len // 5:
                fifth = max(1, self._length(example) // 5)
                if len(right) > fifth:
                    at_l5.append(precision_at(fifth, scores, right))
        figures = super().metrics(answered)
        if averages:
            figures["average_precision"] = float(np.mean(averages))
        if at_l5:
            figures["precision_at_l5"] = float(np.mean(at_l5))
        if either:
            figures["f1_contact"] = 2 * hits / either
        return figures

    def _draft(self, row: Row, rng: np.random.Generator) -> Draft | Rejected:
        sequence = self.sequence(row)
        if reason := self.refusal(sequence):
            return Rejected(reason)
        try:
            coordinates = np.array(row["tertiary"], np.float64)
        except (TypeError, ValueError):
            return Rejected("coordinates that are not three numbers a residue")
        if coordinates.ndim != 2 or coordinates.shape[1] != 3:
            return Rejected("coordinates that are not three numbers a residue")
        if not len(sequence) == len(coordinates) == len(row["valid_mask"]):
            return Rejected("sequence, coordinates and mask of different lengths")
        valid = np.array(row["valid_mask"], np.bool_)
        if not np.isfinite(coordinates[valid]).all():
            return Rejected("coordinate that is not finite")
        crop = self.crop(len(sequence), rng)
        pairs = self._pairs(coordinates[crop], valid[crop], rng)
        if isinstance(pairs, Rejected):
            return pairs
        first, second, contact = pairs
        asked = " ".join(f"{i + 1}-{j + 1}" for i, j in zip(first.tolist(), second.tolist(), strict=True))
        return Draft(
            self.prompt(TITLE, sequence[crop], f"Pairs: {asked}", "Contacts"),
            Part("".join("01"[bit] for bit in contact.astype(int).tolist()), symbols=True),
            document=sequence,
            sources=family(row),
        )

    def _pairs(
        self, coordinates: NDArray[np.float64], valid: BoolArray, rng: np.random.Generator
    ) -> tuple[Places, Places, BoolArray] | Rejected:
        """First and second residue, from 0, and whether they are in contact: [num_pairs] each."""
        arguments, n = self.arguments, self.arguments.num_pairs
        first, second = np.triu_indices(len(valid), arguments.min_sep)
        seen = valid[first] & valid[second]
        first, second = first[seen], second[seen]
        distances = np.linalg.norm(coordinates[first] - coordinates[second], axis=1)
        contact = distances <= arguments.contact_cutoff
        if arguments.pair_sampling == "random":
            if len(contact) < n:
                return Rejected("fewer pairs than num_pairs")
            chosen = rng.choice(len(contact), n, replace=False)
        else:
            contacts, others = np.flatnonzero(contact), np.flatnonzero(~contact)
            ratio = arguments.pos_ratio
            if arguments.pair_sampling == "matched":
                contacts, others = matched(contacts, others, second - first, n, rng)
                ratio = 0.5
            if min(len(contacts), len(others)) < n:  # however the coins fall
                return Rejected("fewer contacts than num_pairs")
            if arguments.pair_sampling == "balanced":
                contacts, others = (rng.choice(places, n, replace=False) for places in (contacts, others))
            chosen = np.where(rng.random(n) < ratio, contacts, others)
        return first[chosen], second[chosen], contact[chosen]

    def _length(self, example: Example) -> int:
        """Residues of the sequence in the prompt."""
        prompt = self.tokens.decode(example.tokens[: example.prompt_len])
        found = re.search(r"\nSequence: ([A-Z]+)\n", prompt)
        assert found is not None
        return len(found[1])


def matched(
    contacts: Places, others: Places, separation: Places, n: int, rng: np.random.Generator
) -> tuple[Places, Places]:
    """`n` of both, or as many as there are, that have equal separations side by side: [at most n] each.

    `contacts` and `others` are places in `separation`; each is used once at most.
    """
    shuffled = rng.permutation(contacts)
    order = np.argsort(separation[shuffled], kind="stable")
    ranked = separation[shuffled[order]]
    number = np.empty(len(shuffled), np.int64)  # among the contacts of one separation
    number[order] = np.arange(len(ranked)) - np.searchsorted(ranked, ranked, "left")
    available = np.bincount(separation[others], minlength=int(separation.max(initial=0)) + 1)
    chosen = shuffled[number < available[separation[shuffled]]][:n]
    partners = np.empty(len(chosen), np.int64)
    for wanted in np.unique(separation[chosen]):
        alike = separation[chosen] == wanted
        found = others[separation[others] == wanted]
        partners[alike] = rng.choice(found, alike.sum(), replace=False)
    return chosen, partners


def average_precision(scores: NDArray[np.float64], right: BoolArray) -> float:
    """Area under the steps of precision over recall; pairs with one score [S] enter together."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(right[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    recall = hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0) * hits[ends] / (ends + 1)))


def precision_at(k: int, scores: NDArray[np.float64], right: BoolArray) -> float:
    """Expected share of contacts among the `k` highest scores, where ties are broken by chance."""
    threshold = np.sort(scores)[-k]
    above, tied = scores > threshold, scores == threshold
    return float((right[above].sum() + (k - above.sum()) * right[tied].mean()) / k)
