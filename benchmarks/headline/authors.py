"""One evaluation in the authors' way: their transforms, network, clock, schedule and validation.

Where the published code does more than training, the kinder thing is done for it: an evaluation does not begin with a
new process that imports PyTorch, and the test set is not measured after every epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.reference.data import training_loader
from benchmarks.reference.network import ReferenceNetwork
from benchmarks.reference.training import ReferenceTrainer
from models.architecture import architecture_of
from pipeline.settings import Settings
from pipeline.training.data import Split, load_data


class Authors:
    """Trains configurations on one data set; images are the same training and validation images as Tandem's."""

    def __init__(self, settings: Settings, now: Callable[[], float]) -> None:
        self.data = load_data(settings.data, torch.device("cpu"))
        self.first_cycle_s = settings.search.min_budget
        self.now = now

    def loader(self, split: Split, configuration: Mapping[str, Any]) -> DataLoader:
        """Augmented batches of a split."""
        data = self.data
        return training_loader(
            np.ascontiguousarray(split.images.numpy()), split.labels.numpy(),
            [m / 255 for m in data.mean.tolist()], [d / 255 for d in data.deviation.tolist()],
            configuration["batch_size"], configuration["cutout_length"], data.padding, data.flips,
        )  # fmt: skip

    def train(self, configuration: Mapping[str, Any], budget_s: float) -> tuple[float, nn.Module]:
        """From scratch until `budget_s` of forward, backward and step are spent; the last validation error.

        The validation set is measured after every epoch, the one that the budget ends included, as it is published.
        """
        model = ReferenceNetwork(architecture_of(configuration), self.data.info.image_shape[0], self.data.info.classes)
        trainer = ReferenceTrainer(model, configuration["learning_rate"], configuration["momentum"],
                                   configuration["weight_decay"], configuration["mixup_alpha"])  # fmt: skip
        training = self.loader(self.data.train, configuration)
        shuffled = self.loader(self.data.validation, configuration)
        validation = DataLoader(shuffled.dataset, configuration["batch_size"])
        spent_s, error = 0.0, math.nan
        while spent_s < budget_s:
            for images, labels in training:
                began = self.now()
                trainer.step(images, labels, restarting_cosine(spent_s, self.first_cycle_s))
                spent_s += self.now() - began
                if spent_s >= budget_s:
                    break
            error = validation_error(model, validation)
        return error, model


def restarting_cosine(position_s: float, first_cycle_s: float) -> float:
    """Factor of the learning rate: cosine cycles, the first as long as the smallest budget, each twice the one before.

    Unlike Tandem's schedule `doubling`, cycles do not end with every budget (util/SGDR_time.py).
    """
    length = first_cycle_s
    while position_s >= length:
        position_s -= length
        length *= 2
    return (1 + math.cos(math.pi * position_s / length)) / 2


def validation_error(model: nn.Module, loader: DataLoader) -> float:
    """The share of images that are classified wrongly, as a fraction."""
    model.eval()
    wrong = 0
    with torch.no_grad():
        for images, labels in loader:
            wrong += int((model(images).argmax(1) != labels).sum())
    model.train()
    return wrong / len(loader.dataset)  # type: ignore[arg-type]
