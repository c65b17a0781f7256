"""The WKV7 operator with Future-Seed capture, and what makes a seed of a captured state.

Compiled kernels, their build, and portable fallbacks:
`load(build.build(cache).library)` makes both run the compiled kernels; without it the portable forms run.
"""

from __future__ import annotations

from . import build
from .future_seed import future_seed
from .library import backend, is_loaded, load, use
from .operator import HEAD_SIZES, wkv7_fs

__all__ = ["HEAD_SIZES", "backend", "build", "future_seed", "is_loaded", "load", "use", "wkv7_fs"]
