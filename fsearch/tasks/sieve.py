"""From candidates to exactly as many examples as were asked for, with a count of every candidate left out.

Validation first: it gets its documents, training does without them. Repeated examples are left out, and so
is what a filter removed. A shortage explains itself by the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from fsearch.tasks.task import Built, DataShort, Example, Progress

SplitName = Literal["train", "validation"]

PROGRESS_EVERY = 256  # examples


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that a filter removed."""

    reason: str


Candidate = Example | Rejected
Candidates = Callable[[SplitName], Iterable[Candidate]]
Related = Callable[[Example], str]
"""Why a training example may not be used beside the validation examples; "" if it may."""


def unrelated(validation: Sequence[Example]) -> Related:
    """Training examples that share nothing they were made from with a validation example."""
    documents = frozenset(example.document for example in validation)
    taken = documents.union(*(example.sources for example in validation))

    def reason(example: Example) -> str:
        if example.document in taken:
            return "document of the other split"
        return "source of the other split" if not taken.isdisjoint(example.sources) else ""

    return reason


def build(
    label: str,
    wanted: dict[SplitName, int],
    candidates: Candidates,
    *,
    patience: int | None = None,
    related: Callable[[Sequence[Example]], Related] = unrelated,
    progress: Progress | None = None,
) -> Built:
    """`wanted` examples of each split from its candidates, in their order.

    `patience` is how many candidates in a row may fail before an endless supply is given up. Raises
    DataShort, with `label` in its sentence, where there are too few.
    """
    n_train, n_val = wanted["train"], wanted["validation"]

    def collect(split: SplitName, related: Related, already: int) -> tuple[list[Example], dict[str, int]]:
        counts: dict[str, int] = {"candidates": 0}
        examples = []
        for example in islice(sift(candidates(split), related, counts, patience), wanted[split]):
            examples.append(example)
            if progress is not None and len(examples) % PROGRESS_EVERY == 0:
                progress(already + len(examples), n_train + n_val)
        return examples, {**counts, "built": len(examples), "asked for": wanted[split], **_remarks(examples)}

    validation, of_validation = collect("validation", lambda _: "", 0)
    train, of_train = collect("train", related(validation), n_val)
    counts = {"train": of_train, "validation": of_validation}
    short = [
        f"{len(built)} of {asked} {split} examples ({name})"
        for split, built, asked, name in (
            ("training", train, n_train, "n_train"),
            ("validation", validation, n_val, "n_val"),
        )
        if len(built) < asked
    ]
    if short:
        raise DataShort(
            f"{label}: only {' and '.join(short)} could be built. Ask for "
            "no more than were built, or change the arguments so that fewer candidates are left out.",
            counts,
        )
    if progress is not None:
        progress(n_train + n_val, n_train + n_val)
    return Built(train, validation, counts)


def sift(
    candidates: Iterable[Candidate], related: Related, counts: dict[str, int], patience: int | None = None
) -> Iterator[Example]:
    """The candidates that are new and not `related`, until `patience` in a row fail.

    `counts` is updated on the way: "candidates" and one entry for each reason to leave one out.
    """
    seen: set[bytes] = set()
    failed_in_a_row = 0
    for candidate in candidates:
        counts["candidates"] += 1
        if isinstance(candidate, Rejected):
            reason = candidate.reason
        elif not (reason := related(candidate)):
            content = candidate.tokens.tobytes() + candidate.targets.tobytes()
            if content not in seen:
                seen.add(content)
                failed_in_a_row = 0
                yield candidate
                continue
            reason = "repeats another example"
        counts[reason] = counts.get(reason, 0) + 1
        failed_in_a_row += 1
        if failed_in_a_row == patience:
            return


def _remarks(examples: Sequence[Example]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for example in examples:
        for remark in example.remarks:
            counts[remark] = counts.get(remark, 0) + 1
    return counts
