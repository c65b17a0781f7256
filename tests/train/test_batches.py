"""Batches: the right examples in the right order, padded without anything lost or added."""

from __future__ import annotations

import numpy as np
import pytest

from fsearch.train.batches import PADDING, DataOrder, Examples, Integers, permutation
from tests.train.variable_split import variable_split


def test_an_epoch_is_every_example_once() -> None:
    """The steps of an epoch contain each example exactly once, in another order every epoch."""
    order = DataOrder(stream=7, n=48)
    epochs = [np.concatenate([order.step(step, 16) for step in range(3 * e, 3 * e + 3)]) for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(48))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_needs_no_memory() -> None:
    """A step asked for alone equals the one met on the way, also where it reaches into the next epoch."""
    on_the_way = DataOrder(stream=1 << 62, n=10)
    for step, batch in [(step, 7) for step in range(20)] + [(step, 25) for step in range(4)]:
        alone = DataOrder(stream=1 << 62, n=10).step(step, batch)
        assert on_the_way.step(step, batch).tolist() == alone.tolist()
    assert sorted(np.concatenate([on_the_way.step(step, 7) for step in range(10)])) == sorted(
        [*range(10)] * 7
    )


def test_the_order_is_the_same_for_ever() -> None:
    """Golden values: a recorded search must not change its data order with a new release."""
    assert permutation(0, 0, 8).tolist() == [7, 2, 4, 5, 0, 3, 6, 1]
    assert permutation(123, 4, 8).tolist() != permutation(123, 5, 8).tolist()
    assert permutation(123, 4, 8).tolist() != permutation(124, 4, 8).tolist()


@pytest.mark.parametrize("only_scored", [False, True])
def test_a_batch_holds_its_examples(only_scored: bool) -> None:
    """Tokens, prompt lengths and targets of a padded batch are those of the examples, taken one by one."""
    split = variable_split()
    examples = Examples([split], only_scored)
    indices = np.array([3, 0, len(split) - 1, 3])
    batch = examples.batch(indices)
    columns = batch.tokens.shape[1]
    assert columns == max(len(split.example(int(i)).tokens) for i in indices)
    wanted = []
    for row, index in enumerate(indices):
        example = split.example(int(index))
        assert batch.tokens[row, : len(example.tokens)].tolist() == example.tokens.tolist()
        assert set(batch.tokens[row, len(example.tokens) :]) <= {PADDING}
        assert batch.prompt_len[row] == example.prompt_len
        for t, target in enumerate(example.targets):
            if target >= 0 and (example.scored[t] or not only_scored):
                wanted.append((row * columns + t, int(target), row))
    got = zip(batch.positions.tolist(), batch.targets.tolist(), batch.rows.tolist(), strict=True)
    assert list(got) == wanted
    assert examples.num_targets[indices].sum() == len(wanted)
    assert examples.num_tokens[indices].tolist() == [len(split.example(int(i)).tokens) for i in indices]


def test_micro_batches_are_dealt_by_length() -> None:
    """The same examples, longest first, the earlier one first of equally long ones; in fewer columns than in
    the order of the step. What makes one micro-batch keeps its order."""
    examples = Examples([variable_split(n=64)], only_scored=False)
    indices = permutation(3, 0, 64)[:48]
    dealt = examples.dealt(indices, 8)
    place = {index: at for at, index in enumerate(indices.tolist())}
    wanted = sorted(indices.tolist(), key=lambda index: (-examples.num_tokens[index], place[index]))
    assert dealt.tolist() == wanted

    def columns(order: Integers) -> int:
        return sum(examples.batch(order[at : at + 8]).tokens.shape[1] for at in range(0, 48, 8))

    assert columns(dealt) < columns(indices)
    for micro_batch in (48, 64):
        assert examples.dealt(indices, micro_batch).tolist() == indices.tolist()


def test_equally_long_examples_keep_their_order() -> None:
    """Where lengths are equal, micro-batches are those of the step's own order."""
    split = variable_split(n=6)
    alike = Examples([split] * 4, only_scored=False)
    one_length = np.flatnonzero(alike.num_tokens == alike.num_tokens[0])[::-1].copy()
    assert len(one_length) >= 4
    assert alike.dealt(one_length, 2).tolist() == one_length.tolist()


def test_the_longest_examples() -> None:
    """A probe gets the longest examples there are, all of them if it asks for more."""
    examples = Examples([variable_split()], only_scored=False)
    lengths = examples.num_tokens
    assert lengths[examples.longest(5)].tolist() == sorted(lengths.tolist(), reverse=True)[:5]
    assert sorted(examples.longest(10_000)) == list(range(len(examples)))


def test_two_splits_follow_each_other() -> None:
    """Examples of two splits are those of the first, then those of the second."""
    first, second = variable_split(seed=1, n=5), variable_split(seed=2, n=4)
    both = Examples([first, second], only_scored=True)
    assert len(both) == 9
    joined, alone = both.batch(np.arange(5, 9)), Examples([second], only_scored=True).batch(np.arange(4))
    assert joined.tokens.tolist() == alone.tokens.tolist()
    assert joined.targets.tolist() == alone.targets.tolist()
