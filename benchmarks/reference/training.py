"""The authors' training step: separate losses, metrics read at every step, SGD as it comes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.reference.data import mix


class ReferenceTrainer:
    """A network and its optimiser; `step` trains on one batch of the loader."""

    def __init__(self, model: nn.Module, rate: float, momentum: float, weight_decay: float, alpha: float) -> None:
        self.model = model
        self.rate = rate
        self.alpha = alpha
        self.optimiser = torch.optim.SGD(
            model.parameters(), lr=rate, momentum=momentum, weight_decay=weight_decay, nesterov=True
        )
        self.loss_sum = 0.0
        self.error_sum = 0.0

    def step(self, images: Tensor, labels: Tensor, factor: float = 1.0) -> None:
        """One step at `factor` times the learning rate."""
        mixed, one, other, share = mix(images, labels, self.alpha)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        self.optimiser.zero_grad()
        logits = self.model(mixed)
        loss = share * F.cross_entropy(logits, one) + (1 - share) * F.cross_entropy(logits, other)
        loss.backward()
        self.optimiser.step()
        predicted = torch.max(logits.data, 1)[1]
        right = share * predicted.eq(one).sum() + (1 - share) * predicted.eq(other).sum()
        self.error_sum += 1 - float(right) / len(labels)
        self.loss_sum += float(loss.detach())
