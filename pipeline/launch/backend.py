"""What a place for a run's processes can do, whether it is Slurm or this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.records import StartedWorkers
from pipeline.run.folder import RunFolder

# From a worker's start until it has imported what it needs, on a slow file system.
STARTING_MIN = 3.0


@dataclass(frozen=True)
class StartedMaster:
    """A master that was started.

    Attributes:
        where: for a person.
        process: it, on this host; None: a Slurm job.
    """

    where: str
    process: subprocess.Popen[bytes] | None = None

    def has_died(self) -> bool:
        """Whether it was a process of this host and has ended."""
        return self.process is not None and self.process.poll() is not None


@dataclass(frozen=True)
class QueueState:
    """A run's jobs in Slurm's queue.

    Attributes:
        pending, running, held: the workers' tasks.
        reasons: why those that are pending or held wait, as Slurm says, with their numbers.
        master: where the master is a job: "job 12, pending (BeginTime)"; else "".
        master_waits: it is to start yet.
    """

    pending: int = 0
    running: int = 0
    held: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    master: str = ""
    master_waits: bool = False

    def __str__(self) -> str:
        counts = {"pending": self.pending, "running": self.running, "held": self.held}
        workers = ", ".join(f"{n} {state}" for state, n in counts.items() if n or state != "held")
        why = "; ".join(f"{n} x {reason}" if len(self.reasons) > 1 else reason for reason, n in self.reasons.items())
        return f"workers: {workers}" + f" ({why})" * bool(why) + f"; master: {self.master}" * bool(self.master)


class Backend(Protocol):
    """A place where the processes of a run live. Every method may raise SiteError, with Slurm's reason."""

    def check(self, results: Path) -> list[str]:
        """Check that the place can do what the settings ask for; submits nothing.

        Args:
            results: where the run folder will be.

        Returns:
            Warnings for a person.
        """

    def describe(self) -> str:
        """What will be asked for, for a person."""

    def submission_text(self, results: Path) -> str:
        """What the place is given to start the first workers of a run in `results`; "": processes are started."""

    def worker_options(self) -> str:
        """The options of sbatch for a worker that a person submits (`slurm/worker.sh`)."""

    def worker_command(self, folder: RunFolder) -> str:
        """The command with which a person adds a worker to the run, from the checkout."""

    def master_address(self) -> str:
        """The address on which a master of this host listens, so that the workers reach it."""

    def start_master(self, folder: RunFolder) -> StartedMaster:
        """Start the run's master, which outlives the terminal."""

    def start_workers(self, folder: RunFolder, count: int) -> StartedWorkers:
        """Start as many workers as bring `count` more to the master, less those that are on their way.

        Their ids are Slurm's ("123_4"), or those of processes.
        """

    def queue(self, folder: RunFolder) -> QueueState | None:
        """The run's jobs that have not ended; None: the place has no queue."""

    def end_master(self, folder: RunFolder) -> bool:
        """Tell a master to end that cannot be asked to through the run folder; whether it could be told."""

    def cancel_waiting_master(self, folder: RunFolder) -> bool:
        """Cancel a master that has not started yet; whether there was one."""

    def cancel_workers(self, folder: RunFolder) -> str:
        """End the run's workers, started or not; those that run hand back first.

        Returns:
            What a person should know of it, or "".
        """

    def submit_tasks(self, folder: RunFolder, name: str, tasks: Sequence[Callable[[], Any]]) -> list[str] | None:
        """Submit a job for each task; returns their ids. None: the place has no queue, and the caller runs them.

        Args:
            folder: its `jobs` takes their logs.
            name: of the jobs.
        """

    def submitted_tasks(self, name: str) -> set[str] | None:
        """The ids of the user's jobs of a name that wait or run; of `submit_tasks`. None: the place has no queue."""
