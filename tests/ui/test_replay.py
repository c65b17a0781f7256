"""`fsearch replay`: the drafts' rounds as their tables have them, our own exports, files that are wrong."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fsearch.search.replay import replay
from fsearch.ui.asked import views_of
from fsearch.ui.cli import main
from fsearch.ui.records import read
from fsearch.ui.replay import as_json
from fsearch.ui.replay_table import lines
from fsearch.ui.rules import Rules, rules_for
from tests.ui.commands import ROOT, fsearch
from tests.ui.record import PLAN, fill, the_plan
from tests.ui.test_snapshots import assert_snapshot

FIXTURES = ROOT / "tests" / "fixtures" / "drafts"
DEMO = ROOT / "docs" / "demo"

# The marks of the drafts' tables, written off by hand: what they list as confirmed on medium was kept, the
# rest of a task was pruned ("all FS variants pruned", "no gain"); one of R20 failed. R20 prunes below 0.001,
# R21 below 0.002.
R20 = {
    ("hotpot", "scalar_l10_norm_detach"): "prune",
    ("hotpot", "scalar_l12_norm_detach"): "prune",
    ("hotpot", "scalar_l10_norm_node"): "prune",
    ("hotpot", "scalar_l10_nonorm_detach"): "prune",
    ("hotpot", "scalar_l10_sched_cos"): "prune",
    ("hotpot", "head_l10"): "prune",
    ("hotpot", "inputgate_l10"): "prune",
    ("hotpot", "scalar_l10_trainable"): "prune",
    ("protein_ss", "scalar_l10_norm_detach"): "keep",
    ("protein_ss", "scalar_l12_norm_detach"): "prune",
    ("protein_ss", "scalar_l10_norm_node"): "keep",
    ("protein_ss", "scalar_l10_nonorm_detach"): "keep",
    ("protein_ss", "scalar_l10_sched_cos"): "keep",
    ("protein_ss", "head_l10"): "keep",
    ("protein_ss", "inputgate_l10"): "failed",
    ("protein_ss", "scalar_l10_trainable"): "keep",
}
R21 = {
    ("mbpp_fix", "scalar_l8_norm_node"): "prune",
    ("mbpp_fix", "scalar_l8_trainable"): "keep",
    ("mbpp_fix", "scalar_l8_sched_cos"): "prune",
    ("mbpp_fix", "head_l8"): "prune",
    ("protein_contact_fix", "scalar_l8_norm_node"): "prune",
    ("protein_contact_fix", "scalar_l8_trainable"): "prune",
    ("protein_contact_fix", "scalar_l8_sched_cos"): "prune",
    ("protein_contact_fix", "head_l8"): "prune",
    ("protein_ss_refine", "scalar_l10_norm_node"): "keep",
    ("protein_ss_refine", "scalar_l10_trainable"): "keep",
    ("protein_ss_refine", "scalar_l10_sched_cos"): "keep",
    ("protein_ss_refine", "head_l10"): "keep",
}
# Medium gains as the drafts reported them, in percentage points with their two digits.
REPORTED = {
    ("protein_ss", "scalar_l10_norm_detach"): "6.80",
    ("protein_ss", "scalar_l10_norm_node"): "8.02",
    ("protein_ss", "scalar_l10_nonorm_detach"): "5.66",
    ("protein_ss", "scalar_l10_trainable"): "7.72",
    ("protein_ss", "scalar_l10_sched_cos"): "7.57",
    ("protein_ss", "head_l10"): "7.31",
    ("mbpp_fix", "scalar_l8_trainable"): "13.61",
    ("protein_ss_refine", "scalar_l10_sched_cos"): "13.31",
    ("protein_ss_refine", "scalar_l10_trainable"): "12.82",
    ("protein_ss_refine", "head_l10"): "12.35",
    ("protein_ss_refine", "scalar_l10_norm_node"): "11.43",
}


def replayed(file: Path, *options: str | Path) -> list[dict[str, Any]]:
    done = fsearch("replay", file, "--json", *options, cwd=file.parent)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def of(item: dict[str, Any]) -> tuple[str, str]:
    return item["task"], item["variant"]


@pytest.mark.parametrize(("name", "prune_below", "marks"), [("r20", "0.001", R20), ("r21", "0.002", R21)])
def test_the_rounds_of_the_drafts(name: str, prune_below: str, marks: dict[tuple[str, str], str]) -> None:
    """Exactly the marks of their tables; and no medium row has anything to be compared with."""
    found = replayed(FIXTURES / f"{name}.jsonl", "--prune-below", prune_below)
    quick = [item for item in found if item["stage"] == "quick"]
    medium = [item for item in found if item["stage"] == "med"]
    assert {of(item): item["decision"] for item in quick} == marks
    assert len(quick) == len(marks)
    kept = {place for place, mark in marks.items() if mark == "keep"}
    assert {of(item): f"{item['delta_as_the_drafts_reported'] * 100:.2f}" for item in medium} == {
        place: REPORTED[place] for place in kept
    }
    assert {item["verdict"] for item in medium} == {"no matched baseline"}
    assert {(item["d_acc"], item["decision"]) for item in medium} == {(None, None)}
    assert {item["seed"] for item in found} == {0}


@pytest.mark.parametrize(("name", "marks"), [("r20", R20), ("r21", R21)])
def test_the_plan_of_a_round_has_its_threshold(name: str, marks: dict[tuple[str, str], str]) -> None:
    """The same marks under the rules of the packaged plan of the round."""
    found = replayed(FIXTURES / f"{name}.jsonl", "--plan", ROOT / "plans" / "rounds" / f"{name}.yaml")
    assert {of(item): item["decision"] for item in found if item["stage"] == "quick"} == marks


def test_the_ties_of_the_drafts() -> None:
    """Every difference of zero is flagged: most of Hotpot, the variants that start behind the last layer, and
    all of protein contact."""
    r20, r21 = (replayed(FIXTURES / name) for name in ("r20.jsonl", "r21.jsonl"))
    assert len([item for item in r20 if item["tie"] and item["task"] == "hotpot"]) == 5
    assert [of(item) for item in r20 if item["tie"] and item["task"] == "protein_ss"] == [
        ("protein_ss", "scalar_l12_norm_detach")
    ]
    assert {item["tie"] for item in r21 if item["task"] == "protein_contact_fix"} == {True}


def test_the_threshold_decides() -> None:
    """R21 under R20's threshold would have confirmed one variant more."""
    found = replayed(FIXTURES / "r21.jsonl")  # the default of a plan, 0.001
    assert {of(item): item["decision"] for item in found if item["stage"] == "quick"} == {
        **R21,
        ("mbpp_fix", "head_l8"): "keep",
    }


def demo_rows(seed: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DEMO / f"seed-{seed}.jsonl").read_text().splitlines()]


def compared(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The variants' rows of an export."""
    baseline = {"gate": "none", "stream": 0}
    return [row for row in rows if row["role"] in ("screen", "confirm") and row["form"] != baseline]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_our_exports_are_decided_as_the_run_decided(seed: int) -> None:
    """Each committed demo, under the plan that its rows name: differences to the digit, and every mark."""
    found = replayed(DEMO / f"seed-{seed}.jsonl")
    wanted = compared(demo_rows(seed))
    assert [(item["search"], item["stage"], item["variant"], item["seed"]) for item in found] == [
        (row["search"], row["stage"], row["variant"], row["seed"]) for row in wanted
    ]
    assert [item["d_acc"] for item in found] == [row["d_acc"] for row in wanted]
    made = {"keep": "keep", "promote": "keep", "prune": "prune", None: None}
    assert [item["decision"] for item in found] == [made[row["decision"]] for row in wanted]
    confirmed = [row for row in wanted if row["role"] == "confirm"]
    assert [item["verdict"] for item in found if "verdict" in item] == [row["verdict"] for row in confirmed]


def export(state: Path, file: Path, *options: str) -> list[dict[str, Any]]:
    done = fsearch("export", "--state", state, *options, cwd=state.parent)
    file.write_text(done.stdout)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_export_and_its_plan(whole: Path, tmp_path: Path) -> None:
    """Failed, no-op and tied variants too; the drafts' delta is that of the report."""
    rows = compared(export(whole, tmp_path / "export.jsonl"))
    (tmp_path / "plan.yaml").write_text(PLAN)
    found = replayed(tmp_path / "export.jsonl", "--plan", tmp_path / "plan.yaml")
    assert [item["d_acc"] for item in found] == [row["d_acc"] for row in rows]
    for item, row in zip(found, rows, strict=True):
        if row["outcome"] == "completed":
            made = "keep" if row["decision"] == "promote" else row["decision"]
            assert (item["decision"], item["reason"]) == (made, "")
        else:
            assert item["decision"] == (None if row["outcome"] == "noop" else "failed")
            assert item["reason"] == row["reason"]
    assert {row["outcome"] for row in rows} > {"completed", "noop"}
    views, _ = views_of(None, whole)
    first = {
        (item["search"], item["variant"]): item["delta_as_the_drafts_reported"]
        for item in found
        if item.get("verdict") and item["seed"] == 1
    }
    reported = {
        (search.label, variant.name): variant.drafts_delta
        for search in views[0].searches
        for variant in search.variants
        if variant.drafts_delta is not None and not variant.same_as
    }
    assert first == reported and len(first) == 5


def test_every_try_and_another_environment(tmp_path: Path) -> None:
    """Of several tries the last counts; rows that another environment superseded are left out and counted."""
    state = tmp_path / "state"
    fill(state, the_plan(), stop_after=40, environment="environment-1")
    fill(state, the_plan(), environment="environment-2", daemon="daemon-2")
    export(state, tmp_path / "last.jsonl")
    every = export(state, tmp_path / "every.jsonl", "--tries")
    assert sum(row["superseded"] for row in every) > 0
    last, tries = (replayed(tmp_path / name) for name in ("last.jsonl", "every.jsonl"))
    assert [{**item, "line": 0} for item in last] == [{**item, "line": 0} for item in tries]
    told = fsearch("replay", tmp_path / "every.jsonl", cwd=tmp_path).stdout
    assert "superseded rows (other code, data or machine) are left out" in told


def test_json_is_what_is_decided_in_the_order_of_the_file(tmp_path: Path) -> None:
    """The JSON read back is the rows of the rules; other orders of the file give the same rows."""
    file = FIXTURES / "r20.jsonl"
    direct = [as_json(item) for item in replay(read(str(file)).rows, lambda spec: 0.001)]
    assert replayed(file) == direct
    assert [item["line"] for item in direct] == sorted(item["line"] for item in direct)
    rows = file.read_text().splitlines(keepends=True)
    for seed in range(3):
        order = random.Random(seed).sample(range(len(rows)), len(rows))
        (tmp_path / "shuffled.jsonl").write_text("".join(rows[at] for at in order))
        again = [
            as_json(item) for item in replay(read(str(tmp_path / "shuffled.jsonl")).rows, lambda spec: 0.001)
        ]
        in_place = sorted(
            ({**item, "line": order[item["line"] - 1] + 1} for item in again), key=lambda one: one["line"]
        )
        assert in_place == direct


def test_a_seed_that_is_not_there(tmp_path: Path) -> None:
    """Rows without a seed match each other, never one with seed 0; the JSON has no seed then."""
    row = {
        "task": "t",
        "stage": "quick",
        "config": "Baseline",
        "status": "ok",
        "bsz": 2,
        "best_val_tok_acc": 0.5,
    }
    rows = [
        row,
        {**row, "config": "a", "best_val_tok_acc": 0.75},
        {**row, "config": "b", "seed": 0, "more": 1},
    ]
    (tmp_path / "rows.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    first, second = replayed(tmp_path / "rows.jsonl")
    assert (first["d_acc"], first["decision"], "seed" in first) == (0.25, "keep", False)
    assert (second["decision"], second["reason"], second["seed"]) == ("failed", "no matched baseline", 0)


GOOD = '{"task": "t", "stage": "quick", "config": "x", "status": "ok", "bsz": 2, "best_val_tok_acc": 0.5}\n'

BASE = GOOD.replace('"x"', '"no_fs"')
NO_ROWS = "wrong has no rows; records are JSON objects, one a line."
NO_JSON = "this is not a JSON object on one line"
FRACTION = "a score is a fraction from 0 to 1."
STRANGER = "this is neither a row of `fsearch export` nor one of the drafts' records"
NEEDED = "(task, stage, config, status, bsz, best_val_tok_acc)."
SCHEMA = "a row of `fsearch export` is expected here, but this has schema 7; this release reads schema 1."
TWO = "both the quick baseline of t, batch 2, with different scores; replay one run at a time."
CSV = "It looks like CSV; export without --csv."

WRONG = {
    "empty": ("", NO_ROWS),
    "blank": ("\n \n", NO_ROWS),
    "csv": ("task,stage\nt,quick\n", f"wrong:1: {NO_JSON} (Expecting value at column 1). {CSV}"),
    "cut": (GOOD + GOOD[:30], f"wrong:2: {NO_JSON} (Expecting ',' delimiter at column 31)."),
    "list": ("[1, 2]\n", "wrong:1: this is a JSON list; one object a line is needed."),
    "stranger": ('{"a": 1}\n', f"wrong:1: {STRANGER} {NEEDED}"),
    "percent": (GOOD + GOOD.replace("0.5", "24.66"), f"wrong:2: best_val_tok_acc is 24.66; {FRACTION}"),
    "not a number": (GOOD.replace("0.5", "NaN"), f"wrong:1: best_val_tok_acc is nan; {FRACTION}"),
    "no size": (GOOD.replace('"bsz": 2, ', ""), "wrong:1: the key 'bsz' is missing."),
    "stage": (
        GOOD.replace("quick", "fast"),
        "wrong:1: stage is 'fast'; it must be 'quick', 'med' or 'probe'.",
    ),
    "text": (GOOD.replace("2,", '"2",'), 'wrong:1: bsz is "2": input should be a valid integer.'),
    "both": (BASE + BASE.replace("0.5", "0.25"), f"wrong: lines 1 and 2 are {TWO}"),
    "nothing": (
        (DEMO / "seed-0.jsonl").read_text().replace('"lr": 0.005', '"lr": NaN'),
        "wrong:3: recipe is wrong: value error, out of range float values are not json compliant.",
    ),
    "schema": ('{"schema": 7, "role": "screen"}\n', f"wrong:1: {SCHEMA}"),
}


@pytest.mark.parametrize(("text", "sentence"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_wrong(
    text: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, file and line, what is wrong; nothing on stdout."""
    monkeypatch.chdir(tmp_path)
    Path("wrong").write_text(text)
    assert main(["replay", "wrong"]) == 2
    assert capsys.readouterr() == ("", f"{sentence}\n")


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binary, nowhere = tmp_path / "binary", tmp_path / "nowhere"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, said in {
        nowhere: f"There is no file {nowhere}.",
        tmp_path: f"{tmp_path}: the records cannot be read (Is a directory).",
        binary: f"{binary}: this is not UTF-8 text; records are JSON objects, one a line.",
    }.items():
        assert main(["replay", str(path)]) == 2
        assert capsys.readouterr().err == f"{said}\n"


@pytest.mark.parametrize(
    ("threshold", "hint"),
    [
        ("1", "did you mean 0.01 (1 pp)?"),
        ("0.5", "did you mean 0.005 (0.5 pp)?"),
        ("nan", "not a fraction such as 0.01"),
        ("little", "not a fraction such as 0.01"),
    ],
)
def test_a_threshold_that_cannot_be_meant(
    threshold: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_of:
        main(["replay", str(FIXTURES / "r20.jsonl"), "--prune-below", threshold])
    assert exit_of.value.code == 2
    assert hint in capsys.readouterr().err


def rules(file: Path, plan: Path | None = None, threshold: float | None = None) -> tuple[Rules, list[float]]:
    """The rules of a file, and its thresholds in the order of its searches."""
    records = read(str(file))
    found = rules_for(records, threshold, str(plan) if plan else None)
    specs = {row.attempt.spec.search: row.attempt.spec for row in records.rows if row.attempt.spec.search}
    return found, [found.prune_below(spec) for spec in specs.values()]


def test_whose_threshold_it_is(tmp_path: Path) -> None:
    """--prune-below, else --plan's, else that of the packaged plan that the rows name, else the default."""
    plan = tmp_path / "mine.yaml"
    text = (ROOT / "plans" / "demo.yaml").read_text()
    plan.write_text(text.replace("prune_below: 0.02,", "prune_below: 0.03,"))
    demo, r21 = DEMO / "seed-1.jsonl", FIXTURES / "r21.jsonl"
    assert rules(demo)[1] == [0.02] * 3
    assert rules(demo)[0].origin == "the plan 'demo'"
    assert rules(demo, plan)[1] == [0.03] * 3
    assert rules(demo, plan, 0.1)[1] == [0.1] * 3
    assert rules(r21)[1] == [0.001] * 3
    assert rules(r21)[0].origin == "the default of a plan"
    assert rules(r21, plan)[1] == [0.03] * 3
    renamed = demo.read_text().replace('"plan_name": "demo"', '"plan_name": "another"')
    (tmp_path / "renamed.jsonl").write_text(renamed)
    assert rules(tmp_path / "renamed.jsonl")[1] == [0.001] * 3


def test_a_plan_that_does_not_tell(tmp_path: Path) -> None:
    """Two thresholds and no search of that name: a question, exit code 2."""
    text = (ROOT / "plans" / "demo.yaml").read_text()
    (tmp_path / "two.yaml").write_text(text.replace("prune_below: 0.02,", "prune_below: 0.03,", 1))
    done = fsearch("replay", FIXTURES / "r21.jsonl", "--plan", "two.yaml", cwd=tmp_path)
    assert done.returncode == 2
    wanted = (
        "The plan 'demo' has no search 'mbpp_fix', and its own prune below 2 pp or 3 pp: give --prune-below."
    )
    assert done.stderr == f"{wanted}\n"


def test_nothing_is_written(tmp_path: Path) -> None:
    """No state, no cache, no change of the file."""
    text = (DEMO / "seed-0.jsonl").read_bytes()
    (tmp_path / "rows.jsonl").write_bytes(text)
    assert fsearch("replay", "rows.jsonl", cwd=tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert (tmp_path / "rows.jsonl").read_bytes() == text


@pytest.mark.parametrize(
    ("name", "file", "threshold"),
    [
        ("replay-r20", FIXTURES / "r20.jsonl", None),
        ("replay-demo", DEMO / "seed-1.jsonl", None),
        ("replay-demo-30pp", DEMO / "seed-0.jsonl", 0.3),
    ],
)
def test_what_it_looks_like(
    name: str, file: Path, threshold: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of 80 columns; for an export of ours what another threshold costs and loses."""
    monkeypatch.chdir(file.parent)
    records = read(file.name)
    found = rules_for(records, threshold, None)
    assert_snapshot(f"{name}-80", lines(records, replay(records.rows, found.prune_below), found, 80), 80)


def test_a_plan_without_a_screen(tmp_path: Path) -> None:
    """Nothing is screened, so no threshold is needed, and none that was used can be changed."""
    rows = [row for row in demo_rows(0) if row["role"] == "confirm"]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    text = (ROOT / "plans" / "demo.yaml").read_text()
    text = re.sub("^( *(?:- {name: quick|screen:).*)$", "", text, flags=re.MULTILINE)
    (tmp_path / "plan.yaml").write_text(text)
    found = replayed(tmp_path / "rows.jsonl", "--plan", tmp_path / "plan.yaml")
    assert [item["d_acc"] for item in found] == [row["d_acc"] for row in compared(rows)]
    assert {item["delta_as_the_drafts_reported"] for item in found} == {None}
    told = fsearch("replay", "rows.jsonl", "--plan", "plan.yaml", cwd=tmp_path).stdout
    assert "medium +71.18 over 5 seeds, at_least_delta" in told
    assert "prune below" not in told


def test_a_medium_baseline_makes_a_comparison(tmp_path: Path) -> None:
    """Where the drafts' way had trained one, the medium row has a difference and the missing word goes."""
    rows = [json.loads(line) for line in (FIXTURES / "r21.jsonl").read_text().splitlines()]
    medium = next(row for row in rows if row["stage"] == "med" and row["task"] == "mbpp_fix")
    rows.append({**medium, "config": "no_fs", "best_val_tok_acc": 0.25})
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (item,) = (
        one
        for one in replayed(tmp_path / "rows.jsonl")
        if one["task"] == "mbpp_fix" and one["stage"] == "med"
    )
    assert item["d_acc"] == medium["best_val_tok_acc"] - 0.25 < 0 < item["delta_as_the_drafts_reported"]
    assert (item["verdict"], item["decision"]) == (None, None)
