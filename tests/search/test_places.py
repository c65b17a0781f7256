"""Many places: whatever ends first and whichever machine is lost, the findings are those of one place."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsearch.plan import expand
from fsearch.search.ahead import next_preparation
from fsearch.search.board import Note, Record, Run, Wait
from fsearch.search.expected import expected_next
from fsearch.search.next_step import Done, Standing, next_step, next_steps
from fsearch.search.rows import AHEAD, AttemptSpec

from .builders import LOST, Answer, World, plan_of, row, scores
from .test_every_history import fate, findings, plans

NODE_LOST = Answer("interrupted", None, "its node was lost", LOST)


@dataclass
class Cluster(World):
    """A world with places on several nodes, in which the running attempts end in an order drawn by chance."""

    nodes: dict[str, int] = field(default_factory=lambda: {"a": 2, "b": 2})
    lose: frozenset[int] = frozenset()  # after so many ends, the node with most work is lost, and comes back
    seed: int = 0
    busy: list[tuple[Run, str]] = field(default_factory=list)
    most: int = 0  # attempts that ran at once
    known: Record = field(default_factory=Record)

    def run(self, at_most: int = 4000) -> Standing:
        """To the end of the plan."""
        chance, ends = random.Random(self.seed), 0
        for _ in range(at_most):
            if preparation := self._preparation():
                self.attempt(preparation)
                self._take_in()
                continue
            here = Counter(run.node for run, _ in self.busy)
            free = {node: places - here[node] for node, places in self.nodes.items()}
            steps: Any = Wait(None, "no place is free")
            if any(free.values()):
                steps = next_steps(self.plan, self.facts, self.known, self.now_s, free)
            if isinstance(steps, Done) and not self.busy:
                return steps.standing
            if isinstance(steps, Note):
                self.write(steps.spec, 1, Answer(steps.outcome, None, steps.reason), steps.fingerprint)
                self._take_in()
            elif isinstance(steps, Wait | Done):  # a search that fails may leave a seed that still runs
                if self.busy:
                    ends += 1
                    self._end(chance.randrange(len(self.busy)), lost=ends in self.lose)
                else:
                    assert (
                        isinstance(steps, Wait) and steps.until_s is not None and steps.until_s > self.now_s
                    )
                    self.now_s = steps.until_s
            else:
                assert 0 < len(steps) <= sum(free.values())
                for step in steps:
                    self._begin(step)
        raise AssertionError(f"the plan has not ended after {at_most} rounds")

    def _preparation(self) -> Run | None:
        now = ([self.plan], self.facts, self.known, self.now_s)
        return next_preparation(*now, downloads=False) or next_preparation(*now, downloads=True)

    def _take_in(self) -> None:
        self.known.add(self.rows[-1])

    def _begin(self, run: Run) -> None:
        assert all(run.spec.id != other.spec.id for other, _ in self.busy), "it runs twice at once"
        baseline = run.noop_reference
        if baseline is not None and baseline.node in self.nodes:
            assert run.node == baseline.node
        screens = [other.spec.search_key for other, _ in self.busy if other.spec.role in ("probe", "screen")]
        assert run.spec.role in AHEAD or run.spec.search_key not in screens, "two of a serial search run"
        fingerprint = self.fingerprint(run.spec)
        self.busy.append((run, fingerprint))
        self.most = max(self.most, len(self.busy))
        begun = {"try_number": run.try_number, "sequence": 10**6 + len(self.rows), "fingerprint": fingerprint}
        self.known.add(row(run.spec, None, daemon=f"d{self.daemon}", **begun))

    def _end(self, index: int, *, lost: bool) -> None:
        if lost:
            node = Counter(run.node for run, _ in self.busy).most_common(1)[0][0]
            gone = [pair for pair in self.busy if pair[0].node == node]
            self.busy = [pair for pair in self.busy if pair[0].node != node]
            self.nodes = {**{one: n for one, n in self.nodes.items() if one != node}, f"{node}'": 1}
            for run, fingerprint in gone:
                self.write(run.spec, run.try_number, NODE_LOST, fingerprint)
                self._take_in()
            return
        run, fingerprint = self.busy.pop(index)
        self.attempt(run)
        node = {"node": run.node} if run.spec.role not in AHEAD else {}
        self.rows[-1] = replace(self.rows[-1], fingerprints=node)
        self._take_in()


@dataclass
class Expecting(Cluster):
    """The same, in which every end is expected, and what came then is compared with what was said before."""

    right: int = 0

    def _end(self, index: int, *, lost: bool) -> None:
        run, fingerprint = self.busy[index]
        running = replace(self.known.tries(run.spec.id, fingerprint)[-1], fingerprints={"node": run.node})
        expected = expected_next([self.plan], self.facts, self.known, running, self.nodes, self.now_s)
        super()._end(index, lost=lost)
        if expected is not None:
            free = {**dict.fromkeys(self.nodes, 0), run.node: 1}
            (came,) = next_steps(self.plan, self.facts, self.known, self.now_s, free)
            assert (came.spec, came.try_number, came.node) == (
                expected.spec,
                expected.try_number,
                expected.node,
            )
            self.right += 1


def kept(spec: AttemptSpec, number: int) -> Answer:
    """Every variant is better than its baseline."""
    return Answer(score=0.25 if spec.variant == "no_fs" else 0.75, screen_score=0.5)


@pytest.mark.parametrize("seed", range(5))
def test_what_follows_in_a_place_is_known_while_others_run(seed: int) -> None:
    """Where variants are kept, in whatever order attempts end: attempt, try and node."""
    tasks = [{"task": "toy", "level": level, "batch": 4} for level in (0, 1, 2)]
    plan = plan_of(variants=["scalar_l1", "scalar_l2", "head_l1"], tasks=tasks)
    world = Expecting(plan, kept, nodes={"a": 2, "b": 1}, seed=seed)
    assert not any(board.apart for board in world.run().boards)
    assert world.right > len(world.rows) / 3


@settings(max_examples=60, deadline=None)
@given(
    fields=plans(),
    seed=st.integers(0, 999),
    trouble=st.sampled_from([0.0, 0.1, 0.3]),
    nodes=st.dictionaries(st.sampled_from("abc"), st.integers(1, 4), min_size=1),
    lose=st.frozensets(st.integers(1, 30), max_size=3),
)
def test_the_findings_are_those_of_one_place(
    fields: dict[str, Any], seed: int, trouble: float, nodes: dict[str, int], lose: frozenset[int]
) -> None:
    """Any plan, any trouble, any places, any order of ends, nodes lost and others in their stead."""
    plan = plan_of(**fields)
    alone = World(plan, answer=fate(seed, trouble), prepared=False)
    among = Cluster(plan, answer=fate(seed, trouble), prepared=False, nodes=nodes, lose=lose, seed=seed)
    assert findings(among.run()) == findings(alone.run(4000))


def test_seeds_of_one_confirmation_and_searches_run_side_by_side() -> None:
    """Five seeds of one search at once, and two searches; never more than there are places."""
    confirming = Cluster(plan_of(stages=[{"name": "only", "steps": 20, "seeds": 5}]), nodes={"a": 8})
    confirming.run()
    assert confirming.most == 5
    one_seed = [{"name": "quick", "steps": 20}, {"name": "medium", "steps": 60, "seeds": 3}]
    tasks = [{"task": "toy", "level": level, "batch": 4} for level in range(6)]
    screening = Cluster(plan_of(stages=one_seed, tasks=tasks), nodes={"a": 3, "b": 1})  # all is pruned
    screening.run()
    assert screening.most == 4


def test_one_place_gives_the_order_of_one_step_after_another() -> None:
    """The steps for one free place are those of `next_step`, attempt by attempt."""
    plan = plan_of(variants=["scalar_l1", "head_l1"], tasks=[{"task": "toy", "batch": [1, 2]}])
    world = World(plan, answer=scores({("quick", "scalar_l1", 0): 0.6, ("quick", "head_l1", 0): 0.7}))
    while not isinstance(step := next_step(plan, world.facts, world.record, world.now_s), Done):
        assert next_steps(plan, world.facts, world.record, world.now_s, {"": 1}) == (step,)
        world.step()
    assert len(world.rows) == 18


def test_a_pair_of_two_machines_is_marked() -> None:
    """A baseline whose node is lost is still compared with, and the board names the pair."""
    plan = plan_of(stages=[{"name": "only", "steps": 20, "seeds": 3}])
    kept = Cluster(plan, nodes={"a": 1})
    assert not any(board.apart for board in kept.run().boards)
    lost = Cluster(plan, nodes={"a": 1}, lose=frozenset([3]))  # after the probe and the first baseline
    (board,) = lost.run().boards
    assert [(one.node, two.node) for one, two in board.apart] == [("a'", "a")]


def test_a_variant_waits_for_the_node_of_its_baseline() -> None:
    """While another search takes the free place of another node."""
    plan = plan_of(tasks=[{"task": "toy", "level": level, "batch": 4} for level in (0, 1)])
    world = World(plan)
    for _ in range(2):
        world.step()  # the probe and the quick baseline of the first search
    world.rows[-1] = replace(world.rows[-1], fingerprints={"node": "a"})
    steps = next_steps(plan, world.facts, world.record, world.now_s, {"a": 0, "b": 2})
    assert isinstance(steps, tuple)
    other = expand(plan)[1].label
    assert [(step.spec.search, step.spec.role, step.node) for step in steps] == [(other, "probe", "b")]
