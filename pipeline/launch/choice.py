"""Where a run's processes live, Slurm or this machine: decided here and nowhere else."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from pipeline.cluster import slurm
from pipeline.errors import SiteError
from pipeline.launch.backend import Backend, QueueState
from pipeline.launch.local_backend import LocalBackend
from pipeline.launch.slurm_backend import SlurmBackend
from pipeline.run.creation import read_settings
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings, changed

log = logging.getLogger(__name__)

# squeue is asked at most this often by one process, however often a status is drawn.
QUEUE_REFRESH_S = 5.0


def settle_where(settings: Settings) -> Settings:
    """The settings of a new run with `workers.where` decided for good.

    A run must not change its place because a host that resumes it has lost its Slurm for a moment.

    Raises:
        SiteError: `workers.where` is slurm and there is none, or Slurm does not answer.
    """
    where = settings.workers.where
    if where == "slurm" and not slurm.has_slurm():
        raise SiteError(
            "workers.where is slurm, but this machine belongs to no Slurm cluster. Use a login node, or set "
            "workers.where=local."
        )
    if where == "auto":
        where = "slurm" if slurm.has_slurm() else "local"
    return changed(settings, {"workers.where": where})


def backend_for(settings: Settings) -> Backend:
    """The place that the settings name.

    Raises:
        SiteError: as `settle_where`, for settings in which it is not decided yet.
    """
    if settings.workers.where == "auto":
        settings = settle_where(settings)
    return SlurmBackend(settings) if settings.workers.where == "slurm" else LocalBackend(settings)


_queue_states: dict[Path, tuple[float, QueueState | None]] = {}


def queue_state(folder: RunFolder) -> QueueState | None:
    """What Slurm's queue has of a run; None off Slurm, or when Slurm does not answer.

    One call to squeue, and at most one in `QUEUE_REFRESH_S`, answered or not.
    """
    asked, state = _queue_states.get(folder.path, (float("-inf"), None))
    if time.monotonic() - asked < QUEUE_REFRESH_S:
        return state
    try:
        state = backend_for(read_settings(folder)).queue(folder)
    except SiteError as error:  # a status is worth showing even when Slurm does not answer
        log.warning("%s", error)
        state = None
    _queue_states[folder.path] = (time.monotonic(), state)
    return state
