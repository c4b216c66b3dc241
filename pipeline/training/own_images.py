"""The user's own images: a folder with a sub-folder per class, or an .npz of arrays.

    SOURCE/CLASS/*.png                    without a test set: a tenth is set apart, drawn once and for all
    SOURCE/train/CLASS/*.png, SOURCE/test/CLASS/*.png

PNG and JPEG of any size become squares of `data.image_size` pixels. What cannot be decoded is named, counted and left
out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.resize import fitted
from pipeline.errors import DataError
from pipeline.files import publish_json
from pipeline.settings import DataSettings
from pipeline.training.sources import ARRAYS, RawData

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg")
TEST_SHARE = 0.1
TEST_SEED = 20180711
NAMED_DAMAGED = 10


@dataclass(frozen=True)
class _Found:
    """Image files with the number of their class."""

    files: list[Path]
    labels: list[int]


def read_own(settings: DataSettings, about: Path) -> RawData:
    """Read the user's images; what was found out of them goes into the JSON file `about`.

    Raises:
        DataError: the source is not what it should be; the text says what is missing.
    """
    source = settings.source
    if source is None:
        raise DataError(f"data.source: data.dataset={settings.dataset} needs the path of your images there")
    if not source.exists():
        raise DataError(f"data.source: there is no {source}")
    raw, classes, damaged = _read_npz(source) if settings.dataset == "npz" else _read_folder(source, settings)
    height, width, channels = raw.train_images.shape[1:]
    publish_json(
        about,
        {
            "source": str(source.resolve()),
            "classes": classes,
            "image_shape": [channels, height, width],
            "training_images": len(raw.train_labels),
            "test_images": len(raw.test_labels),
            "damaged": damaged,
        },
    )
    return raw


def _read_npz(source: Path) -> tuple[RawData, list[str], list[str]]:
    try:
        with np.load(source, allow_pickle=False) as content:
            lacking = [name for name in ARRAYS if name not in content]
            if lacking:
                have = ", ".join(content.files) or "nothing"
                raise DataError(f"{source} lacks the array {lacking[0]}; it needs {', '.join(ARRAYS)}, and has {have}")
            arrays = [content[name] for name in ARRAYS]
    except (OSError, ValueError) as error:
        raise DataError(f"{source} is no .npz file of arrays: {error}") from None
    images = [a[..., None] if a.ndim == 3 else a for a in (arrays[0], arrays[2])]
    if any(a.dtype != np.uint8 or a.ndim != 4 for a in images):
        raise DataError(
            f"{source}: images are (n, height, width[, channels]) uint8, not {arrays[0].shape} {arrays[0].dtype}"
        )
    labels = [a.astype(np.int64) for a in (arrays[1], arrays[3])]
    count = int(max(part.max(initial=0) for part in labels)) + 1
    return RawData(images[0], labels[0], images[1], labels[1]), [str(i) for i in range(count)], []


def _read_folder(source: Path, settings: DataSettings) -> tuple[RawData, list[str], list[str]]:
    has_parts = (source / "train").is_dir()
    classes = sorted(p.name for p in (source / "train" if has_parts else source).iterdir() if p.is_dir())
    if len(classes) < 2:
        raise DataError(
            f"data.source: {source} needs a sub-folder of images for each of at least two classes (or train/CLASS and "
            f"test/CLASS); it has {', '.join(classes) or 'none'}"
        )
    train = _find(source / "train" if has_parts else source, classes)
    images, labels, damaged = _decode(train, settings)
    if has_parts and (source / "test").is_dir():
        test_images, test_labels, more = _decode(_find(source / "test", classes), settings)
        damaged += more
    else:
        order = np.random.default_rng(TEST_SEED).permutation(len(labels))
        held_out = max(1, round(TEST_SHARE * len(labels)))
        test, rest = np.sort(order[:held_out]), np.sort(order[held_out:])
        images, labels, test_images, test_labels = images[rest], labels[rest], images[test], labels[test]
    if damaged:
        named = ", ".join(damaged[:NAMED_DAMAGED]) + (", ..." if len(damaged) > NAMED_DAMAGED else "")
        log.warning("%d of the images cannot be decoded and are left out: %s", len(damaged), named)
    empty = [name for number, name in enumerate(classes) if not (labels == number).any()]
    if empty:
        raise DataError(f"data.source: no image of the class {empty[0]} in {source} can be used (PNG and JPEG can)")
    return RawData(images, labels, test_images, test_labels), classes, damaged


def _find(folder: Path, classes: list[str]) -> _Found:
    pairs = [(path, number) for number, name in enumerate(classes) for path in _images_in(folder / name)]
    return _Found([path for path, _ in pairs], [number for _, number in pairs])


def _images_in(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _decode(found: _Found, settings: DataSettings) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (n, size, size, 3) uint8, labels (n,) int64, and the files that cannot be decoded."""
    size = settings.image_size
    images = np.zeros((len(found.files), size, size, 3), np.uint8)
    whole = np.zeros(len(found.files), bool)
    damaged: list[str] = []

    def decode(place: int) -> None:
        from torchvision.io import ImageReadMode, decode_image

        try:
            pixels = decode_image(str(found.files[place]), ImageReadMode.RGB)
        except RuntimeError:  # torchvision's word for whatever libpng and libjpeg find
            damaged.append(str(found.files[place]))
            return
        images[place] = fitted(pixels, size, size, settings.fit).permute(1, 2, 0).numpy()
        whole[place] = True

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # decoding releases the interpreter's lock
        list(pool.map(decode, range(len(found.files))))
    return images[whole], np.array(found.labels, np.int64)[whole], sorted(damaged)
