"""Start workers and masters: Slurm array tasks through submitit, or processes of this machine through the same call.

A submission happens in a short-lived process of its own (`submit_from_stdin`): its environment describes no job (a
master may be one), its session is its own (no Ctrl-C reaches the workers), and when it ends nobody must wait for
what it started. No result is ever fetched through submitit: what a worker has to say, it says to the master, and
what Slurm says of a task is read from squeue, never from the moment in which sacct calls a requeued task NODE_FAIL.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster import slurm
from pipeline.cluster.gpus import workers_per_device
from pipeline.cluster.sbatch_options import array_sizes, master_options, worker_options
from pipeline.errors import SiteError
from pipeline.launch import local_workers
from pipeline.launch.array_tasks import RequeuedAsItIs, requeue_through_submitit, slurm_executor
from pipeline.run.creation import read_settings
from pipeline.run.folder import RunFolder, ensure_jobs_folder
from pipeline.run.status import read_status
from pipeline.settings import Settings

log = logging.getLogger(__name__)

SUBMISSION_TIMEOUT_S = 300.0

# A requeued task's processes end within Slurm's KillWait (30 s), mostly at once.
REQUEUE_WAIT_S = 40.0

# From a task's start until its worker has imported what it needs, on a slow file system.
STARTING_MIN = 3.0

# squeue is asked at most this often by one process, however often a status is drawn.
QUEUE_REFRESH_S = 5.0

# submitit's local executor ends a process after two minutes unless told otherwise.
TEN_YEARS_MIN = 60 * 24 * 3650


def request_workers(folder: RunFolder, settings: Settings, count: int) -> list[str]:
    """Start as many workers as bring `count` more to the master, less those already on their way.

    Safe to call again and again: tasks that wait in the queue, and tasks that run and have not joined yet, are
    counted. A requeued task is made to start at once instead of after Slurm's two minutes.

    Args:
        count: workers that the run lacks now.

    Returns:
        Job ids of what was started ("123_4"; off Slurm, process ids); empty if enough are on their way.

    Raises:
        SiteError: nothing could be started; the text has Slurm's reason.
    """
    joined = _joined(folder)
    if not slurm.uses_slurm(settings):
        coming = [job for job in local_workers.running(folder) if not any(f"-{job}-" in name for name in joined)]
        lacking = count - len(coming)
        return [] if lacking <= 0 else _start_locally(folder, settings, lacking)
    queue = _settled_queue(folder)
    hasten_requeued(queue)
    # A worker that finds no master leaves after its patience: what has run for longer than that and is not known hangs.
    starting_min = settings.workers.idle_timeout_min + STARTING_MIN
    unknown = [t for t in queue if t.is_running and t.job_id not in joined.values()]
    expected = [t for t in queue if t.is_pending] + [t for t in unknown if t.minutes < starting_min]
    lacking = count - len(expected)
    return [] if lacking <= 0 else _start_on_slurm(folder, settings, lacking)


def _joined(folder: RunFolder) -> dict[str, str]:
    """The Slurm tasks of the workers that the master knows, by worker name."""
    status = read_status(folder)
    return {} if status is None else {worker.name: worker.slurm_job_id for worker in status.workers}


def _settled_queue(folder: RunFolder) -> list[slurm.Task]:
    """The run's tasks, once those that were just requeued have ended (only then can they be hastened)."""
    deadline = time.monotonic() + REQUEUE_WAIT_S
    while True:
        queue = slurm.tasks([slurm.workers_name(folder.run_id)])
        if not any(task.ends_before_requeue for task in queue) or time.monotonic() > deadline:
            return queue
        time.sleep(2.0)


def hasten_requeued(queue: list[slurm.Task]) -> None:
    """Spare requeued tasks Slurm's two minutes; one that cannot be hastened waits for them."""
    for task in queue:
        if task.waits_after_requeue:
            try:
                slurm.hasten(task)
            except SiteError as error:
                log.warning("Task %s starts two minutes after it was requeued: %s", task.job_id, error)


def _start_on_slurm(folder: RunFolder, settings: Settings, count: int) -> list[str]:
    jobs: list[str] = []
    settings = _without_suspected_nodes(folder, settings)
    for size in array_sizes(count, slurm.max_array_size()):
        options = worker_options(settings, size, of=count)
        try:
            jobs += _submit(folder, "slurm", "worker", size, slurm.workers_name(folder.run_id), options, settings)
        except SiteError as error:
            if not jobs:
                raise
            log.warning("Only %d of %d workers could be submitted: %s", len(jobs), count, error)
            break
    return jobs


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
    return settings.model_copy(update={"slurm": wanted.model_copy(update={"exclude": (*wanted.exclude, *suspected)})})


def _start_locally(folder: RunFolder, settings: Settings, count: int) -> list[str]:
    devices = local_workers.assign_devices(folder, settings, count)
    return _submit(folder, "local", "worker", count, slurm.workers_name(folder.run_id), {}, settings, devices)


def _submit(
    folder: RunFolder,
    where: str,
    role: str,
    count: int,
    name: str,
    options: Mapping[str, Any],
    settings: Settings,
    devices: list[str] | None = None,
) -> list[str]:
    """Let a process of its own submit; see the module's docstring."""
    ensure_jobs_folder(folder)
    request = {
        "run": str(folder.path),
        "where": where,
        "role": role,
        "count": count,
        "name": name,
        "options": dict(options),
        "setup": list(settings.slurm.setup),
        "devices": devices,
    }
    environment = slurm.job_environment()
    if where == "local":
        environment["TANDEM_LOCAL_WORKERS"] = str(settings.workers.count)
        environment["TANDEM_WORKERS_PER_DEVICE"] = str(workers_per_device(settings))
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from pipeline.launch import launch; launch.submit_from_stdin()"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env=environment,
            timeout=SUBMISSION_TIMEOUT_S,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SiteError(f"Submitting {count} {role}s did not end within {SUBMISSION_TIMEOUT_S:.0f} s.") from None
    if done.returncode != 0:
        raise SiteError(f"Submitting {count} {role}s failed: {_last_words(done.stderr) or 'no reason given'}")
    return [str(job) for job in json.loads(done.stdout)]


def _last_words(text: str) -> str:
    """What Slurm said in a traceback of submitit, or the traceback's last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if "error:" in line]
    return " ".join(said[-2:] or lines[-1:])


def submit_from_stdin() -> None:
    """Submit the request that stands on standard input, and print the job ids (a JSON list)."""
    request = json.load(sys.stdin)
    folder = RunFolder(Path(request["run"]))
    # Local workers live on: they must not hold the pipe that the answer goes through, or its reader waits for them.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    task: WorkerTask | MasterTask = WorkerTask(folder.path) if request["role"] == "worker" else MasterTask(folder.path)
    if request["where"] == "slurm":
        executor = slurm_executor(folder.jobs, request["name"], request["options"], request["count"], request["setup"])
        jobs = [job.job_id for job in executor.submit_array([task] * request["count"])]
    else:
        jobs = local_workers.submit(folder, task, request["devices"], TEN_YEARS_MIN)
    json.dump(jobs, answer)
    answer.close()


@dataclass(frozen=True)
class WorkerTask(RequeuedAsItIs):
    """What a worker's job runs. It holds no state: whatever must survive is in the run folder already.

    Attributes:
        path: the run folder.
    """

    path: Path

    def __call__(self) -> str:
        """Be a worker until the run, this allocation or this worker's patience ends; returns why it left."""
        from pipeline.worker.process import be_worker

        local_workers.take_device()
        requeue = requeue_through_submitit()
        departure = be_worker(RunFolder(self.path))
        if departure.requeue:
            requeue()
        return departure.reason


@dataclass(frozen=True)
class MasterTask:
    """What a master's job runs: the command that a person can run by hand, which requeues its job itself.

    Attributes:
        path: the run folder.
    """

    path: Path

    def __call__(self) -> None:
        """Become the master; does not return."""
        command = master_command(RunFolder(self.path))
        os.execv(command[0], command)


def master_command(folder: RunFolder) -> list[str]:
    """The command that is a run's master."""
    return [sys.executable, "-m", "pipeline.cli", "run-master", str(folder.path)]


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


def start_master(folder: RunFolder, settings: Settings) -> StartedMaster:
    """Start the master, as a session of its own that outlives the terminal, or as a Slurm job.

    Raises:
        SiteError: Slurm refuses the job.
    """
    if settings.slurm.master == "slurm" and slurm.uses_slurm(settings):
        if waiting := _waiting_masters(folder):
            hasten_requeued(waiting)
            return StartedMaster(f"The master is Slurm job {waiting[0].job_id} already, which waits in the queue.")
        name = slurm.master_name(folder.run_id)
        jobs = _submit(folder, "slurm", "master", 1, name, master_options(settings), settings)
        where = f"The master is Slurm job {jobs[0]}; it starts when Slurm lets it. Its log: {folder.master_log}"
        return StartedMaster(where)
    folder.logs.mkdir(parents=True, exist_ok=True)
    with folder.master_log.open("ab") as output:
        process = subprocess.Popen(
            master_command(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    where = f"The master is process {process.pid} on {os.uname().nodename}. Its log: {folder.master_log}"
    return StartedMaster(where, process)


@dataclass(frozen=True)
class QueueState:
    """A run's jobs in Slurm's queue.

    Attributes:
        pending, running, held: the workers' tasks.
        master: where the master is a job: "job 12, pending (BeginTime)"; else "".
        master_waits: it is to start yet.
    """

    pending: int = 0
    running: int = 0
    held: int = 0
    master: str = ""
    master_waits: bool = False

    def __str__(self) -> str:
        counts = {"pending": self.pending, "running": self.running, "held": self.held}
        workers = ", ".join(f"{n} {state}" for state, n in counts.items() if n or state != "held")
        return f"workers: {workers}" + (f"; master: {self.master}" if self.master else "")


_queue_states: dict[Path, tuple[float, QueueState | None]] = {}


def queue_state(folder: RunFolder) -> QueueState | None:
    """What Slurm's queue has of a run; None off Slurm, or when Slurm does not answer.

    One call to squeue, and at most one in `QUEUE_REFRESH_S`, answered or not.
    """
    asked, state = _queue_states.get(folder.path, (float("-inf"), None))
    if time.monotonic() - asked < QUEUE_REFRESH_S:
        return state
    try:
        if not slurm.uses_slurm(read_settings(folder)):
            return None
        state = _queue_state(folder.run_id)
    except SiteError as error:  # a status is worth showing even when Slurm does not answer
        log.warning("%s", error)
        state = None
    _queue_states[folder.path] = (time.monotonic(), state)
    return state


def _queue_state(run_id: str) -> QueueState:
    workers, master = slurm.workers_name(run_id), slurm.master_name(run_id)
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


def cancel_waiting_master(folder: RunFolder, settings: Settings) -> bool:
    """Take the run's master out of Slurm's queue if it has not started; whether it waited there.

    Raises:
        SiteError: Slurm does not answer.
    """
    if settings.slurm.master != "slurm" or not slurm.uses_slurm(settings):
        return False
    waits = bool(_waiting_masters(folder))
    if waits:
        slurm.cancel([slurm.master_name(folder.run_id)], "PENDING")
    return waits


def _waiting_masters(folder: RunFolder) -> list[slurm.Task]:
    return [task for task in slurm.tasks([slurm.master_name(folder.run_id)]) if task.state == "PENDING"]


def cancel_workers(folder: RunFolder, settings: Settings) -> None:
    """Cancel the run's workers, pending and running, on Slurm or on this machine; running ones hand back first.

    Raises:
        SiteError: Slurm does not answer.
    """
    if not slurm.uses_slurm(settings):
        local_workers.end(folder)
        return
    slurm.cancel([slurm.workers_name(folder.run_id)])
