"""A run's processes on this machine, without Slurm: the same workers, under submitit's local executor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster.addresses import choose_address
from pipeline.cluster.gpus import usable_gpus, workers_per_device
from pipeline.launch import local_workers
from pipeline.launch.backend import QueueState, StartedMaster
from pipeline.launch.submission import Request, submit_apart
from pipeline.launch.tasks import WorkerTask, start_master_here
from pipeline.run.folder import RunFolder, ensure_jobs_folder
from pipeline.run.status import read_status
from pipeline.settings import Settings
from pipeline.wording import counted

# submitit's local executor ends a process after two minutes unless told otherwise.
TEN_YEARS_MIN = 60 * 24 * 3650


@dataclass(frozen=True)
class LocalBackend:
    """A `pipeline.launch.backend.Backend`. Its ids are those of processes."""

    settings: Settings

    def check(self, results: Path) -> list[str]:
        """As `Backend.check`."""
        self.master_address()  # raises what the master would
        sharing = workers_per_device(self.settings)
        if sharing == 1:
            return []
        gpus = len(usable_gpus(self.settings))
        shared = f"{counted(self.settings.workers.count, 'worker')} share {counted(gpus, 'GPU')}"
        return [
            f"{shared}, up to {sharing} on each: each is slower and may use 1/{sharing} of its memory. "
            f"workers.count={gpus} gives each its own."
        ]

    def describe(self) -> str:
        """As `Backend.describe`."""
        gpus = usable_gpus(self.settings)
        on = f" on GPU {', '.join(gpus)}" if gpus else " on CPUs"
        return f"{counted(self.settings.workers.count, 'worker')} as processes of this machine{on}."

    def master_address(self) -> str:
        """As `Backend.master_address`: loopback, unless `network.address` says otherwise."""
        return choose_address(self.settings.network, ())

    def start_master(self, folder: RunFolder) -> StartedMaster:
        """As `Backend.start_master`."""
        return start_master_here(folder)

    def start_workers(self, folder: RunFolder, count: int) -> list[str]:
        """As `Backend.start_workers`."""
        status = read_status(folder)
        joined = [] if status is None else [worker.name for worker in status.workers]
        coming = [job for job in local_workers.running(folder) if not any(f"-{job}-" in name for name in joined)]
        lacking = count - len(coming)
        return [] if lacking <= 0 else self._submit(folder, lacking)

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

    def cancel_workers(self, folder: RunFolder) -> None:
        """As `Backend.cancel_workers`."""
        local_workers.end(folder)

    def submit_tasks(self, folder: RunFolder, name: str, tasks: Sequence[Callable[[], Any]]) -> list[str] | None:
        """As `Backend.submit_tasks`: there is no queue."""
        return None


def start_processes(request: Request) -> list[str]:
    """Start workers, in a process of its own (`submit_apart`)."""
    folder = RunFolder(Path(request["run"]))
    return local_workers.submit(folder, WorkerTask(folder.path), request["devices"], TEN_YEARS_MIN)
