"""The two recipes against independent formulas: the paper's code as `benchmarks/reference` computes it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.reference.network import ReferenceNetwork
from benchmarks.support import architecture
from models.architecture import architecture_of
from models.network import SearchedNetwork
from models.recipe import DEFAULT, PAPER_CODE, RECIPES
from models.regularisers import shake_drop, shake_shake

BRANCHES = [(2, 1, 3), (1, 1, 1), (5, 2, 1)]


def layers(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]


def pair(branches: tuple[int, int, int], recipe: str) -> tuple[SearchedNetwork, ReferenceNetwork]:
    """Tandem's network and the reference with the same weights, in training."""
    torch.manual_seed(0)
    values = architecture_of({**architecture((2, 1, 2), 8, (1, 2, 1.5), branches), "death_rate": 0.4})
    ours, theirs = SearchedNetwork(values, 3, 10, recipe), ReferenceNetwork(values, 3, 10)
    for one, other in zip(layers(ours), layers(theirs), strict=True):
        other.load_state_dict(one.state_dict())
    return ours.train(), theirs.train()


def step(network: nn.Module, images: Tensor, seed: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits, gradients and statistics of a training step whose random numbers begin at a seed."""
    torch.manual_seed(seed)
    logits = network(images)
    network.zero_grad()
    F.cross_entropy(logits, torch.arange(len(images)) % 10).backward()
    norms = [m for m in layers(network) if isinstance(m, nn.BatchNorm2d)]
    gradients = [p.grad for layer in layers(network) for p in layer.parameters() if p.grad is not None]
    statistics = [value for m in norms for value in (m.running_mean, m.running_var) if value is not None]
    return logits.detach(), gradients, statistics


@pytest.mark.parametrize("branches", BRANCHES)
@pytest.mark.parametrize("seed", range(4))
def test_a_step_of_the_papers_recipe_is_a_step_of_the_papers_code(branches: tuple[int, int, int], seed: int) -> None:
    ours, theirs = pair(branches, PAPER_CODE)
    images = torch.randn(6, 3, 9, 9)
    for values, expected in zip(step(ours, images, seed), step(theirs, images, seed), strict=True):
        for value, other in zip(values, expected, strict=True):
            torch.testing.assert_close(value, other, rtol=1e-3, atol=2e-5)
    # Evaluated, too, with the statistics of that step.
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("branches", BRANCHES)
def test_a_step_of_the_default_recipe_is_another_one(branches: tuple[int, int, int]) -> None:
    ours, theirs = pair(branches, DEFAULT)
    images = torch.randn(6, 3, 9, 9)
    assert not torch.allclose(step(ours, images, 0)[0], step(theirs, images, 0)[0], atol=1e-2)


@pytest.mark.parametrize("branches", BRANCHES)
def test_both_recipes_have_the_same_parameters(branches: tuple[int, int, int]) -> None:
    one, other = (pair(branches, recipe)[0].state_dict() for recipe in RECIPES)
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in other.items()}


def weights_of(count: int, softmax: bool) -> Tensor:
    """Forward weights of the first branch, for many images: the others are zero."""
    images = 40_000
    branches = [torch.full((images, 1, 1, 1), float(i == 0)) for i in range(count)]
    torch.manual_seed(1)
    return shake_shake(torch.zeros(images, 1, 1, 1), branches, training=True, softmax=softmax).flatten()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shake_shakes_weights_have_the_spread_of_their_formula(count: int) -> None:
    simplex, softmax = weights_of(count, False), weights_of(count, True)
    assert simplex.mean().item() == pytest.approx(1 / count, abs=0.005)
    assert softmax.mean().item() == pytest.approx(1 / count, abs=0.002)
    # A share of the simplex is Beta(1, count - 1).
    assert simplex.std().item() == pytest.approx(math.sqrt((count - 1) / (count**2 * (count + 1))), rel=0.03)
    exponents = torch.rand(200_000, count, generator=torch.Generator().manual_seed(2)).exp()
    assert softmax.std().item() == pytest.approx((exponents[:, 0] / exponents.sum(1)).std().item(), rel=0.03)


def test_the_published_spreads_are_those_of_the_table_in_the_documentation() -> None:
    spreads = {(c, s): round(weights_of(c, s).std().item(), 2) for c in (2, 5) for s in (False, True)}
    assert spreads == {(2, False): 0.29, (2, True): 0.10, (5, False): 0.16, (5, True): 0.05}


@pytest.mark.parametrize("per_batch", [True, False])
def test_the_gate_is_one_for_the_batch_in_the_papers_recipe_and_one_per_image_in_the_default(per_batch: bool) -> None:
    torch.manual_seed(3)
    shortcut, branch = torch.zeros(50, 1, 1, 1), torch.ones(50, 1, 1, 1)
    is_open = [
        (shake_drop(shortcut, branch, 0.4, training=True, gate_per_batch=per_batch) == 1).float().mean().item()
        for _ in range(400)
    ]
    assert (set(is_open) == {0.0, 1.0}) is per_batch
    assert sum(is_open) / len(is_open) == pytest.approx(0.6, abs=0.08)
