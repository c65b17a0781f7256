"""The command line from outside: what there is, what is said about mistakes, and the exit codes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsearch import __version__
from fsearch.daemon import DeviceLock, record_path
from fsearch.ui.cli import parser
from tests.ui.commands import ROOT, fsearch
from tests.ui.record import PLAN, the_plan

SURFACE = {
    "run": ["--device", "--help", "--on", "--state", "--threads", "-h", "plans"],
    "status": ["--help", "--json", "--once", "--state", "-h"],
    "check": ["--data", "--help", "--schema", "--state", "-h", "plan"],
    "report": ["--against", "--help", "--html", "--json", "--markdown", "--state", "-h", "plan"],
    "export": ["--csv", "--curves", "--examples", "--help", "--state", "--tries", "-h", "plan"],
    "replay": ["--help", "--json", "--plan", "--prune-below", "-h", "records"],
    "data": ["--help", "-h", "subject"],
    "bench": ["--help", "-h", "subject"],
    "doctor": ["--help", "--json", "--state", "-h"],
}


def test_surface_is_frozen() -> None:
    """Every verb and option is a promise: a new one is a visible decision."""
    whole = parser()
    verbs = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    found = {
        name: sorted(option for action in verb._actions for option in action.option_strings or [action.dest])
        for name, verb in verbs.choices.items()
    }
    assert found == SURFACE
    options = sorted(option for action in whole._actions for option in action.option_strings)
    assert options == ["--help", "--version", "-h"]


@pytest.mark.parametrize("verb", [[], *([verb] for verb in SURFACE)])
def test_every_option_is_explained(verb: list[str], tmp_path: Path) -> None:
    """Help names every option of a verb."""
    done = fsearch(*verb, "--help", cwd=tmp_path)
    assert done.returncode == 0
    wanted = SURFACE[verb[0]] if verb else list(SURFACE)
    assert all(name in done.stdout or name.removesuffix("s").upper() in done.stdout for name in wanted)


def test_version(tmp_path: Path) -> None:
    """The version is that of the package."""
    assert fsearch("--version", cwd=tmp_path).stdout == f"fsearch {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: VERB"),
        (["fly"], "invalid choice: 'fly'"),
        (["run"], "the following arguments are required: PLAN"),
        (["check"], "fsearch check: a PLAN is missing."),
        (["run", "demo.yaml", "--threads", "none"], "'none' is not a number of threads"),
        (["run", "demo.yaml", "--threads", "0"], "'0' is not a number of threads"),
        (["run", "demo.yaml", "--device", "tpu"], "'tpu' is not a device: say auto, cpu or cuda:0"),
        (["run", "demo.yaml", "--device", "cuda:7"], "There is no cuda:7 here: "),
        (["run", "missing.yaml"], "There is no plan file missing.yaml."),
        (["check", "."], ". is not a file"),
        (["check", "bad.yaml"], "bad.yaml:2:1: sed: there is no field 'sed'; did you mean 'seed'?"),
        (["check", "binary.yaml"], "is not UTF-8; save the plan as plain UTF-8 text"),
        (["run", "good.yaml", "again.yaml"], "again.yaml asks for the same as good.yaml; give it once."),
    ],
)
def test_mistakes(arguments: list[str], said: str, tmp_path: Path) -> None:
    """A mistake is a sentence on stderr and exit code 2; nothing is made and nothing else is said."""
    (tmp_path / "good.yaml").write_text(PLAN)
    (tmp_path / "again.yaml").write_text(PLAN)
    (tmp_path / "bad.yaml").write_text(PLAN.replace("seed: 0", "sed: 0"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00name")
    before = sorted(tmp_path.iterdir())
    done = fsearch(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_slip_of_the_pen_is_recognised(tmp_path: Path) -> None:
    """A plan file that is not there is looked for under a similar name."""
    (tmp_path / "mine.yaml").write_text(PLAN)
    assert "Did you mean mine.yaml?" in fsearch("check", "mien.yaml", cwd=tmp_path).stderr


def test_check_says_what_a_plan_would_do(tmp_path: Path) -> None:
    """No-ops with their reason, merged variants, thresholds and an upper bound of attempts."""
    (tmp_path / "good.yaml").write_text(PLAN)
    done = fsearch("check", "good.yaml", cwd=tmp_path)
    assert done.returncode == 0
    # 4 searches of 1 + 2 + 6 quick attempts and 5 x (1 + 2) medium ones.
    assert "4 searches, at most 96 trained attempts" in done.stdout
    assert "no-op, not trained: scalar_l3: it starts at layer 3" in done.stdout
    assert "merged: strong_again is the same as raw_strong" in done.stdout
    assert "prune below +1.00 pp, noise floor on 2 seeds, promote 2" in done.stdout
    assert not (tmp_path / "state").exists()


def test_check_says_when_a_run_is_looked_into(tmp_path: Path) -> None:
    """The step of the first stage and what it may cost; nothing where no look is asked for."""
    look = PLAN.replace("noise_floor_seeds: 2", "noise_floor_seeds: 2, futility_look: 0.4")
    for name, text in (("look", look), ("none", PLAN)):
        (tmp_path / f"{name}.yaml").write_text(text)
    words, none = (
        " ".join(fsearch("check", f"{name}.yaml", cwd=tmp_path).stdout.split()) for name in ("look", "none")
    )
    told = "look: a quick variant that is too far below its baseline after step 72 of 180 is stopped there"
    assert words.count(f"{told}; of variants equal to the baseline at most 10 %") == 4
    assert "look:" not in none


def test_check_says_which_batch_is_looked_for(tmp_path: Path) -> None:
    """The bound is the plan's or the number of examples; the memory is the plan's or the machine's."""
    plan = PLAN.replace("batch: 32}", "batch: [{largest: {at_most: 48}}, largest]}")
    limit = "limits: {memory_mib: 700}\n"
    (tmp_path / "free.yaml").write_text(plan)
    (tmp_path / "limited.yaml").write_text(limit + plan)
    free, limited = (fsearch("check", f"{name}.yaml", cwd=tmp_path).stdout for name in ("free", "limited"))
    words = " ".join(free.split())
    assert "batch: the largest that fits, at most 48, in nine tenths of what is free when it begins" in words
    assert "batch: the largest that fits, at most 16384, in nine tenths" in words
    assert "at most 48, in 700 MiB (limits.memory_mib)" in " ".join(limited.split())
    assert "recomputed" not in words


def test_check_says_what_decides_on_recomputing(tmp_path: Path) -> None:
    """Of a batch that is given and of one that is looked for."""
    plan = PLAN.replace("lr: 5.0e-3", "lr: 5.0e-3, recompute: auto")
    plan = plan.replace("batch: 32", "batch: [32, largest]")
    (tmp_path / "auto.yaml").write_text(plan)
    words = " ".join(fsearch("check", "auto.yaml", cwd=tmp_path).stdout.split())
    given = "layers are recomputed only if without it not one example fits; only then is it probed"
    looked_for = "layers are recomputed if a larger batch fits so than without: at most 6 probes without"
    assert (words.count(given), words.count(looked_for)) == (4, 4)


@pytest.mark.parametrize("verb", ["report", "export"])
def test_no_record(verb: str, tmp_path: Path) -> None:
    """A state without a record is exit code 3, with the command that begins one; none is made."""
    done = fsearch(verb, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == "There is no record in ./state yet. `fsearch run plans/demo.yaml` begins one.\n"
    assert not (tmp_path / "state").exists()


def test_status_without_a_record(tmp_path: Path) -> None:
    """Asking how things stand is no mistake where nothing stands."""
    done = fsearch("status", cwd=tmp_path)
    assert done.returncode == 0
    assert "Nothing has run here yet." in done.stdout


@pytest.mark.parametrize("verb", [["report"], ["export"], ["status"], ["status", "--json"]])
def test_damaged_record(verb: list[str], tmp_path: Path) -> None:
    """A file that is no record is refused with exit code 3 and left as it is."""
    record = record_path(tmp_path / "state")
    record.parent.mkdir()
    record.write_bytes(b"not a database, but long enough to look at" * 100)
    done = fsearch(*verb, cwd=tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr and str(record) in done.stderr
    assert record.read_bytes().startswith(b"not a database")


def test_state_that_cannot_be_made(tmp_path: Path) -> None:
    """A state below a file is exit code 3, before anything is started."""
    (tmp_path / "good.yaml").write_text(PLAN.replace("  - {task: sudoku, batch: 32}\n", ""))
    (tmp_path / "file").write_text("")
    done = fsearch("run", "good.yaml", "--state", "file/state", cwd=tmp_path)
    assert done.returncode == 3
    assert "The state folder ./file/state cannot be made" in done.stderr


def test_machine_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run says who holds the machine and exits with 75."""
    (tmp_path / "good.yaml").write_text(PLAN)
    monkeypatch.setenv("FSEARCH_LOCK_DIR", str(tmp_path))
    lock = DeviceLock("cpu", {"pid": os.getpid(), "host": "here", "user": "somebody", "plan": "theirs"})
    try:
        done = fsearch("run", "good.yaml", cwd=tmp_path, FSEARCH_LOCK_DIR=str(tmp_path))
    finally:
        lock.release()
    assert done.returncode == 75
    assert "pid" in done.stderr and "somebody" in done.stderr and "theirs" in done.stderr
    assert "Traceback" not in done.stderr


def test_state_from_the_environment(whole: Path, tmp_path: Path) -> None:
    """$FSEARCH_STATE names the state; --state wins."""
    by_variable = fsearch("report", cwd=tmp_path, FSEARCH_STATE=str(whole))
    by_option = fsearch("report", "--state", whole, cwd=tmp_path, FSEARCH_STATE="/nowhere")
    assert by_variable.returncode == by_option.returncode == 0
    assert by_variable.stdout == by_option.stdout


def test_pipes_get_plain_text(whole: Path) -> None:
    """In a pipe there is no escape sequence and no line over 80 columns; COLUMNS widens it."""
    done = fsearch("report", "--state", whole, cwd=whole.parent)
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    wide = fsearch("report", "--state", whole, cwd=whole.parent, COLUMNS="140")
    assert max(map(len, wide.stdout.splitlines())) > 80


def test_unknown_plan_names_the_known_ones(whole: Path) -> None:
    """A plan that is neither a file nor recorded is exit code 2 and lists what is there."""
    done = fsearch("report", "nothing of the kind", "--state", whole, cwd=whole.parent)
    assert done.returncode == 2
    assert "'three tasks'" in done.stderr


def test_plan_that_never_ran(whole: Path, tmp_path: Path) -> None:
    """A valid plan without any row is told apart from one that ran."""
    (tmp_path / "other.yaml").write_text(PLAN.replace("seed: 0", "seed: 9"))
    done = fsearch("export", "other.yaml", "--state", whole, cwd=tmp_path)
    assert done.returncode == 2
    assert "Nothing of the plan 'three tasks' is recorded" in done.stderr
    assert done.stdout == ""


def test_json_for_scripts(whole: Path, live: Path) -> None:
    """The JSON twins parse, have a schema, and count as the view does."""
    report = json.loads(fsearch("report", "--json", "--state", whole, cwd=whole.parent).stdout)
    assert report["schema"] == 2
    plan = report["plans"][0]
    assert (plan["id"], plan["finished"], plan["promoted"]) == (the_plan().id, True, 5)
    assert len(plan["failures"]) == 4
    status = json.loads(fsearch("status", "--json", "--state", live, cwd=live.parent).stdout)
    assert status["schema"] == 2
    assert status["life"] == "running"
    assert [row["variant"] for row in status["running"]] == ["raw_strong_l2"]
    assert status["count"]["running"] == 1


def test_reader_that_has_seen_enough(whole: Path) -> None:
    """`fsearch export | head -1` ends quietly."""
    command = f"{sys.executable} -m fsearch.ui.cli export --state {whole} | head -c 1"
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "{"
    assert done.stderr == ""
