"""The CUDA kernels as nvcc makes them, which takes no GPU: registers, spills, and a library that loads.

Every .cu is compiled once, for the oldest and the newest target, by the build that users run; ptxas is asked
on the way. For the targets between them the kernels alone are compiled, which is quicker.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fsearch.kernels import build, choice, tuning
from fsearch.kernels.choice import Table
from fsearch.kernels.toolchain import find_toolchain

pytestmark = pytest.mark.timeout(900)

TARGETS = ("sm_80", "sm_89", "sm_90", "sm_120")
OUTERMOST = (TARGETS[0], TARGETS[-1])
WITH_KERNELS = {
    "fused.cu",
    "future_seed.cu",
    "wkv7_v1.cu",
    "wkv7_v2_grad.cu",
    "wkv7_v2_prep.cu",
    "wkv7_v2_scan.cu",
}
MOST_SPILLED_BYTES = 0
"""Of stores or loads in one kernel. A kernel that spills belongs in smaller pieces."""

# nvcc, which also has ptxas say what each kernel takes, and takes no warning from anybody.
ASKING_NVCC = """#!/bin/sh
for word; do case $word in *.cu) source=${{word##*/}};; esac; done
[ "$source" ] || exec {nvcc} "$@"
exec {nvcc} -Xptxas -v -Werror all-warnings "$@" 2>"{folder}/$source.ptxas"
"""
# The C++ compiler, in less time: other tests run what it makes of the same sources with optimisation.
QUICK_CXX = """#!/bin/bash
exec {cxx} "${{@/#-O3/-O0}}"
"""
# What a launcher says where no GPU can be seen.
PROBE = """
#include "wkv7_cuda.h"
extern "C" __attribute__((visibility("default"))) const char* probe_launch() {
  Wkv7CudaInputs in = {};
  in.B = in.T = in.H = 1;
  in.N = 64;
  Wkv7CudaOutputs out = {};
  return wkv7_cuda_error(wkv7_cuda_forward(&in, &out));
}
"""
USE = """
import ctypes, sys, torch
from pathlib import Path
from fsearch import kernels
from fsearch.kernels import choice, library
kernels.load(Path(sys.argv[1]))
assert kernels.backend("cuda") == choice.name((), has_v2=library.has_cuda2())
assert kernels.backend("cpu").startswith("cpu-")
r, w, k, v, a, b = (torch.randn(2, 40, 2, 16) * 0.3 for _ in range(6))
y, cap, _ = kernels.wkv7_fs(r, w, k, v, a, b, p=torch.tensor([3, 40]), impl="cpu")
want_y, want_cap, _ = kernels.wkv7_fs(r, w, k, v, a, b, p=torch.tensor([3, 40]), impl="chunked")
torch.testing.assert_close(y, want_y, rtol=1e-4, atol=1e-5)
torch.testing.assert_close(cap, want_cap, rtol=1e-4, atol=1e-5)
probe = ctypes.CDLL(sys.argv[1]).probe_launch
probe.restype = ctypes.c_char_p
print(probe().decode())
"""
NAMES = """
import sys, torch
from pathlib import Path
from fsearch.kernels import backend, load
load(Path(sys.argv[1]))
kinds = [(torch.bfloat16, 64), (torch.bfloat16, 128), (torch.bfloat16, 32), (torch.float32, 64)]
print(backend("cuda"), *(backend("cuda", *kind) for kind in kinds), torch.cuda.is_initialized())
"""
SPILLS = """
extern "C" __global__ void spills(float* x) {
  float held[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) held[i] = x[i * 32 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 64; ++i) x[i * 32 + threadIdx.x] = held[63 - i] * held[(i * 7) % 64];
}
"""


@dataclass(frozen=True)
class Usage:
    """What one kernel takes on one target, as ptxas says."""

    kernel: str
    target: str
    registers: int
    spill_stores: int
    spill_loads: int

    def __str__(self) -> str:
        spilled = f"{self.spill_stores} bytes stored and {self.spill_loads} loaded"
        return f"{self.kernel} on {self.target}: {self.registers} registers, spills {spilled}"


def usages(ptxas: str) -> list[Usage]:
    """The kernels that `ptxas -v` has told of."""
    pattern = (
        r"Compiling entry function '(\w+)' for '(\w+)'"
        r".*?(\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers"
    )
    found = re.findall(pattern, ptxas, re.DOTALL)
    assert len(found) == ptxas.count("Compiling entry function"), f"ptxas says it otherwise: {ptxas}"
    # What no header shows has the compilation's own number in its name.
    kernels = [re.sub(r"_GLOBAL__N__[0-9a-f]{8}", "_GLOBAL__N_", name) for name, *_ in found]
    rest = [(target, int(used), int(st), int(ld)) for _, target, st, ld, used in found]
    return [Usage(kernel, *figures) for kernel, figures in zip(kernels, rest, strict=True)]


def spilling(found: list[Usage]) -> list[Usage]:
    return [usage for usage in found if max(usage.spill_stores, usage.spill_loads) > MOST_SPILLED_BYTES]


@pytest.fixture(scope="module")
def nvcc() -> str:
    try:
        (found,) = find_toolchain(TARGETS).nvcc
    except build.KernelBuildError as error:
        pytest.skip(f"CUDA kernels are compiled where there is nvcc: {error}")
    return shutil.which(found) or found


@pytest.fixture(scope="module")
def compiled(nvcc: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The library with CUDA kernels for the outermost targets, and what ptxas said of each .cu.

    FSEARCH_KERNEL_CACHE names a folder to keep them in between runs of the tests.
    """
    named = os.environ.get("FSEARCH_KERNEL_CACHE")
    folder = Path(named) / "cuda-outermost" if named else tmp_path_factory.mktemp("cuda")
    sources = tmp_path_factory.mktemp("sources") / "csrc"
    shutil.copytree(build.csrc_dir(), sources)
    (sources / "binding_probe.cpp").write_text(PROBE)
    folder.mkdir(parents=True, exist_ok=True)
    cxx = shlex.join(find_toolchain(()).cxx)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "csrc_dir", lambda: sources)
        for variable, script in (
            ("CUDACXX", ASKING_NVCC.format(nvcc=nvcc, folder=folder)),
            ("CXX", QUICK_CXX.format(cxx=cxx)),
        ):
            path = folder / variable
            path.write_text(script)
            path.chmod(0o755)
            patch.setenv(variable, str(path))
        try:
            library = build.build(folder, cuda=OUTERMOST).library
        except build.KernelBuildError as error:
            said = "".join(path.read_text() for path in folder.glob("*.ptxas"))
            pytest.fail(f"{error}\n{error.detail}\n{said}")
    return library, {path.name: (folder / f"{path.name}.ptxas").read_text() for path in sources.glob("*.cu")}


def test_no_kernel_spills(compiled: tuple[Path, dict[str, str]]) -> None:
    """Every .cu with kernels has them for both targets, compiled without a warning; none of them spills."""
    assert {
        path.name for path in build.csrc_dir().glob("*.cu") if "KERNEL(" in path.read_text()
    } == WITH_KERNELS
    for source in sorted(WITH_KERNELS):
        found = usages(compiled[1][source])
        kernels = {
            target: {usage.kernel for usage in found if usage.target == target} for target in OUTERMOST
        }
        first = kernels[OUTERMOST[0]]
        assert first and all(names == first for names in kernels.values()), source
        assert spilling(found) == [], source + ":\n" + "\n".join(map(str, spilling(found)))


@pytest.mark.parametrize("source", sorted(WITH_KERNELS))
def test_no_kernel_spills_on_the_targets_between(
    nvcc: str, compiled: tuple[Path, dict[str, str]], source: str, tmp_path: Path
) -> None:
    """The same kernels there, as the build compiles them."""
    kernels = {usage.kernel for usage in usages(compiled[1][source])}
    for target in set(TARGETS) - set(OUTERMOST):
        command = [nvcc, "-O3", "-std=c++17", f"-arch={target}", "-Xptxas", "-v", "-Werror", "all-warnings"]
        command += ["-cubin", "-o", str(tmp_path / "cubin"), str(build.csrc_dir() / source)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = usages(done.stderr)
        assert {usage.kernel for usage in found} == kernels and {usage.target for usage in found} == {target}
        assert spilling(found) == [], "\n".join(map(str, spilling(found)))


def test_spills_are_seen(nvcc: str, tmp_path: Path) -> None:
    """A kernel that holds 64 numbers in 24 registers is caught; given enough registers it is not."""
    source = tmp_path / "spills.cu"
    source.write_text(SPILLS)

    def compile_with(registers: int) -> list[Usage]:
        command = [nvcc, "-arch=sm_90", "-Xptxas", "-v", f"-maxrregcount={registers}", "-cubin"]
        command += ["-o", str(tmp_path / "spills.cubin"), str(source)]
        return usages(subprocess.run(command, check=True, capture_output=True, text=True).stderr)

    (caught,) = spilling(compile_with(24))
    assert (caught.kernel, caught.target) == ("spills", "sm_90") and caught.spill_stores >= 64
    (free,) = compile_with(255)
    assert spilling([free]) == [] and free.registers >= 64


def test_library_works_without_a_gpu(compiled: tuple[Path, dict[str, str]]) -> None:
    """In a fresh process without a GPU it loads, its CPU kernel works, and a launch says what is missing."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", USE, str(compiled[0])]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert re.search(r"driver|no CUDA-capable device", run.stdout), run.stdout


def test_the_choice_is_in_the_name(compiled: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """What a row's fingerprint says of the kernel: the rule, or this machine's table; a damaged table is the
    rule, with a warning; where v2 has no part it is v1. CUDA is not started for it."""
    library = Path(shutil.copy(compiled[0], tmp_path))
    has_v2 = any(build.csrc_dir().glob("wkv7_v2*.cu"))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[2])}

    def named(table: Table) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", NAMES, str(library)], capture_output=True, text=True, env=environment
        )
        whole = choice.name(table, has_v2=has_v2)
        assert done.stdout == f"{whole} {whole} {whole} cuda1 cuda1 False\n", done.stderr
        assert build.Built(library, build._cuda_backend(library), OUTERMOST).backend == whole
        return whole, done.stderr

    assert named(())[0] == ("cuda2" if has_v2 else "cuda1")
    table = [choice.Measurement("sm_90", "sigmoid", 8, 4096, 12, 64, v1_ms=5.0, v2_ms=1.0)]
    file = tuning.write(library, table, {})
    tuned, said = named(table)
    assert tuned.startswith("cuda2-tuned-" if has_v2 else "cuda1") and said == ""
    file.write_text("{")
    if has_v2:
        with pytest.warns(RuntimeWarning, match="are chosen by the rule"):
            assert "are chosen by the rule" in named(())[1]


def test_library_shows_nothing_of_the_cuda_runtime(compiled: tuple[Path, dict[str, str]]) -> None:
    """Its runtime is its own: no symbol of it can meet those of another CUDA version in the process."""
    command = ["nm", "--dynamic", str(compiled[0])]
    symbols = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "probe_launch" in symbols
    assert not re.findall(r"\bcuda\w+", symbols)


def test_target_that_nvcc_does_not_know(nvcc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU newer than the toolkit: the error names the target, and says that a newer toolkit knows it."""
    sources = tmp_path / "csrc"
    sources.mkdir()
    for name in ("binding.cpp", "wkv7_cpu.cpp", "x.cu"):
        (sources / name).write_text("")
    monkeypatch.setattr(build, "csrc_dir", lambda: sources)
    with pytest.raises(build.KernelBuildError, match=r"sm_999.*install a newer CUDA toolkit") as caught:
        build.build(tmp_path / "cache", cuda=("sm_90", "sm_999"))
    assert "Unsupported gpu architecture 'compute_999'" in caught.value.detail
