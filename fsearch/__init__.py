"""fsearch: a single-GPU search daemon for Future-Seed in RWKV-7."""

__version__ = "0.1.0"
