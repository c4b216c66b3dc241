"""One configuration in training: model, optimiser, data order and the optimiser step."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.registry import build_model
from pipeline.errors import CrashedError
from pipeline.records import Configuration, Evaluation, derive_seed
from pipeline.settings import Settings
from pipeline.training.augment import Augmenter, Batch
from pipeline.training.checkpoint import ResumePoint
from pipeline.training.data import ImageData
from pipeline.training.device import autocast
from pipeline.training.optimiser import SGD, make_optimiser


class Trainer:
    """Trains one configuration, a batch at a time; knows nothing of budgets, curves and files.

    All randomness of a step is seeded by (evaluation's seed, step), and an epoch's data order by (seed, epoch): a
    trainer that was loaded from a checkpoint goes on exactly like one that was never interrupted.

    Attributes:
        batches: steps since the first one ever.
        batches_per_epoch: the last, incomplete batch of an epoch is left out.
        batch_size: images per step.
        data: what is trained on.
        augmenter: makes the batches.
        loss_sum, error_sum: float64 scalars on the device, over the `batches_in_sums` batches since `take_means`.
    """

    def __init__(self, evaluation: Evaluation, settings: Settings, data: ImageData) -> None:
        """Build the model on the data's device; weights depend on the evaluation's seed alone."""
        configuration = evaluation.configuration
        self._seed = evaluation.seed
        self.data = data
        self._device = data.device
        self._autocast = autocast(settings, self._device)
        self.augmenter = Augmenter(
            data, _number(configuration, "mixup_alpha"), int(_number(configuration, "cutout_length"))
        )
        self.batch_size = min(int(_number(configuration, "batch_size")), len(data.train_labels))
        self.batches_per_epoch = len(data.train_labels) // self.batch_size
        self._base_rate = _number(configuration, "learning_rate")
        seed_device(torch.device("cpu"), derive_seed(self._seed, "weights"))
        model = build_model(configuration, data.info.image_shape, data.info.classes, settings.training.recipe)
        # Channels last is the convolutions' own layout, on CUDA and in oneDNN.
        self.model: nn.Module = model.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._forward: Any = self.model
        self._optimiser = make_optimiser(
            str(configuration.get("optimizer", SGD)),  # the paper's space has none other
            self.model.parameters(),
            _number(configuration, "momentum"),
            _number(configuration, "weight_decay"),
        )
        self.batches = 0
        self.learning_rate = self._base_rate
        self._order: Tensor | None = None
        self._order_epoch = -1
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        self.error_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        self.batches_in_sums = 0

    @property
    def epoch(self) -> float:
        """Epochs of training data seen since the first step."""
        return self.batches / self.batches_per_epoch

    @property
    def at_epoch_end(self) -> bool:
        """Whether the last step was the last of its epoch."""
        return self.batches > 0 and self.batches % self.batches_per_epoch == 0

    def step(self, rate_factor: float) -> None:
        """One optimiser step on the next batch at `rate_factor` times the configuration's learning rate.

        Nothing here waits for the device.
        """
        seed = derive_seed(self._seed, "step", self.batches)
        seed_device(self._device, seed)
        batch = self.augmenter.batch(self._next_indices(), seed)
        with self._autocast():
            logits = self._forward(batch.images)
        loss, error = mixed_loss(logits, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.learning_rate = self._base_rate * rate_factor
        self._optimiser.step(self.learning_rate)
        self.loss_sum += loss.detach()
        self.error_sum += error
        self.batches += 1
        self.batches_in_sums += 1

    def _next_indices(self) -> Tensor:
        epoch, position = divmod(self.batches, self.batches_per_epoch)
        if self._order is None or epoch != self._order_epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, "order", epoch))
            order = torch.randperm(len(self.data.train_labels), generator=generator)
            if self._device.type == "cuda":
                order = order.pin_memory()
            self._order = order.to(self._device, non_blocking=True)
            self._order_epoch = epoch
        begin = position * self.batch_size
        return self._order[begin : begin + self.batch_size]

    def take_means(self) -> tuple[float, float]:
        """Mean loss and error over the batches since the last call (NaN if there were none); waits for the device."""
        count = self.batches_in_sums
        means = (float(self.loss_sum) / count, float(self.error_sum) / count) if count else (float("nan"),) * 2
        self.loss_sum.zero_()
        self.error_sum.zero_()
        self.batches_in_sums = 0
        return means

    def state_dicts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Model's and optimiser's state, sharing their tensors."""
        return self.model.state_dict(), self._optimiser.state_dict()

    def load(self, point: ResumePoint) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(point.model)
        self._optimiser.load_state_dict(point.optimiser)
        self.batches = point.state.batches
        self.loss_sum.fill_(point.state.loss_sum)
        self.error_sum.fill_(point.state.error_sum)
        self.batches_in_sums = point.state.batches_in_sums
        if point.state.rows:  # of a step that this attempt may not repeat: its row can be all that is left to write
            self.learning_rate = point.state.rows[-1].learning_rate

    def compile(self) -> None:
        """Run training steps through torch.compile."""
        self._forward = torch.compile(self.model, dynamic=False)

    def warm_up(self) -> None:
        """Choose and compile kernels on a batch that changes nothing."""
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        channels, height, width = self.data.info.image_shape
        images = torch.zeros(self.batch_size, channels, height, width, device=self._device)
        with self._autocast():
            logits = self._forward(images.contiguous(memory_format=torch.channels_last))
        logits.float().sum().backward()
        self._optimiser.clear_gradients()
        for buffer, before in buffers:
            buffer.copy_(before)


def mixed_loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and mean error (detached) of a batch, each label weighted by its share.

    Args:
        logits: (n, classes).
        batch: with n labels.
    """
    log_probabilities = F.log_softmax(logits.float(), dim=1)
    wrong_of = logits.detach().argmax(1)
    loss = F.nll_loss(log_probabilities, batch.labels)
    error = (wrong_of != batch.labels).double().mean()
    if batch.share != 1.0:
        other = F.nll_loss(log_probabilities, batch.other_labels)
        loss = torch.lerp(other, loss, batch.share)
        error = torch.lerp((wrong_of != batch.other_labels).double().mean(), error, batch.share)
    return loss, error


def seed_device(device: torch.device, seed: int) -> None:
    """Seed the default generator of one device; torch.manual_seed would look for every kind of device."""
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def _number(configuration: Configuration, name: str) -> float:
    value = configuration.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CrashedError("error", f"the configuration has {name}={value!r}, training needs a number there")
    return value
