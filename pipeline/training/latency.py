"""How long a trained network takes for a batch, from normalised images on its device to logits there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn

from pipeline.training.augment import network_input, normalise
from pipeline.training.data import ImageData, Split

# The first passes choose kernels and fill caches; the median of the rest is the latency.
WARM_PASSES, PASSES = 2, 7
# The least that is a measurement: one pass to warm up, and one that is timed.
LEAST_PASSES = 2


def measure_latency(
    model: nn.Module,
    split: Split,
    data: ImageData,
    batch_size: int,
    autocast: Callable[[], AbstractContextManager[object]],
    wait: Callable[[], None],
    interrupted: Callable[[], bool],
    most_s: float,
) -> float | None:
    """Median seconds of a forward pass in evaluation mode; None when interrupted. The model is left in training mode.

    Args:
        model: maps normalised images to logits.
        split: where the images come from, again from the first where there are too few; on the model's device.
        data: whose mean and deviation normalise.
        batch_size: images.
        autocast: context of the forward pass.
        wait: returns once the device has done what it was given.
        interrupted: asked before every pass.
        most_s: all passes together may take so long; `LEAST_PASSES` are made all the same.
    """
    indices = torch.arange(batch_size, device=split.images.device) % len(split)
    seconds: list[float] = []
    model.eval()
    try:
        with torch.inference_mode():
            images = network_input(normalise(split.images[indices], data.mean, data.deviation))
            for number in range(WARM_PASSES + PASSES):
                if interrupted():
                    return None
                if number >= LEAST_PASSES and sum(seconds) + seconds[-1] > most_s:
                    break
                wait()
                began = time.perf_counter()
                with autocast():
                    model(images)
                wait()
                seconds.append(time.perf_counter() - began)
    finally:
        model.train()
    return statistics.median(seconds[WARM_PASSES:] or seconds[-1:])
