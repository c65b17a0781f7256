"""Which device a word stands for, on machines with and without GPUs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fsearch.daemon.devices import torch_has_cuda, visible
from fsearch.daemon.nvml import Gpu
from tests.nvml.standin import FIRST, MODEL, ROOT, SECOND, StandIn, gpu
from tests.ui.commands import fsearch

GPUS = [Gpu(uuid, MODEL, (8, 9)) for uuid in (FIRST, SECOND)]

TWO = gpu(FIRST) + gpu(SECOND, name="NVIDIA Other", capability="9 0")


def find(nvml: StandIn, torch: Path | None, *cases: tuple[str, str, str | None]) -> list[Any]:
    """What `find` gives for (what NVML answers, what is asked for, CUDA_VISIBLE_DEVICES).

    `torch` is a folder with a torch that was built with CUDA; None for the one that is installed.
    """
    if torch is not None:
        (torch / "torch").mkdir()
        (torch / "torch" / "__init__.py").write_text("raise AssertionError('the daemon imports torch')\n")
        (torch / "torch" / "version.py").write_text("cuda: Optional[str] = '13.0'\n")
    path = str(torch) if torch else ""
    found: list[Any] = nvml.ask(
        f"from tests.nvml.scenarios import found\nanswer = [found(*case) for case in {cases!r}]",
        PYTHONPATH=os.pathsep.join(filter(None, (path, str(ROOT)))),
    )
    return found


def test_auto_is_the_first_gpu(nvml: StandIn, tmp_path: Path) -> None:
    """Two GPUs: `auto`, `cuda` and `cuda:0` are the first, `cuda:1` the second, each by its UUID."""
    asked = ("cuda:0", "cuda", "auto", "cuda:1")
    first, *same, second = find(nvml, tmp_path, *((TWO, one, None) for one in asked))
    assert first == {
        "torch": "cuda",
        "model": MODEL,
        "uuid": FIRST,
        "cuda": ["sm_89"],
        "why": "",
        "lock": FIRST,
        "environment": {"CUDA_VISIBLE_DEVICES": FIRST},
        "told": f"{MODEL} ({FIRST})",
    }
    assert same == [first, first]
    assert (second["model"], second["uuid"], second["cuda"]) == ("NVIDIA Other", SECOND, ["sm_90"])


def test_every_spelling_has_one_lock(nvml: StandIn, tmp_path: Path) -> None:
    """Numbers, numbers among the visible, a UUID and its beginning lead to one name of the lock."""
    spellings = [("cuda:1", None), ("cuda:0", "1"), ("auto", SECOND), ("cuda", SECOND[:8]), ("cuda:1", "0,1")]
    found = find(nvml, tmp_path, *((TWO, asked, visible) for asked, visible in spellings))
    assert [one["lock"] for one in found] == [SECOND] * len(spellings)


@pytest.mark.parametrize(
    ("variable", "left"),
    [
        (None, [0, 1]),
        ("", []),
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 1 , 0 ", [1, 0]),
        ("0,7,1", [0]),
        ("0,-1,1", [0]),
        ("0,0", []),
        (FIRST, [0]),
        (f"{SECOND},{FIRST}", [1, 0]),
        ("GPU-2", [1]),
        ("GPU-", []),
        ("GPU-9", []),
        ("NoDevFiles", []),
        ("MIG-1aaa0000", []),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(variable: str | None, left: list[int]) -> None:
    """In its order; nothing after what names no GPU, or several; nothing at all if one is given twice."""
    assert visible(GPUS, variable) == [GPUS[index] for index in left]


def test_what_is_not_there_is_a_sentence(nvml: StandIn, tmp_path: Path) -> None:
    """A number too high, none visible, a driver that fails: each is said, with what there is."""
    high, hidden, failed = find(
        nvml,
        tmp_path,
        (gpu(), "cuda:1", None),
        (gpu(), "cuda:0", ""),
        ("init_error 18\n", "cuda:0", None),
    )
    assert high == "There is no cuda:1 here: this machine has 1 GPU. Try --device cpu."
    assert "this machine has 1 GPU, 0 of them visible by CUDA_VISIBLE_DEVICES" in hidden
    assert "version mismatch" in failed


def test_auto_falls_back_to_the_cpu_and_says_why(nvml: StandIn, tmp_path: Path) -> None:
    """No GPU and no driver need no word; a driver that fails, and a torch without CUDA, do."""
    none, no_driver, failed = find(
        nvml, tmp_path, *((said, "auto", None) for said in ("", "init_error 9\n", "init_error 18\n"))
    )
    assert none["told"] == no_driver["told"] == none["torch"] == failed["torch"] == "cpu"
    assert "version mismatch" in failed["told"]


@pytest.mark.skipif(torch_has_cuda(), reason="the installed torch has CUDA")
def test_a_torch_without_cuda_uses_no_gpu(nvml: StandIn) -> None:
    """`auto` then is the CPU, and says why; a GPU by its number is refused."""
    auto, first = find(nvml, None, (gpu(), "auto", None), (gpu(), "cuda:0", None))
    assert auto["told"] == "cpu, because the installed torch is one without CUDA"
    assert first.startswith(f"{MODEL} cannot be used: the installed torch is one without CUDA.")


def test_torch_is_not_asked_but_read() -> None:
    """What the files say of the installed torch is what it says itself."""
    import torch

    assert torch_has_cuda() == (torch.version.cuda is not None)


def test_the_command_line_says_it_in_a_sentence(nvml: StandIn, tmp_path: Path) -> None:
    """`fsearch run --device`: a word that is none, and a GPU that is not there, are exit code 2."""
    plan = str(ROOT / "plans" / "demo.yaml")
    state = ["--state", str(tmp_path / "state")]
    wrong = fsearch("run", plan, *state, "--device", "gpu", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "fsearch run: argument --device: 'gpu' is not a device: say auto, cpu or cuda:0. "
        "Try `fsearch run --help`.\n",
    )
    missing = fsearch(
        "run", plan, *state, "--device", "cuda:3", cwd=tmp_path, CUDA_VISIBLE_DEVICES="0", **nvml.environment
    )
    assert missing.returncode == 2 and missing.stdout == ""
    assert missing.stderr == "There is no cuda:3 here: this machine has 1 GPU. Try --device cpu.\n"
