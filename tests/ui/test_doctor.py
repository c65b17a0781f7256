"""`fsearch doctor`: what it finds on this machine, and on machines with something broken."""

from __future__ import annotations

import json
import os
import select
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsearch.daemon import DeviceLock, record_path
from fsearch.daemon.child import start
from fsearch.store import Store
from fsearch.store.schema import HEAD
from fsearch.ui.doctor import ALONE, Finding, Look, lines
from fsearch.ui.doctor_checks import LOOKS
from tests.hub import Fault, Hub
from tests.mounted_disk import mounted_disk
from tests.nvml.conftest import library_folder, nvml  # noqa: F401  (fixtures)
from tests.nvml.standin import MODEL, StandIn
from tests.ui.commands import ROOT, fsearch

ORDER = ["GPU", "driver", "disk", "locks", "record", "hub"]
KERNEL = ["torch", "C++ compiler", "CUDA toolkit", "ninja", "kernel"]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub({}) as hub:
        yield hub


def checks(done: Any) -> dict[str, dict[str, str]]:
    """The findings of `doctor --json` by name."""
    return {one["name"]: one for one in json.loads(done.stdout)["checks"]}


def seen(
    program: list[str], job: dict[str, Any], tmp_path: Path, names: tuple[str, ...], deadline_s: float = 60.0
) -> dict[str, Finding]:
    """The findings of one look."""
    log = tmp_path / "look.log"
    look = Look(names, start(program, job, log), log, deadline_s)
    while not look.ended:
        select.select(look.child.open, [], [], 0.1)
        look.work()
    return look.findings


def here(look: str, state: Path) -> Finding:
    """What a look finds, in this process."""
    found: list[Finding] = []
    LOOKS[look](state, lambda *said: found.append(Finding(*said)))
    (one,) = found
    return one


def kernel(state: Path, tmp_path: Path) -> dict[str, Finding]:
    """What is found of torch, the compilers and the kernel."""
    job = {"kind": "doctor", "cache": str(state / "cache" / "kernel"), "cuda": [], "busy": False}
    return seen([sys.executable, "-m", "fsearch.train.doctor"], job, tmp_path, tuple(KERNEL))


def test_a_machine_on_which_all_is_well(state: Path, tmp_path: Path, hub: Hub) -> None:
    """Every line is ok, in the order of the screen; it ends with 0 and has changed nothing."""
    before = sorted(state.rglob("*"))
    done = fsearch("doctor", "--json", cwd=tmp_path, HF_ENDPOINT=hub.address, FSEARCH_LOCK_DIR=str(tmp_path))
    said = json.loads(done.stdout)
    assert (done.returncode, done.stderr, said["schema"], said["ok"]) == (0, "", 1, True)
    found = checks(done)
    assert list(found) == ORDER + KERNEL
    disk = found.pop("disk")  # may be any machine's
    assert disk["level"] != "fail" and str(state) in disk["found"]
    assert {name: (one["level"], one["todo"]) for name, one in found.items()} == dict.fromkeys(
        found, ("ok", "")
    )
    assert found["hub"]["found"].startswith(f"{hub.address} answers")
    assert "found built; outputs and gradients are right to" in found["kernel"]["found"]
    assert {method for method, _, _ in hub.asked} == {"HEAD"}
    assert sorted(state.rglob("*")) == before


def test_a_machine_on_which_much_is_broken(tmp_path: Path) -> None:
    """One line each, with what to do; the others are looked at all the same, and it ends with 1."""
    record = record_path(tmp_path / "state")
    record.parent.mkdir()
    record.write_bytes(b"not a database, but long enough to look at" * 100)
    broken = tmp_path / "site" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("import os\nos.abort()\n")
    path = f"{tmp_path / 'site'}{os.pathsep}{ROOT}"
    away = "http://127.0.0.1:9"
    done = fsearch("doctor", cwd=tmp_path, PYTHONPATH=path, HF_ENDPOINT=away, COLUMNS="400")
    assert (done.returncode, done.stderr) == (1, "")
    words = " ".join(done.stdout.split())
    assert f"fail record {record} is not a SQLite database" in words
    assert "-> There is no good backup in" in words
    assert "warn hub http://127.0.0.1:9 does not answer" in words
    assert "fail torch the look at it broke off (signal 6)" in words
    assert "warn kernel not looked at, because of the torch" in words
    assert words.endswith("To be mended: record, torch.")


def test_a_look_that_hangs_is_ended(tmp_path: Path) -> None:
    """What it has said before is kept."""
    says = (
        "import sys, time\nfrom fsearch.system import messages\n"
        "one = {'type': 'finding', 'name': 'first', 'level': 'ok', 'found': 'there', 'todo': ''}\n"
        "messages.send(int(sys.argv[2]), one)\ntime.sleep(3600)"
    )
    found = seen([sys.executable, "-c", says], {}, tmp_path, ("first", "second", "third"), deadline_s=2.0)
    assert found["first"] == Finding("first", "ok", "there")
    assert found["second"] == Finding("second", "fail", "no answer in 2 s", "look at it by hand")
    assert found["third"] == Finding("third", "warn", "not looked at, because of the second")


@pytest.mark.parametrize(
    ("fault", "environment", "level", "said"),
    [
        (Fault("", "status", status=500), {}, "warn", "answers, but with 500"),
        (Fault("", "status", status=503, headers={"Retry-After": "60"}), {}, "warn", "does not answer"),
        (Fault("", "reset"), {}, "warn", "does not answer"),
        (Fault("", "stall"), {}, "warn", "does not answer"),
        (None, {"HF_HUB_OFFLINE": "1"}, "ok", "not asked, because HF_HUB_OFFLINE is set"),
    ],
)
def test_a_hub(
    fault: Fault | None,
    environment: dict[str, str],
    level: str,
    said: str,
    tmp_path: Path,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that fails is a warning, because not every plan needs it; offline it is not asked."""
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    hub.faults += [fault] if fault else []
    found = seen(ALONE, {"look": "hub", "state": str(tmp_path)}, tmp_path, ("hub",))["hub"]
    assert found.level == level and said in found.found
    assert bool(hub.asked) == (fault is not None)


def test_who_holds_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found without touching the lock: named while it is held, and not once it is given back."""
    monkeypatch.setenv("FSEARCH_LOCK_DIR", str(tmp_path))
    lock = DeviceLock("cpu", {"pid": os.getpid(), "host": "here", "user": "somebody", "plan": "theirs"})
    try:
        held = here("locks", tmp_path)
    finally:
        lock.release()
    assert held.level == "warn"
    assert held.found == f"cpu is in use by pid {os.getpid()} on here (user somebody), which runs theirs"
    assert here("locks", tmp_path).level == "ok"


def test_a_record(tmp_path: Path, whole: Path) -> None:
    """None yet, whole, and of a newer fsearch."""
    assert here("record", tmp_path) == Finding(
        "record", "ok", f"none yet in {tmp_path}; `fsearch run` begins it"
    )
    good = here("record", whole)
    assert good.level == "ok"
    assert good.found.startswith(f"whole, schema {HEAD}, ") and "0 backups" in good.found
    with Store.open(record_path(tmp_path)):
        pass
    with sqlite3.connect(record_path(tmp_path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = here("record", tmp_path)
    assert newer.level == "fail" and newer.todo.startswith("install the fsearch that wrote it")


def test_a_disk(tmp_path: Path) -> None:
    """In memory it is a warning, full it is to be mended; the state need not be there."""
    with mounted_disk(tmp_path / "disk", "32m") as disk:
        full = here("disk", disk / "not" / "yet")
    assert full.level == "fail" and "with less than 64 MiB nothing is begun" in full.todo
    with mounted_disk(tmp_path / "disk", "200m") as disk:
        passing = here("disk", disk)
    assert passing.level == "warn" and "(tmpfs)" in passing.found and "empties it" in passing.todo


def test_a_gpu(nvml: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """One that this torch cannot use is a warning; a driver that fails is to be mended; none is a word."""
    for name, value in nvml.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    job = {"look": "gpu", "state": str(tmp_path)}

    def look() -> dict[str, Finding]:
        return seen(ALONE, job, tmp_path, ("GPU", "driver"))

    found = look()
    assert found["driver"] == Finding("driver", "ok", "570.86.15, runs CUDA up to 12.8")
    assert MODEL in found["GPU"].found
    assert found["GPU"].level in ("ok", "warn")  # as torch is built
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    nvml.says("init_error 999\n")
    broken = look()
    assert broken["driver"].level == "fail" and "Unknown Error" in broken["driver"].found
    nvml.says("init_error 9\n")  # the driver is not loaded
    assert [(one.level, one.todo) for one in look().values()] == [("ok", "")] * 2


def test_no_compiler(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is the build's own."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = kernel(state, tmp_path)
    assert found["torch"].level == "ok"
    for name in ("C++ compiler", "kernel"):
        assert found[name].level == "fail" and "'no-such-compiler'" in found[name].found
        assert found[name].todo.startswith("install one")


def test_a_torch_that_does_not_load(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import's own words; what needs torch is not looked at."""
    broken = tmp_path / "site" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise OSError('libtorch_cpu.so: file too short')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{ROOT}")
    found = kernel(state, tmp_path)
    assert found["torch"].level == "fail" and "libtorch_cpu.so: file too short" in found["torch"].found
    assert {found[name].level for name in KERNEL[1:]} == {"warn"}


@pytest.mark.parametrize("content", [b"", b"no library"])
def test_a_kernel_that_does_not_load(content: bytes, kernel_library: Path, tmp_path: Path) -> None:
    """The others are found all the same."""
    cache = tmp_path / "damaged" / "cache" / "kernel"
    cache.mkdir(parents=True)
    for library in kernel_library.parent.glob("*.so"):
        (cache / library.name).write_bytes(content or library.read_bytes()[:4096])  # a cut one crashes
    found = kernel(tmp_path / "damaged", tmp_path)
    assert found["kernel"].level == "fail" and found["kernel"].todo.startswith("remove ")
    said = "built, but it does not load" if content else "the look at it broke off (signal 7)"
    assert found["kernel"].found.startswith(said)
    assert {found[name].level for name in KERNEL[:-1]} == {"ok"}


def test_a_remedy_with_commands_is_not_broken() -> None:
    """Lines that are commands stay whole, however narrow the terminal is."""
    command = "  mv /a/very/long/path/to/a/record /another/very/long/path/to/put/it/aside/for/a/while"
    shown = [
        line.plain for line in lines(Finding("record", "fail", "damaged", f"put it aside:\n{command}"), 60)
    ]
    assert shown[0] == "fail  record        damaged"
    assert shown[1].strip() == "-> put it aside:" and shown[2].strip() == command.strip()
