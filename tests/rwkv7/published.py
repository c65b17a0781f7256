"""The published `rwkv` package as an oracle, in a process of its own: it sets switches of torch at import.

    python published.py CHECKPOINT.pth...

Beside each checkpoint it leaves NAME.out: the logits [T, V] of `tokens`, and each layer's state [H, N, N]
(rows: values, columns: keys) after the first PROMPT of them. They are read in two calls, prompt and answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

LENGTH, PROMPT = 300, 200


def tokens(vocab_size: int) -> Tensor:
    """[LENGTH] random tokens."""
    return torch.randint(vocab_size, (LENGTH,), generator=torch.Generator().manual_seed(1))


def run(checkpoints: list[Path]) -> list[dict[str, Tensor]]:
    """What the package makes of each of them: `logits` [T, V] and `states` [L, H, N, N], float32."""
    environment = os.environ | {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}
    command = [sys.executable, __file__, *map(str, checkpoints)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=250)
    return [torch.load(path.with_suffix(".out")) for path in checkpoints]


def main() -> None:
    from rwkv.model import RWKV

    torch.set_num_threads(1)
    for path in map(Path, sys.argv[1:]):
        model = RWKV(model=str(path.with_suffix("")), strategy="cpu fp32")
        sequence = tokens(model.args.vocab_size).tolist()
        prompt, state = model.forward(sequence[:PROMPT], None, full_output=True)
        states = torch.stack(state[1::3])
        answer, _ = model.forward(sequence[PROMPT:], state, full_output=True)
        torch.save({"logits": torch.cat([prompt, answer]), "states": states}, path.with_suffix(".out"))


if __name__ == "__main__":
    main()
