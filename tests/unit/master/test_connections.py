"""The master's connection to a worker: what it posts to the master's loop, whatever the worker answers."""

from __future__ import annotations

import queue
import time
from _queue import SimpleQueue
from collections.abc import Callable, Iterator
from typing import Any

import Pyro4.errors
import pytest

from pipeline.master import connections
from pipeline.master.connections import WorkerConnection
from pipeline.master.events import DispatchEnded, Event, Gone, ThreadDied
from pipeline.records import Evaluation
from pipeline.rpc.messages import AttemptId
from pipeline.settings.liveness import ping_interval_s, suspect_after_s

EVALUATION = Evaluation((0, 0, 1), {"x": 1.0}, 3.0, attempt=2, seed=7)
ATTEMPT = AttemptId((0, 0, 1), 3.0, 2)


class FakeWorker:
    """Stands in for the proxy of a worker; an answer that is an exception is raised."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"state": {"holds": None}}
        self.calls: list[tuple[Any, ...]] = []
        self.is_released = False

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append((method, *arguments))
            answer = self.answers.get(method)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    def _pyroRelease(self) -> None:  # noqa: N802 (Pyro4's name)
        self.is_released = True


class FakeNetwork:
    """A network with one worker."""

    def __init__(self, worker: FakeWorker) -> None:
        self.worker = worker

    def proxy(self, uri: str, timeout_s: float, serializer: str = "json") -> FakeWorker:
        return self.worker


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


@pytest.fixture
def inbox() -> SimpleQueue:
    return queue.SimpleQueue()


@pytest.fixture
def connection(worker: FakeWorker, inbox: SimpleQueue) -> Iterator[WorkerConnection]:
    made = WorkerConnection("w0", "PYRO:w0@127.0.0.1:1", inbox.put, lambda: 1, network=FakeNetwork(worker))  # type: ignore[arg-type]
    yield made
    made.close()


def event_from(inbox: queue.SimpleQueue[Event]) -> Event:
    return inbox.get(timeout=10)


def dispatch(connection: WorkerConnection, inbox: queue.SimpleQueue[Event]) -> DispatchEnded:
    connection.start()
    connection.dispatch(EVALUATION)
    event = event_from(inbox)
    assert isinstance(event, DispatchEnded)
    assert (event.connection, event.attempt) == (connection, ATTEMPT)
    return event


def test_an_evaluation_that_is_taken_is_confirmed(
    connection: WorkerConnection, worker: FakeWorker, inbox: SimpleQueue
) -> None:
    worker.answers["start_computation"] = {"accepted": True}
    heard = connection.heard
    assert dispatch(connection, inbox).result == "started"
    assert connection.heard > heard
    assert worker.calls[0] == ("start_computation", None, [0, 0, 1])


@pytest.mark.parametrize(
    ("answer", "result", "reason", "is_leaving"),
    [
        ({"accepted": False, "reason": "busy"}, "refused", "busy", False),
        ({"accepted": False, "leaving": True, "reason": "it leaves"}, "refused", "it leaves", True),
        (ConnectionRefusedError(), "gone", "connection refused", False),
        (TimeoutError(), "unknown", "no answer in time", False),
        (Pyro4.errors.ConnectionClosedError("closed"), "unknown", "ConnectionClosedError: closed", False),
        (KeyError("evaluation"), "refused", "KeyError: 'evaluation'", False),
    ],
)
def test_what_an_answer_means_for_the_evaluation(
    connection: WorkerConnection,
    worker: FakeWorker,
    inbox: SimpleQueue,
    answer: Any,
    result: str,
    reason: str,
    is_leaving: bool,
) -> None:
    worker.answers["start_computation"] = answer
    event = dispatch(connection, inbox)
    assert (event.result, event.reason, event.is_leaving) == (result, reason, is_leaving)


def test_a_ping_tells_what_the_worker_is_at(connection: WorkerConnection, worker: FakeWorker) -> None:
    worker.answers["state"] = {"holds": ATTEMPT.to_plain()}  # as of a worker of an earlier version
    before = time.monotonic()
    connection.connect()
    assert (connection.reported, connection.quiet_s) == (ATTEMPT, 0.0)
    worker.answers["state"] |= {"quiet_s": 700.0}
    connection.connect()
    assert (connection.reported, connection.quiet_s) == (ATTEMPT, 700.0)
    assert before <= connection.reported_at <= connection.heard


def test_a_worker_whose_port_is_closed_is_gone(
    connection: WorkerConnection, worker: FakeWorker, inbox: SimpleQueue
) -> None:
    worker.answers["state"] = ConnectionRefusedError()
    connection.start()
    connection.check_now()
    assert event_from(inbox) == Gone(connection, "connection refused")


def test_a_worker_that_does_not_answer_is_not_gone(
    connection: WorkerConnection, worker: FakeWorker, inbox: SimpleQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ping_interval_s", lambda workers: 0.0)
    worker.answers["state"] = TimeoutError()
    connection.start()
    connection.check_now()
    connection.dispatch(EVALUATION)
    worker.answers["start_computation"] = {"accepted": True}
    assert isinstance(event_from(inbox), DispatchEnded)
    assert inbox.empty()


def test_a_connection_that_was_cut_is_tried_once_more_before_anything_is_concluded(
    connection: WorkerConnection, worker: FakeWorker, inbox: SimpleQueue
) -> None:
    answers = iter([Pyro4.errors.ConnectionClosedError("cut"), {"holds": ATTEMPT.to_plain()}])

    def state() -> Any:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    worker.state = state
    connection._ping_quietly()
    assert connection.reported == ATTEMPT
    assert inbox.empty()


def test_a_silent_worker_is_pinged_without_being_asked_to(
    connection: WorkerConnection, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ping_interval_s", lambda workers: 0.01)
    connection.start()
    deadline = time.monotonic() + 10
    while ("state",) not in worker.calls:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_request_that_does_not_get_through_ends_nothing(
    connection: WorkerConnection, worker: FakeWorker, inbox: SimpleQueue
) -> None:
    worker.answers |= {"stop_attempt": TimeoutError(), "shutdown": TimeoutError()}
    worker.answers["start_computation"] = {"accepted": True}
    connection.start()
    connection.stop_attempt(ATTEMPT, "superseded")
    connection.dismiss("done")
    connection.dispatch(EVALUATION)
    assert isinstance(event_from(inbox), DispatchEnded)
    assert [call[0] for call in worker.calls] == ["stop_attempt", "shutdown", "start_computation"]


@pytest.mark.parametrize("error", [ValueError("mine"), AttributeError("no shutdown"), TypeError("mine, too")])
def test_what_a_worker_raises_when_it_is_asked_to_stop_or_leave_ends_nothing(
    connection: WorkerConnection,
    worker: FakeWorker,
    inbox: SimpleQueue,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    worker.answers |= {"stop_attempt": error, "shutdown": error, "start_computation": {"accepted": True}}
    connection.start()
    connection.stop_attempt(ATTEMPT, "superseded")
    connection.dismiss("done")
    connection.dispatch(EVALUATION)
    assert isinstance(event_from(inbox), DispatchEnded)
    assert f"w0: shutdown failed there: {type(error).__name__}: {error}" in caplog.text


def test_a_defect_in_the_connections_thread_reaches_the_loop(
    connection: WorkerConnection, inbox: SimpleQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interval(workers: int) -> float:
        raise ValueError("no count is like that")

    monkeypatch.setattr(connections, "ping_interval_s", interval)
    connection.start()
    event = event_from(inbox)
    assert isinstance(event, ThreadDied)
    assert "ValueError" in event.traceback


@pytest.mark.parametrize(
    "answer", [{"holds": "no attempt"}, {"holds": None, "quiet_s": "x"}, None, "idle", {"holds": [[0, 0], 1.0, 1]}]
)
def test_a_worker_that_does_not_say_what_it_is_at_falls_silent_and_ends_nothing(
    connection: WorkerConnection, worker: FakeWorker, inbox: SimpleQueue, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    heard = connection.heard
    worker.answers["state"] = answer
    connection._ping_quietly()
    connection._ping_quietly()
    assert connection.heard == heard
    assert inbox.empty()
    assert caplog.text.count("does not say what it is at") == 1


def test_the_more_workers_the_rarer_each_is_pinged_and_the_later_it_is_suspect() -> None:
    assert ping_interval_s(1) == ping_interval_s(300) < ping_interval_s(1000)
    assert suspect_after_s(300) < 5
    assert suspect_after_s(1000) > suspect_after_s(300)
