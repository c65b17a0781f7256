"""The A/A arm: the baseline on other random streams, matched and judged like a variant."""

from __future__ import annotations

from pathlib import Path

from fsearch.daemon.jobs import attempt_job
from fsearch.search.board import Run
from fsearch.search.rows import AttemptSpec

from .builders import MEDIUM, World, data_fact, plan_of, scores, trained, words

AA = {"name": "aa", "stream": 1}


def world_with(gain: float) -> World:
    """A plan with the A/A arm alone, which gains this much (and a little noise) on every seed."""
    noise = {1: -0.001, 2: 0.0, 3: 0.001}
    table = {("medium", "aa", seed): 0.5 + gain + by for seed, by in noise.items()}
    return World(plan_of(variants=[AA], stages=[MEDIUM]), scores(table))


def streams_of(spec: AttemptSpec) -> dict[str, int]:
    job = attempt_job(
        Run(spec, 1),
        data_fact("data"),
        None,
        fingerprint="f",
        device="cpu",
        threads=1,
        backend="cpu",
        state=Path("/state"),
    )
    found: dict[str, int] = job["streams"]
    return found


def test_it_differs_from_its_baseline_in_the_streams_alone() -> None:
    """Same seed, same data, same steps, and no seeded layer; other initial weights, another order."""
    world = world_with(0.0)
    world.run()
    by_arm = {(row.spec.variant, row.spec.seed): row.spec for row in world.rows if row.spec.role == "confirm"}
    assert set(by_arm) == {(arm, seed) for arm in ("no_fs", "aa") for seed in (1, 2, 3)}
    streams = []
    for seed in (1, 2, 3):
        baseline, aa = by_arm["no_fs", seed], by_arm["aa", seed]
        assert aa.form == {**baseline.form, "stream": 1}
        assert (aa.recipe, aa.arguments, aa.steps, aa.batch) == (
            baseline.recipe,
            baseline.arguments,
            baseline.steps,
            baseline.batch,
        )
        streams += [*streams_of(baseline).values(), *streams_of(aa).values()]
    assert len(set(streams)) == len(streams) == 12


def test_it_is_no_noop_and_gets_a_verdict() -> None:
    """It is trained and judged; luck within the margin is none, and a steady gain would be called one."""
    assert words(world_with(0.0).run()) == {(0, "aa"): "equivalent"}
    assert words(world_with(0.3).run()) == {(0, "aa"): "at_least_delta"}


def test_it_is_screened_like_a_variant() -> None:
    """Where a plan screens, an A/A arm without luck is pruned there."""
    quick = {"name": "quick", "steps": 20}
    world = World(plan_of(variants=[AA], stages=[quick, MEDIUM]), scores({("quick", "aa", 0): 0.49}))
    standing = world.run()
    assert standing.boards[0].variants[0].exit == "pruned"
    assert trained(world) == [("quick", "no_fs", 0), ("quick", "aa", 0)]
