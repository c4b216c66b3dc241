"""When the master asks for workers."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import SiteError
from pipeline.master.worker_requests import REQUEST_S, RETURN_S, WorkerRequester
from pipeline.runtime import SystemRuntime
from pipeline.settings import load_settings


class Clock(SystemRuntime):
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Site:
    """What `request_workers` is given, and whether it fails."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.problem: str | None = None
        self.called = threading.Semaphore(0)

    def request(self, count: int) -> None:
        self.asked.append(count)
        self.called.release()
        if self.problem:
            raise SiteError(self.problem)


def make(site: Site, clock: Clock, count: int = 4) -> WorkerRequester:
    notes = []
    files: Any = SimpleNamespace(note=lambda event, **fields: notes.append((event, fields)))
    made = WorkerRequester(load_settings("digits", [f"workers.count={count}"]), site.request, files, clock)
    made.notes = notes
    return made


def tick(requester: WorkerRequester, site: Site, present: int, useful: int = 100, expect: bool = True) -> None:
    requester.tick(present, useful)
    assert site.called.acquire(timeout=5 if expect else 0.05) == expect
    while requester._busy.is_set():
        threading.Event().wait(0.001)


def test_it_asks_for_what_is_missing_and_no_more_than_is_useful(clock: Clock) -> None:
    site = Site()
    tick(make(site, clock), site, present=1)
    tick(make(site, clock), site, present=1, useful=2)
    tick(make(site, clock), site, present=4, expect=False)
    tick(make(site, clock), site, present=1, useful=1, expect=False)
    assert site.asked == [3, 1]


def test_it_asks_less_and_less_often_while_nobody_comes_and_at_once_again_when_somebody_has(clock: Clock) -> None:
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


def test_workers_of_an_earlier_master_are_given_time_to_return(clock: Clock) -> None:
    site = Site()
    requester = make(site, clock)
    requester.wait_for_returning()
    tick(requester, site, present=0, expect=False)
    clock.now += RETURN_S
    tick(requester, site, present=3)
    assert site.asked == [1]


def test_a_request_that_fails_is_told_and_tried_again(clock: Clock) -> None:
    site = Site()
    requester = make(site, clock)
    site.problem = "the partition is down"
    tick(requester, site, present=0)
    assert requester.problem == "workers could not be requested: the partition is down"
    site.problem = None
    clock.now += REQUEST_S
    tick(requester, site, present=0)
    assert requester.problem == ""
