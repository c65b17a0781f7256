"""Building the library: its cache, compilers that are missing or fail, full disks, builds that were ended."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsearch.kernels import backend, build, is_loaded, load, toolchain
from tests.alive import wait_until_gone
from tests.mounted_disk import mounted_disk

TINY_SOURCES = {"binding.cpp": "int binding = 1;\n", "wkv7_cpu.cpp": ""}
COMPILER = """#!/bin/sh
case "$*" in *--version*) exec g++ --version;; esac
echo "$$ $*" >> {folder}/calls
if [ -e {folder}/slow ]; then sleep 60; fi
exec g++ "$@"
"""
DEAF = """#!/bin/sh
case "$*" in *--version*) echo deaf 1; exit;; esac
trap '' TERM
sleep 60 &
echo $$ $! >> {folder}/calls
while true; do echo still at it; sleep 0.1; done
"""
SAYS = """#!/bin/sh
case "$*" in *--version*) echo says 1; exit;; esac
{commands}
exit 1
"""
# Stands in for nvcc where there is none: it gives the toolkit's place and compiles a .cu as C++.
NVCC = """#!/bin/sh
case "$*" in
*--version*) echo stand-in 13; exit;;
*--dryrun*) echo '#$ LIBRARIES=  "-L{folder}/toolkit"' >&2; exit;;
esac
echo "$*" >> {folder}/nvcc-calls
for word; do last=$out; out=$word; case $word in *.cu) source=$word;; esac; done
exec g++ -fPIC -x c++ -c "$source" -o "$out"
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder; beside it sources that compile in no time, and a compiler that logs its calls."""
    source = tmp_path / "csrc"
    source.mkdir()
    for name, text in TINY_SOURCES.items():
        (source / name).write_text(text)
    monkeypatch.setattr(build, "csrc_dir", lambda: source)
    monkeypatch.setenv("CXX", str(script(tmp_path / "compiler", COMPILER.format(folder=tmp_path))))
    return tmp_path / "cache"


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def calls(cache: Path) -> list[str]:
    log = cache.parent / "calls"
    return log.read_text().splitlines() if log.exists() else []


def builder(cache: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A process that builds into `cache`."""
    program = (
        "from pathlib import Path; from fsearch.kernels import build\n"
        f"build.csrc_dir = lambda: Path({str(build.csrc_dir())!r})\n"
        f"build.build(Path({str(cache)!r}))"
    )
    root = Path(build.__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", program], cwd=root, env={**os.environ, **environment})


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_loaded_library_says_what_the_build_said(kernel_library: Path) -> None:
    """The backend is known before loading, and the name is that of the running code."""
    built = build.build(kernel_library.parent)
    assert built.library == kernel_library == build.find(kernel_library.parent)
    assert is_loaded() and backend() == built.backend and built.cuda == ()
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


def test_every_source_is_compiled_and_reported(tiny: Path) -> None:
    """All bindings and CPU sources take part; one line each, one for the link, one before them all."""
    (build.csrc_dir() / "binding_more.cpp").write_text("int more = 1;\n")
    (build.csrc_dir() / "more_cpu.cpp").write_text("")
    lines: list[str] = []
    library = build.build(tiny, progress=lines.append).library
    sources = [re.fullmatch(rf"compiled {i} of {len(lines) - 1}: (.+)", line) for i, line in enumerate(lines)]
    assert lines[0] == f"compiled 0 of {len(lines) - 1}" and all(sources[1:])
    named = [source[1] for source in sources if source]
    assert named[-1] == "linked"
    wanted = {"binding.cpp", "binding_more.cpp", "wkv7_cpu.cpp (generic)", "more_cpu.cpp"}
    assert wanted <= set(named) and len(set(named)) == len(named)
    symbols = subprocess.run(["nm", str(library)], capture_output=True, text=True, check=True).stdout
    assert " binding\n" in symbols and " more\n" in symbols
    lines.clear()
    build.build(tiny, progress=lines.append)
    assert lines == []  # nothing was done


def test_odd_characters_in_paths(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces, commas, colons and dollars in the names of folders and of the compiler are no obstacle."""
    odd = tiny.parent / "an odd, $name: folder"
    odd.mkdir()
    shutil.copytree(build.csrc_dir(), odd / "csrc")
    compiler = script(odd / "my compiler", COMPILER.format(folder=tiny.parent))
    monkeypatch.setenv("CXX", shlex.quote(str(compiler)))
    monkeypatch.setattr(build, "csrc_dir", lambda: odd / "csrc")
    assert build.build(odd / "cache").library.is_file()


def test_concurrent_builds_compile_once(tiny: Path) -> None:
    """Of two processes that build at once one waits and takes what the other made."""
    both = [builder(tiny) for _ in range(2)]
    assert [one.wait(120) for one in both] == [0, 0]
    assert build.find(tiny)
    assert len([call for call in calls(tiny) if "/binding.cpp" in call]) == 1


def test_killed_build_leaves_nothing_and_hangs_nobody(tiny: Path) -> None:
    """After kill -9 of a build its compilers end too, and the next build succeeds with no debris left."""
    slow = tiny.parent / "slow"
    slow.touch()
    killed = builder(tiny)
    deadline = time.monotonic() + 60
    while not calls(tiny):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    compilers = [int(call.split()[0]) for call in calls(tiny)]
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert wait_until_gone(compilers, 10.0) == [], "a compiler outlived the killed build"
    slow.unlink()
    library = build.build(tiny).library
    assert left_in(tiny) == [library.with_suffix(".lock").name, library.name]


def test_killed_before_and_after_the_library_is_in_its_place(tiny: Path) -> None:
    """The next build makes it, or finds it; nothing else lies there."""
    assert builder(tiny, FSEARCH_FAULT_POINT="1").wait(120) == -signal.SIGKILL
    assert not list(tiny.glob("*.so"))
    assert builder(tiny, FSEARCH_FAULT_POINT="2").wait(120) == -signal.SIGKILL
    compiled = len(calls(tiny))
    library = build.build(tiny).library
    assert len(calls(tiny)) == compiled
    assert left_in(tiny) == [library.with_suffix(".lock").name, library.name]


def test_deadline_ends_the_compilers(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the deadline every process of the build is gone, even one that does not listen; the lock is free."""
    able = os.environ["CXX"]
    monkeypatch.setenv("CXX", str(script(tiny.parent / "deaf", DEAF.format(folder=tiny.parent))))
    began = time.monotonic()
    with pytest.raises(build.KernelBuildError, match=r"not compiled within 1\.5 s .* build again"):
        build.build(tiny, deadline_s=1.5)
    assert 1.5 <= time.monotonic() - began < 10
    pids = [int(pid) for call in calls(tiny) for pid in call.split()]
    assert pids and wait_until_gone(pids) == []
    assert [name.rpartition(".")[2] for name in left_in(tiny)] == ["lock"]
    monkeypatch.setenv("CXX", able)
    assert build.build(tiny).library.is_file()


def test_a_listener_that_fails_ends_the_compilers(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `progress` raises comes through, and by then no compiler runs."""
    monkeypatch.setenv("CXX", str(script(tiny.parent / "deaf", DEAF.format(folder=tiny.parent))))
    (tiny.parent / "csrc" / "x.cu").write_text("")
    monkeypatch.setenv("CUDACXX", str(script(tiny.parent / "nvcc", NVCC.format(folder=tiny.parent))))

    def fail(line: str) -> None:
        if "x.cu" in line:
            raise BrokenPipeError(32, "nobody listens")

    with pytest.raises(BrokenPipeError, match="nobody listens"):
        build.build(tiny, cuda=("sm_80",), progress=fail, deadline_s=30)
    assert wait_until_gone([int(pid) for call in calls(tiny) for pid in call.split()]) == []


def test_stale_lock_file_does_not_block(tiny: Path) -> None:
    """A lock file without a holder is no lock; one with a holder is, and the wait for it is said."""
    library = build.build(tiny).library
    library.unlink()
    assert library.with_suffix(".lock").exists()
    assert build.build(tiny).library == library
    library.unlink()
    lines: list[str] = []
    with open(library.with_suffix(".lock")) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=build.build, args=(tiny,), kwargs={"progress": lines.append})
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive() and not library.exists()
        assert lines == ["waiting for another build of the kernel"]
        with pytest.raises(build.KernelBuildError, match=r"still builds .* after 0\.3 s .*\.lock: wait"):
            build.build(tiny, deadline_s=0.3)
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
    monkeypatch.setenv("CXX", str(script(tmp_path / "no-program", "\0")))
    with pytest.raises(build.KernelBuildError, match=r"no-program --version could not be run"):
        build.build(tmp_path / "cache")


def test_no_ninja(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on the PATH nor beside Python: the error says what to install."""
    monkeypatch.setenv("PATH", str(tiny.parent))
    monkeypatch.setenv("CXX", "/bin/true")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tiny.parent))
    with pytest.raises(build.KernelBuildError, match="ninja was not found: install it"):
        build.build(tiny)


def test_no_nvcc(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA kernels need nvcc: the error says what to install. Without targets nvcc is not looked for."""
    monkeypatch.setenv("CUDACXX", "/nowhere/nvcc")
    with pytest.raises(build.KernelBuildError, match=r"'/nowhere/nvcc' that CUDACXX names was not found"):
        build.build(tiny, cuda=("sm_90",))
    monkeypatch.delenv("CUDACXX")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(toolchain, "_USUAL_NVCC", "/nowhere/nvcc")
    with monkeypatch.context() as without_path:
        without_path.setenv("PATH", str(tiny.parent / "empty"))
        with pytest.raises(build.KernelBuildError, match=r"nvcc, the CUDA compiler, was not found: install"):
            build.find(tiny, cuda=("sm_90",))
    assert build.build(tiny).library.is_file()


def test_gpu_that_is_too_old(tiny: Path) -> None:
    """Before anything is compiled a GPU without bf16 is refused by name."""
    with pytest.raises(build.KernelBuildError, match=r"at least sm_80 .* this one is sm_75"):
        build.build(tiny, cuda=("sm_90", "sm_75"))
    assert not tiny.exists()


def test_cuda_kernels_are_part_of_the_name(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets and nvcc's version make another library; nvcc gets them all, bindings hear of it."""
    folder = tiny.parent
    (build.csrc_dir() / "kernels.cu").write_text('extern "C" int kernels() { return 7; }\n')
    use = (
        'extern "C" int kernels();\nint binding = kernels();\n#ifndef FSEARCH_CUDA\n#error no CUDA\n#endif\n'
    )
    (build.csrc_dir() / "binding.cpp").write_text(use)
    home = folder / "home"
    (home / "bin").mkdir(parents=True)
    nvcc = script(home / "bin" / "nvcc", NVCC.format(folder=folder))
    (folder / "toolkit").mkdir()
    subprocess.run(["ar", "rc", str(folder / "toolkit" / "libcudart_static.a")], check=True)
    monkeypatch.delenv("CUDACXX", raising=False)
    monkeypatch.setenv("CUDA_HOME", str(home))
    monkeypatch.setenv("CXX", f"env {folder}/compiler -m64")  # as in "ccache g++ -m64"
    built = build.build(tiny, cuda=("sm_120", "sm_90"))
    assert built.cuda == ("sm_90", "sm_120") and built.backend == "cuda1"
    (call,) = (folder / "nvcc-calls").read_text().splitlines()
    assert f"-ccbin {folder}/compiler " in call
    assert "-gencode arch=compute_90,code=sm_90 -gencode arch=compute_120,code=sm_120 " in call
    assert build.find(tiny, cuda=("sm_90", "sm_120")) == built.library
    assert build.find(tiny) is None and build.find(tiny, cuda=("sm_90",)) is None
    nvcc.write_text(nvcc.read_text().replace("stand-in 13", "stand-in 14"))
    assert build.find(tiny, cuda=("sm_90", "sm_120")) is None


def test_compiler_that_fails(tiny: Path) -> None:
    """The compiler's own words are kept, its first error is in the sentence, and no library is left."""
    (build.csrc_dir() / "binding.cpp").write_text("this is not C++\n")
    with pytest.raises(build.KernelBuildError, match=r"could not compile .*error: .*this.*C\+\+20") as caught:
        build.build(tiny)
    assert "error:" in caught.value.detail and "this is not" in caught.value.detail
    assert build.find(tiny) is None
    assert [name.rpartition(".")[2] for name in left_in(tiny)] == ["lock"]


@pytest.mark.parametrize(
    ("who", "words", "sentence"),
    [
        ("CXX", "as: x.o: No space left on device", r"no space is left on the disk of .*cache.*make room"),
        ("CUDACXX", "nvcc fatal   : Unsupported gpu architecture 'compute_90'", r"install a newer CUDA"),
        ("CUDACXX", "h.h:1: error: #error -- unsupported GNU version! gcc 99", r"set CXX to an older one"),
        ("CUDACXX", "x.cu(1): error: odd", r"could not compile .* \(x\.cu\(1\): error: odd\)"),
    ],
)
def test_words_of_compilers(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, who: str, words: str, sentence: str
) -> None:
    """What a compiler says decides what a person reads; the words themselves are kept."""
    (build.csrc_dir() / "x.cu").write_text("")
    monkeypatch.setenv(who, str(script(tiny.parent / "says", SAYS.format(commands=f'echo "{words}"'))))
    with pytest.raises(build.KernelBuildError, match=sentence) as caught:
        build.build(tiny, cuda=("sm_90",) if who == "CUDACXX" else ())
    assert words in caught.value.detail


def test_enormous_output_is_cut_in_the_middle(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a megabyte of words the beginning and the end are kept, and the cut is said."""
    commands = "echo 'error: first'; seq 200000; echo last"
    monkeypatch.setenv("CXX", str(script(tiny.parent / "says", SAYS.format(commands=commands))))
    with pytest.raises(build.KernelBuildError, match="error: first") as caught:
        build.build(tiny)
    detail = caught.value.detail
    assert len(detail) < 50_000 and "error: first" in detail and "last" in detail
    assert re.search(r"\d{6,} characters are left out", detail)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system that holds 64 KiB."""
    with mounted_disk(tmp_path / "disk", "64k") as folder:
        yield folder


@pytest.mark.parametrize("filled_kib", [0, 64])
def test_full_disk(tiny: Path, small_disk: Path, filled_kib: int) -> None:
    """No room for the compilers, or not even for the recipe: one sentence, and room made helps."""
    (build.csrc_dir() / "binding.cpp").write_text("char large[200000] = {1};\n")
    filling = small_disk / "filling"
    filling.write_bytes(bytes(filled_kib << 10))
    with pytest.raises(
        build.KernelBuildError, match=r"no space is left on the disk of .*make room"
    ) as caught:
        build.build(small_disk / "cache")
    assert ("No space left on device" in caught.value.detail) == (filled_kib == 0)
    filling.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    library = build.build(small_disk / "cache").library
    assert left_in(library.parent) == [library.with_suffix(".lock").name, library.name]


def test_folder_that_cannot_be_written(tiny: Path) -> None:
    """The error names the folder: one that may not be written, and one that is a file."""
    with pytest.raises(build.KernelBuildError, match=r"/sys/fsearch.* may not be written .*make it writable"):
        build.build(Path("/sys/fsearch"))
    tiny.write_text("")
    with pytest.raises(build.KernelBuildError, match=r"cannot be built in .*cache"):
        build.build(tiny)


def test_import_is_cheap() -> None:
    """Importing the package, build included, does not import torch's build machinery."""
    script = "import sys, fsearch.kernels.build; assert 'torch.utils.cpp_extension' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(build.__file__).parents[2])
