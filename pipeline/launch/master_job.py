"""What a master does that is a Slurm job, when Slurm does not answer or another master is still at work.

It asks again for as long as that can help. Off Slurm nothing is asked twice.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace

from pipeline.cluster import slurm
from pipeline.cluster.allocation import Allocation
from pipeline.errors import RunError, SiteError
from pipeline.launch.backend import Backend
from pipeline.master.events import MasterOutcome
from pipeline.master.lease import LivingMasterError, is_newest
from pipeline.run.folder import RunFolder
from pipeline.run.status import publish_status, read_status

log = logging.getLogger("tandem.master")

# How long before its allocation's end a master leaves. It needs seconds to end in order; the rest is for a slow disk,
# and for a controller that does not answer at once.
MARGIN_S = 60.0
# Nothing more is tried in the last seconds of an allocation.
LAST_S = 5.0
REQUEUE_TIMEOUT_S = 10.0
REQUEUE_PAUSE_S = 3.0
# A controller that is started again, or whose place another takes, answers within minutes.
ADDRESS_WAIT_S = 600.0
ADDRESS_PAUSE_S = 10.0
# How long a job that was started again watches the master that it meets.
WATCH_S = 24 * 3600.0
WATCH_PAUSE_S = 10.0


def master_address(backend: Backend, allocation: Allocation) -> str:
    """`backend.master_address()`; in a job it is asked again for some minutes while Slurm does not answer.

    Raises:
        SiteError: as `Backend.master_address`.
    """
    deadline = time.monotonic() + ADDRESS_WAIT_S
    while True:
        try:
            return backend.master_address()
        except slurm.SlurmCommandError as error:
            if not slurm.slurm_task_id() or time.monotonic() >= deadline or allocation.should_stop() is not None:
                raise
            log.warning("%s It is asked again.", error)
        time.sleep(ADDRESS_PAUSE_S)


def after_its_predecessor(
    folder: RunFolder, be_master: Callable[[], MasterOutcome], allocation: Allocation
) -> MasterOutcome:
    """What `be_master` returns; a job that was started again waits until the master that it meets is gone.

    Slurm starts a job again when it no longer hears the node's daemon. The process may live on there and keep the run,
    and end once the daemon is back: without this job there would be no master then.

    Raises:
        RunError: as `pipeline.master.process.run_master`; a living master holds the run, and this job is new.
    """
    deadline = time.monotonic() + WATCH_S
    while True:
        try:
            return be_master()
        except LivingMasterError as error:
            if not slurm.this_job_was_requeued() or time.monotonic() >= deadline:
                raise
            log.warning("%s This job, which Slurm has started again, waits until that master is gone.", error)
        why = _wait_until_silent(folder, allocation, deadline)
        if why is not None:
            log.info("this job leaves: %s", why)
            return MasterOutcome("left", why)


def _wait_until_silent(folder: RunFolder, allocation: Allocation, deadline: float) -> str | None:
    """Wait until the run's master publishes no status any more: None; or why this job leaves before."""
    while time.monotonic() < deadline:
        time.sleep(WATCH_PAUSE_S)
        why = allocation.should_stop()
        if why is not None:
            return why
        try:
            status = read_status(folder)
        except RunError as error:  # a living master renews it
            log.warning("%s", error)
            continue
        if status is not None and status.has_ended:
            return f"the run has ended ({status.state})"
        if status is None or status.is_stale():
            return None
    return None


def requeue(folder: RunFolder, outcome: MasterOutcome, allocation: Allocation) -> None:
    """Have Slurm run this master's job again, tried until shortly before the allocation ends.

    A failure is in the status at once: a preempted job may have less time than anybody knows.

    Raises:
        SiteError: the job is not requeued; the text has Slurm's reason and how to go on.
    """
    end = math.inf if allocation.end is None else allocation.end
    deadline = min(end, time.time() + MARGIN_S) - LAST_S
    has_failed = False
    while problem := slurm.requeue_this_job(REQUEUE_TIMEOUT_S):
        go_on = f"`tandem resume-search {folder.shell_path}` goes on."
        said = f"The master's job is not requeued: {problem.rstrip('.')}. {go_on}"
        if not has_failed:
            has_failed = True
            _tell(folder, outcome, f"{outcome.message}. {said}")
        if time.time() >= deadline:
            raise SiteError(said)
        time.sleep(REQUEUE_PAUSE_S)
    if has_failed:
        _tell(folder, outcome, outcome.message)


def _tell(folder: RunFolder, outcome: MasterOutcome, message: str) -> None:
    """Put a message into the status that the master has left behind, unless another has come since."""
    try:
        status = read_status(folder)
        if status is not None and is_newest(folder, outcome.term):
            publish_status(folder, replace(status, message=message))
    except (OSError, RunError) as error:
        log.error("the status could not be written: %s", error)
