"""The zygote of `fsearch.train`, in which a stand-in trains."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fsearch.train import zygote
from fsearch.train.job import RunJob
from tests.stub import attempt, build


def load(kernel_cache: Path | None, _cuda: Sequence[str]) -> tuple[RunJob, str | None]:
    """The stand-in, and a backend once its kernel is built."""
    built = kernel_cache is not None and (kernel_cache / build.LIBRARY).exists()
    return attempt.run, build.BACKEND if built else None


if __name__ == "__main__":
    sys.exit(zygote.main(load))
