"""What a run is doing: the master publishes a `RunStatus` every second or so, `tandem status` shows it on any host.

Nothing here asks a process: the file is enough, and its age says whether a master is behind it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.bounds import (
    BudgetNumber,
    Count,
    Flag,
    Integer,
    Message,
    Name,
    Number,
    Reason,
    Seconds,
    Time,
    checked,
    plain,
)
from pipeline.errors import RunError
from pipeline.files import is_there, publish_json, read_json
from pipeline.run.folder import RunFolder
from pipeline.run.former_names import with_present_names

# A master that has not published for this long is not there any more (it publishes every second or two, and shared
# file systems may hold a file back for some seconds).
STALE_S = 15.0

# States of a run; the last three are ends, and their `message` says why. "left": its master has ended in order, and
# the run is to go on (a master that is a Slurm job does so by itself).
STATES = ("starting", "waiting for workers", "searching", "stopping", "left", "stopped", "finished", "broken")
ENDED = ("stopped", "finished", "broken")


@dataclass(frozen=True)
class WorkerStatus:
    """One worker.

    Attributes:
        state: "idle", "training", "suspect" (silent for some seconds) or "leaving".
        evaluation: "3-0-7 on 1200, attempt 1", or "".
        since: when the state began, s since 1970 (UTC).
        allocation_end: when its Slurm allocation ends; None without one.
    """

    name: Name
    host: Name
    slurm_job_id: Name
    device: Name
    state: Name
    evaluation: Name
    since: Time
    allocation_end: Time | None = None


@dataclass(frozen=True)
class RungStatus:
    """One budget level of a bracket: how many configurations it takes, and what became of them so far."""

    budget: BudgetNumber
    planned: Count
    finished: Count
    crashed: Count
    running: Count
    queued: Count


@dataclass(frozen=True)
class BracketStatus:
    """One bracket that has begun."""

    iteration: Count
    is_finished: Flag
    rungs: tuple[RungStatus, ...]


@dataclass(frozen=True)
class IncumbentStatus:
    """The best configuration on one budget.

    Attributes:
        loss: what the search minimises.
        value: that of the problem's metric, as a person reads it; "": an earlier version wrote the status.
    """

    budget: BudgetNumber
    config_id: Name
    loss: Number
    value: Name = ""

    @property
    def shown(self) -> str:
        """Its value for a person."""
        return self.value or f"{100 * self.loss:.2f}%"


@dataclass(frozen=True)
class FrontStatus:
    """With several objectives: the configurations that no other dominates, on the largest budget that has a result.

    Attributes:
        size: how many they are, of so many that `finished` there.
        best: of each objective, for a person.
        hypervolume: `pipeline.search.objectives.dominated_share`.
    """

    budget: BudgetNumber
    size: Count
    finished: Count
    best: tuple[Name, ...]
    hypervolume: Number

    def __str__(self) -> str:
        """For a person."""
        return (
            f"{self.size} of {self.finished} configurations, hypervolume {self.hypervolume:.3f}; "
            f"best {', '.join(self.best)}"
        )


@dataclass(frozen=True)
class RunStatus:
    """What the master knows of its run; times in s since 1970 (UTC).

    Attributes:
        state: one of `STATES`.
        message: what a person should know (the cause of a broken run, what is waited for), or "".
        term: the master's term; every start of a master raises it.
        address: host:port of the nameserver.
        planned: evaluations of the whole search, promotions included.
        lost: attempts that were the machine's fault; retried: how many of them were dispatched again.
        trained_s: training seconds of accepted results; lost_s: training seconds that will not count.
        draws, model_based: configurations drawn, and those that a model proposed.
        checkpoint_mb, checkpoint_bound_mb: disk that checkpoints use, and the most they may come to.
        suspected_nodes: nodes that are left out, with the reason.
        metric: what the incumbents' values are of.
        budget_unit: of every budget; "" in the status of an earlier version.
        front: with several objectives, once there are results.
        remarks: why evaluations crashed, and what their objective does oddly.
    """

    run_id: Name
    state: Name
    message: Message
    term: Count
    host: Name
    pid: Count
    address: Name
    started: Time
    updated: Time
    iterations: Count
    planned: Integer
    finished: Count
    crashed: Count
    queued: Count
    lost: Count
    retried: Count
    trained_s: Seconds
    lost_s: Seconds
    draws: Count
    model_based: Count
    checkpoint_mb: Number
    checkpoint_bound_mb: Number
    workers: tuple[WorkerStatus, ...]
    brackets: tuple[BracketStatus, ...]
    incumbents: tuple[IncumbentStatus, ...]
    suspected_nodes: Mapping[Name, Reason]
    metric: Name = "validation error"
    remarks: tuple[Reason, ...] = ()
    front: FrontStatus | None = None
    budget_unit: Name = ""

    @property
    def has_ended(self) -> bool:
        """Whether the master has written its last word."""
        return self.state in ENDED

    def is_stale(self, now: float | None = None) -> bool:
        """Whether there is no master (any more), and the run has not ended."""
        if self.state == "left":
            return True
        return not self.has_ended and (time.time() if now is None else now) - self.updated > STALE_S


def publish_status(folder: RunFolder, status: RunStatus) -> None:
    """Write the status file whole."""
    publish_json(folder.status, plain(checked(RunStatus, plain(status))), inside=folder.path, indent=None)


def read_status(folder: RunFolder, wait_s: float = 5.0) -> RunStatus | None:
    """The last published status, or None when no master has published one yet.

    Raises:
        RunError: the file is damaged or of another version.
    """
    if not is_there(folder.status):
        return None
    try:
        return checked(RunStatus, with_present_names(read_json(folder.status, wait_s)))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder.status} is not a status that this version wrote ({error}). A running master renews it; else "
            f"move it away: `tandem resume-search {folder.shell_path}` writes another."
        ) from None
