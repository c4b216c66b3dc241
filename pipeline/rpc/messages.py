"""The records that travel between master and workers: which attempt, who joins, and how an attempt ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import CRASH_KINDS
from pipeline.records import ConfigId
from pipeline.rpc.plain import finite_loss, plain_info, plain_text

# "lost": the worker saw its machine fail under the attempt (its GPU answers no more).
OUTCOMES = ("finished", "crashed", "handed_back", "broken", "lost")


@dataclass(frozen=True)
class AttemptId:
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
    def from_plain(cls, plain: Any) -> AttemptId:
        """The inverse of `to_plain`; raises ValueError or TypeError on another form."""
        config_id, budget, number = plain
        iteration, stage, index = config_id
        return cls((int(iteration), int(stage), int(index)), float(budget), int(number))


@dataclass(frozen=True)
class Registration:
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
    holds: AttemptId | None = None
    allocation_end: float | None = None
    is_stock: bool = False

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Registration:
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
            holds=None if holds is None else AttemptId.from_plain(holds),
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
