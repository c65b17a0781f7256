"""The WKV7 operator with Future-Seed capture: a compiled kernel, its build, and a portable fallback.

`load(build.build(cache).library)` makes `wkv7_fs` run the compiled kernel; without it the portable form runs.
"""

from __future__ import annotations

from . import build
from .library import backend, is_loaded, load, use
from .operator import HEAD_SIZES, wkv7_fs

__all__ = ["HEAD_SIZES", "backend", "build", "is_loaded", "load", "use", "wkv7_fs"]
