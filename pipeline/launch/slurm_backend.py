"""A run's processes on Slurm: workers are array tasks, the master is a job or a session of this host."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster import site, slurm
from pipeline.cluster.addresses import address_towards_nodes
from pipeline.cluster.sbatch_options import Options, array_sizes, master_options, worker_options
from pipeline.errors import SiteError
from pipeline.launch.array_tasks import slurm_executor, submit_array
from pipeline.launch.backend import QueueState, StartedMaster
from pipeline.launch.submission import Request, submit_apart
from pipeline.launch.tasks import MasterTask, WorkerTask, start_master_here
from pipeline.run.folder import RunFolder, ensure_jobs_folder
from pipeline.run.status import read_status
from pipeline.settings import Settings, changed

log = logging.getLogger(__name__)

# A requeued task's processes end within Slurm's KillWait (30 s), mostly at once.
REQUEUE_WAIT_S = 40.0

# From a task's start until its worker has imported what it needs, on a slow file system.
STARTING_MIN = 3.0


@dataclass(frozen=True)
class SlurmBackend:
    """A `pipeline.launch.backend.Backend`."""

    settings: Settings

    def check(self, results: Path) -> list[str]:
        """As `Backend.check`."""
        return site.check_site(self.settings, results)

    def describe(self) -> str:
        """As `Backend.describe`: in words, and as sbatch's options."""
        return site.describe_request(self.settings)

    def master_address(self) -> str:
        """As `Backend.master_address`: the address of this host towards the nodes."""
        return address_towards_nodes(self.settings)

    def start_master(self, folder: RunFolder) -> StartedMaster:
        """As `Backend.start_master`; a job that waits in the queue already is left there, and hastened."""
        if self.settings.slurm.master != "slurm":
            return start_master_here(folder)
        if waiting := _waiting_masters(folder):
            hasten_requeued(waiting)
            return StartedMaster(f"The master is Slurm job {waiting[0].job_id} already, which waits in the queue.")
        name = slurm.master_name(folder.run_id)
        (job,) = self._submit(folder, submit_master, name, 1, master_options(self.settings), "1 master")
        return StartedMaster(
            f"The master is Slurm job {job}; it starts when Slurm lets it. Its log: {folder.master_log}"
        )

    def start_workers(self, folder: RunFolder, count: int) -> list[str]:
        """As `Backend.start_workers`.

        Tasks that wait in the queue, and tasks that run and have not joined yet, are counted. A requeued task is made
        to start at once instead of after Slurm's two minutes.
        """
        status = read_status(folder)
        joined = set() if status is None else {worker.slurm_job_id for worker in status.workers}
        queue = _settled_queue(folder)
        hasten_requeued(queue)
        # A worker that finds no master leaves after its patience: one that runs for longer and is not known hangs.
        starting_min = self.settings.workers.idle_timeout_min + STARTING_MIN
        unknown = [task for task in queue if task.is_running and task.job_id not in joined]
        expected = [t for t in queue if t.is_pending] + [t for t in unknown if t.minutes < starting_min]
        lacking = count - len(expected)
        return [] if lacking <= 0 else self._submit_workers(folder, lacking)

    def queue(self, folder: RunFolder) -> QueueState:
        """As `Backend.queue`: one call to squeue."""
        workers, master = slurm.workers_name(folder.run_id), slurm.master_name(folder.run_id)
        tasks = slurm.tasks([workers, master])
        ours = [task for task in tasks if task.name == workers]
        masters = [task for task in tasks if task.name == master]
        return QueueState(
            pending=sum(task.is_pending for task in ours),
            running=sum(task.is_running for task in ours),
            held=sum(task.is_held for task in ours),
            master="; ".join(f"job {t.job_id}, {t.state.lower()}" + f" ({t.reason})" * t.is_pending for t in masters),
            master_waits=any(task.is_pending for task in masters),
        )

    def cancel_waiting_master(self, folder: RunFolder) -> bool:
        """As `Backend.cancel_waiting_master`."""
        if self.settings.slurm.master != "slurm" or not _waiting_masters(folder):
            return False
        slurm.cancel([slurm.master_name(folder.run_id)], "PENDING")
        return True

    def cancel_workers(self, folder: RunFolder) -> None:
        """As `Backend.cancel_workers`."""
        slurm.cancel([slurm.workers_name(folder.run_id)])

    def submit_tasks(self, folder: RunFolder, name: str, tasks: Sequence[Callable[[], Any]]) -> list[str]:
        """As `Backend.submit_tasks`: arrays, whose ids are returned.

        Raises:
            RunError: others could write where the tasks' pickles lie.
        """
        ensure_jobs_folder(folder)
        jobs: list[str] = []
        start = 0
        for size in array_sizes(len(tasks), slurm.max_array_size()):
            options = worker_options(self.settings, size, of=len(tasks))
            executor = slurm_executor(folder.jobs, name, options, size, self.settings.slurm.setup)
            jobs.append(submit_array(executor, tasks[start : start + size], "trainings")[0].partition("_")[0])
            start += size
        return jobs

    def _submit_workers(self, folder: RunFolder, count: int) -> list[str]:
        jobs: list[str] = []
        settings = _without_suspected_nodes(folder, self.settings)
        for size in array_sizes(count, slurm.max_array_size()):
            options = worker_options(settings, size, of=count)
            name = slurm.workers_name(folder.run_id)
            try:
                jobs += self._submit(folder, submit_workers, name, size, options, f"{size} workers")
            except SiteError as error:
                if not jobs:
                    raise
                log.warning("Only %d of %d workers could be submitted: %s", len(jobs), count, error)
                break
        return jobs

    def _submit(
        self, folder: RunFolder, submit: Callable[[Request], list[str]], name: str, count: int, options: Options,
        what: str,
    ) -> list[str]:  # fmt: skip
        ensure_jobs_folder(folder)
        setup = list(self.settings.slurm.setup)
        request = {"run": str(folder.path), "name": name, "count": count, "options": options, "setup": setup}
        return submit_apart(submit, request, what)


def submit_workers(request: Request) -> list[str]:
    """Submit an array of workers, in a process of its own (`submit_apart`)."""
    return _submit_all(request, WorkerTask(Path(request["run"])))


def submit_master(request: Request) -> list[str]:
    """Submit a master, in a process of its own (`submit_apart`)."""
    return _submit_all(request, MasterTask(Path(request["run"])))


def _submit_all(request: Request, task: Callable[[], Any]) -> list[str]:
    jobs, count = RunFolder(Path(request["run"])).jobs, request["count"]
    executor = slurm_executor(jobs, request["name"], request["options"], count, request["setup"])
    return [job.job_id for job in executor.submit_array([task] * count)]


def hasten_requeued(queue: list[slurm.Task]) -> None:
    """Spare requeued tasks Slurm's two minutes; one that cannot be hastened waits for them."""
    for task in queue:
        if task.waits_after_requeue:
            try:
                slurm.hasten(task)
            except SiteError as error:
                log.warning("Task %s starts two minutes after it was requeued: %s", task.job_id, error)


def _settled_queue(folder: RunFolder) -> list[slurm.Task]:
    """The run's tasks, once those that were just requeued have ended (only then can they be hastened)."""
    deadline = time.monotonic() + REQUEUE_WAIT_S
    while True:
        queue = slurm.tasks([slurm.workers_name(folder.run_id)])
        if not any(task.ends_before_requeue for task in queue) or time.monotonic() > deadline:
            return queue
        time.sleep(2.0)


def _waiting_masters(folder: RunFolder) -> list[slurm.Task]:
    return [task for task in slurm.tasks([slurm.master_name(folder.run_id)]) if task.state == "PENDING"]


def _without_suspected_nodes(folder: RunFolder, settings: Settings) -> Settings:
    """The settings with the nodes that the master suspects among those to exclude, unless no other node is left."""
    status = read_status(folder)
    if status is None or not status.suspected_nodes:
        return settings
    wanted = settings.slurm
    chosen = wanted.partition.split(",") if wanted.partition else [p.name for p in slurm.partitions() if p.is_default]
    # Slurm refuses names that it does not know: a host may have another name than its node.
    nodes = {node.name for node in slurm.nodes() if node.partition in chosen}
    excluded = set(slurm.host_names(wanted.exclude))
    suspected = sorted(nodes & set(status.suspected_nodes) - excluded)
    if not nodes - set(suspected) - excluded:
        return settings
    return changed(settings, {"slurm.exclude": (*wanted.exclude, *suspected)})
