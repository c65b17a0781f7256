"""Which form of the kernel a process trains with, and torch's settings. Nothing here builds a kernel."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils import deterministic

from fsearch import kernels
from fsearch.kernels.library import FALLBACK


def use_backend(wanted: str, device: str) -> None:
    """Run on `wanted`: the fallback, whatever the CPU gives ("cpu"), or one compiled backend and no other.

    Raises RuntimeError if this process has another one: rows of two backends must not be compared.
    """
    if wanted == FALLBACK:
        kernels.use("chunked")
    elif wanted not in ("cpu", present := kernels.backend(device)):
        raise RuntimeError(
            f"the attempt is to run on {wanted}, but this process has {present}: its kernel is gone or has "
            "changed; start again, and it is built again"
        )


def load_kernel(cache: Path | None, cuda: Sequence[str] = ()) -> None:
    """Load the compiled kernel if it is not loaded yet and has been built in `cache`. Never builds one.

    `cuda` are the targets that it was built for, such as "sm_90": another library than the one without any.
    """
    if cache is None or kernels.is_loaded():
        return
    try:
        library = kernels.build.find(cache, cuda=cuda)
    except kernels.build.KernelBuildError:
        return  # without a compiler: the portable form runs, and the result says so
    if library is None:
        return
    try:
        kernels.load(library)
    except OSError as error:  # a damaged file: out of the way with it, so that the next build makes it anew
        print(f"the kernel {library} cannot be loaded and is removed: {error}", file=sys.stderr)
        library.unlink(missing_ok=True)


def set_up_torch(threads: int) -> None:
    """Threads, and the settings under which equal jobs give equal numbers."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Nothing here reads memory before writing it, and filling it first would cost five percent of a step.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
