"""The model computed in bf16 beside the same one in float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fsearch.rwkv7 import RWKV7
from tests.rwkv7.models import VARIANTS, batch, lively_model, lively_seed


def logits_and_gradients(model: RWKV7, name: str) -> tuple[Tensor, Tensor]:
    """Logits and all gradients of a loss of them, each as one vector."""
    future_seed = lively_seed(VARIANTS[name])
    tokens = batch([12, 9, 12])
    logits = model(tokens, torch.tensor([7, 4, 12]), future_seed).float()
    loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    return logits.detach().flatten(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("name", ["drafts", "raw", "head", "input"])
@pytest.mark.usefixtures("backend")
def test_bf16_is_float32_but_for_rounding(name: str) -> None:
    """Relative errors are some roundings of 2^-9: far below 1, which a missing term would give."""
    model = lively_model()
    expected = logits_and_gradients(model, name)
    model.compute_dtype = torch.bfloat16
    found = logits_and_gradients(model, name)
    for want, got in zip(expected, found, strict=True):
        error = float((got - want).norm() / want.norm())
        assert 1e-4 < error < 0.03


def test_a_model_that_is_bf16_as_a_whole() -> None:
    """With bf16 parameters everything is bf16, norms and decay too; logits are near the float32 model's."""
    model = lively_model()
    tokens = batch([10])
    with torch.no_grad():
        expected = model(tokens)
        got = model.bfloat16()(tokens)
    assert got.dtype == torch.bfloat16
    assert float((got.float() - expected).norm() / expected.norm()) < 0.03
