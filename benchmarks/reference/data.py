"""The authors' data path: PIL transforms one image at a time in a DataLoader, cutout in numpy, mixup per batch."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class Cutout:
    """Mask a square of a (channels, h, w) tensor, by a numpy mask."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, image: Tensor) -> Tensor:
        h, w = image.size(1), image.size(2)
        mask = np.ones((h, w), np.float32)
        y, x = np.random.randint(h), np.random.randint(w)
        y1, y2 = (int(np.clip(y + sign * self.length / 2, 0, h)) for sign in (-1, 1))
        x1, x2 = (int(np.clip(x + sign * self.length / 2, 0, w)) for sign in (-1, 1))
        mask[y1:y2, x1:x2] = 0.0
        return image * torch.from_numpy(mask).expand_as(image)


class PilImages(Dataset):
    """uint8 images (n, h, w, channels) that become PIL images one by one, as torchvision's data sets do."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform) -> None:
        self.images = images if images.shape[-1] == 3 else images[..., 0]
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def training_loader(images, labels, mean, deviation, batch_size, cutout, padding, flips, workers=0) -> DataLoader:
    """Batches of normalised, cropped, mirrored and cut out training images.

    Args:
        images, labels: numpy, unpadded.
        mean, deviation: per channel, in [0, 1].
        batch_size, cutout, padding: as configured.
        flips: mirror at random.
        workers: processes beside this one; the authors have one, none costs the least time on one core.
    """
    from torchvision import transforms

    steps = [transforms.RandomCrop(images.shape[1:3], padding=padding)]
    if flips:
        steps.append(transforms.RandomHorizontalFlip())
    steps += [transforms.ToTensor(), transforms.Normalize(mean, deviation), Cutout(cutout)]
    dataset = PilImages(images, labels, transforms.Compose(steps))
    return DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, drop_last=True)


def mix(images: Tensor, labels: Tensor, alpha: float):
    """Mixed images, both labels and the share of the first."""
    share = np.random.beta(alpha, alpha) if alpha > 0 else 1.0
    index = torch.randperm(images.size(0), device=images.device)
    return share * images + (1 - share) * images[index, :], labels, labels[index], share
