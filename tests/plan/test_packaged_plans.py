"""The plans that come with fsearch are valid, and the drafts' rounds are what the drafts ran.

`rounds.json` holds what the drafts' scripts passed, in the drafts' words, with the layers and the first gate
that follow from it. It is compared with what the plans mean in a model of 12 layers, not with how they are
written.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fsearch.plan import Entry, Largest, Plan, Variant, canonical, expand, parse, sort_out
from fsearch.tasks import schemas

PLANS = Path(__file__).parents[2] / "plans"
FILES = sorted(path.relative_to(PLANS).as_posix() for path in PLANS.rglob("*.yaml"))
DRAFTS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "rounds.json").read_text(encoding="utf-8")
)["rounds"]

N_LAYER = 12
SECONDS_A_STEP = 0.15
"""What the plans take for the rounds that the clock ended."""

TASKS = {
    "train_arc_mc_sft.py": "arc",
    "train_hotpot_longctx_sft.py": "hotpot",
    "train_mbpp_longctx_sft.py": "mbpp",
    "train_protein_ss_spot_sft.py": "protein_ss",
    "train_protein_contact_pair_sft.py": "protein_contact",
    "train_punc_restore_sft.py": "punctuation",
    "train_sudoku_sft.py": "sudoku",
}
INVERTED = ("mbpp", "protein_ss", "protein_contact")
"""Where the drafts' q_first is the question next to the answer."""

CORRECTED: dict[str, dict[str, dict[str, Any]]] = {
    "r18": {"mbpp": {"n_train": 320}, "protein_contact": {"n_val": 140, "pair_sampling": "matched"}},
    "r19": {"mbpp": {"n_train": 320}, "protein_contact": {"n_val": 140, "pair_sampling": "matched"}},
    "r20": {"mbpp": {"n_train": 320}, "protein_contact": {"n_val": 140, "pair_sampling": "matched"}},
    "r21": {"protein_contact": {"pair_sampling": "matched"}},
}
"""Arguments that could not be built, or taught nothing, and what stands in their place."""

PROMOTED = {("r17", "hotpot"): 2, ("r22", "mbpp"): 1, ("r22", "protein_ss"): 1}
PROMOTED |= {("r19", task): 2 for task in ("hotpot", "mbpp", "protein_ss", "protein_contact")}


def packaged(name: str) -> Plan:
    path = PLANS / name
    return parse(path.read_text(encoding="utf-8"), schemas(), str(path))


@pytest.mark.parametrize("name", FILES)
def test_it_is_valid_and_says_what_it_asks(name: str) -> None:
    """It is read with the tasks' own arguments, and opens with a comment."""
    plan = packaged(name)
    assert plan.text.startswith("# ")
    searches = expand(plan)
    assert len({search.label for search in searches}) == len(searches) >= len(plan.entries)


def test_every_round_has_its_plan() -> None:
    """R1 to R29; of R30 nothing was learned, and the folder's README says so."""
    assert [name for name in FILES if name.startswith("rounds/")] == [
        f"rounds/{name}.yaml" for name in DRAFTS
    ]
    assert list(DRAFTS) == [f"r{number:02d}" for number in range(1, 30)]
    assert "## R30" in (PLANS / "rounds" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DRAFTS)
def test_a_round_is_what_the_drafts_ran(name: str) -> None:
    """Data, recipe, batch, steps, thresholds, seeds and variants, apart from what is corrected."""
    plan = packaged(f"rounds/{name}.yaml")
    drafts = grouped(DRAFTS[name])
    assert [entry.task for entry in plan.entries] == [TASKS[draft["trainer"]] for draft in drafts]
    for entry, draft in zip(plan.entries, drafts, strict=True):
        corrected = CORRECTED.get(name, {}).get(entry.task, {})
        wanted = arguments(entry, draft["data"])
        assert {key for key, value in wanted.items() if entry.arguments[key] != value} == set(corrected)
        assert {key: entry.arguments[key] for key in corrected} == corrected
        assert as_they_trained(entry, draft["lr"])
        assert entry.batch == batches(draft["batch"])
        assert [stage.steps for stage in entry.stages] == steps(draft)
        assert entry.stages[-1].seeds == seeds(draft)
        assert (entry.screen.prune_below if entry.screen else None) == draft["threshold"]
        assert (entry.screen.promote_at_most if entry.screen else None) == PROMOTED.get((name, entry.task))
        assert [variant.name for variant in entry.variants] == list(draft["variants"])
        for variant in entry.variants:
            assert_same_seed(variant, draft["variants"][variant.name])


def grouped(drafts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs of one task that differ in the variant alone are one search."""
    found: list[dict[str, Any]] = []
    for draft in drafts:
        same = [one for one in found if {**one, "variants": 0} == {**draft, "variants": 0}]
        if same:
            same[0]["variants"] = {**same[0]["variants"], **draft["variants"]}
        else:
            found.append(dict(draft))
    return found


def arguments(entry: Entry, data: dict[str, Any]) -> dict[str, Any]:
    """The drafts' arguments in the names of the task."""
    wanted = {key: value for key, value in data.items() if key not in ("ds", "q_first")}
    if data.get("fill_notes_to_max"):
        wanted.pop("min_prompt_tokens")  # every prompt is as long as it may be
    if "ds" in data:
        wanted["source"] = data["ds"] if entry.task == "punctuation" else "hub"
    if entry.task == "punctuation":
        wanted["order"] = "q_after"
    elif entry.task != "sudoku":
        far = data["q_first"] != (entry.task in INVERTED)
        wanted["order"] = "q_first" if far else "options_first" if entry.task == "arc" else "q_after"
    return wanted


def as_they_trained(entry: Entry, lr: float) -> bool:
    recipe = entry.recipe
    plain = (recipe.warmup, recipe.decay, recipe.grad_clip) == (0, "none", None)
    return plain and (recipe.lr, recipe.weight_decay, recipe.betas) == ((lr,), 0.01, (0.9, 0.999))


def batches(drafts: Any) -> tuple[int | Largest, ...]:
    if isinstance(drafts, dict):
        return (Largest(at_most=max(drafts["probed"])),)
    return tuple(drafts) if isinstance(drafts, list) else (drafts,)


def steps(draft: dict[str, Any]) -> list[int]:
    """Of every stage; a search that only pruned is followed by a confirmation of the same steps."""
    found = [stage["steps"] or round(stage["seconds"] / SECONDS_A_STEP) for stage in draft["stages"].values()]
    return found * 2 if len(found) == 1 and draft["threshold"] is not None else found


def seeds(draft: dict[str, Any]) -> int:
    """Fewer than three give no verdict: five where there is a medium stage, else three."""
    if draft["seeds"] >= 3:
        return int(draft["seeds"])
    return 5 if "med" in draft["stages"] else 3


def assert_same_seed(variant: Variant, flags: dict[str, Any]) -> None:
    """The variant seeds the same layers in the same way as these flags of the drafts did."""
    form = canonical(variant, N_LAYER)
    if not flags["seeded_layers"]:
        assert sort_out([variant], N_LAYER)[0].noop
        return
    assert form["layers"] == pytest.approx(
        {str(layer): factor(flags, layer) for layer in flags["seeded_layers"]}, abs=1e-12
    )
    kind = flags.get("fs_variant", "scalar")
    assert form["gate"] == ("input" if flags.get("fs_in_gate") else kind)
    assert sigmoid(form["alpha"]) * sigmoid(form.get("alpha_head", math.inf)) == pytest.approx(
        flags["first_gate"], abs=1e-6
    )
    assert (form["alpha"], form["alpha_lr"]) == (flags["alpha_init"], flags.get("alpha_lr", 0))
    assert form.get("alpha_head_lr") == flags.get("alpha_head_lr")
    assert (form.get("weight_lr"), form.get("bias_lr")) == (flags.get("fs_w_lr"), flags.get("fs_b_lr"))
    usual = (flags.get("fs_norm", True), flags.get("fs_detach", True), flags.get("fs_clip", 1.0))
    assert (form["norm"], form["detach"], form["clip"]) == usual
    assert form["stream"] == 0


def factor(flags: dict[str, Any], layer: int) -> float:
    """Of the seed of a layer: from fs_alpha_min at the first one to fs_alpha_max at the last."""
    if "fs_alpha_schedule" not in flags:
        return 1.0
    first, last = flags["fs_layer_start"], N_LAYER - 1
    part = (layer - first) / (last - first)
    if flags["fs_alpha_schedule"] == "cosine":
        part = (1 - math.cos(math.pi * part)) / 2
    low, high = flags["fs_alpha_min"], flags["fs_alpha_max"]
    return float(low + (high - low) * part)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_stability_has_every_setting_of_punctuation_with_head_l8() -> None:
    """The medium runs of R23 to R29, on five seeds, with the head gate that they had."""
    plan = packaged("stability.yaml")
    wanted = [
        (arguments(plan.entries[0], draft["data"]), draft["stages"]["med"]["steps"])
        for round_ in DRAFTS.values()
        for draft in round_
        if TASKS[draft["trainer"]] == "punctuation" and "head_l8" in draft["variants"]
    ]
    found = [
        ({key: entry.arguments[key] for key in wanted[0][0]}, entry.stages[0].steps) for entry in plan.entries
    ]
    assert len(wanted) == 5 and len(found) == 4  # R27 and R29 have one setting
    assert all(setting in found for setting in wanted) and all(setting in wanted for setting in found)
    flags = DRAFTS["r29"][0]["variants"]["head_l8"]
    for entry in plan.entries:
        assert_same_seed(entry.variants[0], flags)
        assert as_they_trained(entry, 3e-5)
        assert [stage.seeds for stage in entry.stages] == [5] and entry.screen is None


def test_the_batch_sweep_holds_steps_equal_and_then_examples() -> None:
    """420 steps at four sizes and two rates, and 840 examples at the same sizes, on the data of R28."""
    plan = packaged("mbpp_batch_sweep.yaml")
    runs = [
        (search.batch, search.recipe["lr"], search.stages[-1].steps)
        for search in expand(plan)
        if isinstance(search.batch, int)
    ]
    sizes = (2, 4, 6, 8)
    assert runs[:8] == [(size, lr, 420) for size in sizes for lr in (3e-5, 1e-4)]
    assert sorted({(size, steps) for size, lr, steps in runs if lr == 3e-5 and size * steps == 840}) == [
        (size, 840 // size) for size in sizes
    ]
    ((draft,),) = (DRAFTS["r28"],)
    for entry in plan.entries:
        wanted = {**arguments(entry, draft["data"]), "n_val": 320}
        assert {key: entry.arguments[key] for key in wanted} == wanted
        assert_same_seed(entry.variants[0], draft["variants"]["scalar_l8_trainable"])


def test_the_estimate_of_the_night_counts_what_the_plan_trains() -> None:
    """Its figures of steps, starts and tokens are those of the plan below them; it ends within a night."""
    plan = packaged("overnight_4090.yaml")
    searches = expand(plan)
    n_steps = n_starts = 0
    hours = 0.0
    for search in searches:
        quick, medium = search.stages
        screen = search.screen
        assert screen is not None and screen.promote_at_most is not None and medium.seeds is not None
        assert isinstance(search.batch, int)
        n_quick = 1 + screen.noise_floor_seeds + len(search.variants)
        n_medium = medium.seeds * (1 + screen.promote_at_most)
        n_starts += n_quick + n_medium
        n_steps += (trained := n_quick * quick.steps + n_medium * medium.steps)
        example = {"arc": 85, "sudoku": 34}.get(search.task) or search.arguments["max_prompt_tokens"] + 50
        hours += trained * max(0.12, search.batch * example / 45_000) / 3600
    assert (len(searches), n_steps, n_starts) == (11, 106_260, 242)
    assert "106,260" in plan.text and "242 starts" in plan.text
    assert hours == pytest.approx(6.0, abs=0.2) and "6.0 h" in plan.text
