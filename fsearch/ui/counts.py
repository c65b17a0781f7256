"""How many attempts a search takes: at most, before anything ran; and about, from where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fsearch.plan import Search, sort_out
from fsearch.search.board import Board, VariantBoard
from fsearch.search.specs import noise_floor_seeds
from fsearch.ui.rows import Row


@dataclass(frozen=True, slots=True)
class Count:
    """Trained attempts of a search; build, preparation, probes and static no-ops are not counted."""

    done: int
    expected: int  # all of them, at most, as things stand; `done` where it has ended
    running: int
    failed: int
    pruned: int  # variants

    def __add__(self, other: Count) -> Count:
        return Count(
            self.done + other.done,
            self.expected + other.expected,
            self.running + other.running,
            self.failed + other.failed,
            self.pruned + other.pruned,
        )

    @property
    def waiting(self) -> int:
        return max(0, self.expected - self.done - self.running)


NOTHING = Count(0, 0, 0, 0, 0)


def trained_variants(search: Search) -> list[str]:
    """The variants that would be trained: neither static no-ops nor the same as an earlier one.

    All of them while the model's layers are not known.
    """
    if search.n_layer is None:
        return [variant.name for variant in search.variants]
    found = sort_out(search.variants, search.n_layer)
    return [entry.variant.name for entry in found if not (entry.noop or entry.same_as)]


def at_most(search: Search) -> list[int]:
    """Attempts of each stage if every variant survives, baselines included."""
    return _stages(search, [len(trained_variants(search))] * len(search.stages))


def at_least(search: Search) -> list[int]:
    """Attempts of each stage if no variant is promoted; of a plan without a screen, if none is undecided.

    Fewer only where variants turn out to be no-ops, are stopped by a look, or fail.
    """
    sizes = at_most(search)
    if search.screen is not None:
        return [sizes[0], *[1] * (len(sizes) - 2), 0]  # a second screen trains its baseline
    return [search.stages[-1].first_seeds * (len(trained_variants(search)) + 1)]


def count(board: Board, rows: Sequence[Row]) -> Count:
    """Where a search stands, from its board and its rows."""
    trained = [row for row in rows if row.trained and not row.superseded]
    done = sum(row.closed for row in trained)
    return Count(
        done=done,
        expected=done if board.finished else max(done, sum(_expected(board))),
        running=sum(row.attempt.outcome is None for row in trained),
        failed=sum(row.failed for row in rows),
        pruned=sum(entry.exit == "pruned" for entry in board.variants),
    )


def _expected(board: Board) -> list[int]:
    search = board.search
    if not board.variants:
        return at_most(search)
    counted = [entry for entry in board.variants if entry.same_as is None]
    reach = []
    for number in range(len(search.stages)):
        reach.append(sum(_screened(entry) > number or entry.exit is None for entry in counted))
    if board.top_up:
        return _topping_up(board, reach)
    if any(entry.promoted for entry in counted):
        reach[-1] = sum(entry.promoted for entry in counted)
    elif search.screen is not None:
        reach[-1] = sum(entry.exit is None for entry in counted)
    return _stages(search, reach)


def _screened(entry: VariantBoard) -> int:
    """The screening stages that a variant has taken, one that a look ended among them."""
    return len(entry.screens) + (entry.stopped is not None)


def _topping_up(board: Board, variants: list[int]) -> list[int]:
    """Attempts of each stage once it is known which variants get further seeds."""
    stage = board.search.stages[-1]
    sizes = _stages(board.search, variants)[:-1]
    first = stage.first_seeds * (len(board.promoted) + 1)
    return [*sizes, first + (stage.most_seeds - stage.first_seeds) * (len(board.top_up) + 1)]


def _stages(search: Search, variants: list[int]) -> list[int]:
    """Attempts of each stage that `variants` of it reach."""
    sizes = []
    for number, stage in enumerate(search.stages):
        if stage is not search.stages[-1]:
            floor = noise_floor_seeds(search) if number == 0 else ()
            sizes.append(variants[number] + 1 + len(floor))
            continue
        reaching = variants[number]
        if search.screen and search.screen.promote_at_most is not None:
            reaching = min(reaching, search.screen.promote_at_most)
        sizes.append(stage.most_seeds * (reaching + 1) if reaching else 0)
    return sizes
