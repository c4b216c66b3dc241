"""What is known of the data sets without reading them, and without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without reading it.

    Attributes:
        image_shape: (channels, height, width).
        flips: mirrored images show the same thing, so training mirrors at random; numbers and digits do not.
    """

    image_shape: tuple[int, int, int]
    classes: int
    flips: bool


DATASET_INFO = {
    "digits": DatasetInfo((1, 8, 8), 10, False),
    "fashion_mnist": DatasetInfo((1, 28, 28), 10, True),
    "cifar10": DatasetInfo((3, 32, 32), 10, True),
    "cifar100": DatasetInfo((3, 32, 32), 100, True),
    "svhn": DatasetInfo((3, 32, 32), 10, False),
}
