"""Every command on the pages works, or stands on a list with the reason why it is not executed here.

The commands of a page run one after another, as a reader would type them, in a folder like a checkout in
which the demo has run. There plans/demo.yaml is the demo with a few steps and variants; everything else is
what is committed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fsearch.ui.cli import parser
from tests.docs.pages import PAGES, ROOT, Command, commands, fences, prose

NOT_HERE = {
    "git pull": "is for a checkout that follows another",
    "git clone ": "the checkout is here already; the long test of the quickstart clones it",
    "make ": "makes a virtual environment of its own; `make venv` is in the long test of the quickstart",
    ". .venv/bin/activate": "as above",
    "fsearch data fetch": "downloads 86 MB",
    "fsearch run plans/controls.yaml": "half an hour; tests/end_to_end/test_controls.py has it",
    "fsearch bench ": "measures for minutes; tests/ui/test_bench.py and its neighbours have it",
    "systemctl ": "needs a systemd of one's own",
    "loginctl ": "as above",
    "journalctl ": "as above",
    "tmux ": "needs a terminal",
    "python3 -m venv ": "downloads torch for a GPU",
    "pip install ": "as above",
    "tests/gpu/run_all.sh": "needs a GPU; tests/test_gpu_kit.py has it on a CPU",
    "PYTHONPATH=~/peers fsearch bench ": "needs other kernels",
    "nvidia-smi": "needs a GPU",
    "python -m pytest tests/gpu": "as above",
    "fsearch run plans/overnight_4090.yaml": "as above",
    "hf download ": "needs the hub",
    "ray start ": "needs Ray; tests/cluster has it",
    "fsearch check plans/overnight_4090.yaml --data": "as above",
}
"""How a command that is not executed begins, and why it is not."""

LIMIT_S = 900
"""Only a guard against hanging for ever."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, kernel_library: Path) -> Path:
    """A folder like a checkout, and in its ./state the short demo, run to its end."""
    folder = tmp_path_factory.mktemp("checkout")
    cache = folder / "state" / "cache" / "kernel"
    cache.mkdir(parents=True)
    for library in kernel_library.parent.glob("*.so"):
        shutil.copy(library, cache)
    demo = (ROOT / "plans" / "demo.yaml").read_text()
    fewer = r"  - \{name: (raw_strong_l2|head_trained|norm_trained|raw_detached),.*\n"
    for long, short in ((r"steps: \d+", "steps: 3"), (r"seeds: 5", "seeds: 3"), (fewer, "")):
        demo, shortened = re.subn(long, short, demo)
        assert shortened
    shutil.copytree(ROOT / "plans", folder / "plans")
    (folder / "plans" / "demo.yaml").write_text(demo)
    (folder / "bin").mkdir()
    program = folder / "bin" / "fsearch"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fsearch "$@"\n')
    program.chmod(0o755)
    (folder / "locks").mkdir()
    for _ in range(2):  # the second start makes a backup of what the first has found
        done = shell(folder, "fsearch run plans/demo.yaml")
        assert done.returncode == 0, done.stdout
    return folder


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_work(page: Path, checkout: Path, tmp_path: Path) -> None:
    """Each ends with exit code 0, in the order of the page."""
    here = [command for command in commands(page) if reason(command) is None]
    if not here:
        return
    folder = tmp_path / "fsearch"
    shutil.copytree(checkout, folder)
    for name in ("README.md", "docs", "tests"):
        (folder / name).symlink_to(ROOT / name)
    script = [f"echo '>>> {command.place}'\n{command.text}" for command in here]
    done = shell(folder, "\n".join(script))
    assert done.returncode == 0, done.stdout


def test_what_is_not_executed_is_on_the_pages() -> None:
    """The list has nothing that no page has."""
    told = {reason(command) for page in PAGES for command in commands(page)}
    assert told - {None} == set(NOT_HERE)


def test_commands_stand_in_blocks_that_are_executed() -> None:
    """No block of another kind, and no indented line, has a command that the test above would not see."""
    command = rf"[ $]*(fsearch ({'|'.join(verbs(parser()))})|make [a-z]|python -m|pip install)\b"
    for page in PAGES:
        hidden = [text for language, _, text in fences(page) if language in ("", "bash", "shell", "console")]
        for line in ("\n".join(hidden) + prose(page)).splitlines():
            assert not re.match(command, line), f"{page.name}: {line}"


def test_commands_in_sentences_are_those_that_there_are() -> None:
    """A verb or option that a sentence, or the example of an output, names is one of the command line."""
    for page in PAGES:
        named = re.findall(r"`(fsearch [a-z][^`]*)`", prose(page))
        for _, _, text in fences(page):
            named += re.findall(r"^(?:\$ |  )(fsearch [a-z].*)$", text, re.MULTILINE)
        for text in named:
            assert not (unknown := unknown_words(text)), f"{page.name}: `{text}`: there is no {unknown}"


def test_an_unknown_option_is_seen() -> None:
    """The check above can fail, and takes what comes after a redirection for no option of ours."""
    assert unknown_words("fsearch check PLAN --date") == ["--date"]
    assert unknown_words("fsearch fly PLAN") == ["fly"]
    assert not unknown_words("fsearch bench step --shape 0.1b > step.txt --date")


def reason(command: Command) -> str | None:
    """Which line of the list a command is on, if on any."""
    return next((begin for begin in NOT_HERE if command.text.startswith(begin)), None)


def shell(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """What became of the commands; nothing of the person who runs the tests enters."""
    unset = ("COLUMNS", "FSEARCH_STATE", "FORCE_COLOR", "TTY_COMPATIBLE")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "FSEARCH_LOCK_DIR": str(folder / "locks"),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_WAIT_POLICY": "passive",
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def unknown_words(text: str) -> list[str]:
    """The verbs and options of `fsearch ...` that the command line does not have."""
    words = re.split(r"[>|&;#]", text)[0].split()[1:]
    known: argparse.ArgumentParser = parser()
    while words and (below := verbs(known)):
        if words[0] not in below:
            return [words[0]]
        known = below[words.pop(0)]
    options = {option for action in known._actions for option in action.option_strings}
    return [word for word in words if word.startswith("--") and word.split("=")[0] not in options]


def verbs(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """What may follow, by its name."""
    kinds = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    return next((dict(action.choices) for action in kinds), {})
