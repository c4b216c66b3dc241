"""Who is given what."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from pipeline.search.messages import Attempt, Hello
from pipeline.search.roster import EvaluationJob, Roster, Worker


def make_worker(name: str, host: str = "a") -> Worker:
    link = SimpleNamespace(heard=time.monotonic(), reported=None, reported_at=0.0, close=lambda: None)
    return Worker(Hello(name, f"incarnation of {name}", host, f"PYRO:{name}@127.0.0.1:1"), link)


def make_job(index: int) -> EvaluationJob:
    return EvaluationJob((0, 0, index), {"x": index}, 1.0)


@pytest.fixture
def roster():
    made = Roster(patience_s=60)
    for name, host in (("w0", "a"), ("w1", "b")):
        made.add(make_worker(name, host))
    return made


def matches(roster: Roster) -> list[tuple[str, int, int]]:
    return [(worker.name, job.id[2], worker.attempt.number) for worker, job in roster.match()]


def test_evaluations_go_out_in_order_to_the_worker_that_waited_longest(roster):
    for index in range(3):
        roster.submit(make_job(index))
    assert matches(roster) == [("w0", 0, 1), ("w1", 1, 1)]
    roster.make_idle(roster.workers["incarnation of w1"])
    roster.make_idle(roster.workers["incarnation of w0"])
    assert [w.name for w in roster.idle()] == ["w1", "w0"]
    assert matches(roster) == [("w1", 2, 1)]


def test_a_lost_evaluation_goes_first_with_the_next_attempt(roster):
    jobs = [make_job(index) for index in range(3)]
    for job in jobs:
        roster.submit(job)
    roster.match()
    for worker in list(roster.workers.values()):
        roster.make_idle(worker)
    roster.requeue(jobs[1])
    assert matches(roster) == [("w0", 1, 2), ("w1", 2, 1)]


def test_attempt_numbers_are_never_used_twice(roster):
    job = make_job(0)
    roster.submit(job)
    frozen, other = roster.workers.values()
    assert matches(roster) == [("w0", 0, 1)]
    frozen.is_lost = True
    roster.requeue(job)
    assert matches(roster) == [("w1", 0, 2)]
    other.is_lost = True
    roster.requeue(job)
    frozen.is_lost = False
    assert roster.adopt(frozen, Attempt((0, 0, 0), 1.0, 1))  # it has returned, still at the first attempt
    assert not roster.waiting
    roster.make_idle(frozen)
    roster.requeue(job)
    assert matches(roster) == [("w0", 0, 3)]


def test_a_host_that_an_evaluation_must_avoid_is_passed_over(roster):
    avoiding, free = make_job(0), make_job(1)
    roster.submit(avoiding)
    roster.requeue(avoiding, avoid={"a"})
    roster.submit(free)
    assert matches(roster) == [("w1", 0, 1), ("w0", 1, 1)]


def test_a_paused_host_is_given_only_what_failed_elsewhere(roster):
    roster.paused = lambda host: host == "a"
    failed = make_job(0)
    failed.attempts = 1
    failed.avoid = frozenset({"b"})
    roster.submit(make_job(1))
    roster.requeue(failed, avoid={"b"})
    assert matches(roster) == [("w0", 0, 2), ("w1", 1, 1)]


def test_shortage_counts_workers_that_would_stand_idle(roster):
    assert roster.shortage() == 2
    roster.submit(make_job(0))
    assert roster.shortage() == 1
    roster.paused = lambda host: host == "b"
    assert roster.shortage() == 0


def test_silence_makes_suspect_then_lost_and_a_word_makes_well_again(roster):
    worker = roster.workers["incarnation of w0"]
    assert roster.newly_suspect() == []
    worker.link.heard -= 5
    assert roster.newly_suspect() == [worker]
    assert roster.newly_suspect() == []
    assert not worker.is_usable
    worker.link.heard -= 60
    assert roster.newly_lost() == [worker]
    assert roster.newly_lost() == []
    assert roster.long_lost(600) == []
    worker.link.heard = time.monotonic()
    assert roster.returned() == [worker]
    assert worker.is_usable


def test_a_worker_that_says_it_is_at_something_else_contradicts_only_if_it_was_asked_later(roster):
    worker = roster.workers["incarnation of w0"]
    roster.submit(make_job(0))
    roster.match()
    worker.become("training", worker.attempt)
    worker.link.reported_at = worker.changed_at - 1
    assert roster.contradicting() == []
    worker.link.reported_at = worker.changed_at + 1
    assert roster.contradicting() == [worker]
    worker.link.reported = worker.attempt
    assert roster.contradicting() == []


def test_a_new_process_of_the_same_name_is_noticed(roster):
    again = make_worker("w0")
    again.hello = Hello("w0", "another incarnation", "a", again.hello.uri)
    assert roster.add(again).hello.incarnation == "incarnation of w0"


def test_an_evaluation_that_every_usable_host_must_avoid_is_reported_once_the_others_have_stayed_away(roster):
    job = make_job(0)
    roster.submit(job)
    roster.requeue(job, avoid={"a"})
    assert roster.stranded(0.0) == []  # there is b
    roster.workers["incarnation of w1"].is_lost = True
    assert roster.stranded(60.0) == []
    job.stranded_since -= 61
    assert roster.stranded(60.0) == [job]
    assert not roster.waiting


def test_a_silent_worker_is_not_replaced_before_the_runs_patience_is_over(roster):
    worker = roster.workers["incarnation of w0"]
    worker.is_suspect = True
    assert (roster.present_count(), roster.usable_count()) == (2, 1)
    worker.is_lost = True
    assert roster.present_count() == 1
