"""What is trained again is submitted once, and what has died is told from what goes on."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import pytest

from pipeline.records import AttemptEnd, AttemptHeader
from pipeline.retraining import retrain
from pipeline.retraining.plan import Retraining, plan_baselines, previous_attempt
from pipeline.run.folder import ensure_jobs_folder
from pipeline.settings import Settings, load_settings
from pipeline.storage.curves import AttemptFile

HERE = platform.node().split(".")[0]
LONG_AGO = time.time() - 5 * 3600


class Queue:
    """A backend whose tasks wait until they are taken out."""

    def __init__(self) -> None:
        self.tasks: set[str] = set()

    def submit_tasks(self, folder: Any, name: str, tasks: Any) -> list[str]:
        ensure_jobs_folder(folder)  # as Slurm's backend does, which makes no folder above it
        jobs = [f"{len(self.tasks) + 1}_{index}" for index in range(len(tasks))]
        self.tasks |= set(jobs)
        return jobs

    def submitted_tasks(self, name: str) -> set[str]:
        assert name == "tandem-baselines"
        return self.tasks


def test_trainings_that_wait_in_the_queue_are_not_submitted_again_and_lost_ones_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue()
    monkeypatch.setattr(retrain, "backend_for", lambda settings: queue)
    settings = load_settings("digits", ["search.min_budget=1", "search.max_budget=9"])

    def said(settings: Any) -> list[str]:
        lines: list[str] = []
        retrain.retrain_all(plan_baselines(settings, tmp_path, seeds=(0,)), settings, lines.append)
        return lines

    assert said(settings)[0] == "Trainings: 0 of 4 finished, 0 running, 4 to do."
    assert said(settings) == ["Trainings: 0 of 4 finished, 0 running, 4 submitted, 0 to do."]
    queue.tasks.remove("1_2")
    assert said(settings)[0] == "Trainings: 0 of 4 finished, 0 running, 3 submitted, 1 to do."
    longer = load_settings("digits", ["search.min_budget=1", "search.max_budget=27"])
    assert said(longer)[0] == "Trainings: 0 of 4 finished, 0 running, 4 to do."


@pytest.fixture
def settings() -> Settings:
    return load_settings("digits", ["search.min_budget=1", "search.max_budget=9", "workers.where=local"])


@pytest.fixture
def task(settings: Settings, tmp_path: Path) -> Retraining:
    return plan_baselines(settings, tmp_path, seeds=(0,))[0]


def attempt(task: Retraining, status: str = "", worker: str = "", job: str = "", started: float = 0.0) -> AttemptFile:
    """A file of a training that has begun, with an end if it has a status."""
    file = AttemptFile(task.path)
    header = AttemptHeader(
        "run", task.config_id, task.configuration, task.budget, task.budget_unit, 1, task.seed, started or time.time(),
        0.0, "start", "digits", 1, 1.0, "cpu", HERE, worker or f"{HERE}-1-ab12", job, {},
    )  # fmt: skip
    task.path.parent.mkdir(parents=True, exist_ok=True)
    file.begin(header, ())
    if status:
        file.end(AttemptEnd(status, "", time.time(), 1.0, 0.1, 0.1, 0.1, 0.1))
    return file


@pytest.fixture
def trains_here() -> Iterator[subprocess.Popen[bytes]]:
    """A process that trains here, by its arguments."""
    with subprocess.Popen([sys.executable, "-c", "input()", "retrain-incumbent"], stdin=subprocess.PIPE) as process:
        yield process


def test_a_training_of_this_machine_runs_as_long_as_its_process_and_has_died_with_it(
    task: Retraining, trains_here: subprocess.Popen[bytes]
) -> None:
    attempt(task, worker=f"{HERE}-{trains_here.pid}-ab12", started=LONG_AGO)
    assert previous_attempt(task) == (1, "running"), "an epoch may take hours"
    trains_here.kill()
    trains_here.wait()
    attempt(task, worker=f"{HERE}-{trains_here.pid}-ab12")
    assert previous_attempt(task) == (1, "died")


def test_a_training_on_slurm_runs_as_long_as_its_job_is_in_the_queue(task: Retraining) -> None:
    attempt(task, job="7_0", started=LONG_AGO)
    assert previous_attempt(task, {"7_0"}) == (1, "running")
    assert previous_attempt(task, {"7_1"}) == (1, "died")
    assert previous_attempt(task) == (1, "died"), "nobody knows, and it has been silent for hours"
    attempt(task, job="7_0")
    assert previous_attempt(task) == (1, "running"), "nobody knows, and it has just begun"


def test_what_became_of_trainings_is_said_and_what_has_not_finished_is_submitted_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue()
    queue.tasks = {"7_1"}
    monkeypatch.setattr(retrain, "backend_for", lambda settings: queue)
    plan = plan_baselines(settings, tmp_path, seeds=(0,))
    for task, (status, job) in zip(
        plan, [("finished", "7_0"), ("", "7_1"), ("", "7_2"), ("crashed", "7_3")], strict=True
    ):
        attempt(task, status, job=job)
    said: list[str] = []
    retrain.retrain_all(plan, settings, said.append)
    assert said[0] == "Trainings: 1 of 4 finished, 1 running, 2 to do (1 died, 1 crashed)."
    assert len(queue.tasks) == 1 + 2


def test_what_has_finished_meanwhile_is_not_trained_once_more(
    task: Retraining, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*given: Any) -> Never:
        raise AssertionError("it is trained once more")

    monkeypatch.setattr(retrain, "retrain", train)
    monkeypatch.setattr(retrain.Allocation, "listen", lambda self: None)  # this process keeps its own signals
    attempt(task, "finished")
    assert retrain.RetrainTask(task, settings)() == "finished", "its job was requeued at its very end"
    said: list[str] = []
    retrain._train_here([task], settings, said.append)
    assert said == [f"[1/1] {task.name}: another process has begun it meanwhile."]


def test_a_training_whose_run_was_moved_while_it_waited_makes_no_folder_again(
    task: Retraining, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain.Allocation, "listen", lambda self: None)
    gone = replace(task, path=tmp_path / "old name" / "retrained" / task.path.name)
    assert retrain.RetrainTask(gone, settings)() == "moved"
    assert not (tmp_path / "old name").exists()
