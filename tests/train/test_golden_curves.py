"""Golden curves: the losses of short trainings, committed, which every later trainer must meet.

`golden_curves.json` holds two recordings. `curves` are from before the training step was made faster: a
change that only regroups sums or rounds elsewhere stays within the rounding that is stated here. `digits` are
those of the trainer as it is: without such a change they stay the same. FSEARCH_UPDATE_CURVES=1 records
`digits` anew, and of `curves` what is missing: remove those of a change that is meant to change numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fsearch.tasks import prepared
from tests.train.conftest import MakeJob
from tests.train.processes import ZygoteProcess, zygote

FILE = Path(__file__).with_name("golden_curves.json")
UPDATE = "FSEARCH_UPDATE_CURVES" in os.environ
STEPS = 20
ROUNDING = {"fp32": 5e-5, "bf16": 2e-3}
"""The largest relative difference of a loss within these steps, on any CPU: four times what other
instruction sets (AVX2, none; MKL in its compatible mode) were seen to make of it."""

_FS = {"alpha": 2.0, "alpha_lr": 0.0, "norm": False, "detach": False, "clip": None, "stream": 0}
_TAMED = {"norm": True, "detach": True, "clip": 1.0}
FORMS: dict[str, dict[str, Any]] = {
    "no_fs": {"gate": "none", "stream": 0},
    "raw_strong": {**_FS, "gate": "scalar", "layers": {"1": 1.0, "2": 1.0}},
    "scalar_l1": {**_FS, "gate": "scalar", "layers": {"1": 1.0, "2": 1.0}, "alpha": -2.0, **_TAMED},
    "head_trained": {**_FS, "gate": "head", "layers": {"2": 1.0}, "alpha": 0.0, "alpha_lr": 0.05},
    "input": {**_FS, "gate": "input", "layers": {"1": 0.5}, "weight_lr": 0.01, "bias_lr": 0.02},
}
CASES: dict[str, tuple[str, str, str, int]] = {
    # name -> variant, data (equal lengths or many), precision, micro-batch of the 16 examples of a step
    "no_fs": ("no_fs", "equal", "fp32", 16),
    "raw_strong": ("raw_strong", "equal", "fp32", 16),
    "scalar_l1": ("scalar_l1", "equal", "fp32", 16),
    "head_trained": ("head_trained", "equal", "fp32", 16),
    "input": ("input", "equal", "fp32", 16),
    "raw_strong, micro-batches": ("raw_strong", "equal", "fp32", 4),
    "raw_strong, bf16": ("raw_strong", "equal", "bf16", 16),
    "no_fs, bf16, micro-batches": ("no_fs", "equal", "bf16", 8),
    "scalar_l1, lengths": ("scalar_l1", "many", "fp32", 16),
    "scalar_l1, lengths, bf16": ("scalar_l1", "many", "bf16", 16),
    "head_trained, lengths, micro-batches": ("head_trained", "many", "fp32", 4),
    "no_fs, lengths, bf16, micro-batches": ("no_fs", "many", "bf16", 2),
}


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, kernel_library: Path) -> Iterator[ZygoteProcess]:
    """A zygote with the compiled kernel."""
    folder = tmp_path_factory.mktemp("golden")
    with zygote(folder, "--kernel-cache", str(kernel_library.parent)) as started:
        yield started


@pytest.fixture(scope="module")
def many_lengths(tmp_path_factory: pytest.TempPathFactory) -> prepared.Prepared:
    """Words of 2 to 30 letters, to be written backwards."""
    folder = tmp_path_factory.mktemp("words")
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 30))) for _ in range(400)]
    rows = "".join(json.dumps({"word": word, "back": word[::-1]}) + "\n" for word in words)
    (folder / "words.jsonl").write_text(rows)
    texts = {"data": str(folder / "words.jsonl"), "prompt": "{word}:", "answer": "{back}"}
    arguments = {**texts, "tokenizer": "bytes", "n_train": 160, "n_val": 16}
    return prepared.prepare("sft", arguments, 0, folder)


def machine() -> str:
    """What the last digits of a number depend on beside the program: this kind of CPU, and torch."""
    described = sorted({line for line in Path("/proc/cpuinfo").read_text().splitlines() if kind(line)})
    text = "\n".join([*described, torch.__version__, torch.backends.cpu.get_cpu_capability()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def kind(line: str) -> bool:
    """Whether a line of /proc/cpuinfo says what kind of CPU it is."""
    return line.startswith(("vendor_id", "cpu family", "model", "flags"))


def golden() -> dict[str, Any]:
    """The recorded curves, and the machine that `digits` are of."""
    return dict(json.loads(FILE.read_text()))


@pytest.mark.parametrize("name", CASES)
def test_a_golden_curve(
    name: str,
    make_job: MakeJob,
    data: prepared.Prepared,
    many_lengths: prepared.Prepared,
    workers: ZygoteProcess,
) -> None:
    """Within the stated rounding everywhere; to the digit on the kind of machine that recorded the digits."""
    variant, lengths, precision, micro_batch = CASES[name]
    used = data if lengths == "equal" else many_lengths
    job = make_job(
        model={"init": {"n_layer": 3, "n_embd": 32, "head_size": 8}},
        data={"path": str(used.path), "sha256": used.meta.sha256},
        recipe={"precision": precision},
        form=FORMS[variant],
        steps=STEPS,
        micro_batch=micro_batch,
        backend="cpu",
    )
    result = workers.fork(job).finish()
    curve = [*result["first_losses"], result["loss"]]
    recorded = golden()
    if UPDATE:
        recorded["machine"] = machine()
        recorded["curves"].setdefault(name, curve)
        recorded["digits"][name] = curve
        FILE.write_text(json.dumps(recorded, indent=1) + "\n")
    wanted = recorded["curves"][name]
    assert len(wanted) == STEPS + 1 and wanted[STEPS - 1] < wanted[0]  # it learns
    assert curve == pytest.approx(wanted, rel=ROUNDING[precision])
    if recorded["machine"] == machine():
        assert curve == recorded["digits"][name]
