"""What a job of a run runs: a worker or the master. A task holds no state, which is all in the run folder."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.early_signals import hold_signals
from pipeline.launch import local_workers
from pipeline.launch.array_tasks import RequeuedAsItIs
from pipeline.launch.backend import StartedMaster
from pipeline.launch.local_workers import process_file
from pipeline.run.folder import RunFolder, make_inside
from pipeline.run.status import read_status


@dataclass(frozen=True)
class WorkerTask(RequeuedAsItIs):
    """What a worker's job runs.

    Attributes:
        path: the run folder.
    """

    path: Path

    def __call__(self) -> str:
        """Be a worker until the run, this allocation or this worker's patience ends; returns why it left."""
        from pipeline.worker.process import be_worker

        local_workers.take_device()
        return be_worker(RunFolder(self.path))


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
        hold_signals()  # the master listens to them once it is there
        os.execv(command[0], command)


def master_command(folder: RunFolder) -> list[str]:
    """The command that is a run's master."""
    return [sys.executable, "-m", "pipeline.cli", "run-master", str(folder.path)]


def start_master_here(folder: RunFolder) -> StartedMaster:
    """Start the master on this host, as a session of its own that outlives the terminal."""
    make_inside(folder, folder.logs)
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


def end_master_here(folder: RunFolder) -> bool:
    """Send TERM to the master that the run's status names, if it is a process of this host; whether it was."""
    status = read_status(folder)
    if status is None or status.host != platform.node():
        return False
    arguments = process_file(status.pid, "cmdline").split(b"\0")
    if b"run-master" not in arguments or os.fsencode(folder.path) not in arguments:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(status.pid, signal.SIGTERM)
    return True
