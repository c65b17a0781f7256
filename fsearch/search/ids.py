"""Hashes and random streams: what an attempt is, as a number that does not depend on labels.

An attempt's id covers everything that decides its result and nothing else: two plans that ask for
the same thing share the attempt, and a renamed stage or variant asks for nothing new.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """Sixteen hex digits of the SHA-256 of a JSON value with sorted keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def data_key(task: str, arguments: dict[str, Any], master_seed: int) -> str:
    """Which data set: examples depend on the task, its arguments and the master seed only."""
    return digest({"data": task, "arguments": arguments, "master_seed": master_seed})


def stream(master_seed: int, seed: int, variant_stream: int, purpose: str) -> int:
    """Seed of one random stream, below 2**63: `purpose` is "init", "order" or "completions"."""
    text = f"fsearch {master_seed} {seed} {variant_stream} {purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
