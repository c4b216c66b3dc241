"""The data sets: prepared once into one checksummed file each, loaded whole onto the device as uint8.

`prepare_data` runs where there is internet (`make data`); workers call `load_data`, which reads one file. The file is
an uncompressed .npz: train_images and test_images (n, h, w, channels) uint8, train_labels and test_labels (n,) int64,
in the publisher's order. Zip keeps a CRC-32 of each array, which reading verifies.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import DataError
from pipeline.files import publish, publish_text, read_fresh
from pipeline.records import derive_seed
from pipeline.settings import DataSettings
from pipeline.training.datasets import DATASET_INFO, DatasetInfo
from pipeline.training.own_images import read_own
from pipeline.training.sources import ARRAYS, RawData, data_command, read_source


@dataclass(frozen=True)
class Split:
    """Images (n, h, w, channels) uint8 and labels (n,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageData:
    """A data set on a device.

    Attributes:
        name: of the data set.
        info: shape, classes, flips.
        padded_train: training images with a black border of `padding` pixels, ready to be cropped:
            (n, h + 2 padding, w + 2 padding, channels) uint8.
        train_labels: (n,) int64.
        validation, test: unpadded.
        mean, deviation: (channels,) float32 in pixel values, of the training images.
    """

    name: str
    info: DatasetInfo
    padded_train: Tensor
    train_labels: Tensor
    validation: Split
    test: Split
    mean: Tensor
    deviation: Tensor

    @property
    def padding(self) -> int:
        """Border in pixels: an eighth of the image, which is the usual 4 of 32."""
        return padding_of(self.info.image_shape)

    @property
    def flips(self) -> bool:
        """Whether training mirrors images at random."""
        return self.info.flips

    @property
    def train(self) -> Split:
        """The training images without their border (a view)."""
        p = self.padding
        return Split(self.padded_train[:, p:-p, p:-p], self.train_labels)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.train_labels.device


def padding_of(image_shape: tuple[int, int, int]) -> int:
    """Border for random crops in pixels: an eighth of the image's height, at least 1."""
    return max(1, image_shape[1] // 8)


def data_file(settings: DataSettings) -> Path:
    """The prepared file of a data set."""
    if not settings.is_own:
        return settings.root / f"{settings.dataset}.npz"
    how = f"-{settings.image_size}-{settings.fit}" if settings.dataset == "folder" else ""
    # Two folders of one name are two data sets.
    place = hashlib.sha256(str(settings.source and settings.source.resolve()).encode()).hexdigest()[:8]
    return settings.root / f"own-{settings.name}{how}-{place}.npz"


def about_file(settings: DataSettings) -> Path:
    """What was found out about the user's own images when they were prepared."""
    return data_file(settings).with_suffix(".json")


def keep_about(settings: DataSettings, copy: Path) -> None:
    """Copy what was found out about the user's own images into a run, which may be read where they are not."""
    about = about_file(settings)
    if about.is_file():  # an earlier version may have prepared the data
        publish_text(copy, about.read_text(encoding="utf-8"))


def dataset_info(settings: DataSettings, raw: RawData) -> DatasetInfo:
    """What is known of a data set: of the user's own images, what they show."""
    if not settings.is_own:
        return DATASET_INFO[settings.dataset]
    height, width, channels = raw.train_images.shape[1:]
    classes = int(max(raw.train_labels.max(initial=0), raw.test_labels.max(initial=0))) + 1
    return DatasetInfo((channels, height, width), classes, settings.flips)


def prepare_data(settings: DataSettings) -> Path:
    """Make the prepared file unless a whole one is there; downloads what is missing.

    Returns:
        its path.

    Raises:
        DataError: the published files are missing or damaged, and cannot be downloaded; or the folder cannot be
            written.
    """
    path = data_file(settings)
    try:
        if path.is_file():
            # A damaged one is made again below; reading the source says what is wrong if that fails, too.
            with suppress(DataError):
                check_data(settings)
                return path
        own = read_own(settings, about_file(settings)) if settings.is_own else None
        raw = own or read_source(settings.dataset, settings.root)
        _check_contents(raw, settings, f"the files it is published in, in {settings.root}")
        with publish(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **{name: getattr(raw, name) for name in ARRAYS})
    except OSError as error:
        raise DataError(
            f"Cannot write {path}: {error.strerror or error}. DATA=... (data.root) names another place."
        ) from None
    return path


def check_data(settings: DataSettings) -> None:
    """Read the prepared file and check that it is whole.

    Raises:
        DataError: it is missing or damaged; the text names it and the command that makes it.
    """
    _read_prepared(settings)


def _read_prepared(settings: DataSettings) -> RawData:
    path = data_file(settings)
    command = data_command(settings.dataset, settings.root)
    if not path.is_file():
        raise DataError(f"No data: {path} is missing. {command}, run where there is internet, makes it.")
    try:
        raw = RawData(*read_fresh(path, _read_arrays))
    except Exception as error:  # numpy and zipfile raise many kinds for damaged files
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error}). {command} makes it again.") from None
    _check_contents(raw, settings, f"{path}; {command} makes it again")
    return raw


def _read_arrays(path: Path) -> list[np.ndarray]:
    with np.load(path, allow_pickle=False) as content:
        return [content[name] for name in ARRAYS]


def _check_contents(raw: RawData, settings: DataSettings, where: str) -> None:
    info = dataset_info(settings, raw)
    channels, height, width = info.image_shape
    for part, images, labels in (
        ("training", raw.train_images, raw.train_labels),
        ("test", raw.test_images, raw.test_labels),
    ):
        problem = ""
        if images.shape[1:] != (height, width, channels) or images.dtype != np.uint8:
            problem = f"images are {images.shape[1:]} {images.dtype}, not {(height, width, channels)} uint8"
        elif labels.ndim != 1 or labels.dtype != np.int64:
            problem = f"labels are {labels.shape} {labels.dtype}, not a row of int64"
        elif len(images) != len(labels) or len(images) < 2:
            problem = f"there are {len(images)} images and {len(labels)} labels"
        elif labels.min() < 0 or labels.max() >= info.classes:
            problem = f"labels reach from {labels.min()} to {labels.max()}, there are {info.classes} classes"
        if problem:
            raise DataError(f"{settings.dataset}, {part} set: {problem}, in {where}")


def load_data(settings: DataSettings, device: torch.device) -> ImageData:
    """The data set on a device, split into training, validation and test images.

    The validation images are drawn from the published training set by `split_seed` alone; the test set is the
    published one.

    Raises:
        DataError: as `check_data`.
    """
    raw = _read_prepared(settings)
    info = dataset_info(settings, raw)
    validation, train = split_indices(len(raw.train_labels), settings.validation_fraction, settings.split_seed)
    images = torch.from_numpy(raw.train_images)
    labels = torch.from_numpy(raw.train_labels)
    train_images = images[train]
    mean, deviation = _pixel_statistics(train_images)
    return ImageData(
        name=settings.name,
        info=info,
        padded_train=pad(train_images, padding_of(info.image_shape)).to(device),
        train_labels=labels[train].to(device),
        validation=Split(images[validation].to(device), labels[validation].to(device)),
        test=Split(torch.from_numpy(raw.test_images).to(device), torch.from_numpy(raw.test_labels).to(device)),
        mean=mean.to(device),
        deviation=deviation.to(device),
    )


def split_indices(count: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Positions of validation and training images, each ascending: disjoint, together all, at least one each."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "validation split"))
    order = torch.randperm(count, generator=generator)
    held_out = min(max(1, round(count * fraction)), count - 1)
    return order[:held_out].sort().values, order[held_out:].sort().values


def join_validation(data: ImageData) -> ImageData:
    """The same data with the validation images in the training set, to train a chosen configuration for good.

    The validation set stays as it is: what is measured on it then is a training error.
    """
    padded = torch.cat([data.padded_train, pad(data.validation.images, data.padding)])
    return replace(data, padded_train=padded, train_labels=torch.cat([data.train_labels, data.validation.labels]))


def pad(images: Tensor, padding: int) -> Tensor:
    """A black border around (n, h, w, channels)."""
    return torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))


def _pixel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel; sums of whole numbers in float64 are exact in any order."""
    channels = images.shape[3]
    total, squares = torch.zeros(2, channels, dtype=torch.float64)
    for part in images.split(4096):  # type: ignore[no-untyped-call]
        values = part.reshape(-1, channels).to(torch.float32)
        total += values.sum(0, dtype=torch.float64)
        squares += values.square_().sum(0, dtype=torch.float64)
    count = images[..., 0].numel()
    mean = total / count
    deviation = (squares / count - mean**2).clamp_min(1.0).sqrt()
    return mean.float(), deviation.float()
