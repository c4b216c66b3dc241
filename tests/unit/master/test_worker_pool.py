"""Which workers there are, and which are silent."""

from __future__ import annotations

import time

import pytest

from pipeline.master.worker_pool import WorkerPool, WorkerState
from pipeline.rpc.messages import AttemptId, Registration
from tests.unit.master.conftest import known_worker

ATTEMPT = AttemptId((0, 0, 0), 1.0, 1)


@pytest.fixture
def pool() -> WorkerPool:
    made = WorkerPool(patience_s=60)
    for name, host in (("w0", "a"), ("w1", "b")):
        made.add(known_worker(name, host))
    return made


def test_silence_makes_suspect_then_lost_and_a_word_makes_well_again(pool: WorkerPool) -> None:
    worker = pool.workers["incarnation of w0"]
    assert pool.newly_suspect() == []
    worker.connection.heard -= 5
    assert pool.newly_suspect() == [worker]
    assert pool.newly_suspect() == []
    assert not worker.is_usable
    worker.connection.heard -= 60
    assert pool.newly_lost() == [worker]
    assert pool.newly_lost() == []
    assert pool.long_lost(600) == []
    worker.connection.heard = time.monotonic()
    assert pool.returned() == [worker]
    assert worker.is_usable


def test_a_worker_that_says_it_is_at_something_else_contradicts_only_if_it_was_asked_later(pool: WorkerPool) -> None:
    worker = pool.workers["incarnation of w0"]
    worker.become(WorkerState.STARTING, ATTEMPT)
    worker.connection.reported_at = worker.changed_at + 1
    assert pool.contradicting() == []  # the call that starts it is under way
    worker.become(WorkerState.TRAINING, ATTEMPT)
    worker.connection.reported_at = worker.changed_at - 1
    assert pool.contradicting() == []
    worker.connection.reported_at = worker.changed_at + 1
    assert pool.contradicting() == [worker]
    worker.connection.reported = worker.attempt
    assert pool.contradicting() == []


def test_a_worker_that_did_not_take_its_evaluation_is_believed_at_its_next_word(pool: WorkerPool) -> None:
    worker = pool.workers["incarnation of w0"]
    worker.become(WorkerState.UNCONFIRMED)
    assert pool.contradicting() == []
    worker.connection.reported_at = worker.changed_at + 1
    assert pool.contradicting() == [worker]


def test_a_new_process_of_the_same_name_is_noticed(pool: WorkerPool) -> None:
    again = known_worker("w0")
    again.registration = Registration("w0", "another incarnation", "a", again.registration.uri)
    assert pool.add(again).registration.incarnation == "incarnation of w0"


def test_a_silent_worker_is_not_replaced_before_the_runs_patience_is_over(pool: WorkerPool) -> None:
    worker = pool.workers["incarnation of w0"]
    worker.is_suspect = True
    assert (pool.present_count(), pool.usable_count()) == (2, 1)
    worker.is_lost = True
    assert pool.present_count() == 1


def test_a_lost_worker_does_not_count_as_being_at_its_evaluation(pool: WorkerPool) -> None:
    first, second = pool.workers.values()
    for worker in (first, second):
        worker.become(WorkerState.TRAINING, ATTEMPT)
    assert pool.has_runner(ATTEMPT.key, besides=first)
    second.is_lost = True
    assert pool.has_runner(ATTEMPT.key)
    assert not pool.has_runner(ATTEMPT.key, besides=first)
    assert pool.running(ATTEMPT.key) == [first, second]


def test_a_worker_that_leaves_stays_so_when_it_has_ended_its_evaluation(pool: WorkerPool) -> None:
    worker = pool.workers["incarnation of w0"]
    worker.become(WorkerState.LEAVING, ATTEMPT)
    pool.make_idle(worker)
    assert worker.state is WorkerState.LEAVING
    assert worker.attempt is None
