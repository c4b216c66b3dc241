"""Damaged learning curves and results.h5: what cannot be read is named, and costs only itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.run.folder import RunFolder
from pipeline.storage.collect import collect
from pipeline.storage.curves import SEAL, read_attempt_table
from tests.fuzz.commands import complaint, complaint_apart, show_results
from tests.fuzz.mutations import hostile, mutated_bytes, tries


@pytest.fixture(scope="module")
def attempt(folder: RunFolder) -> Path:
    return sorted(folder.attempts.rglob("*.h5"))[0]


@pytest.fixture(scope="module")
def collected(folder: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(collect(folder), tmp_path_factory.mktemp("collected") / "results.h5"))


def unsealed(content: bytes) -> bytes:
    """A curve's file as earlier versions wrote it: nothing but HDF5."""
    assert SEAL in content
    return content[: content.rindex(SEAL)]


def set_something(data: st.DataObject, path: Path) -> None:
    """Replace one attribute or dataset by another value, type or shape, as another program could."""
    with h5py.File(path, "r+", locking=False) as file:
        names: list[str] = [""]
        file.visit(names.append)
        item = file[data.draw(st.sampled_from(names)) or "/"]
        attributes = sorted(item.attrs)
        value = data.draw(values)
        if data.draw(st.booleans()) and attributes:
            item.attrs[data.draw(st.sampled_from(attributes))] = value
        elif item.name != "/":
            parent, name = item.parent, item.name.rsplit("/", 1)[-1]
            del parent[name]
            if data.draw(st.booleans()):
                parent[name] = value


def storable(value: Any) -> bool:
    """Whether h5py can store a value at all."""
    try:
        with h5py.File("x", "w", driver="core", backing_store=False) as file:
            file["x"] = value
            file.attrs["x"] = value
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError, RuntimeError, KeyError):
        return False
    return True


arrays = st.sampled_from([
    np.zeros(0), np.zeros(3), np.zeros((2, 2)), np.arange(4), np.array([True]), np.array([b"a", b"b"]),
    np.float64("nan"), np.zeros(2, [("epoch", "f8"), ("batches", "S3")]), np.array(["x"], dtype=object),
    np.int64(-1), np.arange(3) * -5,
])  # fmt: skip
values = arrays | hostile.filter(storable)


@tries(60)
@given(st.data())
def test_a_curve_with_other_bytes(attempt: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damaged") / attempt.name
    content = attempt.read_bytes()
    path.write_bytes(data.draw(mutated_bytes(content if data.draw(st.booleans()) else unsealed(content))))
    text = complaint_apart(read_attempt_table, path)
    assert not text or str(path) in text


@tries(40)
@given(st.data())
def test_a_curve_with_other_values(attempt: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damaged") / attempt.name
    path.write_bytes(unsealed(attempt.read_bytes()))
    set_something(data, path)
    text = complaint(read_attempt_table, path)
    assert not text or str(path) in text


@tries(6)
@given(st.data())
def test_a_run_with_a_damaged_curve_is_collected_and_shown(
    folder: RunFolder, attempt: Path, data: st.DataObject
) -> None:
    content = attempt.read_bytes()
    try:
        attempt.write_bytes(unsealed(content))
        set_something(data, attempt)
        show_results(collect(folder))
    finally:
        attempt.write_bytes(content)


@tries(20)
@given(st.data())
def test_a_results_file_with_other_bytes(collected: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damaged") / "results.h5"
    path.write_bytes(data.draw(mutated_bytes(collected.read_bytes())))
    text = complaint_apart(show_results, path)
    assert not text or str(path) in text


@tries(30)
@given(st.data())
def test_a_results_file_with_other_values(collected: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    path = Path(shutil.copy(collected, tmp_path_factory.mktemp("damaged")))
    set_something(data, path)
    text = complaint(show_results, path)
    assert not text or str(path) in text
