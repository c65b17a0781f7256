"""Packaged plans by name, and a plan whose checkpoint is not here: `check` goes on, `run` does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fsearch.ui import plans
from fsearch.ui.errors import UserError
from tests.ui.commands import fsearch

PLAN = """\
name: away
model: {checkpoint: models/tiny.pth}
train: {lr: 1.0e-3}
stages: [{name: only, steps: 10, seeds: 3}]
variants: [scalar_l1, scalar_l12]
tasks:
  - {task: infill, batch: 4}
"""


@pytest.mark.parametrize(
    "name", ["rounds/r20", "rounds/r20.yaml", "plans/rounds/r20", "plans/rounds/r20.yaml"]
)
def test_a_packaged_plan_is_found_in_its_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without `plans/` and the ending, from any folder."""
    monkeypatch.chdir(tmp_path)
    path, packaged = plans.find(name)
    assert packaged and path.is_file() and path.parts[-3:] == ("plans", "rounds", "r20.yaml")


def test_a_file_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there under the name is meant, and not the packaged plan."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rounds").mkdir()
    (tmp_path / "rounds" / "r20.yaml").write_text(PLAN)
    assert plans.find("rounds/r20.yaml") == (Path("rounds/r20.yaml"), False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rounds/r020.yaml", "Did you mean rounds/r20.yaml?"),
        ("plans/dmo.yaml", "Did you mean demo.yaml?"),
        ("rounds/r31.yam", "Did you mean rounds/r31.yaml?"),
        ("r20.yaml", "Did you mean rounds/r20.yaml?"),
        ("something else", "rounds/r01.yaml to r29.yaml."),
        ("/nowhere/demo.yaml", "Did you mean demo.yaml?"),
    ],
)
def test_a_name_that_means_nothing_is_told_what_is_near(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest name there is, one's own or a packaged one; else all of them, a folder as one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rounds").mkdir()
    (tmp_path / "rounds" / "r31.yaml").write_text(PLAN)
    with pytest.raises(UserError) as caught:
        plans.find(name)
    assert str(caught.value).startswith(f"There is no plan file {name}. ")
    assert str(caught.value).endswith(said)


def test_a_missing_checkpoint_is_a_notice_of_check_and_an_error_of_run(tmp_path: Path) -> None:
    """`check` says where it looked and shows the rest; `run` writes nothing."""
    (tmp_path / "plan.yaml").write_text(PLAN)
    place = tmp_path / "models" / "tiny.pth"
    seen = fsearch("check", "plan.yaml", cwd=tmp_path, COLUMNS="300")  # a path in one line
    assert (seen.returncode, seen.stderr) == (0, "")
    text = " ".join(seen.stdout.split())
    assert re.search(f"the checkpoint {re.escape(str(place))} is not there", text)
    assert "no-ops that depend on its layers are not known yet" in text
    assert "2 variants to train: scalar_l1, scalar_l12" in text  # the second one perhaps
    done = fsearch("run", "plan.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert f"plan.yaml:2:21: model.checkpoint: {place} is not there" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.yaml"]


def test_a_folder_in_the_place_of_a_checkpoint_is_an_error_of_both(tmp_path: Path) -> None:
    """It would not become a file by waiting."""
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "models" / "tiny.pth").mkdir(parents=True)
    for verb in ("check", "run"):
        done = fsearch(verb, "plan.yaml", cwd=tmp_path)
        assert done.returncode == 2 and "plan.yaml:2:21: model.checkpoint" in done.stderr
