"""Stochastic gradient descent with Nesterov momentum, and AdamW, through PyTorch's fused kernels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

SGD, ADAMW = "sgd", "adamw"
# Values that each keeps per parameter.
MOMENTS = {SGD: 1, ADAMW: 2}


class Optimiser(Protocol):
    """What training asks of one; parameters are given when it is made."""

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients, which are cleared."""

    def clear_gradients(self) -> None:
        """Forget the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """All that it needs to go on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""


def make_optimiser(name: str, parameters: Iterable[Tensor], momentum: float, weight_decay: float) -> Optimiser:
    """SGD or AdamW; AdamW takes the momentum as its first beta.

    Raises:
        ValueError: another name.
    """
    if name not in (SGD, ADAMW):
        raise ValueError(f"unknown optimizer {name!r}; known: {SGD}, {ADAMW}")
    return (NesterovSGD if name == SGD else AdamW)(parameters, momentum, weight_decay)


class NesterovSGD:
    """SGD with Nesterov momentum and weight decay: `torch.optim.SGD(..., nesterov=True, fused=True)`.

    The class of that name imports TorchDynamo when it is made, 1.7 s that every worker would pay before its first
    evaluation; its functional form does not.
    """

    def __init__(self, parameters: Iterable[Tensor], momentum: float, weight_decay: float) -> None:
        self._parameters = list(parameters)
        self._velocities: list[Tensor | None] = [None] * len(self._parameters)
        self._momentum = momentum
        self._weight_decay = weight_decay

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients, which are cleared; every parameter must have one."""
        gradients = [parameter.grad for parameter in self._parameters]
        sgd(
            self._parameters,
            gradients,  # type: ignore[arg-type]
            self._velocities,
            weight_decay=self._weight_decay,
            momentum=self._momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=True,
            maximize=False,
            fused=True,
        )
        self.clear_gradients()

    def clear_gradients(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The velocities, in the parameters' order; None before the first step."""
        return {"velocities": list(self._velocities)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`, onto the parameters' device."""
        velocities = state["velocities"]
        if len(velocities) != len(self._parameters):
            raise ValueError(f"{len(velocities)} velocities for {len(self._parameters)} parameters")
        self._velocities = [
            None if velocity is None else velocity.to(parameter.device)
            for velocity, parameter in zip(velocities, self._parameters, strict=True)
        ]


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): `torch.optim.AdamW(..., fused=True)`.

    In its functional form, as `NesterovSGD`. The schedule scales the learning rate, and with it the decay.
    """

    SECOND_BETA = 0.999
    EPSILON = 1e-8

    def __init__(self, parameters: Iterable[Tensor], momentum: float, weight_decay: float) -> None:
        self._parameters = list(parameters)
        self._means = [torch.zeros_like(p, memory_format=torch.preserve_format) for p in self._parameters]
        self._squares = [torch.zeros_like(p, memory_format=torch.preserve_format) for p in self._parameters]
        self._steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in self._parameters]
        self._momentum = momentum
        self._weight_decay = weight_decay

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients, which are cleared; every parameter must have one."""
        adamw(
            self._parameters,
            [parameter.grad for parameter in self._parameters],  # type: ignore[misc]
            self._means,
            self._squares,
            [],
            self._steps,
            fused=True,
            amsgrad=False,
            beta1=self._momentum,
            beta2=self.SECOND_BETA,
            lr=learning_rate,
            weight_decay=self._weight_decay,
            eps=self.EPSILON,
            maximize=False,
        )
        self.clear_gradients()

    def clear_gradients(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Both moments and the steps, in the parameters' order."""
        return {"means": list(self._means), "squares": list(self._squares), "steps": list(self._steps)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`, onto the parameters' device."""
        if len(state["means"]) != len(self._parameters):
            raise ValueError(f"{len(state['means'])} moments for {len(self._parameters)} parameters")
        for mine, kept in ((self._means, "means"), (self._squares, "squares"), (self._steps, "steps")):
            for value, loaded in zip(mine, state[kept], strict=True):
                value.copy_(loaded)
