"""Our logits and states against those of the published `rwkv` package, on the same files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fsearch.rwkv7 import RWKV7, load, save

from . import official, published

TOLERANCE = 1e-4
SMALL: dict[str, Callable[[], official.Weights]] = {
    "two layers": lambda: official.weights(2, 128),
    "unused keys": lambda: official.with_unused(official.weights(3, 192, seed=1)),
    "float32": lambda: official.weights(4, 256, ranks=(96, 64, 32, 128), dtype=torch.float32, seed=2),
}


class Oracle:
    """A checkpoint in the official format, and what the package makes of it."""

    def __init__(self, path: Path, result: dict[str, Tensor]) -> None:
        self.path, self.logits, self.states = path, result["logits"], result["states"]

    def distance(self, model: RWKV7) -> float:
        """Largest difference of a logit of ours, relative to the largest logit at its position."""
        with torch.no_grad():
            ours = model(published.tokens(model.vocab_size)[None])[0]
        assert ours.shape == self.logits.shape
        return float(((ours - self.logits).abs().amax(1) / self.logits.abs().amax(1)).max())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Removed at once: these files are large."""
    folder = tmp_path_factory.mktemp("published")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def oracles(folder: Path) -> dict[str, Oracle]:
    paths = [folder / f"{name.replace(' ', '-')}.pth" for name in SMALL]
    for path, weights in zip(paths, SMALL.values(), strict=True):
        torch.save(weights(), path)
    ours = folder / "written-by-us.pth"
    save(load(paths[0]), ours)
    results = published.run([*paths, ours])
    names = [*SMALL, "written by us"]
    return {
        name: Oracle(*one) for name, one in zip(names, zip([*paths, ours], results, strict=True), strict=True)
    }


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", SMALL)
def test_logits_equal_the_published_package(oracles: dict[str, Oracle], name: str) -> None:
    oracle = oracles[name]
    assert oracle.distance(load(oracle.path)) < TOLERANCE


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", SMALL)
def test_states_equal_the_published_package(oracles: dict[str, Oracle], name: str) -> None:
    """The state captured in every layer after the prompt, in one pass over prompt and answer."""
    oracle = oracles[name]
    model = load(oracle.path)
    x = F.embedding(published.tokens(model.vocab_size)[None], model.emb.weight)
    v_first, states = None, []
    with torch.no_grad():
        for block in model.blocks:
            x, v_first, state = block(x, v_first, None, torch.tensor([published.PROMPT]))
            states.append(state[0])
    difference = (torch.stack(states) - oracle.states).abs().amax((-2, -1))
    assert float((difference / oracle.states.abs().amax((-2, -1))).max()) < TOLERANCE


@pytest.mark.usefixtures("kernel_library")
@pytest.mark.parametrize("adapter", "wavg")
def test_swapped_factors_are_seen(oracles: dict[str, Oracle], adapter: str, folder: Path) -> None:
    """Factors in each other's place fit every shape; only the numbers tell."""
    torch.save(official.with_swapped_factors(SMALL["two layers"](), adapter), folder / "swapped.pth")
    assert oracles["two layers"].distance(load(folder / "swapped.pth")) > 100 * TOLERANCE


@pytest.mark.usefixtures("kernel_library")
def test_exchanged_square_factors_are_seen(folder: Path) -> None:
    """With a rank as large as the width, even w1 and w2 as they are fit each other's place."""
    right = official.weights(2, 128, ranks=(128, 48, 32, 96))
    wrong = dict(right)
    for layer in range(2):
        w1, w2 = (f"blocks.{layer}.att.w{i}" for i in (1, 2))
        wrong[w1], wrong[w2] = right[w2], right[w1]
    torch.save(right, folder / "right.pth")
    torch.save(wrong, folder / "wrong.pth")
    (result,) = published.run([folder / "right.pth"])
    oracle = Oracle(folder / "right.pth", result)
    assert oracle.distance(load(folder / "right.pth")) < TOLERANCE
    assert oracle.distance(load(folder / "wrong.pth")) > 100 * TOLERANCE


def test_the_published_package_reads_what_we_write(oracles: dict[str, Oracle]) -> None:
    """Written in bfloat16 as it was read: the package gives the same logits to the bit."""
    assert torch.equal(oracles["written by us"].logits, oracles["two layers"].logits)


@pytest.mark.long
@pytest.mark.usefixtures("kernel_library")
def test_logits_equal_the_published_package_at_the_smallest_released_size(folder: Path) -> None:
    """12 layers of 768 and ranks as released, 191 million weights; two processes take 2 GB each in turn."""
    path = folder / "0.1b.pth"
    torch.save(official.with_unused(official.weights(12, 768, ranks=(64, 64, 32, 128))), path)
    (result,) = published.run([path])
    assert Oracle(path, result).distance(load(path)) < TOLERANCE
