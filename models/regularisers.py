"""Shake-Shake (Gastaldi 2017) and ShakeDrop (Yamada et al. 2018): random weights of residual branches.

Both sum a shortcut and weighted branches, with one weight per branch and image in the forward pass and another,
drawn independently, in the backward pass. `ShakenSum` is that sum; the functions beside it draw the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class ShakenSum(Function):
    """`shortcut + sum_i forward_i * branch_i`, whose gradient for branch i is `backward_i * gradient`."""

    @staticmethod
    def forward(ctx: Any, forward: Tensor, backward: Tensor, shortcut: Tensor, *branches: Tensor) -> Tensor:
        """Weights have shape (branches, images, 1, 1, 1); shortcut and branches (images, channels, h, w)."""
        ctx.save_for_backward(backward)
        total = torch.addcmul(shortcut, branches[0], forward[0])
        for weight, branch in zip(forward[1:], branches[1:], strict=True):
            total.addcmul_(branch, weight)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The shortcut gets the gradient as it is, each branch its share, the weights none."""
        (gradient,) = gradients
        (backward,) = ctx.saved_tensors
        return (None, None, gradient, *(weight * gradient for weight in backward))


def shake_shake(shortcut: Tensor, branches: list[Tensor], training: bool, softmax: bool = False) -> Tensor:
    """Shortcut plus a random convex combination of two or more branches; evaluated, plus their mean.

    Weights are uniform on the simplex: for two branches that is Gastaldi's alpha ~ U(0, 1) and 1 - alpha, for more
    its natural continuation, with expectation 1 / branches each. Or they are the softmax of numbers uniform in [0, 1],
    as in the code of Zela et al.: expectation as before, and a third of the standard deviation.

    Args:
        shortcut: (images, channels, h, w).
        branches: each of the shortcut's shape.
        training: draw weights (from torch's default generator), or use their expectation.
        softmax: which weights.
    """
    if not training:
        return shortcut + sum(branches[1:], branches[0]) / len(branches)
    draw = _softmax_weights if softmax else _simplex_weights
    weights = draw(len(branches), shortcut)
    total: Tensor = ShakenSum.apply(weights[0], weights[1], shortcut, *branches)
    return total


def _simplex_weights(count: int, like: Tensor) -> Tensor:
    """(2, count, images, 1, 1, 1), forward and backward: exponentials over their sum are uniform on the simplex."""
    draws = torch.empty((2, count, like.shape[0], 1, 1, 1), device=like.device, dtype=torch.float32).exponential_()
    return (draws / draws.sum(1, keepdim=True)).to(like.dtype)


def _softmax_weights(count: int, like: Tensor) -> Tensor:
    draws = [torch.rand((count, like.shape[0], 1, 1, 1), device=like.device) for _ in range(2)]
    return torch.stack(draws).softmax(1).to(like.dtype)


def shake_drop(
    shortcut: Tensor, branch: Tensor, death_rate: float, training: bool, gate_per_batch: bool = False
) -> Tensor:
    """Shortcut plus one branch that is, with probability `death_rate`, scaled at random; evaluated, by its expectation.

    Equation 6 of Yamada et al.: the weight is b + alpha - b alpha with b ~ Bernoulli(1 - death_rate), alpha ~ U(-1, 1)
    in the forward and beta ~ U(0, 1) in alpha's place in the backward pass; all per image. The expectation of the
    forward weight is 1 - death_rate. As in the searched network of Zela et al. every block has the same death rate; in
    their code, b is drawn once for the batch.

    Args:
        shortcut: (images, channels, h, w).
        branch: of the shortcut's shape.
        death_rate: in [0, 1].
        training: draw weights (from torch's default generator), or use their expectation.
        gate_per_batch: b is one for all images.
    """
    if not training:
        return torch.add(shortcut, branch, alpha=1 - death_rate)
    if death_rate == 0:
        return shortcut + branch
    shape = (shortcut.shape[0], 1, 1, 1)
    if gate_per_batch:
        alpha, beta, gate = (torch.rand(s, device=shortcut.device) for s in (shape, shape, (1, 1, 1, 1)))
    else:
        gate, alpha, beta = torch.rand((3, *shape), device=shortcut.device)
    alive = gate >= death_rate
    forward = torch.where(alive, 1.0, 2 * alpha - 1).to(shortcut.dtype)
    backward = torch.where(alive, 1.0, beta).to(shortcut.dtype)
    total: Tensor = ShakenSum.apply(forward[None], backward[None], shortcut, branch)
    return total
