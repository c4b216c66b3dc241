"""Shake-Shake and ShakeDrop against their definitions."""

import pytest
import torch
from torch import nn

from models.network import Block
from models.regularisers import ShakenSum, shake_drop, shake_shake


def draws_of(count: int, images: int, seed: int = 0) -> torch.Tensor:
    """The weights that shake_shake draws after this seed, forward and backward."""
    torch.manual_seed(seed)
    draws = torch.empty(2, count, images, 1, 1, 1).exponential_()
    return draws / draws.sum(1, keepdim=True)


def test_the_shaken_sum_weighs_branches_forward_and_gradients_backward_as_the_formula_says() -> None:
    torch.manual_seed(0)
    shortcut, *branches = (torch.randn(4, 3, 2, 2, requires_grad=True) for _ in range(4))
    forward, backward = torch.rand(2, 3, 4, 1, 1, 1)
    total = ShakenSum.apply(forward, backward, shortcut, *branches)
    expected = shortcut + sum(forward[i] * branches[i] for i in range(3))
    assert torch.allclose(total, expected)
    gradient = torch.randn_like(total)
    total.backward(gradient)
    assert torch.equal(shortcut.grad, gradient)  # type: ignore[arg-type]
    for i in range(3):
        assert torch.equal(branches[i].grad, backward[i] * gradient)  # type: ignore[arg-type]


def test_with_equal_forward_and_backward_weights_the_shaken_sum_passes_autograds_numerical_check() -> None:
    torch.manual_seed(0)
    weights = torch.rand(2, 2, 1, 1, 1, dtype=torch.float64)
    inputs = [torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *x: ShakenSum.apply(weights, weights, *x), inputs)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shake_shake_draws_one_weight_per_branch_and_image_that_sum_to_one(count: int) -> None:
    # Branch i is the constant 10^i, so that the output reveals the weights.
    images = 6
    branches = [torch.full((images, 2, 3, 3), 10.0**i, requires_grad=True) for i in range(count)]
    expected = draws_of(count, images)
    torch.manual_seed(0)
    total = shake_shake(torch.zeros(images, 2, 3, 3), branches, training=True)
    total.sum().backward()
    by_hand = sum(expected[0, i] * branches[i] for i in range(count))
    assert torch.allclose(total, by_hand, rtol=1e-4)  # type: ignore[arg-type]
    for i in range(count):
        assert torch.allclose(branches[i].grad, expected[1, i].expand_as(branches[i]))  # type: ignore[arg-type]
    assert torch.allclose(expected.sum(1), torch.ones(2, images, 1, 1, 1))
    assert len(expected[0, 0].unique()) == images


def test_the_weights_of_two_branches_are_uniform_and_forward_and_backward_are_independent() -> None:
    weights = draws_of(2, 20_000)[:, 0].reshape(2, -1)
    quantiles = torch.linspace(0.05, 0.95, 19)
    for each in weights:
        assert torch.allclose(each.quantile(quantiles), quantiles, atol=0.015)
    assert abs(torch.corrcoef(weights)[0, 1]) < 0.03


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_mean_over_many_draws_is_the_evaluation_output_for_shake_shake(count: int) -> None:
    torch.manual_seed(1)
    branches = [torch.randn(1, 3, 2, 2) for _ in range(count)]
    shortcut = torch.randn(1, 3, 2, 2)
    many = [branch.expand(40_000, -1, -1, -1) for branch in branches]
    mean = shake_shake(shortcut.expand(40_000, -1, -1, -1), many, training=True).mean(0)
    evaluated = shake_shake(shortcut, branches, training=False)[0]
    assert torch.allclose(evaluated, shortcut[0] + sum(branches)[0] / count, atol=1e-6)
    assert torch.allclose(mean, evaluated, atol=0.03)


@pytest.mark.parametrize("death_rate", [0.0, 0.3, 1.0])
def test_the_mean_over_many_draws_is_the_evaluation_output_for_shake_drop(death_rate: float) -> None:
    torch.manual_seed(1)
    shortcut, branch = torch.randn(2, 1, 3, 2, 2)
    many = 40_000
    mean = shake_drop(shortcut.expand(many, 3, 2, 2), branch.expand(many, 3, 2, 2), death_rate, training=True).mean(0)
    evaluated = shake_drop(shortcut, branch, death_rate, training=False)[0]
    assert torch.allclose(evaluated, (shortcut + (1 - death_rate) * branch)[0], atol=1e-6)
    assert torch.allclose(mean, evaluated, atol=0.03)


def test_shake_drop_scales_a_dying_branch_by_one_weight_per_image_in_each_direction() -> None:
    many, death_rate = 20_000, 0.4
    branch = torch.ones(many, 2, 2, 2, requires_grad=True)
    torch.manual_seed(0)
    total = shake_drop(torch.zeros(many, 2, 2, 2), branch, death_rate, training=True)
    total.sum().backward()
    forward, backward = total.detach()[:, 0, 0, 0], branch.grad[:, 0, 0, 0]
    assert torch.equal(total.detach(), forward[:, None, None, None].expand_as(total))
    assert torch.equal(branch.grad, backward[:, None, None, None].expand_as(total))  # type: ignore[arg-type]
    dying = forward != 1
    assert abs(dying.float().mean() - death_rate) < 0.015
    assert torch.equal(backward == 1, ~dying)  # the same images live in both directions
    quantiles = torch.linspace(0.1, 0.9, 9)
    assert torch.allclose(forward[dying].quantile(quantiles), 2 * quantiles - 1, atol=0.04)  # U(-1, 1)
    assert torch.allclose(backward[dying].quantile(quantiles), quantiles, atol=0.02)  # U(0, 1)
    assert abs(torch.corrcoef(torch.stack([forward[dying], backward[dying]]))[0, 1]) < 0.03


@pytest.mark.parametrize("branches", [1, 2, 4])
def test_the_mean_of_a_linear_block_over_many_draws_is_its_evaluation_output(branches: int) -> None:
    """A whole block whose branches are linear (a 1x1 convolution each) instead of convolution, norm and ReLU."""
    torch.manual_seed(2)
    block = Block(3, 3, stride=1, branches=branches, death_rate=0.5)
    block.branches = nn.ModuleList(nn.Conv2d(3, 3, 1, bias=False) for _ in range(branches))
    image = torch.randn(1, 3, 2, 2)
    with torch.no_grad():
        mean = block.train()(image.expand(40_000, -1, -1, -1)).mean(0)
        evaluated = block.eval()(image)[0]
    assert torch.allclose(mean, evaluated, atol=0.03)


def test_shaken_sums_do_not_change_their_inputs() -> None:
    shortcut, one, other = torch.randn(3, 2, 3, 4, 4)
    kept = shortcut.clone(), one.clone(), other.clone()
    shake_shake(shortcut, [one, other], training=True)
    shake_drop(shortcut, one, 0.5, training=True)
    assert all(torch.equal(a, b) for a, b in zip(kept, (shortcut, one, other), strict=True))
