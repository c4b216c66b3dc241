"""Who is given what."""

from __future__ import annotations

import pytest

from pipeline.master.assignment import assign, shortage
from pipeline.master.evaluations import EvaluationJob, Evaluations
from pipeline.master.worker_pool import WorkerPool, WorkerState
from pipeline.rpc.messages import AttemptId
from tests.unit.master.conftest import job, known_worker


class Table:
    """Two idle workers, w0 on host a and w1 on host b, and a queue."""

    def __init__(self) -> None:
        self.pool = WorkerPool(patience_s=60)
        self.evaluations = Evaluations()
        self.paused: set[str] = set()
        self.workers = [known_worker("w0", "a"), known_worker("w1", "b")]
        for worker in self.workers:
            self.pool.add(worker)

    def submit(self, count: int) -> list[EvaluationJob]:
        jobs = [job(index) for index in range(count)]
        for each in jobs:
            self.evaluations.submit(each)
        return jobs

    def give_out(self) -> list[tuple[str, int, int]]:
        """(worker, index of the configuration, number of the attempt) of what is given out now."""
        given = []
        for worker, each in assign(self.evaluations, self.pool, self.paused.__contains__):
            self.evaluations.start(each)
            attempt = each.next_attempt()
            worker.become(WorkerState.STARTING, attempt)
            given.append((worker.name, attempt.config_id[2], attempt.number))
        return given

    def shortage(self) -> int:
        return shortage(self.evaluations, self.pool, self.paused.__contains__)


@pytest.fixture
def table() -> Table:
    return Table()


def test_evaluations_go_out_in_order_to_the_worker_that_waited_longest(table: Table) -> None:
    table.submit(3)
    assert table.give_out() == [("w0", 0, 1), ("w1", 1, 1)]
    table.pool.make_idle(table.workers[1])
    table.pool.make_idle(table.workers[0])
    assert [w.name for w in table.pool.idle()] == ["w1", "w0"]
    assert table.give_out() == [("w1", 2, 1)]


def test_a_lost_evaluation_goes_first_with_the_next_attempt(table: Table) -> None:
    jobs = table.submit(3)
    table.give_out()
    for worker in table.workers:
        table.pool.make_idle(worker)
    table.evaluations.requeue(jobs[1])
    assert table.give_out() == [("w0", 1, 2), ("w1", 2, 1)]


def test_attempt_numbers_are_never_used_twice(table: Table) -> None:
    (only,) = table.submit(1)
    frozen, other = table.workers
    assert table.give_out() == [("w0", 0, 1)]
    frozen.is_lost = True
    table.evaluations.requeue(only)
    assert table.give_out() == [("w1", 0, 2)]
    other.is_lost = True
    table.evaluations.requeue(only)
    frozen.is_lost = False
    frozen.become(WorkerState.TRAINING, AttemptId((0, 0, 0), 1.0, 1))  # it has returned, still at the first attempt
    table.evaluations.start(only)
    assert not table.evaluations.waiting
    table.pool.make_idle(frozen)
    table.evaluations.requeue(only)
    assert table.give_out() == [("w0", 0, 3)]


def test_a_host_that_an_evaluation_must_avoid_is_passed_over(table: Table) -> None:
    avoiding, _ = table.submit(2)
    table.evaluations.requeue(avoiding, avoid={"a"})
    assert table.give_out() == [("w1", 0, 1), ("w0", 1, 1)]


def test_a_paused_host_is_given_only_what_failed_elsewhere(table: Table) -> None:
    table.paused = {"a"}
    _, failed = table.submit(2)
    table.evaluations.start(failed)
    failed.attempts = 1
    table.evaluations.requeue(failed, avoid={"b"})
    assert table.give_out() == [("w0", 1, 2), ("w1", 0, 1)]


def test_shortage_counts_workers_that_would_stand_idle(table: Table) -> None:
    assert table.shortage() == 2
    table.submit(1)
    assert table.shortage() == 1
    table.paused = {"b"}
    assert table.shortage() == 0


def test_nobody_is_given_work_who_is_silent_or_leaves(table: Table) -> None:
    table.submit(2)
    table.workers[0].is_suspect = True
    table.workers[1].become(WorkerState.LEAVING)
    assert table.give_out() == []
    assert table.shortage() == 0
