"""Which examples a step trains on, and how examples become one padded array.

Both are pure functions: the examples of a step depend on the order stream, the step and the batch size alone,
so an attempt that goes on after an interruption needs no random state.

Deliberately not here: torch, the task's meaning of a target, the order of evaluation (it is the stored one).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsearch.tasks.prepared import Split

Integers = NDArray[np.int64]

PADDING = 0
"""Token after the end of the shorter examples of a batch. Nothing that an example predicts can see it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """B examples, right-padded to the longest, T tokens, and the K places in them that have a target.

    `positions` index the flattened [B * T] tokens, in ascending order; `targets` are what the logits
    there must give.
    """

    tokens: Integers  # [B, T]
    prompt_len: Integers  # [B]
    positions: Integers  # [K]
    targets: Integers  # [K]

    @property
    def rows(self) -> Integers:
        """The example, 0 .. B - 1, that each target belongs to. [K]"""
        rows: Integers = self.positions // self.tokens.shape[1]
        return rows


class Examples:
    """Splits of prepared data, one after another, as flat arrays in memory, ready to be cut into batches.

    `only_scored` keeps the targets that count for score and loss; otherwise all that are trained.
    """

    def __init__(self, splits: Sequence[Split], only_scored: bool) -> None:
        targets = _joined([split.targets for split in splits])
        if only_scored:
            targets = np.where(_joined([split.scored for split in splits]), targets, -1)
        self._targets = targets
        self._tokens = _joined([split.tokens for split in splits])
        self._prompt_len = _joined([split.prompt_len for split in splits])
        # Of each example, [n]:
        self.num_tokens: Integers = _joined([split.lengths for split in splits])
        offsets = np.concatenate(([0], np.cumsum(self.num_tokens)))
        counted = np.concatenate(([0], np.cumsum(targets >= 0)))
        self.num_targets: Integers = counted[offsets[1:]] - counted[offsets[:-1]]
        self._starts = offsets[:-1]

    def __len__(self) -> int:
        return len(self._starts)

    def longest(self, count: int) -> Integers:
        """The indices of the `count` longest examples, the longest first; fewer if there are fewer."""
        return np.argsort(-self.num_tokens, kind="stable")[:count]

    def dealt(self, indices: Integers, micro_batch: int) -> Integers:
        """The examples of a step in the order in which micro-batches are cut from them: longest first.

        So those of about one length are padded to it together, and the first micro-batch takes the most
        memory. Equally long ones keep their order, and so do all that make one micro-batch.
        """
        if len(indices) <= micro_batch:
            return indices
        return indices[np.argsort(-self.num_tokens[indices], kind="stable")]

    def batches(self, indices: Integers, size: int) -> Iterator[Batch]:
        """The examples `indices` in batches of `size`; the last one may be smaller."""
        return (self.batch(indices[start : start + size]) for start in range(0, len(indices), size))

    def batch(self, indices: Integers) -> Batch:
        """The examples `indices` [B], in that order, padded to the longest of them."""
        lengths = self.num_tokens[indices]
        columns = np.arange(lengths.max())
        inside = columns < lengths[:, None]
        # Places of the padding point at some real token, which is then overwritten.
        places = np.minimum(self._starts[indices][:, None] + columns, len(self._tokens) - 1)
        targets = np.where(inside, self._targets[places], -1).ravel()
        positions = np.flatnonzero(targets >= 0)
        return Batch(
            tokens=np.where(inside, self._tokens[places], PADDING),
            prompt_len=self._prompt_len[indices],
            positions=positions,
            targets=targets[positions],
        )


def _joined(arrays: Sequence[NDArray[Any]]) -> Integers:
    return np.concatenate(arrays).astype(np.int64)


class DataOrder:
    """The training order: all `n` examples in a random order, then all of them in another one, and so on."""

    def __init__(self, stream: int, n: int) -> None:
        self._stream, self._n = stream, n
        self._epoch = -1
        self._permutation: Integers = np.empty(0, dtype=np.int64)

    def step(self, step: int, batch: int) -> Integers:
        """The examples [batch] of optimizer step `step`. A batch may reach into the next epoch."""
        first = step * batch
        return np.array([self._at(place) for place in range(first, first + batch)], dtype=np.int64)

    def _at(self, place: int) -> int:
        epoch, index = divmod(place, self._n)
        if epoch != self._epoch:
            self._epoch, self._permutation = epoch, permutation(self._stream, epoch, self._n)
        return int(self._permutation[index])


def permutation(stream: int, epoch: int, n: int) -> Integers:
    """A random order of 0 .. n - 1, a function of (stream, epoch, n).

    It sorts raw 64-bit words of Philox, because numpy keeps those the same for ever, unlike its shuffles.
    """
    key = hashlib.sha256(f"data order {stream} {epoch}".encode()).digest()[:16]
    words = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(n)
    return np.argsort(words, kind="stable")
