"""What was tried computes what the program computes: only then do its times say anything."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from benchmarks.support import architecture
from benchmarks.tried import as_one, blocks_as
from models.architecture import architecture_of
from models.network import SearchedNetwork


@pytest.mark.parametrize("grouped", [False, True])
def test_branches_as_one_convolution_give_the_same_logits_and_gradients(grouped: bool) -> None:
    network = SearchedNetwork(architecture_of(architecture((1, 2, 1), 8, (1, 2, 1.5), (2, 3, 1))), 3, 10).train()
    images = torch.randn(4, 3, 9, 9)

    def outcome() -> tuple[torch.Tensor, list[torch.Tensor]]:
        network.zero_grad()
        torch.manual_seed(1)
        logits = network(images)
        logits.square().sum().backward()
        return logits.detach(), [p.grad.clone() for p in network.parameters() if p.grad is not None]

    logits, gradients = outcome()
    with blocks_as(partial(as_one, grouped=grouped)):
        others, other_gradients = outcome()
    assert torch.allclose(logits, others, atol=1e-4)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(gradients, other_gradients, strict=True))
