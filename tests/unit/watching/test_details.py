"""What a run's files say beyond its status."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.run.folder import RunFolder
from pipeline.run.history import Draw, History, Result, read_history
from pipeline.run.status import IncumbentStatus, WorkerStatus
from pipeline.watching.details import run_details, worker_speeds
from tests.earlier_run import unpack_earlier_run
from tests.unit.run.statuses import status_of


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return unpack_earlier_run(tmp_path)


def test_the_incumbent_is_shown_with_its_values_and_its_curve(folder: RunFolder) -> None:
    incumbent = run_details(folder, status_of(incumbents=(IncumbentStatus(1.0, "0-0-0", 0.93),))).incumbent
    assert incumbent is not None
    drawn = read_history(folder).draws[0].configuration
    assert set(incumbent.values) == set(drawn)
    assert float(incumbent.values["learning_rate"]) == pytest.approx(drawn["learning_rate"], rel=1e-3)
    assert (len(incumbent.curve) > 0, incumbent.last) == (True, "92.67%")


def test_a_status_without_readable_files_has_no_details(tmp_path: Path) -> None:
    (tmp_path / "configs.json").write_text("damage\n{}\n")
    details = run_details(RunFolder(tmp_path), status_of())
    assert (details.incumbent, details.speeds) == (None, {})


def history_of(speeds: dict[str, float], evaluations: int = 8) -> History:
    """Each worker trains networks of very different cost; its speed is a share of what such a network reaches."""
    chance = random.Random(0)
    draws, results = [], []
    for number in range(evaluations * len(speeds)):
        worker = sorted(speeds)[number % len(speeds)]
        flops = 10 ** chance.uniform(7, 10)
        rate = 1e12 / flops * speeds[worker] * chance.uniform(0.9, 1.1)
        info = {
            "worker": worker, "batches": rate * 10 / 64, "training_s": 10.0, "flops_per_image": flops,
            "continued_from": "start",
        }  # fmt: skip
        draws.append(Draw((0, 0, number), {"batch_size": 64}, {}))
        results.append(Result((0, 0, number), 10.0, 0.0, 0.0, 10.0, 0.5, info, None))
    return History(tuple(draws), tuple(results))


def test_a_slow_worker_is_told_from_those_that_train_large_networks(tmp_path: Path) -> None:
    history = history_of({"a": 1.0, "b": 1.0, "c": 0.3, "d": 1.0})
    workers = tuple(WorkerStatus(name, "h", "", "cpu", "idle", "", 0.0) for name in "abcd")
    found = worker_speeds(RunFolder(tmp_path), history, status_of(workers=workers))
    assert {name for name, speed in found.items() if speed.is_slow} == {"c"}
    assert found["a"].images_per_s != pytest.approx(found["b"].images_per_s, rel=0.5), "though both are as fast"


def test_nobody_is_called_slow_before_there_is_enough_to_compare(tmp_path: Path) -> None:
    history = history_of({"a": 1.0, "c": 0.1}, evaluations=2)
    workers = tuple(WorkerStatus(name, "h", "", "cpu", "idle", "", 0.0) for name in "acz")
    found = worker_speeds(RunFolder(tmp_path), history, status_of(workers=workers))
    assert set(found) == {"a", "c"}
    assert not any(speed.is_slow for speed in found.values())


def test_a_promoted_configuration_counts_what_was_trained_on_its_rung_alone(tmp_path: Path) -> None:
    info = {"worker": "a", "batches": 100, "training_s": 10.0, "flops_per_image": 1e8, "continued_from": "start"}
    further = {**info, "batches": 500, "training_s": 20.0, "continued_from": "rung 10 attempt 1"}
    history = History(
        (Draw((0, 0, 0), {"batch_size": 10}, {}),),
        tuple(Result((0, 0, 0), 10.0 * (i + 1), 0.0, 0.0, 1.0, 0.5, x, None) for i, x in enumerate((info, further))),
    )
    workers = (WorkerStatus("a", "h", "", "cpu", "idle", "", 0.0),)
    assert worker_speeds(RunFolder(tmp_path), history, status_of(workers=workers))["a"].images_per_s == 400.0
