"""Builds the kernel for a device and prints where it is: python -m tests.gpu.build_kernel CACHE DEVICE"""

from __future__ import annotations

import sys
from pathlib import Path

from fsearch.kernels import build, load
from fsearch.train.bench_kernel import device_of
from fsearch.train.kernel_measurement import targets_of

if __name__ == "__main__":
    try:
        targets = targets_of(device_of(sys.argv[2]))
        library = build.build(Path(sys.argv[1]), cuda=targets).library
    except build.KernelBuildError as error:
        sys.exit(f"{error.reason}\n{error.detail}")
    except ValueError as error:
        sys.exit(str(error))
    load(library)
    print(library)
