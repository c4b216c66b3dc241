"""Be a worker in this process: know its allocation, log, and requeue its task when its time is up."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pipeline.cluster import slurm
from pipeline.cluster.allocation import Allocation, allocation_end, worker_identity
from pipeline.cluster.fit import submit_words, what_is_missing
from pipeline.errors import SiteError
from pipeline.files import is_there
from pipeline.run.creation import read_settings
from pipeline.run.folder import RunFolder, find_run, make_inside
from pipeline.run.identity import find_by_label, require_no_copy, run_label
from pipeline.run.status import read_status
from pipeline.settings import changed

log = logging.getLogger(__name__)


def run_to_join(results: Path, name: str | None) -> RunFolder:
    """The run that a worker is meant for: the named one, the one it was in before its task was requeued, the latest.

    The latest run may be another one by the time a task is requeued.

    Raises:
        RunError: there is no such run.
        SiteError: Slurm does not answer.
    """
    label = None if name is not None else slurm.run_label_of_requeued_task()
    before = None if label is None else find_by_label(results, label)
    return find_run(results, name) if before is None else before


def work(folder: RunFolder) -> str:
    """Be a worker of a run that nobody submitted through submitit (slurm/worker.sh, or by hand); returns why it left.

    A Slurm job takes the name of the run's workers.

    Raises:
        SiteError: its allocation has less than a worker of the run needs.
        RunError: the folder is a copy of a run.
    """
    require_no_copy(folder)  # before its job takes the name of the original's workers
    if missing := what_is_missing(read_settings(folder)):
        raise SiteError(
            f"This allocation lacks what a worker of run {folder.run_id} needs: {missing}. "
            f"`sbatch {submit_words(folder.shell_path)}` asks for it."
        )
    slurm.take_workers_name(run_label(folder))
    return be_worker(folder)


def be_worker(folder: RunFolder) -> str:
    """Be a worker until the run, this allocation or this worker's patience ends; returns why it left.

    Where its time is up and the run goes on, its Slurm task is requeued: before it says farewell, so that the master
    finds the task in the queue and asks for no other.

    Raises:
        RunError, SiteError: as `pipeline.worker.worker.run_worker`; the folder is a copy of a run.
    """
    from pipeline.worker.worker import run_worker

    require_no_copy(folder)
    settings = read_settings(folder)
    identity = worker_identity()
    make_inside(folder, folder.logs)
    _log_to(folder.worker_log(identity.name))
    if needs_no_workers(folder):  # its task waited in the queue for longer than the run took
        log.info("Run %s has ended: there is nothing to join. `tandem resume-search` goes on with it.", folder.run_id)
        return "ended"
    allocation = Allocation(allocation_end(), settings.workers.handback_margin_s)
    allocation.listen()
    log.info("Worker %s joins run %s in %s", identity.name, folder.run_id, folder.path)
    settings = changed(settings, {"workers.handback_margin_s": allocation.margin_s})

    def requeue(reason: str) -> None:
        if allocation.asks_for_requeue(reason) and not needs_no_workers(folder):
            log.info("Its task is requeued.")
            slurm.requeue_this_job()

    reason = run_worker(
        folder,
        identity,
        settings,
        should_stop=allocation.should_stop,
        allocation_end=allocation.end,
        before_farewell=requeue,
    )
    log.info("Worker %s leaves: %s", identity.name, reason)
    return reason


def needs_no_workers(folder: RunFolder) -> bool:
    """Whether the run has ended, or was asked to."""
    status = read_status(folder)
    return is_there(folder.stop_request) or (status is not None and status.has_ended)


def _log_to(path: Path) -> None:
    """Log to the worker's own file, and to standard output (the task's log)."""
    handlers: list[logging.Handler] = [logging.FileHandler(path), logging.StreamHandler(sys.stdout)]
    form = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, handlers=handlers, force=True)
    logging.getLogger("submitit").propagate = False  # it writes to standard output itself
