"""The RWKV-7 language model with Future-Seed, and how to start training it from scratch."""

from __future__ import annotations

from fsearch.rwkv7.future_seed import FutureSeed
from fsearch.rwkv7.init import initialise, parameter_groups
from fsearch.rwkv7.model import RWKV7, Ranks, weights_sha256

__all__ = ["RWKV7", "FutureSeed", "Ranks", "initialise", "parameter_groups", "weights_sha256"]
