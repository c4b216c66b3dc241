"""What reaches the master's loop from other threads and processes, as typed records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipeline.records import Evaluation
from pipeline.rpc.messages import AttemptId, Outcome, Registration
from pipeline.runtime import Reply


@dataclass(frozen=True)
class MasterOutcome:
    """How a master ended.

    Attributes:
        state: "finished", "stopped" (asked to), "left" (it moves on; its workers wait for the next master), or
            "broken" (with the cause in `message`; the run can be resumed).
        term: the master's; 0: of one that never held the run.
    """

    state: str
    message: str = ""
    term: int = 0


class Connection(Protocol):
    """The master's connection to one worker, which has begun to ping, as far as the master's decisions need it.

    Attributes:
        name: the worker's.
        heard: when the worker last gave a sign of life (monotonic).
        reported: the attempt that the worker said it was at, when last pinged.
        reported_at: when that ping was sent (monotonic); 0: never.
        quiet_s: for how long its training had begun no batch by then; 0 where that is not known.
    """

    name: str
    heard: float
    reported: AttemptId | None
    reported_at: float
    quiet_s: float

    def dispatch(self, evaluation: Evaluation) -> None:
        """Start an evaluation; ends in a `DispatchEnded`."""

    def stop_attempt(self, attempt: AttemptId, reason: str) -> None:
        """Ask the worker to give up an attempt and stay."""

    def dismiss(self, reason: str) -> None:
        """Ask the worker to checkpoint, hand back and leave."""

    def close(self) -> None:
        """End the connection."""


@dataclass(frozen=True)
class Joined:
    """A worker has registered, and the master reaches it through `connection`."""

    registration: Registration
    connection: Connection
    reply: Reply


@dataclass(frozen=True)
class Unreachable:
    """A worker has called, and the master does not reach it: it was refused."""

    name: str
    reason: str


@dataclass(frozen=True)
class Left:
    """A worker says that it leaves, of its own accord or because it was asked to."""

    incarnation: str
    reason: str
    reply: Reply


@dataclass(frozen=True)
class Delivered:
    """A worker delivers a result; `reply` is due once it is durable."""

    incarnation: str
    attempt: AttemptId
    outcome: Outcome
    reply: Reply


@dataclass(frozen=True)
class DispatchEnded:
    """A call that starts an evaluation has come back.

    Attributes:
        result: "started", "refused" (the worker said no), "busy" (it said no because it is at something), "gone"
            (nobody listens there) or "unknown" (no answer: the worker may have it).
        is_leaving: the worker said that it takes nothing more.
    """

    connection: Connection
    attempt: AttemptId
    result: str
    reason: str = ""
    is_leaving: bool = False


@dataclass(frozen=True)
class Gone:
    """Nothing listens at a worker's address any more."""

    connection: Connection
    reason: str


@dataclass(frozen=True)
class ThreadDied:
    """A thread ended by an exception: the run ends with its traceback."""

    name: str
    traceback: str


@dataclass(frozen=True)
class Proposed:
    """A proposal that the search waited for has been made."""


Event = Joined | Unreachable | Left | Delivered | DispatchEnded | Gone | ThreadDied | Proposed
