"""Read data sets in the formats in which they are published, downloading them where that is asked for.

Whatever is read here is checked by its shapes and labels, not by torchvision's checksums: small sets written in the
same format, and Debian's copy of Fashion-MNIST (other gzip headers, same images), are as good as the originals.
"""

from __future__ import annotations

import errno
import gzip
import pickle
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import DataError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
DIGITS_TEST_IMAGES = 297
DIGITS_SPLIT_SEED = 20180711


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class RawData:
    """A data set as published: images (n, h, w, channels) uint8, labels (n,) int64, in the publisher's order."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels


class _SourceError(Exception):
    """What is missing or damaged, and what to do before the data are prepared again."""


def data_command(dataset: str, root: Path) -> str:
    """The command that gets and prepares a data set, wherever it is run, as a person types it."""
    folder = root.absolute()
    settings = (shlex.quote(f"data.root={folder}"), shlex.quote(f"DATA={folder}"))
    return f"`tandem data {dataset} --set {settings[0]}` (or `make data PRESET={dataset} {settings[1]}`)"


def read_source(dataset: str, root: Path) -> RawData:
    """Read a data set from its published files under `root`, or download them there.

    Raises:
        DataError: files are missing and cannot be downloaded, or are damaged; the text names them and the command.
        OSError: what was downloaded cannot be written.
    """
    try:
        return _SOURCES[dataset](root)
    except _SourceError as error:
        raise DataError(f"{error}, then run {data_command(dataset, root)}.") from None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # unpickling, numpy and scipy raise nearly anything for damaged files
        problem = f"{type(error).__name__}: {error}"
        raise _SourceError(f"{path} is damaged or of another format ({problem}): remove it") from None


def _digits(root: Path) -> RawData:
    """scikit-learn's digits, part of the package: 1,797 of 8x8 pixels in 0..16; 297, drawn once and for all, are the
    test set, because the publisher set none apart.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(DIGITS_SPLIT_SEED).permutation(len(labels))
    test, train = order[:DIGITS_TEST_IMAGES], order[DIGITS_TEST_IMAGES:]
    return RawData(images[train], labels[train], images[test], labels[test])


# Fashion-MNIST -----------------------------------------------------------------------------------------------------
def _fashion_mnist(root: Path) -> RawData:
    raw = root / "FashionMNIST" / "raw"

    def find() -> list[Path] | None:
        return [_idx_file(raw, part) for part in _FASHION_PARTS] if _has_idx_files(raw) else None

    if find() is None and not _has_idx_files(DEBIAN_FASHION_MNIST):
        _download(
            "FashionMNIST",
            lambda: [_torchvision().FashionMNIST(root, train=True, download=True)],
            f"the four files of Fashion-MNIST ({', '.join(_FASHION_PARTS)}, each .gz or unpacked)",
            raw,
            "On Debian and Ubuntu `apt install dataset-fashion-mnist` installs them where they are found, too. ",
        )
    folder = raw if _has_idx_files(raw) else DEBIAN_FASHION_MNIST
    arrays = [_read_idx(_idx_file(folder, part)) for part in _FASHION_PARTS]
    train, train_labels, test, test_labels = arrays
    return RawData(train[..., None], train_labels.astype(np.int64), test[..., None], test_labels.astype(np.int64))


_FASHION_PARTS = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip


def _idx_file(folder: Path, part: str) -> Path:
    plain = folder / part
    return plain if plain.is_file() else folder / f"{part}.gz"


def _has_idx_files(folder: Path) -> bool:
    return all(_idx_file(folder, part).is_file() for part in _FASHION_PARTS)


def _read_idx(path: Path) -> Images:
    """The IDX format of LeCun et al.: two zero bytes, the type (8: uint8), the rank, big-endian sizes, the values."""
    with _reading(path):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if content[:3] != b"\x00\x00\x08":
            raise ValueError("it does not begin like an IDX file of bytes")
        rank = content[3]
        shape = np.frombuffer(content, ">u4", rank, offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(tuple(int(n) for n in shape))


# CIFAR -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Cifar:
    """File names of one CIFAR data set."""

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    labels_key: str
    archive: str

    def __call__(self, root: Path) -> RawData:
        folder = root / self.folder
        missing = [part for part in (*self.train, self.test) if not (folder / part).is_file()]
        if missing:
            _download(
                self.name,
                lambda: [getattr(_torchvision(), self.name)(root, train=True, download=True)],
                f"{', '.join(missing)} (from {self.archive}, unpacked)",
                folder,
            )
        train = [self._read(folder / part) for part in self.train]
        test_images, test_labels = self._read(folder / self.test)
        return RawData(
            np.concatenate([images for images, _ in train]),
            np.concatenate([labels for _, labels in train]),
            test_images,
            test_labels,
        )

    def _read(self, path: Path) -> tuple[Images, Labels]:
        with _reading(path):
            with path.open("rb") as file:
                content = _ArrayUnpickler(file, encoding="latin1").load()
            # The published keys are Python 2 strings; sets written since in their format have text or bytes.
            batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
            pixels = np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32)
            labels = np.asarray(batch[self.labels_key], np.int64)
            if len(pixels) != len(labels):
                raise ValueError(f"{len(pixels)} images and {len(labels)} labels")
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of numpy arrays and plain values, and nothing that could run code."""

    ALLOWED = frozenset({
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    })  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no data set does")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


# SVHN --------------------------------------------------------------------------------------------------------------
def _svhn(root: Path) -> RawData:
    """Street View House Numbers: the train and test files (the extra half million is left out)."""
    files = [root / f"{part}_32x32.mat" for part in ("train", "test")]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        _download(
            "SVHN",
            lambda: [_torchvision().SVHN(root, split=part, download=True) for part in ("train", "test")],
            ", ".join(missing),
            root,
        )
    (train, train_labels), (test, test_labels) = (_read_mat(file) for file in files)
    return RawData(train, train_labels, test, test_labels)


def _read_mat(path: Path) -> tuple[Images, Labels]:
    from scipy.io import loadmat

    with _reading(path):
        content = loadmat(str(path))
        images = np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2)).astype(np.uint8, casting="safe")
        # The publisher writes the digit 0 as 10.
        labels = content["y"].reshape(-1).astype(np.int64) % 10
    return images, labels


# Downloads ---------------------------------------------------------------------------------------------------------
def _torchvision() -> Any:
    # Imported where something must be downloaded only: it costs four seconds.
    from torchvision import datasets

    return datasets


_UNWRITABLE = {errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT}


def _download(name: str, fetch: Callable[[], object], files: str, folder: Path, hint: str = "") -> None:
    """Let torchvision download what it calls `name`.

    Its own complaint about checksums is about files that we read ourselves.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fetch()
    except Exception as error:  # urllib's and torchvision's errors have no common base
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            raise
        raise _SourceError(
            f"Missing in {folder}: {files}. Downloading failed ({' '.join(str(error).split())}). "
            f"{hint}Where there is no internet, get {_published(name)} elsewhere and copy them there"
        ) from None


def _published(name: str) -> str:
    """Where a data set's files are published, with their MD5 checksums: what torchvision would download."""
    try:
        source = getattr(_torchvision(), name)
    except Exception:  # it cannot be imported where it was installed for another PyTorch
        return "them"
    if hasattr(source, "resources"):
        files = [(f"{source.mirrors[0]}{file}", md5) for file, md5 in source.resources]
    elif hasattr(source, "split_list"):
        files = [(url, md5) for url, _, md5 in (source.split_list[part] for part in ("train", "test"))]
    else:
        files = [(source.url, source.tgz_md5)]
    return ", ".join(f"{url} (MD5 {md5})" for url, md5 in files)


_SOURCES: dict[str, Callable[[Path], RawData]] = {
    "digits": _digits,
    "fashion_mnist": _fashion_mnist,
    "cifar10": _Cifar(
        "CIFAR10", "cifar-10-batches-py", tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch",
        "labels", "cifar-10-python.tar.gz",
    ),
    "cifar100": _Cifar(
        "CIFAR100", "cifar-100-python", ("train",), "test", "fine_labels", "cifar-100-python.tar.gz",
    ),
    "svhn": _svhn,
}  # fmt: skip
