"""Workers that are records only, and a master's parts without its processes, sockets and threads."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.master.evaluations import EvaluationJob
from pipeline.master.events import Delivered, DispatchEnded, Event, Joined, Left
from pipeline.master.lease import take_lease
from pipeline.master.run_files import RunFiles
from pipeline.master.scheduler import Scheduler
from pipeline.master.worker_pool import KnownWorker
from pipeline.records import Evaluation, StartedWorkers
from pipeline.rpc.messages import AttemptId, Outcome, Registration
from pipeline.run.folder import RunFolder
from pipeline.run.history import History, read_history, read_journal
from pipeline.runtime import SystemRuntime
from pipeline.search.replay import rebuild
from pipeline.settings import Settings, load_settings


@dataclass
class FakeConnection:
    """A connection that remembers what the master asked of its worker (`pipeline.master.events.Connection`)."""

    name: str
    heard: float = field(default_factory=time.monotonic)
    reported: AttemptId | None = None
    reported_at: float = 0.0
    quiet_s: float = 0.0
    dispatched: list[Evaluation] = field(default_factory=list)
    stopped: list[tuple[AttemptId, str]] = field(default_factory=list)
    dismissed: list[str] = field(default_factory=list)
    is_closed: bool = False

    def dispatch(self, evaluation: Evaluation) -> None:
        self.dispatched.append(evaluation)

    def stop_attempt(self, attempt: AttemptId, reason: str) -> None:
        self.stopped.append((attempt, reason))

    def dismiss(self, reason: str) -> None:
        self.dismissed.append(reason)

    def close(self) -> None:
        self.is_closed = True

    def report(self, attempt: AttemptId | None) -> None:
        """The worker says, when pinged just now, what it is at."""
        self.reported, self.reported_at, self.heard = attempt, time.monotonic(), time.monotonic()

    @property
    def last(self) -> AttemptId:
        """The attempt that was dispatched last."""
        evaluation = self.dispatched[-1]
        return AttemptId(evaluation.config_id, evaluation.budget, evaluation.attempt)


def known_worker(name: str, host: str = "a") -> KnownWorker:
    uri = f"PYRO:{name}@127.0.0.1:1"
    return KnownWorker(Registration(name, f"incarnation of {name}", host, uri), FakeConnection(name))


def job(index: int) -> EvaluationJob:
    return EvaluationJob((0, 0, index), {"x": index}, 1.0)


class SkippingRuntime(SystemRuntime):
    """The machine's own, on a clock that can be moved on."""

    def __init__(self) -> None:
        self.skipped_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped_s


class FakeDispatcher:
    """The dispatcher as the scheduler sees it."""

    problem = ""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.forgotten: list[str] = []
        self.is_down = False

    def forget(self, incarnation: str) -> None:
        self.forgotten.append(incarnation)

    def shutdown(self) -> None:
        self.is_down = True


class Master:
    """A scheduler over a real run folder, whose workers are driven by hand: each method is what a worker does."""

    def __init__(self, path: Path, *overrides: str) -> None:
        base = ["search.min_budget=1", "search.max_budget=3", "search.iterations=1", "search.method=hyperband"]
        self.settings: Settings = load_settings("digits", [*base, *overrides])
        self.folder = RunFolder(path)
        self.connections: dict[str, FakeConnection] = {}
        self.requested: list[int] = []
        self.runtime = SkippingRuntime()
        self.start()

    def start(self) -> None:
        """Start the scheduler as a master does, on what the run folder holds."""
        search = rebuild(self.settings, read_history(self.folder))
        self.lease = take_lease(self.folder, stopped_s=0.0)
        self.files = RunFiles(self.folder, self.lease)
        self.dispatcher: Any = FakeDispatcher()
        self.scheduler = Scheduler(
            self.folder,
            search,
            self.files,
            self.dispatcher,  # type: ignore[arg-type]
            self._request,
            read_journal(self.folder),
            self.runtime,
        )

    def _request(self, count: int) -> StartedWorkers:
        self.requested.append(count)
        return StartedWorkers()

    def step(self) -> None:
        """What the master's loop does between two waits."""
        self.scheduler.commit()
        self.scheduler.tick()
        self.scheduler.advance()

    def join(
        self, name: str, host: str = "a", holds: AttemptId | None = None, suffix: str = "", memory_mb: float = 0.0
    ) -> dict[str, Any]:
        """A worker registers; the answer it is given."""
        connection = self.connections[name] = FakeConnection(name, self.runtime.monotonic())
        incarnation = f"incarnation of {name}{suffix}"
        reply: Future[dict[str, Any]] = Future()
        registration = Registration(
            name, incarnation, host, f"PYRO:{name}@127.0.0.1:1", holds=holds, memory_mb=memory_mb
        )
        self.scheduler.handle(Joined(registration, connection, reply))
        return reply.result(0)

    def confirm(self, name: str) -> None:
        """A worker's answer that it has begun what it was given last."""
        connection = self.connections[name]
        self.scheduler.handle(DispatchEnded(connection, connection.last, "started"))

    def deliver(self, name: str, outcome: Outcome, attempt: AttemptId | None = None) -> Future[dict[str, Any]]:
        """A worker delivers what became of an attempt: of the one it was given last, if none is named."""
        reply: Future[dict[str, Any]] = Future()
        what = self.connections[name].last if attempt is None else attempt
        self.scheduler.handle(Delivered(f"incarnation of {name}", what, outcome, reply))
        return reply

    def leave(self, name: str, reason: str = "stopped") -> None:
        self.scheduler.handle(Left(f"incarnation of {name}", reason, Future()))

    def silence(self, name: str, seconds: float) -> None:
        """The worker has not been heard for so long."""
        self.connections[name].heard = self.runtime.monotonic() - seconds

    @property
    def history(self) -> History:
        return read_history(self.folder)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The journal's events of a kind."""
        self.files.write_journal(durable=True)
        return [event for event in read_journal(self.folder) if event["event"] == kind]

    def close(self) -> None:
        self.scheduler.close()


@pytest.fixture
def make_master(tmp_path: Path) -> Iterator[Any]:
    made: list[Master] = []

    def make(*overrides: str) -> Master:
        made.append(Master(tmp_path, *overrides))
        return made[-1]

    yield make
    for master in made:
        master.close()


@pytest.fixture
def master(make_master: Any) -> Master:
    """One bracket of 3 configurations on budget 1, of which one goes on to budget 3."""
    return make_master()  # type: ignore[no-any-return]
