"""Batched augmentation on the device: crop, flip, cutout and mixup of uint8 images.

Each function is exact and deterministic in its random parameters; `Augmenter` draws those from torch's default
generator, which the training loop seeds before every step.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.training.data import ImageData, pad


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
    """Images (n, h, w, channels) uint8, mirrored left to right where `which` (n,) is true."""
    # Selecting by bits is ten times faster than torch.where, whose condition would be broadcast pixel by pixel.
    selector = which.to(torch.uint8).mul_(255)[:, None, None, None]
    return images.flip(2).bitwise_xor_(images).bitwise_and_(selector).bitwise_xor_(images)


def normalise(images: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """uint8 (n, h, w, channels) to float32 of the same shape, minus mean, over deviation.

    Args:
        images: uint8.
        mean, deviation: (channels,) float32, in pixel values.
    """
    n, h, w, channels = images.shape
    # Whole rows of pixels at a time: a run of 3 channels is too short for the processor's vectors.
    scale = (1 / deviation).repeat(w)
    rows = images.reshape(n, h, w * channels).to(torch.float32)
    return torch.addcmul(-mean.repeat(w) * scale, rows, scale).view(n, h, w, channels)


def cutout(images: Tensor, row: Tensor, column: Tensor, length: int) -> Tensor:
    """Set a square of `length` pixels around (row, column) to zero, the mean colour; in place (DeVries & Taylor 2017).

    The square is clipped at the border; it reaches from centre - length / 2, rounded down, for `length` pixels.

    Args:
        images: (n, h, w, channels) float32, normalised, contiguous.
        row, column: (n,) int64 centres, inside the image.
        length: side of the square in pixels; 0 changes nothing.
    """
    n, h, w, channels = images.shape
    inside_rows = _inside(row, length, h)
    inside_columns = _inside(column, length, w)[:, :, None].expand(n, w, channels).reshape(n, w * channels)
    keep = 1 - inside_rows[:, :, None] * inside_columns[:, None, :]
    images.view(n, h, w * channels).mul_(keep)
    return images


def _inside(centre: Tensor, length: int, size: int) -> Tensor:
    """(n, size) float32: 1 where a row or column lies in the square, else 0."""
    begin = (centre - (length + 1) // 2)[:, None]
    position = torch.arange(size, device=centre.device)
    return ((position >= begin) & (position < begin + length)).to(torch.float32)


def mixup(images: Tensor, partner: Tensor, share: float) -> Tensor:
    """`share` of each image plus 1 - share of its partner (Zhang et al. 2018).

    Args:
        images: (n, ...) float32.
        partner: (n,) int64 positions within the batch.
        share: in [0, 1].
    """
    return images.index_select(0, partner).lerp_(images, share)


def network_input(images: Tensor) -> Tensor:
    """(n, h, w, channels) as (n, channels, h, w), channels last in memory: the same values, nothing is copied."""
    return images.permute(0, 3, 1, 2)


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
        images = self._augmented(self._data.padded_train, indices)
        labels = self._data.train_labels[indices]
        n, device = len(indices), indices.device
        share = mixup_share(self.mixup_alpha, seed)
        if share == 1.0:
            return Batch(network_input(images), labels, labels, 1.0)
        partner = torch.randperm(n, device=device)
        return Batch(network_input(mixup(images, partner, share)), labels, labels[partner], share)

    def unmixed(self, pixels: Tensor) -> Tensor:
        """Other images of the data set, augmented as training's are but for mixup, for the network.

        Args:
            pixels: (n, h, w, channels) uint8, unpadded.
        """
        padded = pad(pixels, self._data.padding)
        return network_input(self._augmented(padded, torch.arange(len(pixels), device=pixels.device)))

    def _augmented(self, padded: Tensor, indices: Tensor) -> Tensor:
        data = self._data
        n, device = len(indices), indices.device
        top, left = torch.randint(0, 2 * data.padding + 1, (2, n), device=device)
        pixels = crop(padded, indices, top, left, data.padding)
        if data.flips:
            pixels = flip(pixels, torch.rand(n, device=device) < 0.5)
        images = normalise(pixels, data.mean, data.deviation)
        if self.cutout_length:
            row = torch.randint(0, images.shape[1], (n,), device=device)
            column = torch.randint(0, images.shape[2], (n,), device=device)
            cutout(images, row, column, self.cutout_length)
        return images


def mixup_share(alpha: float, seed: int) -> float:
    """A draw of Beta(alpha, alpha), on the host so that no step waits for the device; 1 when alpha is 0."""
    if alpha <= 0:
        return 1.0
    return random.Random(seed).betavariate(alpha, alpha)
