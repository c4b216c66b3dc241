"""Images of the user's own: found, decoded, split; damaged ones named and counted; what is wrong is one line."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.io import write_jpeg, write_png

from pipeline.errors import DataError
from pipeline.settings import DataSettings, validate_settings
from pipeline.training.data import about_file, load_data, prepare_data

GREY = 90


def write_images(folder: Path, classes: dict[str, int], size: tuple[int, int] = (20, 30)) -> None:
    """So many images of each class, each class of one shade."""
    for number, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = torch.full((3, *size), GREY * number, dtype=torch.uint8)
            if index % 2:
                write_png(pixels, str(folder / name / f"{index}.png"))
            else:
                write_jpeg(pixels, str(folder / name / f"{index}.JPG"))


def settings_of(tmp_path: Path, source: Path, **more: Any) -> DataSettings:
    data = {"dataset": "folder", "source": str(source), "image_size": 8, "root": str(tmp_path / "data"), **more}
    return validate_settings({"data": data}).data


def test_a_folder_of_images_of_any_size_becomes_squares_and_its_damaged_ones_are_named_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path / "pictures", {"cats": 12, "dogs": 9})
    (tmp_path / "pictures" / "cats" / "torn.png").write_bytes(b"\x89PNG and then nothing")
    (tmp_path / "pictures" / "dogs" / "empty.jpg").touch()
    (tmp_path / "pictures" / "dogs" / "notes.txt").write_text("passed over")
    settings = settings_of(tmp_path, tmp_path / "pictures")
    with caplog.at_level(logging.WARNING):
        prepare_data(settings)
    assert "2 of the images cannot be decoded and are left out" in caplog.text
    about = json.loads(about_file(settings).read_text())
    assert [Path(name).name for name in about["damaged"]] == ["torn.png", "empty.jpg"]
    assert (about["classes"], about["image_shape"]) == (["cats", "dogs"], [3, 8, 8])
    assert (about["training_images"], about["test_images"]) == (19, 2)
    data = load_data(settings, torch.device("cpu"))
    assert data.info.classes == 2
    for split in (data.train, data.validation, data.test):
        shades = split.images.float().mean((1, 2, 3))
        assert torch.allclose(shades, GREY * split.labels.float(), atol=3)  # JPEG is lossy


def test_a_test_folder_is_the_test_set(tmp_path: Path) -> None:
    write_images(tmp_path / "pictures" / "train", {"a": 6, "b": 6})
    write_images(tmp_path / "pictures" / "test", {"a": 2, "b": 3})
    settings = settings_of(tmp_path, tmp_path / "pictures", fit="squeeze")
    prepare_data(settings)
    about = json.loads(about_file(settings).read_text())
    assert (about["training_images"], about["test_images"]) == (12, 5)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ({}, "it has none"),
        ({"only": 3}, "at least two classes .* it has only"),
        ({"a": 3, "b": 0}, "no image of the class b"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_in_one_line(
    tmp_path: Path, classes: dict[str, int], said: str
) -> None:
    (tmp_path / "pictures").mkdir()
    write_images(tmp_path / "pictures", classes)
    with pytest.raises(DataError, match=said) as caught:
        prepare_data(settings_of(tmp_path, tmp_path / "pictures"))
    assert "\n" not in str(caught.value)


def write_npz(file: Path, **changes: Any) -> Path:
    images = np.arange(40 * 6 * 5, dtype=np.uint8).reshape(40, 6, 5)
    labels = np.arange(40) % 4
    arrays = {"train_images": images, "train_labels": labels, "test_images": images[:9], "test_labels": labels[:9]}
    np.savez(file, **{name: array for name, array in {**arrays, **changes}.items() if array is not None})
    return file


def test_arrays_of_grey_images_that_are_no_squares_are_taken_as_they_are(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, write_npz(tmp_path / "mine.npz"), dataset="npz")
    prepare_data(settings)
    data = load_data(settings, torch.device("cpu"))
    assert (data.info.image_shape, data.info.classes, len(data.test)) == ((1, 6, 5), 4, 9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_labels": None}, "lacks the array test_labels"),
        ({"train_images": np.zeros((40, 6, 5))}, "uint8, not .* float64"),
        ({"train_labels": np.zeros(3, int)}, "40 images and 3 labels"),
        ({"test_labels": np.full(9, -1)}, "labels reach from -1"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused_in_one_line(tmp_path: Path, changes: Any, said: str) -> None:
    settings = settings_of(tmp_path, write_npz(tmp_path / "mine.npz", **changes), dataset="npz")
    with pytest.raises(DataError, match=said) as caught:
        prepare_data(settings)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_text("hello")
    with pytest.raises(DataError, match=r"mine\.npz is no \.npz file of arrays"):
        prepare_data(settings_of(tmp_path, tmp_path / "mine.npz", dataset="npz"))
