"""Whatever happens to attempts and daemons, the protocol ends, repeats nothing and says the same."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fsearch.search.board import Board, Difference, VariantBoard, differences
from fsearch.search.next_step import Standing, standing_of
from fsearch.search.outcomes import CLASSES
from fsearch.search.rows import AHEAD, Attempt, AttemptSpec
from fsearch.search.screening import comparable

from .builders import DIED, QUICK, Answer, AnswerTo, World, model_fact, plan_of

VARIANTS: list[Any] = [
    "scalar_l1",
    "head_l1_trainable",
    "scalar_l2_nodetach",
    "scalar_l9",  # a static no-op
    {"name": "zero", "scale": 0.0},  # another
    {"name": "also_l1", "layer_start": -4},  # coincides with scalar_l1
    {"name": "linear", "schedule": "linear"},
    {"name": "cosine", "schedule": "cosine"},  # coincides with linear
    {"name": "aa", "stream": 1},
    {"name": "ab", "stream": 1, "layer_start": 7},  # coincides with aa
]

CHECKPOINT = "/models/tiny.pth"

STAGES = st.sampled_from(
    [
        [{"name": "only", "steps": 30, "seeds": 3}],
        [QUICK, {"name": "medium", "steps": 60, "seeds": 3}],
        [QUICK, {"name": "medium", "steps": 20, "seeds": 4}],
        [QUICK, {"name": "medium", "steps": 60, "seeds": {"first": 3, "then": 5}}],
        [{"name": "only", "steps": 30, "seeds": {"first": 3, "then": 5}}],
        [QUICK, {"name": "second", "steps": 20}, {"name": "medium", "steps": 60, "seeds": 3}],
    ]
)
SCREENS = st.fixed_dictionaries(
    {"prune_below": st.sampled_from([-0.25, 0.0, 0.125, 0.25]), "noise_floor_seeds": st.integers(0, 4)},
    optional={"promote_at_most": st.integers(1, 2)},
)
LOOKS = st.sampled_from([None, 0.25, 0.5, 0.9])
TASKS = st.lists(
    st.fixed_dictionaries(
        {"task": st.just("toy"), "level": st.integers(0, 3), "batch": st.sampled_from([1, 2, 6])}
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda entry: entry["level"],
)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of a plan; `plan_of` makes it. (A plan itself would be long to print.)"""
    stages = draw(STAGES)
    tasks = draw(TASKS)
    if len(tasks) == 1 and draw(st.booleans()):
        tasks[0]["train"] = {"lr": [0.01, 0.02]}
    screen, look = draw(SCREENS), draw(LOOKS)
    if look is not None:
        screen |= {"futility_look": look, "noise_floor_seeds": 2 + screen["noise_floor_seeds"]}
    scratch = {"init": {"n_layer": 3, "n_embd": 32, "head_size": 8}}
    return {
        "model": draw(st.sampled_from([scratch, {"checkpoint": CHECKPOINT}])),
        "train": {"lr": 0.01, "recompute": draw(st.sampled_from(["off", "auto"]))},
        "seed": draw(st.integers(0, 3)),
        "stages": stages,
        "screen": screen if len(stages) > 1 else None,
        "limits": {"retries": draw(st.integers(0, 2))},
        "variants": draw(st.lists(st.sampled_from(VARIANTS), min_size=1, max_size=5, unique_by=str)),
        "tasks": tasks,
    }


def fate(seed: int, trouble: float) -> AnswerTo:
    """Outcomes and scores that depend on the attempt and the number of the try alone.

    trouble: share of tries that end with a word drawn from all that can be; the sixth always completes.
    Who is stopped at a look is decided by the bound, from scores at the look that depend on the attempt too.
    """
    words = sorted(set(CLASSES) - {"completed", "stopped_early"})
    outside = ["crashed", "hang", "host_oom", "network_wait", "disk_full", "disk_refused", "interrupted"]
    possible = {
        "build": ["kernel_build_failed", *outside],
        "prepare": ["data_short", "data_refused", *outside],
    }
    possible["inspect"] = ["model_refused", *outside]

    def answer(spec: AttemptSpec, number: int) -> Answer:
        rng = random.Random(f"{seed} {spec.id} {number}")
        if number < 6 and rng.random() < trouble:
            word = rng.choice(possible.get(spec.role, words))
            free = word == "interrupted" and rng.random() < 0.5
            return Answer(
                word, None, f"it was {word}", rng.choice(["stopped", "zygote died"]) if free else ""
            )
        score = rng.choice([rng.randrange(9) / 8, rng.random()])  # ties are frequent
        behind = rng.choice([0.0, 0.0, 4.0]) if spec.variant != "no_fs" else 0.0
        look_score = rng.choice([0.5, rng.random()]) - behind
        return Answer(score=score, screen_score=rng.random(), look_score=look_score)

    return answer


def sequences(world: World) -> dict[str, list[tuple[str, str, float | None]]]:
    """For each search what trained in which order and how it ended, killed tries aside."""
    found: dict[str, list[tuple[str, str, float | None]]] = {}
    for known in world.rows:
        if known.pattern != DIED and known.spec.role not in AHEAD:
            end = (known.spec.id, str(known.outcome), known.score)
            found.setdefault(known.spec.search, []).append(end)
    return found


def findings(standing: Standing) -> list[Any]:
    """What a report would say of each variant, numbers included."""
    found: list[Any] = []
    for board in standing.boards:
        size = board.micro_batch, board.recompute
        found.append((board.search.label, board.failed, size, board.noise_scores))
        for entry in board.variants:
            name = entry.variant.name
            screens = [(s.stage, s.difference, s.decision) for s in entry.screens]
            pairs = [pair.difference for pair in entry.pairs]
            stopped = entry.stopped and (entry.stopped.spec.id, entry.stopped.look_score)
            found.append((name, entry.same_as, entry.exit, entry.reason, entry.promoted, screens, pairs))
            found.append(stopped)
            found.append(standing.verdicts.get((board.search.index, name)))
    return found


def assert_matched(variant: Attempt, baseline: Attempt, difference: float) -> None:
    """The rows agree in all that has to be matched, said independently of `d_acc`."""
    one, two = variant.spec, baseline.spec
    assert two.variant == "no_fs" and two.form == {"gate": "none", "stream": 0}
    assert (one.task, one.arguments, one.recipe, one.model) == (
        two.task,
        two.arguments,
        two.recipe,
        two.model,
    )
    assert (one.batch, one.micro_batch, one.seed) == (two.batch, two.micro_batch, two.seed)
    assert (one.stage, one.role, one.steps, one.halves) == (two.stage, two.role, two.steps, two.halves)
    assert one.master_seed == two.master_seed and variant.fingerprint == baseline.fingerprint
    assert variant.outcome == baseline.outcome == "completed"
    assert variant.score is not None and baseline.score is not None
    assert difference == variant.score - baseline.score


def assert_sound(standing: Standing) -> None:
    """Every comparison is matched, every way out fits what was seen, every verdict has fresh seeds."""
    for board in standing.boards:
        assert board.finished
        micro_batches = set()
        for entry in board.variants:
            for screened in entry.screens:
                assert screened.row.spec.seed == 0
                assert_matched(screened.row, screened.baseline, screened.difference)
                micro_batches.add(screened.row.spec.micro_batch)
            for pair in entry.pairs:
                assert pair.row.spec.seed > 0
                assert_matched(pair.row, pair.baseline, pair.difference)
                micro_batches.add(pair.row.spec.micro_batch)
            key = (board.search.index, entry.variant.name)
            stage = board.search.stages[-1]
            seeds = stage.most_seeds if entry.variant.name in board.top_up else stage.first_seeds
            confirmed = entry.promoted and len(entry.pairs) == seeds
            assert (key in standing.verdicts) == (confirmed and entry.exit is None)
            if entry.stopped is not None:
                assert_stopped(board, entry)
            elif entry.exit == "pruned":
                last, screen = entry.screens[-1], board.search.screen
                assert screen and (last.difference < screen.prune_below or last.tie)
            if not board.failed:
                assert entry.exit or entry.same_as or key in standing.verdicts
        assert micro_batches <= {board.micro_batch}
    assert not any(verdict.provisional for verdict in standing.verdicts.values())


def assert_stopped(board: Board, entry: VariantBoard) -> None:
    """It left in the first stage, pruned, compared with nothing, below a bound computed here anew."""
    row, stage = entry.stopped, board.search.stages[0]
    assert row is not None and row.outcome == "stopped_early" and row.score is None
    assert (entry.exit, entry.screens, entry.pairs, entry.promoted) == ("pruned", [], [], False)
    floor = [known for (name, _), known in board.baselines.items() if name == stage.name]
    (own,) = [known for known in floor if known.spec.seed == row.spec.seed]
    assert comparable(row) == comparable(own)
    looks = [known.look_score for known in floor if known.look_score is not None]
    assert len(looks) == len(floor) > 1 and own.look_score is not None and row.look_score is not None
    noise = math.sqrt(2) * statistics.stdev(looks)
    assert row.look_score < own.look_score - scipy.stats.t.ppf(0.9, len(looks) - 1) * noise + 1e-12
    assert differences(board)[row.spec.id] == Difference(None, "prune")


CRASHES = st.frozensets(st.integers(1, 90), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    fields=plans(),
    seed=st.integers(0, 10**6),
    trouble=st.sampled_from([0.0, 0.05, 0.2, 0.6]),
    crashes=CRASHES,
    prepared=st.booleans(),
)
@example(fields={}, seed=0, trouble=0.0, crashes=frozenset(range(1, 90)), prepared=False)
def test_a_plan_ends_the_same_whatever_dies(
    fields: dict[str, Any], seed: int, trouble: float, crashes: frozenset[int], prepared: bool
) -> None:
    """Daemons that die at any step change neither what runs, nor in which order, nor what is found.

    Each search goes through one sequence of attempts. Only which search goes first while another waits
    for its back-off depends on clocks; without trouble there is none, and the whole order is the same.
    """
    plan, backend = plan_of(**fields), "cpu" if prepared else ""
    calm = World(plan, fate(seed, trouble), prepared=prepared, backend=backend)
    shaken = World(plan, fate(seed, trouble), prepared=prepared, backend=backend, crashes=crashes)
    first, second = calm.run(), shaken.run()
    assert_sound(first)
    assert_sound(second)
    assert sequences(calm) == sequences(shaken)
    assert findings(first) == findings(second)
    if trouble == 0.0:
        order = [[r.spec.id for r in world.rows if r.pattern != DIED] for world in (calm, shaken)]
        assert order[0] == order[1]


@settings(max_examples=100, deadline=None)
@given(fields=plans(), seed=st.integers(0, 10**6), changed_at=st.integers(0, 60))
def test_another_fingerprint_in_the_middle(fields: dict[str, Any], seed: int, changed_at: int) -> None:
    """Finished searches stay as they are, an unfinished one begins again, and no row is lost or mixed."""
    world = World(plan_of(**fields), fate(seed, 0.05), models={CHECKPOINT: model_fact(CHECKPOINT)})
    for _ in range(changed_at):
        world.step()
    before = list(world.rows)
    there = standing_of(world.plan, world.facts, world.record)
    # Before all first seeds are there, it is not known whether a search will be topped up.
    ended = there.finished or not world.plan.tops_up
    finished = {board.search.label for board in there.boards if board.finished and ended}
    world.environment = "another"
    standing = world.run()
    assert_sound(standing)
    assert world.rows[: len(before)] == before
    later = world.rows[len(before) :]
    assert not {known.spec.search for known in later} & finished
    for board in standing.boards:
        used = {known.fingerprint for known in board.baselines.values()}
        assert used <= {board.fingerprint}
        own = [known for known in later if known.spec.search == board.search.label and known.spec.variant]
        trained = [known for known in own if known.spec.halves]
        if trained:
            assert trained[0].spec.role == "probe"
            assert {known.fingerprint for known in trained} == {board.fingerprint}
