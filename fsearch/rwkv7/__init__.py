"""The RWKV-7 language model with Future-Seed: from a checkpoint or from scratch."""

from __future__ import annotations

from fsearch.rwkv7.checkpoint import Architecture, CheckpointError, inspect, load, save
from fsearch.rwkv7.future_seed import FutureSeed
from fsearch.rwkv7.generate import generate
from fsearch.rwkv7.hub import HubError, HubUnreachable
from fsearch.rwkv7.init import initialise, parameter_groups
from fsearch.rwkv7.model import RWKV7, Ranks, weights_sha256

__all__ = [
    "RWKV7",
    "Architecture",
    "CheckpointError",
    "FutureSeed",
    "HubError",
    "HubUnreachable",
    "Ranks",
    "generate",
    "initialise",
    "inspect",
    "load",
    "parameter_groups",
    "save",
    "weights_sha256",
]
