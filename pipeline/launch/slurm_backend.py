"""A run's processes on Slurm: workers are array tasks, the master is a job or a session of this host."""

from __future__ import annotations

import logging
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.cluster import site, slurm
from pipeline.cluster.addresses import address_towards_nodes
from pipeline.cluster.fit import submit_words
from pipeline.cluster.sbatch_options import (
    Options,
    master_options,
    queued_at_once,
    words,
    worker_arrays,
    worker_options,
)
from pipeline.errors import SiteError
from pipeline.launch.array_tasks import slurm_executor, submission_text, submit_array
from pipeline.launch.backend import STARTING_MIN, QueueState, StartedMaster
from pipeline.launch.failed_starts import FailedStarts
from pipeline.launch.submission import Request, submit_apart
from pipeline.launch.tasks import MasterTask, WorkerTask, end_master_here, start_master_here
from pipeline.records import StartedWorkers
from pipeline.run.folder import RunFolder, ensure_jobs_folder
from pipeline.run.identity import run_label
from pipeline.run.status import RunStatus, read_status
from pipeline.settings import Settings, changed

log = logging.getLogger(__name__)

# A requeued task's processes end within Slurm's KillWait (30 s), mostly at once.
REQUEUE_WAIT_S = 40.0


@dataclass(frozen=True)
class SlurmBackend:
    """A `pipeline.launch.backend.Backend`."""

    settings: Settings
    _failed_starts: FailedStarts = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_failed_starts", FailedStarts(self.settings.workers.max_broken))

    def check(self, results: Path) -> list[str]:
        """As `Backend.check`."""
        return site.check_site(self.settings, results)

    def describe(self) -> str:
        """As `Backend.describe`: in words, and as sbatch's options."""
        return site.describe_request(self.settings)

    def submission_text(self, results: Path) -> str:
        """As `Backend.submission_text`: sbatch's script of the first array; RUN stands for the run's name."""
        count = self.settings.workers.count
        if count == 0:
            return ""
        largest = slurm.max_array_size()
        size, options = worker_arrays(self.settings, queued_at_once(self.settings, count, largest), largest)[0]
        jobs = RunFolder(results.absolute() / "RUN").jobs
        return submission_text(jobs, slurm.workers_name("RUN"), options, size, self.settings.slurm.setup)

    def worker_options(self) -> str:
        """As `Backend.worker_options`."""
        return words(worker_options(self.settings))

    def worker_command(self, folder: RunFolder) -> str:
        """As `Backend.worker_command`."""
        return f"sbatch {submit_words(folder.shell_path)}"

    def master_address(self) -> str:
        """As `Backend.master_address`: the address of this host towards the nodes."""
        return address_towards_nodes(self.settings)

    def start_master(self, folder: RunFolder) -> StartedMaster:
        """As `Backend.start_master`; a job that waits in the queue already is left there, and hastened."""
        if self.settings.slurm.master != "slurm":
            return start_master_here(folder)
        if waiting := _waiting_masters(folder):
            self._hasten(waiting)
            return StartedMaster(f"The master is Slurm job {waiting[0].job_id} already, which waits in the queue.")
        name = slurm.master_name(run_label(folder))
        (job,) = self._submit(folder, submit_master, name, 1, master_options(self.settings), "1 master")
        return StartedMaster(
            f"The master is Slurm job {job}; it starts when Slurm lets it. Its log: {folder.master_log}"
        )

    def start_workers(self, folder: RunFolder, count: int) -> StartedWorkers:
        """As `Backend.start_workers`.

        Tasks that wait in the queue, and tasks that run and have not joined yet, are counted. A requeued task is made
        to start at once instead of after Slurm's two minutes.
        """
        counted = time.time()
        status = read_status(folder)
        queue = _settled_queue(folder)
        self._hasten(queue)
        self._failed_starts.look(folder, queue)
        lacking = count - len(on_their_way(queue, status, self.settings, counted, time.time()))
        jobs = self._submit_workers(folder, lacking, queue) if lacking > 0 else []
        self._failed_starts.submitted(jobs)
        return StartedWorkers(tuple(jobs), self._failed_starts.problem, self._failed_starts.failing_nodes)

    def queue(self, folder: RunFolder) -> QueueState:
        """As `Backend.queue`: one call to squeue."""
        workers, master = slurm.workers_name(run_label(folder)), slurm.master_name(run_label(folder))
        tasks = slurm.tasks([workers, master], of_user=folder.path.stat().st_uid)  # others may look at the run, too
        ours = [task for task in tasks if task.name == workers]
        masters = [task for task in tasks if task.name == master]
        return QueueState(
            pending=sum(task.is_pending for task in ours),
            running=sum(task.is_running for task in ours),
            held=sum(task.is_held for task in ours),
            reasons=dict(Counter(task.waits_for for task in ours if task.waits_for).most_common()),
            master="; ".join(
                f"job {t.job_id}, {t.state.lower()}" + f" ({t.waits_for})" * bool(t.waits_for) for t in masters
            ),
            master_waits=any(task.is_pending for task in masters),
        )

    def cancel_waiting_master(self, folder: RunFolder) -> bool:
        """As `Backend.cancel_waiting_master`."""
        if self.settings.slurm.master != "slurm" or not _waiting_masters(folder):
            return False
        slurm.cancel([slurm.master_name(run_label(folder))], "PENDING")
        return True

    def end_master(self, folder: RunFolder) -> bool:
        """As `Backend.end_master`."""
        if self.settings.slurm.master != "slurm":
            return end_master_here(folder)
        slurm.cancel([slurm.master_name(run_label(folder))])
        return True

    def cancel_workers(self, folder: RunFolder) -> str:
        """As `Backend.cancel_workers`."""
        name = slurm.workers_name(run_label(folder))
        try:
            slurm.cancel([name])
        except SiteError as error:
            raise SiteError(
                f"{error} Workers that run leave by themselves; what waits in the queue stays there until "
                f"`scancel --name {shlex.quote(name)}`."
            ) from None
        return ""

    def submit_tasks(self, folder: RunFolder, name: str, tasks: Sequence[Callable[[], Any]]) -> list[str]:
        """As `Backend.submit_tasks`: the tasks of arrays.

        Raises:
            RunError: others could write where the tasks' pickles lie.
        """
        ensure_jobs_folder(folder)
        jobs: list[str] = []
        start = 0
        for size, options in worker_arrays(self.settings, len(tasks), slurm.max_array_size()):
            executor = slurm_executor(folder.jobs, name, options, size, self.settings.slurm.setup)
            jobs += submit_array(executor, tasks[start : start + size], "trainings")
            start += size
        return jobs

    def submitted_tasks(self, name: str) -> set[str]:
        """As `Backend.submitted_tasks`."""
        return {task.job_id for task in slurm.tasks([name])}

    def _hasten(self, queue: list[slurm.Task]) -> None:
        """Spare requeued tasks Slurm's two minutes; one that cannot be hastened waits for them."""
        if "begin" in self.settings.slurm.extra:
            return  # tasks wait for the time that a person chose, and nothing tells one from the other
        for task in queue:
            if task.waits_after_requeue:
                try:
                    slurm.hasten(task)
                except SiteError as error:
                    log.warning("Task %s starts two minutes after it was requeued: %s", task.job_id, error)

    def _submit_workers(self, folder: RunFolder, lacking: int, queue: Sequence[slurm.Task]) -> list[str]:
        jobs: list[str] = []
        settings = _without_suspected_nodes(folder, self.settings, self._failed_starts.failing_nodes)
        largest, there = slurm.max_array_size(), sum(task.is_pending or task.is_running for task in queue)
        count = max(0, queued_at_once(settings, there + lacking, largest) - there)
        for size, options in worker_arrays(settings, count, largest):
            name = slurm.workers_name(run_label(folder))
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


def on_their_way(
    queue: Sequence[slurm.Task], status: RunStatus | None, settings: Settings, counted: float, now: float
) -> list[slurm.Task]:
    """Of a run's tasks, those that bring another worker yet: they wait, or run and have not joined.

    The status may be older than the master's count, or newer where the disk is slow. So a worker that it names is taken
    for the one that runs, and for one that was counted, only if what it says of it is no older than the task's process
    and no newer than the count: after a lost node the process before is still known, as silent. In doubt a worker is
    counted twice: too few are asked for, and the next request brings them.

    Args:
        status: the run's, read before the queue was.
        counted: when the master counted its workers, s since 1970.
        now: when the queue was read, s since 1970.
    """
    # A worker that finds no master leaves after its patience: one that runs for longer and is not known hangs.
    starting_min = settings.workers.idle_timeout_min + STARTING_MIN
    known = () if status is None else status.workers

    def is_starting(task: slurm.Task) -> bool:
        started = now - 60 * task.minutes
        has_joined = any(w.slurm_job_id == task.job_id and started <= w.since <= counted for w in known)
        return task.is_running and task.minutes < starting_min and not has_joined

    return [task for task in queue if task.is_pending or is_starting(task)]


def _described(task: slurm.Task) -> str:
    why = f" ({task.waits_for})" if task.waits_for else ""
    return f"job {task.job_id}, {task.state.lower()}{why}"


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


def _settled_queue(folder: RunFolder) -> list[slurm.Task]:
    """The run's tasks, once those that were just requeued have ended (only then can they be hastened)."""
    deadline = time.monotonic() + REQUEUE_WAIT_S
    while True:
        queue = slurm.tasks([slurm.workers_name(run_label(folder))], with_ended=True)
        if not any(task.ends_before_requeue for task in queue) or time.monotonic() > deadline:
            return queue
        time.sleep(2.0)


def _waiting_masters(folder: RunFolder) -> list[slurm.Task]:
    return [task for task in slurm.tasks([slurm.master_name(run_label(folder))]) if task.state == "PENDING"]


def _without_suspected_nodes(folder: RunFolder, settings: Settings, failing: Iterable[str]) -> Settings:
    """The settings with suspected nodes, the master's and those that are failing, excluded: unless no other is left."""
    status = read_status(folder)
    suspects = {*failing, *(() if status is None else status.suspected_nodes)}
    if not suspects:
        return settings
    wanted = settings.slurm
    chosen = wanted.partition.split(",") if wanted.partition else [p.name for p in slurm.partitions() if p.is_default]
    # Slurm refuses names that it does not know: a host may have another name than its node.
    nodes = {node.name for node in slurm.nodes() if node.partition in chosen}
    excluded = set(slurm.host_names(wanted.exclude))
    suspected = sorted(nodes & suspects - excluded)
    if not nodes - set(suspected) - excluded:
        return settings
    return changed(settings, {"slurm.exclude": (*wanted.exclude, *suspected)})
