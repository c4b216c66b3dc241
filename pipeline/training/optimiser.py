"""Stochastic gradient descent with Nesterov momentum, through PyTorch's fused kernels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim.sgd import sgd


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
