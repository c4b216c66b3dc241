"""The records that travel between master and workers: which attempt, who joins, and how an attempt ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.bounds import BudgetNumber, Count, Flag, Name, Number, Reason, Time, aside, checked
from pipeline.errors import CRASH_KINDS
from pipeline.records import INFO_KINDS, ConfigId
from pipeline.rpc.plain import finite_loss, plain_info

# "lost": the worker saw its machine fail under the attempt (its GPU answers no more).
OUTCOME_STATUSES = ("finished", "crashed", "handed_back", "broken", "lost")


@dataclass(frozen=True)
class AttemptId:
    """Which attempt at which evaluation."""

    config_id: ConfigId
    budget: BudgetNumber
    number: Count

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
        return checked(cls, {"config_id": config_id, "budget": budget, "number": number})


@dataclass(frozen=True)
class Registration:
    """How a worker introduces itself.

    Attributes:
        name: unique among the run's living workers.
        incarnation: another one for every process.
        uri: where the worker listens.
        holds: the attempt that it is at, or whose result it has yet to deliver.
        allocation_end: when its Slurm allocation ends, s since 1970; None without one.
        memory_mb: of its device; 0: unknown.
    """

    name: Name
    incarnation: Name
    host: Name
    uri: Name
    slurm_job_id: Name = ""
    device: Name = ""
    pid: Count = 0
    holds: AttemptId | None = None
    allocation_end: Time | None = None
    is_stock: Flag = False
    memory_mb: Number = 0.0

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Registration:
        """As a worker sends it; raises ValueError, TypeError or KeyError on another form."""
        if not isinstance(plain, Mapping):
            raise TypeError(f"it is a {type(plain).__name__}, not names and values")
        holds = plain.get("holds")
        return checked(
            cls, {**plain, "holds": None if holds is None else AttemptId.from_plain(holds), "is_stock": False}
        )


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        status: one of `OUTCOME_STATUSES`.
        kind: of a crash, one of `CRASH_KINDS`; of a loss, what crash it is told as where losses go on; else "".
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
            "reason": checked(Reason, self.reason),
            "is_leaving": self.is_leaving,
        }

    @classmethod
    def from_plain(cls, plain: Any) -> Outcome:
        """As a worker sends it; what does not have the form of an outcome becomes a crash that says so."""
        try:
            status, kind = str(plain["status"]), str(plain.get("kind", ""))
            if status not in OUTCOME_STATUSES:
                raise ValueError(f"unknown status {status!r}")
            if status == "crashed" and kind not in CRASH_KINDS:
                raise ValueError(f"unknown kind of crash {kind!r}")
            finished = status == "finished"
            info = aside(plain_info(plain.get("info", {})), INFO_KINDS)
            return cls(
                status=status,
                loss=finite_loss(plain["loss"]) if finished else None,
                info=info,
                kind=kind if status == "crashed" else "",
                reason=checked(Reason, " ".join(str(plain.get("reason", "")).split())),
                is_leaving=bool(plain.get("is_leaving", False)),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason: str = checked(Reason, f"the worker sent no valid result: {error}")
            return cls("crashed", kind="bad_result", reason=reason)
