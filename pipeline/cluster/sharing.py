"""What the workers of one machine share: its cores, its memory, its GPUs."""

from __future__ import annotations

import os

from pipeline.settings import Settings

# Set by the launcher: worker processes that share this machine's cores and memory.
LOCAL_WORKERS = "TANDEM_LOCAL_WORKERS"


def local_workers() -> int:
    """Worker processes that share this machine's cores and memory, this one included."""
    return max(1, int(os.environ.get(LOCAL_WORKERS, "1")))


def threads_for(settings: Settings) -> int:
    """CPU threads of one worker's training."""
    return settings.training.threads or max(1, len(os.sched_getaffinity(0)) // local_workers())
