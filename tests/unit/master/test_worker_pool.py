"""Who is given what."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from pipeline.master.worker_pool import EvaluationJob, KnownWorker, WorkerPool
from pipeline.rpc.messages import AttemptId, Registration


def make_worker(name: str, host: str = "a") -> KnownWorker:
    connection = SimpleNamespace(heard=time.monotonic(), reported=None, reported_at=0.0, close=lambda: None)
    return KnownWorker(Registration(name, f"incarnation of {name}", host, f"PYRO:{name}@127.0.0.1:1"), connection)


def make_job(index: int) -> EvaluationJob:
    return EvaluationJob((0, 0, index), {"x": index}, 1.0)


@pytest.fixture
def pool():
    made = WorkerPool(patience_s=60)
    for name, host in (("w0", "a"), ("w1", "b")):
        made.add(make_worker(name, host))
    return made


def matches(pool: WorkerPool) -> list[tuple[str, int, int]]:
    return [(worker.name, job.id[2], worker.attempt.number) for worker, job in pool.match()]


def test_evaluations_go_out_in_order_to_the_worker_that_waited_longest(pool):
    for index in range(3):
        pool.submit(make_job(index))
    assert matches(pool) == [("w0", 0, 1), ("w1", 1, 1)]
    pool.make_idle(pool.workers["incarnation of w1"])
    pool.make_idle(pool.workers["incarnation of w0"])
    assert [w.name for w in pool.idle()] == ["w1", "w0"]
    assert matches(pool) == [("w1", 2, 1)]


def test_a_lost_evaluation_goes_first_with_the_next_attempt(pool):
    jobs = [make_job(index) for index in range(3)]
    for job in jobs:
        pool.submit(job)
    pool.match()
    for worker in list(pool.workers.values()):
        pool.make_idle(worker)
    pool.requeue(jobs[1])
    assert matches(pool) == [("w0", 1, 2), ("w1", 2, 1)]


def test_attempt_numbers_are_never_used_twice(pool):
    job = make_job(0)
    pool.submit(job)
    frozen, other = pool.workers.values()
    assert matches(pool) == [("w0", 0, 1)]
    frozen.is_lost = True
    pool.requeue(job)
    assert matches(pool) == [("w1", 0, 2)]
    other.is_lost = True
    pool.requeue(job)
    frozen.is_lost = False
    assert pool.adopt(frozen, AttemptId((0, 0, 0), 1.0, 1))  # it has returned, still at the first attempt
    assert not pool.waiting
    pool.make_idle(frozen)
    pool.requeue(job)
    assert matches(pool) == [("w0", 0, 3)]


def test_a_host_that_an_evaluation_must_avoid_is_passed_over(pool):
    avoiding, free = make_job(0), make_job(1)
    pool.submit(avoiding)
    pool.requeue(avoiding, avoid={"a"})
    pool.submit(free)
    assert matches(pool) == [("w1", 0, 1), ("w0", 1, 1)]


def test_a_paused_host_is_given_only_what_failed_elsewhere(pool):
    pool.paused = lambda host: host == "a"
    failed = make_job(0)
    failed.attempts = 1
    failed.avoid = frozenset({"b"})
    pool.submit(make_job(1))
    pool.requeue(failed, avoid={"b"})
    assert matches(pool) == [("w0", 0, 2), ("w1", 1, 1)]


def test_shortage_counts_workers_that_would_stand_idle(pool):
    assert pool.shortage() == 2
    pool.submit(make_job(0))
    assert pool.shortage() == 1
    pool.paused = lambda host: host == "b"
    assert pool.shortage() == 0


def test_silence_makes_suspect_then_lost_and_a_word_makes_well_again(pool):
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


def test_a_worker_that_says_it_is_at_something_else_contradicts_only_if_it_was_asked_later(pool):
    worker = pool.workers["incarnation of w0"]
    pool.submit(make_job(0))
    pool.match()
    worker.become("training", worker.attempt)
    worker.connection.reported_at = worker.changed_at - 1
    assert pool.contradicting() == []
    worker.connection.reported_at = worker.changed_at + 1
    assert pool.contradicting() == [worker]
    worker.connection.reported = worker.attempt
    assert pool.contradicting() == []


def test_a_new_process_of_the_same_name_is_noticed(pool):
    again = make_worker("w0")
    again.registration = Registration("w0", "another incarnation", "a", again.registration.uri)
    assert pool.add(again).registration.incarnation == "incarnation of w0"


def test_an_evaluation_that_every_usable_host_must_avoid_is_reported_once_the_others_have_stayed_away(pool):
    job = make_job(0)
    pool.submit(job)
    pool.requeue(job, avoid={"a"})
    assert pool.stranded(0.0) == []  # there is b
    pool.workers["incarnation of w1"].is_lost = True
    assert pool.stranded(60.0) == []
    job.stranded_since -= 61
    assert pool.stranded(60.0) == [job]
    assert not pool.waiting


def test_a_silent_worker_is_not_replaced_before_the_runs_patience_is_over(pool):
    worker = pool.workers["incarnation of w0"]
    worker.is_suspect = True
    assert (pool.present_count(), pool.usable_count()) == (2, 1)
    worker.is_lost = True
    assert pool.present_count() == 1
