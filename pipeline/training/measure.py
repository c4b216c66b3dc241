"""Measure a model on a split: mean cross-entropy and error, without augmentation unless it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.training.augment import network_input, normalise
from pipeline.training.data import ImageData, Split


@dataclass(frozen=True)
class Measurement:
    """Mean cross-entropy in nats and error as a fraction."""

    loss: float
    error: float


def measure(
    model: nn.Module,
    split: Split,
    data: ImageData,
    batch_size: int,
    autocast: Callable[[], AbstractContextManager[object]],
    interrupted: Callable[[], bool],
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> Measurement | None:
    """Measure on every image of a split; None when interrupted. The model is left in training mode.

    Args:
        model: maps normalised images to logits.
        split: images and labels on the model's device.
        data: whose mean and deviation normalise.
        batch_size: images per batch; the last may be smaller.
        autocast: context of the forward pass.
        interrupted: asked before every batch.
        prepare: from pixels (n, h, w, channels) uint8 to what the model takes; None: normalised, as they are.
    """
    prepare = prepare or (lambda pixels: network_input(normalise(pixels, data.mean, data.deviation)))
    loss = torch.zeros((), dtype=torch.float64, device=split.labels.device)
    wrong = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    model.eval()
    try:
        with torch.inference_mode():
            for begin in range(0, len(split), batch_size):
                if interrupted():
                    return None
                pixels = split.images[begin : begin + batch_size]
                labels = split.labels[begin : begin + batch_size]
                with autocast():
                    logits: Tensor = model(prepare(pixels))
                logits = logits.float()
                loss += F.cross_entropy(logits, labels, reduction="sum").double()
                wrong += (logits.argmax(1) != labels).sum()
    finally:
        model.train()
    return Measurement(float(loss) / len(split.labels), int(wrong) / len(split.labels))
