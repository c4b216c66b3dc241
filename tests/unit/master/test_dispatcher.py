"""Workers that join a master which has no thread or no file for them."""

from __future__ import annotations

import queue
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.master import stock
from pipeline.master.dispatcher import Dispatcher
from pipeline.master.events import Event, Joined
from pipeline.rpc.master_address import worker_prefix
from pipeline.runtime import SystemRuntime

WAIT_S = 30.0
REGISTRATION = {"name": "w0", "incarnation": "i0", "host": "a", "uri": "PYRO:w0@127.0.0.1:1"}
GUEST = f"{worker_prefix('digits')}b.1"


class FakeNetwork:
    """A network of one worker, whose listening end says what it lacks."""

    def __init__(self) -> None:
        self.locationStr, self.lack = "127.0.0.1:9", ""
        self.is_released = False
        self.is_busy: Callable[[], bool] = lambda: False

    def serve(self, *arguments: Any) -> FakeNetwork:
        return self

    def register(self, *arguments: Any) -> str:
        return "PYRO:x@127.0.0.1:9"

    uriFor = register  # noqa: N815 (Pyro4's name)

    def lacks(self) -> str:
        return self.lack

    def caller(self) -> str:
        return "caller"

    def proxy(self, uri: str, timeout_s: float, serializer: str = "json") -> Any:
        return SimpleNamespace(state=lambda: {"holds": None}, is_busy=lambda: self.is_busy(), _pyroRelease=self.release)

    def release(self) -> None:
        self.is_released = True


class FewThreads(SystemRuntime):
    """Whose threads of connections cannot start for the first few times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def thread(self, target: Callable[[], None], name: str) -> Any:
        if name.startswith("connection") and self.failures:
            self.failures -= 1
            return SimpleNamespace(start=self._fail)
        return super().thread(target, name)

    def _fail(self) -> None:
        raise RuntimeError("can't start new thread")


def make(network: FakeNetwork, failures: int, inbox: queue.SimpleQueue[Event]) -> Dispatcher:
    return Dispatcher("digits", "127.0.0.1", None, inbox, FewThreads(failures), network)  # type: ignore[arg-type]


def register(dispatcher: Dispatcher, inbox: queue.SimpleQueue[Event], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the worker is answered; `Joined` stands for what the loop would say."""
    monkeypatch.setattr(dispatcher, "_ask", lambda event: event(None))
    return dispatcher.register_worker(REGISTRATION)


def test_a_worker_for_which_there_is_no_thread_is_told_so_and_taken_in_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, inbox = FakeNetwork(), queue.SimpleQueue[Event]()
    dispatcher = make(network, 1, inbox)
    answer = register(dispatcher, inbox, monkeypatch)
    assert answer == {
        "accepted": False,
        "reason": "the master has no thread for this worker now (can't start new thread)",
    }
    assert network.is_released
    assert isinstance(register(dispatcher, inbox, monkeypatch), Joined)
    assert inbox.empty()
    dispatcher.connections["i0"].close()


def test_a_worker_for_which_there_are_no_files_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    network, inbox = FakeNetwork(), queue.SimpleQueue[Event]()
    dispatcher = make(network, 0, inbox)
    network.lack = "nearly all of 1024 open files are in use"
    answer = register(dispatcher, inbox, monkeypatch)
    assert (answer["accepted"], answer["reason"]) == (False, f"the master cannot take this worker now: {network.lack}")
    assert dispatcher.number_of_workers() == 0


def test_a_guest_for_which_there_is_no_thread_joins_when_there_is_one() -> None:
    network, inbox = FakeNetwork(), queue.SimpleQueue[Event]()
    dispatcher = make(network, 2, inbox)
    dispatcher.nameserver.register(GUEST, "PYRO:b@127.0.0.1:2")
    event = inbox.get(timeout=WAIT_S)
    assert isinstance(event, Joined)
    assert (event.registration.name, event.registration.host) == (GUEST, "b")
    event.connection.close()


def test_a_guest_that_does_not_answer_as_one_is_named_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network, inbox = FakeNetwork(), queue.SimpleQueue[Event]()

    def is_busy() -> bool:
        raise AttributeError("no is_busy")

    network.is_busy = is_busy
    monkeypatch.setattr(stock, "JOIN_S", 0.0)
    runtime = FewThreads(0)
    monkeypatch.setattr(runtime, "thread", lambda target, name: SimpleNamespace(start=target))
    dispatcher = Dispatcher("digits", "127.0.0.1", None, inbox, runtime, network)  # type: ignore[arg-type]
    dispatcher.nameserver.register(GUEST, "PYRO:b@127.0.0.1:2")
    assert f"{GUEST} does not join: AttributeError: no is_busy" in caplog.text
    assert inbox.empty()
