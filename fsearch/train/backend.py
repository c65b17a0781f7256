"""Which form of the kernel a process trains with. Nothing here builds one."""

from __future__ import annotations

import sys
from pathlib import Path

from fsearch import kernels
from fsearch.kernels.library import FALLBACK


def use_backend(wanted: str) -> None:
    """Run on `wanted`: the fallback, whatever the CPU gives ("cpu"), or one compiled backend and no other.

    Raises RuntimeError if this process has another one: rows of two backends must not be compared.
    """
    if wanted == FALLBACK:
        kernels.use("chunked")
    elif wanted not in ("cpu", kernels.backend()):
        raise RuntimeError(
            f"the attempt is to run on {wanted}, but this process has {kernels.backend()}: its kernel is "
            "gone or has changed; start again, and it is built again"
        )


def load_kernel(cache: Path | None) -> None:
    """Load the compiled kernel if it is not loaded yet and has been built in `cache`. Never builds one."""
    if cache is None or kernels.is_loaded():
        return
    try:
        library = kernels.build.find(cache)
    except kernels.build.KernelBuildError:
        return  # without a compiler: the portable form runs, and the result says so
    if library is None:
        return
    try:
        kernels.load(library)
    except OSError as error:  # a damaged file: out of the way with it, so that the next build makes it anew
        print(f"the kernel {library} cannot be loaded and is removed: {error}", file=sys.stderr)
        library.unlink(missing_ok=True)
