"""Building the library: the cache, compilers that are missing or fail, builds that were killed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fsearch.kernels import backend, build, is_loaded, load
from tests.alive import wait_until_gone

TINY_SOURCES = {"binding.cpp": "int binding = 1;\n", "wkv7_cpu.cpp": ""}
COMPILER = """#!/bin/sh
case "$*" in *--version*) exec g++ --version;; esac
echo "$$ $*" >> {folder}/calls
if [ -e {folder}/slow ]; then sleep 60; fi
exec g++ "$@"
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder; beside it sources that compile in no time, and a compiler that logs its calls."""
    source = tmp_path / "csrc"
    source.mkdir()
    for name, text in TINY_SOURCES.items():
        (source / name).write_text(text)
    compiler = tmp_path / "compiler"
    compiler.write_text(COMPILER.format(folder=tmp_path))
    compiler.chmod(0o755)
    monkeypatch.setattr(build, "csrc_dir", lambda: source)
    monkeypatch.setenv("CXX", str(compiler))
    return tmp_path / "cache"


def calls(cache: Path) -> list[str]:
    log = cache.parent / "calls"
    return log.read_text().splitlines() if log.exists() else []


def test_loaded_library_says_what_the_build_said(kernel_library: Path) -> None:
    """The backend is known before loading, and the name is that of the running code."""
    built = build.build(kernel_library.parent)
    assert built.library == kernel_library == build.find(kernel_library.parent)
    assert is_loaded() and backend() == built.backend
    load(kernel_library)  # again: nothing happens


def test_second_library_is_refused(kernel_library: Path, tmp_path: Path) -> None:
    """One process has one kernel: another path is refused by name, not by a crash inside torch."""
    with pytest.raises(RuntimeError, match="needs a new process"):
        load(tmp_path / "other.so")


def test_cache_is_found_and_not_built_twice(tiny: Path) -> None:
    """The first build compiles, the second only looks; a changed source is another library."""
    assert build.find(tiny) is None
    library = build.build(tiny).library
    compiled = len(calls(tiny))
    assert compiled > 0 and library.is_file()
    assert build.find(tiny) == library == build.build(tiny).library
    assert len(calls(tiny)) == compiled
    (build.csrc_dir() / "binding.cpp").write_text("int binding = 2;\n")
    assert build.find(tiny) is None
    assert build.build(tiny).library != library


def test_concurrent_builds_compile_once(tiny: Path) -> None:
    """Of two builds at once one waits and takes what the other made."""
    found: list[Path] = []
    workers = [threading.Thread(target=lambda: found.append(build.build(tiny).library)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 2 and found[0] == found[1]
    assert len([call for call in calls(tiny) if "binding.cpp" in call]) == 1


def test_killed_build_leaves_nothing_and_hangs_nobody(tiny: Path) -> None:
    """After kill -9 of a build its compilers end too, and the next build succeeds with no debris left."""
    slow = tiny.parent / "slow"
    slow.touch()
    script = (
        "import sys; from pathlib import Path; from fsearch.kernels import build\n"
        f"build.csrc_dir = lambda: Path({str(build.csrc_dir())!r})\n"
        f"build.build(Path({str(tiny)!r}))"
    )
    builder = subprocess.Popen([sys.executable, "-c", script], cwd=Path(build.__file__).parents[2])
    deadline = time.monotonic() + 60
    while not calls(tiny):
        assert builder.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    compilers = [int(call.split()[0]) for call in calls(tiny)]
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    assert wait_until_gone(compilers, 10.0) == [], "a compiler outlived the killed build"
    slow.unlink()
    library = build.build(tiny).library
    assert sorted(path.name for path in tiny.iterdir()) == [library.with_suffix(".lock").name, library.name]


def test_stale_lock_file_does_not_block(tiny: Path) -> None:
    """A lock file without a holder is no lock; one with a holder is."""
    library = build.build(tiny).library
    library.unlink()
    assert library.with_suffix(".lock").exists()
    assert build.build(tiny).library == library
    library.unlink()
    with open(library.with_suffix(".lock")) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=build.build, args=(tiny,))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive() and not library.exists()
    waiting.join(30)
    assert library.exists()


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler the error says what to install."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.KernelBuildError, match=r"a C\+\+ compiler was not found: install one .*g\+\+"):
        build.build(tmp_path / "cache")
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(build.KernelBuildError, match=r"'/nowhere/c\+\+' that CXX names was not found"):
        build.build(tmp_path / "cache")


def test_compiler_that_fails(tiny: Path) -> None:
    """A failed compilation carries the compiler's own words and leaves no library."""
    (build.csrc_dir() / "binding.cpp").write_text("this is not C++\n")
    with pytest.raises(build.KernelBuildError, match="could not compile the kernel") as caught:
        build.build(tiny)
    assert "error:" in caught.value.detail and "this is not" in caught.value.detail
    assert build.find(tiny) is None
    assert [path.suffix for path in tiny.iterdir()] == [".lock"]


def test_import_is_cheap() -> None:
    """Importing the package, build included, does not import torch's build machinery."""
    script = "import sys, fsearch.kernels.build; assert 'torch.utils.cpp_extension' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(build.__file__).parents[2])
