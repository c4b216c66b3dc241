import errno
import gzip
import pickle
import re
import shlex
import subprocess
import sys
import zipfile
from _io import BufferedWriter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import DataError
from pipeline.settings import DataSettings
from pipeline.training import sources
from pipeline.training.data import (
    check_data,
    data_file,
    join_validation,
    load_data,
    padding_of,
    prepare_data,
    split_indices,
)

CPU = torch.device("cpu")


def write_cifar(root: Path, dataset: str = "cifar10", per_batch: int = 40, corrupt: None = None) -> Path:
    """A small data set in CIFAR's own format: pickled dicts of flat images, channel by channel."""
    folder, parts, key, classes = {
        "cifar10": ("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"], "labels", 10),
        "cifar100": ("cifar-100-python", ["train", "test"], "fine_labels", 100),
    }[dataset]
    (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in parts:
        data = rng.integers(0, 256, (per_batch, 3072), dtype=np.uint8)
        labels = [int(label) for label in rng.integers(0, classes, per_batch)]
        content = {"batch_label": part, key: labels, "data": data, "filenames": ["x.png"] * per_batch}
        (root / folder / part).write_bytes(pickle.dumps(content, protocol=2))
    return root / folder


def write_fashion_mnist(folder: Path, count: int = 30) -> None:
    """A small data set in Fashion-MNIST's own format: gzipped IDX files."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))


def write_svhn(root: Path, count: int = 20) -> None:
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = np.arange(1, count + 1)[:, None] % 10
        savemat(root / f"{part}_32x32.mat", {"X": images, "y": np.where(labels == 0, 10, labels).astype(np.uint8)})


def prepared(root: Path, dataset: Any, **values: Any) -> DataSettings:
    settings = DataSettings(dataset=dataset, root=root, **values)
    prepare_data(settings)
    return settings


@pytest.fixture
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a compute node: no internet, no data sets of the system."""

    class Unreachable:
        def __getattr__(self, name: str) -> None:
            raise OSError("Network is unreachable")

    monkeypatch.setattr(sources, "_torchvision", Unreachable)
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", sources.Path("/nonexistent"))


def test_digits_split_into_training_validation_and_a_test_set_of_their_own(tmp_path: Path) -> None:
    data = load_data(prepared(tmp_path, "digits"), CPU)
    assert (len(data.train), len(data.validation), len(data.test)) == (1350, 150, 297)
    assert data.train.images.shape[1:] == (8, 8, 1)
    everything = torch.cat([s.images.reshape(-1, 64) for s in (data.train, data.validation, data.test)])
    from sklearn.datasets import load_digits

    original = torch.from_numpy(np.round(load_digits().data * 255 / 16).astype(np.uint8))
    assert torch.equal(
        torch.unique(everything, dim=0, return_counts=True)[1].sort().values,
        torch.unique(original, dim=0, return_counts=True)[1].sort().values,
    )
    assert not data.flips


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_small_sets_in_cifars_own_format_are_read_pixel_by_pixel(
    tmp_path: Path, no_downloads: None, dataset: Any
) -> None:
    folder = write_cifar(tmp_path, dataset)
    data = load_data(prepared(tmp_path, dataset), CPU)
    count = 200 if dataset == "cifar10" else 40
    assert (len(data.train), len(data.validation), len(data.test)) == (count * 9 // 10, count // 10, 40)
    batch = pickle.loads((folder / ("test_batch" if dataset == "cifar10" else "test")).read_bytes())
    # Row-major, red plane first.
    red = batch["data"][7][:1024].reshape(32, 32)
    assert np.array_equal(data.test.images[7, :, :, 0].numpy(), red)
    assert int(data.test.labels[7]) == batch["labels" if dataset == "cifar10" else "fine_labels"][7]
    assert data.flips


def test_a_cifar_file_that_could_run_code_is_refused(tmp_path: Path, no_downloads: None) -> None:
    folder = write_cifar(tmp_path)

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return (print, ("it ran",))

    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    with pytest.raises(DataError, match=r"data_batch_3.*print"):
        prepare_data(DataSettings(dataset="cifar10", root=tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x02]", b"no pickle", b"B\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 8, b"\x8d" + b"\xff" * 7 + b"\x7f",
     b"cnumpy\ndtype\n(V1\ntR.", b"r\xff\xff\xff\xff.", b"c_codecs\nencode\n(Vx\nVno-such-code\ntR."],
)  # fmt: skip
def test_a_damaged_cifar_batch_is_named_with_the_command_that_gets_it_again(
    tmp_path: Path, no_downloads: None, content: bytes
) -> None:
    (write_cifar(tmp_path) / "data_batch_2").write_bytes(content)
    with pytest.raises(DataError) as error:
        prepare_data(DataSettings(dataset="cifar10", root=tmp_path))
    assert "data_batch_2 is damaged" in str(error.value)
    assert f"tandem data cifar10 --set data.root={tmp_path}`" in str(error.value)


def test_damaged_idx_and_mat_files_are_named_with_the_command_that_gets_them_again(
    tmp_path: Path, no_downloads: None
) -> None:
    write_fashion_mnist(tmp_path / "FashionMNIST" / "raw")
    write_svhn(tmp_path)
    for dataset, path in (
        ("fashion_mnist", tmp_path / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte.gz"),
        ("svhn", tmp_path / "test_32x32.mat"),
    ):
        path.write_bytes(path.read_bytes()[:40])
        with pytest.raises(DataError) as error:
            prepare_data(DataSettings(dataset=dataset, root=tmp_path))  # type: ignore[arg-type]
        assert f"{path} is damaged" in str(error.value)
        assert f"make data PRESET={dataset} DATA={tmp_path}`" in str(error.value)


def test_fashion_mnist_is_read_from_its_gzipped_files_whatever_their_checksums(
    tmp_path: Path, no_downloads: None
) -> None:
    write_fashion_mnist(tmp_path / "FashionMNIST" / "raw")
    data = load_data(prepared(tmp_path, "fashion_mnist"), CPU)
    assert data.train.images.shape == (27, 28, 28, 1)


def test_fashion_mnist_is_found_where_debians_package_puts_it(
    tmp_path: Path, no_downloads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fashion_mnist(tmp_path / "usr")
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", tmp_path / "usr")
    data = load_data(prepared(tmp_path / "data", "fashion_mnist"), CPU)
    assert len(data.train) == 27


def test_svhn_reads_the_digit_zero_and_is_not_mirrored(tmp_path: Path, no_downloads: None) -> None:
    write_svhn(tmp_path)
    data = load_data(prepared(tmp_path, "svhn"), CPU)
    assert data.test.labels.tolist() == [i % 10 for i in range(1, 21)]
    assert not data.flips


@pytest.mark.parametrize(
    ("dataset", "named"),
    [("cifar10", "data_batch_1"), ("cifar100", "train, test"), ("svhn", "train_32x32.mat"),
     ("fashion_mnist", "train-images-idx3-ubyte")],
)  # fmt: skip
def test_missing_sources_without_internet_name_the_files_and_where_they_belong(
    tmp_path: Path, no_downloads: None, dataset: Any, named: str
) -> None:
    with pytest.raises(DataError) as error:
        prepare_data(DataSettings(dataset=dataset, root=tmp_path))
    assert named in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert f"tandem data {dataset} --set data.root={tmp_path}`" in str(error.value)


@pytest.mark.parametrize(
    ("dataset", "published"),
    [
        ("cifar10", r"https?://\S+/cifar-10-python\.tar\.gz \(MD5 [0-9a-f]{32}\)"),
        ("svhn", r"\S+/train_32x32\.mat \(MD5 [0-9a-f]{32}\), \S+/test_32x32\.mat \(MD5 [0-9a-f]{32}\)"),
        ("fashion_mnist", r"\S+/train-images-idx3-ubyte\.gz \(MD5 [0-9a-f]{32}\)"),
    ],
)
def test_without_internet_the_addresses_and_checksums_of_what_is_missing_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Any, published: str
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", sources.Path("/nonexistent"))
    with pytest.raises(DataError, match=rf"get {published}.*copy them there"):
        prepare_data(DataSettings(dataset=dataset, root=tmp_path))


@pytest.mark.parametrize("place", ["a file", "below a file", "/proc/x"])
def test_a_data_folder_that_cannot_be_is_named_with_what_names_another(
    tmp_path: Path, no_downloads: None, place: str
) -> None:
    (tmp_path / "file").touch()
    root = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "data"}.get(place, Path(place))
    for dataset in ("digits", "cifar10"):
        with pytest.raises(DataError, match=rf"Cannot write {root}/{dataset}\.npz: .*DATA=.*data\.root"):
            prepare_data(DataSettings(dataset=dataset, root=root))


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(file: BufferedWriter, **arrays: np.ndarray) -> None:
        file.write(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", fill)
    with pytest.raises(DataError, match=r"digits\.npz: No space left on device"):
        prepare_data(DataSettings(dataset="digits", root=tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_while_downloading_is_no_lack_of_internet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        def SVHN(self, *arguments: Path, **options: bool | str) -> None:  # noqa: N802
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources, "_torchvision", FullDisk)
    with pytest.raises(DataError, match=r"Cannot write .*svhn\.npz: No space left on device"):
        prepare_data(DataSettings(dataset="svhn", root=tmp_path))


def test_missing_prepared_data_names_the_file_and_the_command(tmp_path: Path) -> None:
    settings = DataSettings(dataset="cifar10", root=tmp_path / "my data")
    with pytest.raises(DataError) as error:
        load_data(settings, CPU)
    assert "cifar10.npz is missing" in str(error.value)
    command, or_make = re.findall("`(.*?)`", str(error.value))
    assert shlex.split(command) == ["tandem", "data", "cifar10", "--set", f"data.root={tmp_path}/my data"]
    assert shlex.split(or_make) == ["make", "data", "PRESET=cifar10", f"DATA={tmp_path}/my data"]


@pytest.mark.parametrize("damage", ["a flipped bit", "cut short", "other shapes", "no array", "other labels",
                                    "a method of compression", "a header"])  # fmt: skip
def test_damaged_prepared_data_is_noticed_named_and_made_again(tmp_path: Path, damage: str) -> None:
    settings = prepared(tmp_path, "digits")
    path = data_file(settings)
    content = bytearray(path.read_bytes())
    if damage == "a flipped bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "other shapes":
        images, labels = np.zeros((9, 32, 32, 3), np.uint8), np.zeros(9, np.int64)
        np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    elif damage == "other labels":
        images, labels = np.zeros((9, 8, 8, 1), np.uint8), np.array("nine")
        np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    elif damage == "a method of compression":
        directory = content.rindex(b"PK\x01\x02")
        for entry in (content.index(b"PK\x01\x02"), directory):
            content[entry + 10] = 99  # zipfile raises NotImplementedError
        path.write_bytes(content)
    elif damage == "a header":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("train_images.npy", b"\x93NUMPY\x01\x00\x04\x00{'(\n")  # numpy raises tokenize.TokenError
    else:
        np.savez(path, something=np.zeros(3))
    with pytest.raises(DataError, match=r"digits\.npz|digits, training set"):
        check_data(settings)
    prepare_data(settings)
    check_data(settings)


def test_data_that_is_there_is_not_prepared_again(tmp_path: Path) -> None:
    settings = prepared(tmp_path, "digits")
    before = data_file(settings).stat()
    prepare_data(settings)
    assert data_file(settings).stat().st_mtime_ns == before.st_mtime_ns


def test_the_validation_split_depends_on_its_seed_alone_and_covers_everything_once() -> None:
    validation, train = split_indices(1000, 0.1, seed=3)
    again, _ = split_indices(1000, 0.1, seed=3)
    other, _ = split_indices(1000, 0.1, seed=4)
    assert torch.equal(validation, again)
    assert not torch.equal(validation, other)
    assert len(validation) == 100
    assert torch.equal(torch.cat([validation, train]).sort().values, torch.arange(1000))


def test_training_images_carry_a_black_border_and_statistics_of_the_training_images_alone(tmp_path: Path) -> None:
    data = load_data(prepared(tmp_path, "digits"), CPU)
    assert data.padding == padding_of((1, 8, 8)) == 1
    assert data.padded_train[:, 0].max() == 0
    assert data.padded_train[:, :, -1].max() == 0
    images = data.train.images.double()
    assert data.mean.item() == pytest.approx(images.mean().item(), rel=1e-5)
    assert data.deviation.item() == pytest.approx(images.std(correction=0).item(), rel=1e-5)


def test_validation_images_can_join_the_training_set_for_a_final_training(tmp_path: Path) -> None:
    data = load_data(prepared(tmp_path, "digits"), CPU)
    joined = join_validation(data)
    assert len(joined.train) == 1500
    assert torch.equal(joined.train.images[1350:], data.validation.images)
    assert torch.equal(joined.train.labels[1350:], data.validation.labels)


@pytest.mark.slow
def test_loading_data_does_not_import_torchvision(tmp_path: Path) -> None:
    settings = prepared(tmp_path, "digits")
    code = (
        "import sys, torch; from pathlib import Path; from pipeline.settings import DataSettings;"
        "from pipeline.training.data import load_data; import pipeline.training.train;"
        f"load_data(DataSettings(dataset='digits', root=Path({str(settings.root)!r})), torch.device('cpu'));"
        "print([name for name in ('torchvision', 'sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
