"""Tables of real trainings: recorded with this project's trainer, resumed, packed, and read as a problem."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search.suite import PROBLEMS, problem
from benchmarks.search.tables import record, table
from benchmarks.search.tables.table import SURROGATES, Recorded, read_table, surrogate_error

RECORDED = [name for name in PROBLEMS if problem(name).kind == "real"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A recording of 128 images, packed beside it."""
    digits = record.RECORDINGS["digits"]
    monkeypatch.setitem(record.RECORDINGS, "digits", replace(digits, train_images=128, validation_images=60))
    monkeypatch.setenv("TANDEM_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(table, "TABLES", tmp_path)
    return tmp_path


def test_a_recording_that_was_killed_goes_on_and_is_packed_whole(tiny: Path) -> None:
    record.record("digits", tiny, 2)
    path = tiny / "digits.jsonl"
    first = path.read_text()
    path.write_text(first[:-20])  # a kill tore the second line
    record.record("digits", tiny, 2)
    lines = [line for line in map(str.strip, path.read_text().splitlines()) if line]
    whole, torn, again = lines
    assert whole == first.splitlines()[1]
    assert first.splitlines()[2].startswith(torn)
    # Times differ; what was trained does not.
    before, after = (json.loads(text) for text in (first.splitlines()[2], again))
    assert before["validation_error"] == after["validation_error"]
    record.pack("digits", tiny)
    read_table.cache_clear()
    packed = read_table("digits")
    read_table.cache_clear()
    assert packed.X.shape == (2, 17)
    assert packed.errors[1].tolist() == after["validation_error"]
    assert len(after["validation_error"]) == record.BUDGETS[-1]


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_problem_is_a_problem_like_the_others(name: str) -> None:
    about = problem(name)
    values = about.table.configurations[0]
    outcome = about.evaluate(values, about.budgets[-1], seed=0)
    assert [budget for budget, _ in outcome.curve] == list(range(1, 10))
    assert outcome.loss == about.value(values)
    assert outcome.cost_s == pytest.approx(9 * about.cost_s(about.vector(values), values, 1))
    assert about.best <= outcome.loss
    assert about.best <= min(about.value(c) for c in about.table.configurations)


@pytest.mark.parametrize("kind", SURROGATES)
@pytest.mark.parametrize("name", sorted({name.rsplit("-", 1)[0] for name in RECORDED}))
def test_a_surrogate_knows_more_than_the_mean(name: str, kind: str) -> None:
    error = surrogate_error(name, kind)
    assert error.r2 > 0.2
    assert error.spearman > 0.5
    assert error.cost < 0.3


def test_the_two_surrogates_are_no_copies_of_each_other() -> None:
    if RECORDED:
        forest, kernel = (Recorded(RECORDED[0].rsplit("-", 1)[0], kind) for kind in SURROGATES)
        both = np.array([[p.value(c) for c in p.table.configurations] for p in (forest, kernel)])
        assert np.abs(both[0] - both[1]).mean() > 0.001
