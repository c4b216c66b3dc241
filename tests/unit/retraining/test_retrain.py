"""What is trained again is submitted once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.retraining import retrain
from pipeline.retraining.plan import plan_baselines
from pipeline.settings import load_settings


class Queue:
    """A backend whose tasks wait until they are taken out."""

    def __init__(self) -> None:
        self.tasks: set[str] = set()

    def submit_tasks(self, folder: Any, name: str, tasks: Any) -> list[str]:
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
