"""What reaches the master's loop from other threads and processes, as typed records."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import CRASH_KINDS
from pipeline.records import ConfigId
from pipeline.rpc.plain import finite_loss, plain_info, plain_text

if TYPE_CHECKING:
    from pipeline.search.links import Link

# "lost": the worker saw its machine fail under the attempt (its GPU answers no more).
OUTCOMES = ("finished", "crashed", "handed_back", "broken", "lost")


@dataclass(frozen=True)
class Attempt:
    """Which attempt at which evaluation."""

    config_id: ConfigId
    budget: float
    number: int

    @property
    def key(self) -> tuple[ConfigId, float]:
        """The evaluation."""
        return self.config_id, self.budget

    def to_plain(self) -> list[Any]:
        """As it travels."""
        return [list(self.config_id), self.budget, self.number]

    @classmethod
    def from_plain(cls, plain: Any) -> Attempt:
        """The inverse of `to_plain`; raises ValueError or TypeError on another form."""
        config_id, budget, number = plain
        iteration, stage, index = config_id
        return cls((int(iteration), int(stage), int(index)), float(budget), int(number))


@dataclass(frozen=True)
class MasterOutcome:
    """How a master ended.

    Attributes:
        state: "finished", "stopped" (asked to), "left" (it moves on; its workers wait for the next master), or
            "broken" (with the cause in `message`; the run can be resumed).
    """

    state: str
    message: str = ""


@dataclass(frozen=True)
class Hello:
    """How a worker introduces itself.

    Attributes:
        name: unique among the run's living workers.
        incarnation: another one for every process.
        uri: where the worker listens.
        holds: the attempt that it is at, or whose result it has yet to deliver.
        allocation_end: when its Slurm allocation ends, s since 1970; None without one.
    """

    name: str
    incarnation: str
    host: str
    uri: str
    slurm_job_id: str = ""
    device: str = ""
    pid: int = 0
    holds: Attempt | None = None
    allocation_end: float | None = None
    is_stock: bool = False

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Hello:
        """As a worker sends it; raises ValueError, TypeError or KeyError on another form."""
        end = plain.get("allocation_end")
        holds = plain.get("holds")
        return cls(
            name=str(plain["name"]),
            incarnation=str(plain["incarnation"]),
            host=str(plain["host"]),
            uri=str(plain["uri"]),
            slurm_job_id=str(plain.get("slurm_job_id", "")),
            device=str(plain.get("device", "")),
            pid=int(plain.get("pid", 0)),
            holds=None if holds is None else Attempt.from_plain(holds),
            allocation_end=None if end is None else float(end),
        )


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        status: one of `OUTCOMES`.
        kind: of a crash, one of `CRASH_KINDS`; else "".
        is_leaving: the worker takes nothing more.
    """

    status: str
    loss: float | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""
    reason: str = ""
    is_leaving: bool = False

    def to_plain(self) -> dict[str, Any]:
        """As it travels."""
        return {
            "status": self.status,
            "loss": self.loss,
            "info": dict(self.info),
            "kind": self.kind,
            "reason": plain_text(self.reason),
            "is_leaving": self.is_leaving,
        }

    @classmethod
    def from_plain(cls, plain: Any) -> Outcome:
        """As a worker sends it; what does not have the form of an outcome becomes a crash that says so."""
        try:
            status, kind = str(plain["status"]), str(plain.get("kind", ""))
            if status not in OUTCOMES:
                raise ValueError(f"unknown status {status!r}")
            if status == "crashed" and kind not in CRASH_KINDS:
                raise ValueError(f"unknown kind of crash {kind!r}")
            finished = status == "finished"
            info = plain_info(plain.get("info", {}))
            trained = info.get("training_s")
            if trained is not None and (isinstance(trained, bool) or not isinstance(trained, int | float)):
                raise ValueError(f"training_s is {trained!r}, not a number of seconds")
            return cls(
                status=status,
                loss=finite_loss(plain["loss"]) if finished else None,
                info=info,
                kind=kind if status == "crashed" else "",
                reason=" ".join(str(plain.get("reason", "")).split()),
                is_leaving=bool(plain.get("is_leaving", False)),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return cls("crashed", kind="bad_result", reason=f"the worker sent no valid result: {error}")


# Events ----------------------------------------------------------------------------------------------------------
Reply = Future[dict[str, Any]]


@dataclass(frozen=True)
class Joined:
    """A worker has registered, and the master reaches it through `link`."""

    hello: Hello
    link: Link
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
    attempt: Attempt
    outcome: Outcome
    reply: Reply


@dataclass(frozen=True)
class DispatchEnded:
    """A call that starts an evaluation has come back.

    Attributes:
        result: "started", "refused" (the worker said no), "gone" (nobody listens there) or "unknown" (no answer: the
            worker may have it).
        is_leaving: the worker said that it takes nothing more.
    """

    link: Link
    attempt: Attempt
    result: str
    reason: str = ""
    is_leaving: bool = False


@dataclass(frozen=True)
class Gone:
    """Nothing listens at a worker's address any more."""

    link: Link
    reason: str


@dataclass(frozen=True)
class ThreadDied:
    """A thread ended by an exception: the run ends with its traceback."""

    name: str
    traceback: str


Event = Joined | Unreachable | Left | Delivered | DispatchEnded | Gone | ThreadDied
