"""Batches: the right examples in the right order, padded without anything lost or added."""

from __future__ import annotations

import numpy as np
import pytest

from fsearch.train.batches import PADDING, DataOrder, Examples, permutation
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
