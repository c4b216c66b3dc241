"""When the master asks for workers."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import SiteError
from pipeline.master.worker_requests import REQUEST_S, WORKERS_RETURN_S, WorkerRequester
from pipeline.records import StartedWorkers
from pipeline.runtime import SystemRuntime
from pipeline.settings import load_settings


class Clock(SystemRuntime):
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> Any:
        return self.now


@pytest.fixture
def clock() -> Any:
    return Clock()


class Site:
    """What `request_workers` is given, and whether it fails."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.problem: str | None = None
        self.answer = StartedWorkers(("1_0",))
        self.called = threading.Semaphore(0)

    def request(self, count: Any) -> Any:
        self.asked.append(count)
        self.called.release()
        if self.problem:
            raise SiteError(self.problem)
        return self.answer


def make(site: Any, clock: Any, count: Any = 4) -> Any:
    notes = []
    files: Any = SimpleNamespace(note=lambda event, **fields: notes.append((event, fields)))
    made = WorkerRequester(load_settings("digits", [f"workers.count={count}"]), site.request, files, clock)
    made.notes = notes
    return made


def tick(requester: Any, site: Any, present: Any, useful: Any = 100, expect: Any = True) -> None:
    requester.tick(present, useful)
    assert site.called.acquire(timeout=5 if expect else 0.05) == expect
    while requester._busy.is_set():
        threading.Event().wait(0.001)


def test_it_asks_for_what_is_missing_and_no_more_than_is_useful(clock: Any) -> None:
    site = Site()
    tick(make(site, clock), site, present=1)
    tick(make(site, clock), site, present=1, useful=2)
    tick(make(site, clock), site, present=4, expect=False)
    tick(make(site, clock), site, present=1, useful=1, expect=False)
    assert site.asked == [3, 1]


def test_it_asks_less_and_less_often_while_nobody_comes_and_at_once_again_when_somebody_has(clock: Any) -> None:
    site = Site()
    requester = make(site, clock)
    tick(requester, site, present=0)
    clock.now += REQUEST_S - 1
    tick(requester, site, present=0, expect=False)
    clock.now += 2
    tick(requester, site, present=0)
    clock.now += REQUEST_S + 1
    tick(requester, site, present=0, expect=False)  # the pause has doubled
    clock.now += REQUEST_S
    requester.worker_joined()
    tick(requester, site, present=1)
    clock.now += REQUEST_S + 1
    tick(requester, site, present=1)
    assert [fields["count"] for _, fields in requester.notes] == [4, 4, 3, 3]


def test_workers_of_an_earlier_master_are_given_time_to_return(clock: Any) -> None:
    site = Site()
    requester = make(site, clock)
    requester.wait_for_returning()
    tick(requester, site, present=0, expect=False)
    clock.now += WORKERS_RETURN_S
    tick(requester, site, present=3)
    assert site.asked == [1]


def test_a_request_that_fails_is_told_and_tried_again(clock: Any) -> None:
    site = Site()
    requester = make(site, clock)
    site.problem = "the partition is down"
    tick(requester, site, present=0)
    assert requester.problem == "workers could not be requested: the partition is down"
    site.problem = None
    clock.now += REQUEST_S
    tick(requester, site, present=0)
    assert requester.problem == ""


def test_a_request_for_which_there_is_no_thread_is_told_and_tried_again(
    clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    requester = make(site, clock)

    def fail() -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(clock, "thread", lambda target, name: SimpleNamespace(start=fail))
        tick(requester, site, present=0, expect=False)
    assert requester.problem == "workers could not be requested: can't start new thread"
    clock.now += REQUEST_S
    tick(requester, site, present=0)
    assert requester.problem == ""


def test_what_came_of_a_request_is_told_and_only_what_was_asked_for_is_logged(clock: Any, caplog: Any) -> None:
    caplog.set_level("INFO", "tandem.master")
    site = Site()
    requester = make(site, clock)
    tick(requester, site, present=2)
    assert "asked for 1 workers: 1_0" in caplog.text
    caplog.clear()
    site.answer = StartedWorkers(problem="1 task ended on node1", failing_nodes={"node2": "3 tasks ended there"})
    clock.now += REQUEST_S
    tick(requester, site, present=2)
    assert "asked for" not in caplog.text, "enough are on their way"
    assert requester.problem == "1 task ended on node1"
    tick(requester, site, present=4, expect=False)
    assert requester.problem == "", "nobody is lacking any more"
    assert requester.failing_nodes == {"node2": "3 tasks ended there"}


def test_a_worker_that_joins_ends_the_long_pause_after_a_full_cluster(clock: Any) -> None:
    site = Site()
    requester = make(site, clock)
    for _ in range(6):
        tick(requester, site, present=0)
        clock.now += 1000
    tick(requester, site, present=0)  # the next one is 600 s from here
    requester.worker_joined()
    clock.now += REQUEST_S + 1
    tick(requester, site, present=3)
    assert site.asked[-1] == 1
