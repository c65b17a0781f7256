"""What the tests of train share: prepared data of a real task, a tiny attempt, one zygote."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fsearch.tasks import prepared
from tests.train.processes import ZygoteProcess, zygote

MakeJob = Callable[..., dict[str, Any]]

SEED_FORM = {
    "gate": "scalar",
    "alpha": 2.0,
    "alpha_lr": 0.01,
    "layers": {"1": 1.0},
    "norm": False,
    "detach": False,
    "clip": None,
    "stream": 0,
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> prepared.Prepared:
    """A small infill data set: sequences of 16 tokens, 4 of them masks."""
    arguments = {"n_train": 256, "n_val": 64, "n_left": 6, "n_masks": 4}
    return prepared.prepare("infill", arguments, 0, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def make_job(data: prepared.Prepared) -> MakeJob:
    """Makes an attempt job: two layers of width 16, batch 16, a trained Future-Seed gate; fields as asked."""
    base = {
        "kind": "attempt",
        "attempt": "an-id",
        "try": 1,
        "role": "screen",
        "model": {"init": {"n_layer": 2, "n_embd": 16, "head_size": 8}},
        "data": {"path": str(data.path), "sha256": data.meta.sha256},
        "halves": ["screen"],
        "recipe": {
            "lr": 5e-3,
            "weight_decay": 0.01,
            "betas": [0.9, 0.98],
            "grad_clip": 1.0,
            "warmup": 0.06,
            "decay": "linear",
            "decay_from": 0.3,
            "final_lr": 0.05,
            "precision": "fp32",
        },
        "batch": 16,
        "micro_batch": 16,
        "steps": 6,
        "memory_mib": None,
        "evaluate": {"every": None},
        "form": SEED_FORM,
        "streams": {"init": 1, "order": 2},
        "noop_reference": None,
        "look": None,
        "device": "cpu",
        "threads": 1,
        "backend": "torch-chunked",
        "checkpoint": None,
    }

    def make(**fields: Any) -> dict[str, Any]:
        recipe = {**base["recipe"], **fields.pop("recipe", {})}
        return copy.deepcopy({**base, **fields, "recipe": recipe})

    return make


@pytest.fixture(scope="session")
def shared_zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZygoteProcess]:
    """One zygote for all the tests that do not kill it."""
    with zygote(tmp_path_factory.mktemp("zygote")) as started:
        yield started
