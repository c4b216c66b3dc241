"""What becomes of results between their delivery and the disk."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from pipeline.master.attempts import AttemptTracker
from pipeline.master.checkpoints import CheckpointKeeper
from pipeline.master.evaluations import EvaluationJob, Evaluations
from pipeline.master.failures import FailurePolicy
from pipeline.master.lease import take_lease
from pipeline.master.run_files import RunFiles
from pipeline.master.worker_pool import WorkerPool
from pipeline.problems.description import VALIDATION_ERROR
from pipeline.rpc.messages import AttemptId, Outcome
from pipeline.run.folder import RunFolder
from pipeline.run.history import read_history, read_journal
from pipeline.search.search import Search
from pipeline.settings import load_settings
from tandem_trial.problem import Metric


class Tracked:
    """An attempt tracker over a search whose first evaluation is under way."""

    def __init__(self, path: Path) -> None:
        settings = load_settings("digits", [])
        self.folder = RunFolder(path)
        self.search, self.pool, self.policy = Search(settings), WorkerPool(60), FailurePolicy(3, 3)
        self.evaluations = Evaluations()
        self.keeper = CheckpointKeeper(self.folder, self.search, queue.SimpleQueue())
        self.files = RunFiles(self.folder, take_lease(self.folder))
        self.broken = []
        self.tracker = AttemptTracker(
            self.folder,
            self.search,
            self.evaluations,
            self.pool,
            self.policy,
            self.files,
            self.keeper,
            self.broken.append,
        )
        job = EvaluationJob(*self.search.next_evaluation())
        self.attempt = job.next_attempt()
        self.evaluations.submit(job)
        self.evaluations.start(job)
        self.files.write_draws(self.search.take_new_draws())

    def take(self, outcome: Outcome, worker: str = "w0", host: str = "here") -> Future:
        reply = Future()
        self.tracker.take(self.attempt, outcome, worker, host, reply)
        return reply

    def events(self) -> list[dict[str, float | list[int] | str]]:
        self.files.write_journal(durable=True)
        return read_journal(self.folder)


@pytest.fixture
def tracked(tmp_path: Path) -> Iterator[Tracked]:
    made = Tracked(tmp_path)
    yield made
    made.keeper.close()
    made.files.close()


@pytest.mark.parametrize("info", [{}, {"parameters": None}, {"parameters": "many"}, {"parameters": True}])
def test_a_result_that_lacks_an_objective_is_a_crash_that_says_so(tracked: Tracked, info: dict[str, Any]) -> None:
    tracked.search.objectives.metrics = (VALIDATION_ERROR, Metric("parameters"))
    tracked.take(Outcome("finished", loss=0.5, info=info))
    tracked.tracker.end_held()  # no other node is there to try it
    tracked.tracker.commit()
    [result] = read_history(tracked.folder).results
    assert result.loss is None
    assert result.exception == "bad_result: the result lacks parameters, which the search optimises"


def test_a_result_that_comes_twice_is_acknowledged_to_neither_before_it_is_durable(tracked: Tracked) -> None:
    first, second = (tracked.take(Outcome("finished", loss=0.5), worker) for worker in ("w0", "w1"))
    assert not first.done()
    assert not second.done()
    tracked.tracker.commit()
    assert first.result(0) == {"accepted": True}
    assert second.result(0)["accepted"] is False
    assert tracked.folder.results.read_bytes().count(b"\n") == 1


@pytest.mark.parametrize("status", ["broken", "handed_back", "lost"])
def test_an_end_that_is_delivered_again_while_the_disk_stalls_counts_once(tracked: Tracked, status: str) -> None:
    replies = [tracked.take(Outcome(status, reason="the data is missing")) for _ in range(5)]
    assert [reply.result(0) for reply in replies] == [{"accepted": True}] * 5
    assert [event["outcome"] for event in tracked.events()] == [status]
    assert tracked.broken == []
    assert tracked.policy.excluded == {}


def test_an_attempt_that_loses_its_gpu_counts_as_one_that_lost_its_worker(tracked: Tracked) -> None:
    for number in (1, 2, 3):
        tracked.attempt = AttemptId(*tracked.attempt.key, number)
        tracked.take(Outcome("lost", reason="device_lost: CUDA error: device-side assert triggered"))
    assert tracked.tracker.lost == 3
    tracked.tracker.commit()
    (result,) = read_history(tracked.folder).results
    assert result.exception.startswith("killed_its_worker: 3 attempts without progress")
