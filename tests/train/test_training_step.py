"""One optimizer step: nothing in it waits for the device but the reading of its loss, after the update."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fsearch.train.batches import Examples
from fsearch.train.network import Network
from fsearch.train.optimization import Optimization
from fsearch.train.recipe import Recipe
from fsearch.train.training_step import make_step
from tests.train.conftest import MakeJob
from tests.train.variable_split import VOCAB_SIZE, variable_split

WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal", "aten::item"}
"""What waits for a device, because its result's value or shape is needed on the host."""


class Order(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of all operators, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.usefixtures("kernel_library")
def test_the_loss_is_read_once_and_last(make_job: MakeJob, precision: str) -> None:
    """Over three micro-batches, with a trained gate and clipping: one value, after the update."""
    torch.set_num_threads(1)
    job = make_job(recipe={"precision": precision})
    network = Network.from_job(job, VOCAB_SIZE)
    optimization = Optimization(network, Recipe.from_job(job["recipe"]), steps=4)
    examples = Examples([variable_split()], only_scored=False)
    order = Order()
    for step in range(2):  # the first one makes what AdamW remembers
        batches = [examples.batch(np.arange(at, at + 4)) for at in (0, 4, 8)]
        with order:
            order.names.clear()
            trained = sum(len(batch.targets) for batch in batches)
            loss = make_step(network, optimization, batches, trained, step, before_update=lambda: None)
        assert math.isfinite(loss)
        waited = [at for at, name in enumerate(order.names) if name in WAITING]
        assert [order.names[at] for at in waited] == ["aten::_local_scalar_dense"]
        assert waited[0] > max(at for at, name in enumerate(order.names) if "adamw" in name)
