"""Bad plans: each is refused with the place of its first mistake and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from fsearch.plan import PlanError

from .plan_texts import GOOD, edit, read


@dataclass(frozen=True)
class Bad:
    """A plan text, the line of its first problem, and what the message must say."""

    text: str
    line: int
    says: str
    field: str = ""


def whole(text: str, line: int, says: str, field: str = "") -> Bad:
    return Bad(text, line, says, field)


def bad(old: str, new: str, line: int, says: str, field: str = "") -> Bad:
    return Bad(edit(old, new), line, says, field)


LAUGHS = "\n".join(
    ["a0: &a0 [ha, ha]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, 30)]
)
ENTRY = "  - {task: infill, batch: 32, n_masks: 8}\n"

LOOK = "screen.futility_look"
ONLY = "{name: only, steps: 9, seeds: 5}"

BAD = {
    # what a plan is written in
    "empty file": whole("", 1, "empty; start from one of the plans"),
    "comments only": whole("# nothing\n# here\n", 1, "empty; start from"),
    "list at the top": whole("- name: x\n- seed: 1\n", 1, "a plan is a mapping such as `name: my plan`"),
    "one word": whole("plan", 1, "a plan is a mapping such as"),
    "two documents": whole(GOOD + "---\nname: second\n", 16, "another document"),
    "tab as indentation": bad("  - {name: quick", "\t- {name: quick", 6, "replace it with two spaces"),
    "tab before a key": bad("claim: {", "screen2:\n\tclaim: {", 10, "replace it with two spaces"),
    "bracket left open": bad("0.98]}", "0.98}", 4, "expected ',' or ']'"),
    "quote left open": bad("name: small", 'name: "small', 1, "quoted scalar, found unexpected end"),
    "nul": bad("name: small", "name: sm\0all", 1, "#x0000.*save the plan as plain UTF-8"),
    "control character": bad("claim: {", "claim: \x07{", 9, "#x0007.*save the plan as plain UTF-8"),
    "undecodable byte": bad("alpha: 2", "alpha: \udcfc2", 12, "#xdcfc.*save the plan as plain UTF-8"),
    "anchor": bad("betas: [", "betas: &b [", 4, "anchors and aliases.*write the value out"),
    "alias": bad("steps: 560", "steps: *steps", 7, "anchors and aliases.*write the value out"),
    "anchor of itself": bad("[8, 16]", "&b [8, *b]", 15, "anchors and aliases"),
    "merge key": bad(
        "{prune_below: 0.001,", "{<<: {prune_below: 0.001},", 8, "merge keys.*write the fields out"
    ),
    "billion laughs": whole(LAUGHS + "\n" + GOOD, 1, "anchors and aliases"),
    "tag": bad("name: small", "name: !!str small", 1, "tags such as .*write the plain value"),
    "object tag": bad("seed: 7", "seed: !!python/object/apply:os.getpid []", 2, "tags such as"),
    "endless nesting": bad("[8, 16]", "[" * 100_000, 15, "stand in each other"),
    "nesting": bad("[8, 16]", "[" * 200 + "]" * 200, 15, "stand in each other"),
    "key twice": bad("seed: 7", "seed: 7\nseed: 8", 3, "stands here twice.*first on line 2.*keep one"),
    "key twice inside": bad("steps: 180", "steps: 180, steps: 170", 6, "keep one", "stages[1]"),
    "key of a list": bad("seed: 7", "? [seed]\n: 7", 2, "a key must be a plain word"),
    # fields
    "unknown field": bad("claim: {", "claims: {", 9, "no field 'claims'; did you mean 'claim'?", "claims"),
    "unknown field inside": bad(
        "noise_floor_seeds",
        "noise_floor_sead",
        8,
        "did you mean 'noise_floor_seeds'",
        "screen.noise_floor_sead",
    ),
    "unknown field in a stage": bad(
        "steps: 180", "step: 180", 6, "field 'steps' is missing; add it", "stages[1]"
    ),
    "unknown field in a variant": bad(
        "norm: false", "nrom: false", 12, "did you mean 'norm'", "variants[2].nrom"
    ),
    "unknown field in train": bad("lr: 5.0e-3", "rate: 5.0e-3", 4, "'lr' is missing; add it", "train"),
    "missing field": bad("name: small\n", "", 1, "the field 'name' is missing; add it"),
    "missing batch": bad("batch: 32, ", "", 14, "the field 'batch' is missing; add it", "tasks[1]"),
    "null for a mapping": bad(
        "{n_layer: 3, n_embd: 32, head_size: 8}", "", 3, "give either `checkpoint", "model"
    ),
    # types and bounds
    "word for a number": bad("seed: 7", "seed: seven", 2, "valid integer, not 'seven'", "seed"),
    "number for a word": bad("name: small", "name: 12", 1, "valid string, not 12", "name"),
    "quoted number": bad("steps: 180", "steps: '180'", 6, "valid integer, not '180'", "stages[1].steps"),
    "float for an integer": bad(
        "steps: 180", "steps: 1.8e2", 6, "valid integer, not 180.0", "stages[1].steps"
    ),
    "yes for true": bad("norm: false", "norm: no", 12, "valid boolean, not 'no'", "variants[2].norm"),
    "negative steps": bad(
        "steps: 180", "steps: -180", 6, "greater than or equal to 1, not -180", "stages[1].steps"
    ),
    "zero batch": bad("batch: 32", "batch: 0", 14, "write 1 or more", "tasks[1].batch"),
    "batch of words": bad(
        "batch: 32", "batch: big", 14, "write a number, `largest`, or a list", "tasks[1].batch"
    ),
    "batch of true": bad(
        "batch: 32", "batch: true", 14, "write a number, `largest`, or a list", "tasks[1].batch"
    ),
    "wrong field of largest": bad(
        "batch: 32",
        "batch: {largest: {at_mst: 3}}",
        14,
        "no field 'at_mst'; did you mean 'at_most'",
        "tasks[1].batch",
    ),
    "huge integer": bad("seed: 7", "seed: 1" + "0" * 400, 2, "more than 18 digits", "seed"),
    "huge batch": bad("batch: 32", "batch: 999999999999", 14, "not possible", "tasks[1].batch"),
    "huge float": bad("lr: 5.0e-3", "lr: 1e999", 4, "too large", "train.lr"),
    "infinity": bad("alpha: 2,", "alpha: .inf,", 12, "write a finite number", "variants[2].alpha"),
    "not a number": bad(
        "prune_below: 0.001", "prune_below: .NaN", 8, "write a finite number", "screen.prune_below"
    ),
    "nan as a word": bad(
        "prune_below: 0.001", "prune_below: nan", 8, "valid number, not 'nan'", "screen.prune_below"
    ),
    "factor without bound": bad(
        "alpha: 2,", "alpha: 2, scale: 1e308,", 12, "less than or equal to 1000", "variants[2].scale"
    ),
    "threshold of one": bad(
        "prune_below: 0.001",
        "prune_below: 1",
        8,
        r"fractions: did you mean 0.01 \(1 pp\)\?",
        "screen.prune_below",
    ),
    "threshold of a half": bad(
        "at_least: 0.01", "at_least: 0.5", 9, r"did you mean 0.005 \(0.5 pp\)", "claim.at_least"
    ),
    "one beta": bad("[0.9, 0.98]", "[0.9]", 4, "value 2 of the list is missing; add it", "train.betas"),
    "three betas": bad(
        "[0.9, 0.98]", "[0.9, 0.98, 0.99]", 4, "list should have at most 2 items", "train.betas"
    ),
    "heads that do not fit": bad(
        "n_embd: 32", "n_embd: 36", 3, "36 is not a multiple of head_size 8", "model.init"
    ),
    "mapping for a list": bad(
        "batch: [8, 16]", "batch: 8, variants: {name: s}", 15, "valid list", "tasks[2].variants"
    ),
    "a wait that is none": bad(
        "claim: {",
        "limits: {wait_network: soon}\nclaim: {",
        9,
        "write seconds, or `forever`",
        "limits.wait_network",
    ),
    # what fields mean together
    "checkpoint and init": bad("model: {init", "model: {checkpoint: a.pth, init", 3, "give either", "model"),
    "neither checkpoint nor init": bad(
        "{init: {n_layer: 3, n_embd: 32, head_size: 8}}",
        "{}",
        3,
        "give either `checkpoint: FILE` or `init",
        "model",
    ),
    "two seeds": bad("seeds: 5", "seeds: 2", 7, "at least 3 seeds, not 2", "stages[2].seeds"),
    "screening stage with seeds": bad(
        "steps: 180", "steps: 180, seeds: 3", 6, "has one seed, not 3; only the last stage", "stages[1].seeds"
    ),
    "an unknown top-up": bad(
        "seeds: 5",
        "seeds: {first: 3, then: 7}",
        7,
        "write {first: 3, then: 5}, or a number",
        "stages[2].seeds",
    ),
    "half a top-up": bad("seeds: 5", "seeds: {first: 3}", 7, "no top-up whose error rate", "stages[2].seeds"),
    "no number of seeds": bad("seeds: 5", "seeds: 2.5", 7, "2.5 is not a number of seeds", "stages[2].seeds"),
    "a top-up at another alpha": whole(
        edit("alpha: 0.05", "alpha: 0.01", edit("seeds: 5", "seeds: {first: 3, then: 5}")),
        9,
        "leave alpha 0.01 out, or give a number",
        "claim.alpha",
    ),
    "a top-up of one task": whole(
        edit("n_masks: 8", f"n_masks: 8, stages: [{ONLY}]", edit("seeds: 5", "seeds: {first: 3, then: 5}")),
        14,
        "give all tasks {first: 3, then: 5}, or none",
        "tasks[1]",
    ),
    "one stage with a screen": bad(
        "  - {name: quick, steps: 180}\n", "", 7, "leave `screen` out or add a stage", "screen"
    ),
    "two stages of one name": bad(
        "name: medium", "name: quick", 7, "give each its own name", "stages[2].name"
    ),
    "four stages": bad(
        "  - {name: quick, steps: 180}\n",
        "".join(f"  - {{name: s{i}, steps: 180}}\n" for i in range(3)),
        6,
        "at most 3 items",
        "stages",
    ),
    "warm-up after decay": bad(
        "lr: 5.0e-3", "lr: 5.0e-3, warmup: 0.5", 4, "ends after decay_from 0.3", "train"
    ),
    "override against the plan": bad(
        "batch: 32",
        "batch: 32, train: {decay_from: 0.01}",
        14,
        "ends after decay_from 0.01",
        "tasks[1].train",
    ),
    # variants
    "unknown variant": bad("- scalar_l1\n", "- skalar_l1\n", 11, "a name is <scalar|", "variants[1]"),
    "unknown suffix": bad("- scalar_l1\n", "- scalar_l1_cos\n", 11, "'_cos'.*a name is", "variants[1]"),
    "the baseline as a variant": bad("- scalar_l1\n", "- no_fs\n", 11, "leave it out", "variants[1]"),
    "the baseline's name": bad("name: strong", "name: no_fs", 12, "choose another", "variants[2]"),
    "field of another gate": bad(
        "norm: false", "weight_lr: 0.1", 12, "weight_lr is read with gate: input alone", "variants[2]"
    ),
    "field of their head gate": bad(
        "norm: false", "alpha_head: -2", 12, "alpha_head is read with compat: drafts alone", "variants[2]"
    ),
    "compat without a head gate": bad(
        "norm: false", "compat: drafts", 12, "compat: drafts is for gate: head", "variants[2]"
    ),
    "variant twice": bad("name: strong", "name: scalar_l1", 12, "twice.*line 11.*keep one", "variants[2]"),
    "variant without a name": bad("name: strong, ", "", 12, "'name' is missing; add it", "variants[2]"),
    "no variants": bad("batch: 32", "batch: 32, variants: []", 14, "at least 1 item", "tasks[1].variants"),
    "wrong gate": bad("gate: scalar", "gate: scaler", 12, "did you mean 'scalar'?", "variants[2].gate"),
    # tasks
    "unknown task": bad(
        "task: infill", "task: infil", 14, "no task 'infil'; did you mean 'infill'?", "tasks[1].task"
    ),
    "unknown argument": bad(
        "n_masks: 8", "n_maks: 8", 14, "'n_maks'; did you mean 'n_masks'?", "tasks[1].n_maks"
    ),
    "argument of another task": bad(
        "n_masks: 8", "order: q_after", 14, "no field 'order'; ", "tasks[1].order"
    ),
    "wrong type of argument": bad(
        "n_masks: 8", "n_masks: eight", 14, "valid integer, not 'eight'", "tasks[1].n_masks"
    ),
    "wrong order": bad(
        "q_after", "qafter", 15, "'q_after' or 'q_first'.*did you mean 'q_after'", "tasks[2].order"
    ),
    "arguments against each other": bad(
        "q_after", "q_after, n_keys: 2", 15, "n_queries is 3.*only 2 keys", "tasks[2]"
    ),
    "task twice": whole(GOOD + ENTRY, 16, "the same search as line 14; keep one"),
    "task twice, default written out": whole(
        GOOD + ENTRY.replace("batch", "n_symbols: 8, batch"), 16, "the same search as line 14; keep one"
    ),
    "task twice, other seeds": whole(
        GOOD + ENTRY.replace("}", ", stages: [{name: a, steps: 180}, {name: b, steps: 560, seeds: 3}]}"),
        16,
        "the same search as line 14; keep one",
    ),
    "batch twice": bad("[8, 16]", "[8, 8]", 15, "this entry twice; keep one", "tasks[2]"),
    "look of nothing": bad("seeds: 2}", "seeds: 2, futility_look: 0}", 8, "greater than 0, not 0", LOOK),
    "look at the end": bad("seeds: 2}", "seeds: 2, futility_look: 1}", 8, "less than 1, not 1", LOOK),
    "look in percent": bad("seeds: 2}", "seeds: 2, futility_look: 50}", 8, "less than 1, not 50", LOOK),
    "look that is a word": bad("seeds: 2}", "seeds: 2, futility_look: half}", 8, "number, not 'half'", LOOK),
    "look without noise": bad(
        "noise_floor_seeds: 2}", "futility_look: 0.5}", 8, "noise_floor_seeds is 0; give at least 2", LOOK
    ),
    "look with little noise": bad(
        "seeds: 2}", "seeds: 1, futility_look: 0.5}", 8, "noise_floor_seeds is 1; give at least 2", LOOK
    ),
    "look into one step": whole(
        edit("seeds: 2}", "seeds: 2, futility_look: 0.5}").replace("steps: 180", "steps: 1"),
        6,
        "needs at least 2 steps",
        "stages[1].steps",
    ),
    "learning rate twice": bad("5.0e-3,", "[5.0e-3, 0.005],", 14, "this entry twice; keep one", "tasks[1]"),
    "no tasks": whole(GOOD[: GOOD.index("tasks:")] + "tasks: []\n", 13, "at least 1 item"),
    "task as a word": bad("{task: infill, batch: 32, n_masks: 8}", "infill", 14, "valid mapping", "tasks[1]"),
}


def problems_of(text: str) -> list[str]:
    with pytest.raises(PlanError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_plan_is_refused_at_its_place(name: str) -> None:
    """PlanError and nothing else; its first problem names file, line, column, field and a remedy."""
    case = BAD[name]
    with pytest.raises(PlanError) as caught:
        read(case.text)
    first = caught.value.problems[0]
    assert first.place.line == case.line, str(caught.value)
    assert re.search(case.says, first.message), first.message
    if case.field:
        assert first.field == case.field
    assert re.match(rf"plan\.yaml:{case.line}:\d+: ", str(first))
    assert "\n" not in first.message and len(first.message) < 500


def test_the_plan_they_are_made_from_is_good() -> None:
    """Each bad plan differs from this one by its mistake alone."""
    assert len(read(GOOD).entries) == 2
    assert len(BAD) >= 20


def test_all_mistakes_are_told_at_once_in_the_order_of_the_text() -> None:
    """One look mends a plan: five mistakes give five problems."""
    text = GOOD
    for old, new in (
        ("seed: 7", "sed: 7"),
        ("steps: 180", "steps: 0"),
        ("0.001", "3"),
        ("n_masks", "n_maks"),
        ("q_after", "q"),
    ):
        text = edit(old, new, text)
    lines = [int(problem.split(":")[1]) for problem in problems_of(text)]
    assert lines == [2, 6, 8, 14, 15]


def test_columns_point_at_the_value_or_the_unknown_key() -> None:
    """A wrong value is pointed at itself, an unknown field at its name; both counted from 1."""
    assert problems_of(edit("steps: 180", "steps: -1"))[0].startswith("plan.yaml:6:26: stages[1].steps:")
    assert problems_of(edit("n_masks: 8", "n_maks: 8"))[0].startswith("plan.yaml:14:31: tasks[1].n_maks:")
