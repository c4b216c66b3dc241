"""Damaged numbers in the report: each of its sections is made and drawn of what can be read, or the file is named."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.analysis import figure_files, style
from pipeline.analysis.items import Section
from pipeline.analysis.report import naming, sections
from pipeline.run.folder import RunFolder
from pipeline.storage.collect import collect
from pipeline.storage.results import load_results
from tests.fuzz.commands import complaint
from tests.fuzz.mutations import tries
from tests.fuzz.test_hdf5 import set_something

DPI = 20  # the cheapest picture that is laid out and drawn as any other


@pytest.fixture(scope="module")
def collected(folder: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(collect(folder), tmp_path_factory.mktemp("collected") / "results.h5"))


def draw_section(path: Path, number: int) -> None:
    """Make one section of the report and draw its figures."""
    makers: list[Callable[[], Section]] = sections(load_results(path))
    with style.settings(), naming(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for item in makers[number % len(makers)]().items:
            if item.figure is not None:
                figure_files.draw(item.figure, item.warnings, DPI)


@tries(5)
@given(st.data())
def test_a_section_of_a_damaged_results_file(collected: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    path = Path(shutil.copy(collected, tmp_path_factory.mktemp("damaged")))
    set_something(data, path)
    text = complaint(draw_section, path, data.draw(st.integers(0, 7)))
    assert not text or str(path) in text


@tries(3)
@given(st.data())
def test_a_section_of_a_run_with_a_damaged_curve(folder: RunFolder, data: st.DataObject) -> None:
    attempt = sorted(folder.attempts.rglob("*.h5"))[0]
    content = attempt.read_bytes()
    try:
        set_something(data, attempt)
        path = collect(folder)
        text = complaint(draw_section, path, data.draw(st.integers(0, 7)))
        assert not text or str(path) in text
    finally:
        attempt.write_bytes(content)
