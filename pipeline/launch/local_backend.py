"""A run's processes on this machine, without Slurm: the same workers, under submitit's local executor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.cluster.addresses import choose_address
from pipeline.cluster.gpus import gpus_of_workers, usable_gpus, workers_per_device
from pipeline.errors import SiteError
from pipeline.launch import local_workers
from pipeline.launch.backend import STARTING_MIN, QueueState, StartedMaster
from pipeline.launch.failed_starts import FailedProcesses
from pipeline.launch.submission import Request, submit_apart
from pipeline.launch.tasks import WorkerTask, end_master_here, start_master_here
from pipeline.records import StartedWorkers
from pipeline.run.folder import RunFolder, ensure_jobs_folder
from pipeline.run.status import read_status
from pipeline.settings import Settings
from pipeline.wording import counted

log = logging.getLogger(__name__)

# submitit's local executor ends a process after two minutes unless told otherwise.
TEN_YEARS_MIN = 60 * 24 * 3650

# A worker that lost its master registers anew within this time; one that is unknown for longer hangs.
RETURNING_S = 60.0
# It has had its time already.
HUNG_GRACE_S = 10.0


@dataclass(frozen=True)
class LocalBackend:
    """A `pipeline.launch.backend.Backend`. Its ids are those of processes."""

    settings: Settings
    _unknown_since: dict[str, float] = field(default_factory=dict, compare=False)
    _failed_starts: FailedProcesses = field(default_factory=FailedProcesses, compare=False)

    def check(self, results: Path) -> list[str]:
        """As `Backend.check`."""
        self.master_address()  # raises what the master would
        if self.settings.training.device == "cuda" and not usable_gpus(self.settings):
            raise SiteError(
                "training.device is cuda, and there is no GPU for it here: nvidia-smi lists none, CUDA_VISIBLE_DEVICES "
                "is empty, or slurm.gpus_per_worker is 0."
            )
        gpus, wanted = len(usable_gpus(self.settings)), self.settings.slurm.gpus_per_worker
        if 0 < gpus < wanted:
            raise SiteError(f"slurm.gpus_per_worker is {wanted}, and there are {gpus} here.")
        sharing = workers_per_device(self.settings)
        if sharing == 1:
            return []
        shared = f"{counted(self.settings.workers.count, 'worker')} share {counted(gpus, 'GPU')}"
        return [
            f"{shared}, up to {sharing} on each: each is slower and may use 1/{sharing} of its memory. "
            f"workers.count={len(gpus_of_workers(self.settings))} gives each its own."
        ]

    def describe(self) -> str:
        """As `Backend.describe`."""
        if self.settings.workers.count == 0:
            return "No workers are started (workers.count=0)."
        gpus = usable_gpus(self.settings)
        on = f" on GPU {', '.join(gpus)}" if gpus else " on CPUs"
        return f"{counted(self.settings.workers.count, 'worker')} as processes of this machine{on}."

    def submission_text(self, results: Path) -> str:
        """As `Backend.submission_text`: there is none."""
        return ""

    def worker_options(self) -> str:
        """As `Backend.worker_options`: there are none.

        Raises:
            SiteError: always.
        """
        raise SiteError("Workers of this run are processes of its machine: `bash slurm/worker.sh RUN` adds one there.")

    def worker_command(self, folder: RunFolder) -> str:
        """As `Backend.worker_command`."""
        return f"bash slurm/worker.sh {folder.shell_path}"

    def master_address(self) -> str:
        """As `Backend.master_address`: loopback, unless `network.address` says otherwise."""
        return choose_address(self.settings.network, ())

    def start_master(self, folder: RunFolder) -> StartedMaster:
        """As `Backend.start_master`."""
        return start_master_here(folder)

    def start_workers(self, folder: RunFolder, count: int) -> StartedWorkers:
        """As `Backend.start_workers`. A process that hangs is ended, and another takes its GPU.

        Those that ended before they joined are told of.
        """
        status = read_status(folder)
        joined = [] if status is None else [worker.name for worker in status.workers]
        running = local_workers.running(folder)
        self._failed_starts.look(folder, running)
        problems = [self._failed_starts.problem] if self._failed_starts.problem else []
        known = local_workers.among(running, joined)
        unknown = [job for job in running if job not in known]
        hung = self._hung(folder, unknown)
        if hung:
            local_workers.end(folder, hung, HUNG_GRACE_S)
            self._failed_starts.ended_on_purpose(hung)
            ended = f"Worker processes of this machine that the master does not hear were ended: {', '.join(hung)}."
            log.warning("%s", ended)
            problems.append(ended)
        lacking = count - (len(unknown) - len(hung))
        jobs = self._submit(folder, lacking) if lacking > 0 else []
        self._failed_starts.submitted(jobs)
        return StartedWorkers(tuple(jobs), " ".join(problems))

    def _hung(self, folder: RunFolder, unknown: list[str]) -> list[str]:
        """Of the processes that the master does not know, those that are neither starting nor coming back to it."""
        now = time.monotonic()
        for job in set(self._unknown_since) - set(unknown):
            del self._unknown_since[job]
        starting_s = 60 * (self.settings.workers.idle_timeout_min + STARTING_MIN)
        returning_s = max(RETURNING_S, self.settings.workers.patience_s)
        old = [job for job in unknown if local_workers.age_s(folder, job) > starting_s]
        return [job for job in old if now - self._unknown_since.setdefault(job, now) > returning_s]

    def _submit(self, folder: RunFolder, count: int) -> list[str]:
        ensure_jobs_folder(folder)
        request = {"run": str(folder.path), "devices": local_workers.assign_devices(folder, self.settings, count)}
        environment = {
            "TANDEM_LOCAL_WORKERS": str(self.settings.workers.count),
            "TANDEM_WORKERS_PER_DEVICE": str(workers_per_device(self.settings)),
        }
        return submit_apart(start_processes, request, f"{count} workers", environment)

    def queue(self, folder: RunFolder) -> QueueState | None:
        """As `Backend.queue`: there is none."""
        return None

    def cancel_waiting_master(self, folder: RunFolder) -> bool:
        """As `Backend.cancel_waiting_master`: a process waits for nothing."""
        return False

    def end_master(self, folder: RunFolder) -> bool:
        """As `Backend.end_master`."""
        return end_master_here(folder)

    def cancel_workers(self, folder: RunFolder) -> str:
        """As `Backend.cancel_workers`."""
        hung = local_workers.end(folder)
        return f"Worker processes that did not leave were ended by force: {', '.join(hung)}." if hung else ""

    def submit_tasks(self, folder: RunFolder, name: str, tasks: Sequence[Callable[[], Any]]) -> list[str] | None:
        """As `Backend.submit_tasks`: there is no queue."""
        return None

    def submitted_tasks(self, name: str) -> set[str] | None:
        """As `Backend.submitted_tasks`: there is no queue."""
        return None


def start_processes(request: Request) -> list[str]:
    """Start workers, in a process of its own (`submit_apart`)."""
    folder = RunFolder(Path(request["run"]))
    return local_workers.submit(folder, WorkerTask(folder.path), request["devices"], TEN_YEARS_MIN)
