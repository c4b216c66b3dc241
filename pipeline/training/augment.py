"""Batched augmentation on the device: crop, flip, cutout and mixup of uint8 images.

Each function is exact and deterministic in its random parameters; `Augmenter` draws those from torch's default
generator, which the training loop seeds before every step.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.training.data import ImageData


@dataclass(frozen=True)
class Batch:
    """A training batch.

    Attributes:
        images: (n, channels, h, w) float32, normalised, channels last in memory.
        labels, other_labels: (n,) int64; each image is mixed from one of each.
        share: of `labels`; 1 - share is of `other_labels`.
    """

    images: Tensor
    labels: Tensor
    other_labels: Tensor
    share: float


def crop(padded: Tensor, indices: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Images `indices`, cropped to their unpadded size at (top, left) of the padded images.

    Args:
        padded: (N, h + 2 padding, w + 2 padding, channels) uint8, contiguous.
        indices, top, left: (n,) int64; top and left in [0, 2 padding].
        padding: pixels of border on each side.

    Returns:
        (n, h, w, channels) uint8.
    """
    count, padded_h, padded_w, channels = padded.shape
    h, w = padded_h - 2 * padding, padded_w - 2 * padding
    row = padded_w * channels
    # Every window of every image as a view, a pixel row being one run of memory: one gather makes the batch.
    positions = 2 * padding + 1
    windows = padded.as_strided((count, positions, positions, h, w * channels), (padded_h * row, row, channels, row, 1))
    return windows[indices, top, left].view(-1, h, w, channels)


def flip(images: Tensor, which: Tensor) -> Tensor:
    """Images (n, h, w, channels), mirrored left to right where `which` (n,) is true."""
    return torch.where(which[:, None, None, None], images.flip(2), images)


def normalise(images: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """uint8 (n, h, w, channels) to normalised float32 (n, channels, h, w), channels last in memory.

    Args:
        images: uint8.
        mean, deviation: (channels,) float32, in pixel values.
    """
    return images.to(torch.float32).sub_(mean).div_(deviation).permute(0, 3, 1, 2)


def cutout(images: Tensor, row: Tensor, column: Tensor, length: int) -> Tensor:
    """Set a square of `length` pixels around (row, column) to zero, the mean colour; in place (DeVries & Taylor 2017).

    The square is clipped at the border; it reaches from centre - length / 2, rounded down, for `length` pixels.

    Args:
        images: (n, channels, h, w), normalised.
        row, column: (n,) int64 centres, inside the image.
        length: side of the square in pixels; 0 changes nothing.
    """
    if length == 0:
        return images
    h, w = images.shape[2:]
    inside_rows = _inside(row, length, h)[:, None, :, None]
    inside_columns = _inside(column, length, w)[:, None, None, :]
    return images.mul_(~(inside_rows & inside_columns))


def _inside(centre: Tensor, length: int, size: int) -> Tensor:
    """(n, size) bool: whether a row or column lies in the square."""
    begin = (centre - (length + 1) // 2)[:, None]
    position = torch.arange(size, device=centre.device)
    return (position >= begin) & (position < begin + length)


def mixup(images: Tensor, partner: Tensor, share: float) -> Tensor:
    """`share` of each image plus 1 - share of its partner (Zhang et al. 2018).

    Args:
        images: (n, channels, h, w).
        partner: (n,) int64 positions within the batch.
        share: in [0, 1].
    """
    return torch.lerp(images[partner], images, share)


class Augmenter:
    """Makes training batches of a data set.

    Attributes:
        mixup_alpha: share ~ Beta(alpha, alpha), one draw per batch; 0: no mixup.
        cutout_length: in pixels; 0: no cutout.
    """

    def __init__(self, data: ImageData, mixup_alpha: float, cutout_length: int) -> None:
        self._data = data
        self.mixup_alpha = mixup_alpha
        self.cutout_length = cutout_length

    def batch(self, indices: Tensor, seed: int) -> Batch:
        """The augmented batch of some training images.

        Args:
            indices: (n,) int64 positions in the training set, on the data's device.
            seed: decides mixup's share; everything else is drawn from torch's default generator.
        """
        data = self._data
        n, device = len(indices), indices.device
        top, left = torch.randint(0, 2 * data.padding + 1, (2, n), device=device)
        pixels = crop(data.padded_train, indices, top, left, data.padding)
        if data.flips:
            pixels = flip(pixels, torch.rand(n, device=device) < 0.5)
        images = normalise(pixels, data.mean, data.deviation)
        labels = data.train_labels[indices]
        if self.cutout_length:
            row = torch.randint(0, images.shape[2], (n,), device=device)
            column = torch.randint(0, images.shape[3], (n,), device=device)
            cutout(images, row, column, self.cutout_length)
        share = mixup_share(self.mixup_alpha, seed)
        if share == 1.0:
            return Batch(images, labels, labels, 1.0)
        partner = torch.randperm(n, device=device)
        return Batch(mixup(images, partner, share), labels, labels[partner], share)


def mixup_share(alpha: float, seed: int) -> float:
    """A draw of Beta(alpha, alpha), on the host so that no step waits for the device; 1 when alpha is 0."""
    if alpha <= 0:
        return 1.0
    return random.Random(seed).betavariate(alpha, alpha)
