"""Workers on a machine without Slurm: processes under submitit's local executor, one GPU each where there are any.

A worker is known by its controller, the process that submitit puts above it: its command line names the run's
folder, so that a process id that was given to somebody else since is never taken for one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.cluster.gpus import gpus_of_workers
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings

# A worker writes a checkpoint and hands back within seconds; one that has not left after so long hangs.
GRACE_S = 60.0

# The device of one worker, from the process that submits to the worker: submitit overwrites CUDA_VISIBLE_DEVICES.
DEVICE = "TANDEM_DEVICE"


def submit(folder: RunFolder, task: Callable[[], Any], devices: list[str], timeout_min: float) -> list[str]:
    """Start a worker process per device; called in a session of its own (`pipeline.launch.submission.submit_apart`).

    Returns:
        Process ids of the controllers.
    """
    import submitit

    _detach(folder.jobs / "controllers.log")
    executor = submitit.LocalExecutor(folder=folder.jobs)
    executor.update_parameters(timeout_min=timeout_min, stderr_to_stdout=True)
    jobs = []
    for device in devices:
        os.environ[DEVICE] = device
        jobs.append(executor.submit(task).job_id)
    return jobs


def _detach(log: Path) -> None:
    """Standard streams of the controllers: nothing to read, and a file to write to."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def take_device() -> None:
    """In a local worker, before anything imports torch: see the GPU that was assigned to it, and no other."""
    device = os.environ.get(DEVICE)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device


def assign_devices(folder: RunFolder, settings: Settings, count: int) -> list[str]:
    """GPUs for each of `count` new workers, the least used ones first; "" where none are wanted or there are none.

    With fewer GPUs than workers, workers share.
    """
    gpus = gpus_of_workers(settings)
    if not gpus:
        return [""] * count
    used = Counter(device_of(int(job)) for job in running(folder))
    assigned = []
    for _ in range(count):
        device = min(gpus, key=lambda gpu: used[gpu])
        used[device] += 1
        assigned.append(device)
    return assigned


def device_of(controller: int) -> str:
    """The GPU that was assigned to the worker under a controller; "": none."""
    pairs = (pair.partition(b"=") for pair in process_file(controller, "environ").split(b"\0"))
    return next((os.fsdecode(value) for name, _, value in pairs if os.fsdecode(name) == DEVICE), "")


def running(folder: RunFolder) -> list[str]:
    """Process ids of this run's controllers on this machine."""
    jobs = (path.name.removesuffix("_submitted.pkl") for path in folder.jobs.glob("*_submitted.pkl"))
    return [job for job in jobs if job.isdigit() and _is_controller(int(job), folder)]


def age_s(folder: RunFolder, controller: str) -> float:
    """Seconds since a worker was submitted."""
    try:
        return time.time() - (folder.jobs / f"{controller}_submitted.pkl").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def among(jobs: Iterable[str], workers: Sequence[str]) -> set[str]:
    """The controllers of which there is a worker, by its name."""
    return {job for job in jobs if any(f"-{job}-" in name for name in workers)}


def end(folder: RunFolder, jobs: Sequence[str] | None = None, grace_s: float = GRACE_S) -> list[str]:
    """Ask workers of this run on this machine to hand back and leave, and end by force those that do not.

    They are asked again and again: a worker that is just starting passes over the first requests.

    Args:
        jobs: their controllers; default: all that there are now (another master may start others meanwhile).
        grace_s: how long they have.

    Returns:
        The controllers of those that were ended by force.
    """
    deadline = time.monotonic() + grace_s
    pause_s = 0.1
    asked = set(running(folder) if jobs is None else jobs)
    while (left := [job for job in running(folder) if job in asked]) and time.monotonic() < deadline:
        for job in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(job), signal.SIGTERM)  # the controller passes it on
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 1.0)
    for job in left:
        _kill(int(job))
    return left


def _kill(controller: int) -> None:
    """End a controller and everything below it: it first, because it would start its worker again."""
    for pid in (controller, *_descendants(controller)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    children = [int(child) for child in process_file(pid, f"task/{pid}/children").split()]
    return [*children, *(below for child in children for below in _descendants(child))]


def _is_controller(pid: int, folder: RunFolder) -> bool:
    arguments = process_file(pid, "cmdline").split(b"\0")
    return b"submitit.local._local" in arguments and os.fsencode(folder.jobs) in arguments


def process_file(pid: int, name: str) -> bytes:
    """A file of /proc; empty for a process that is gone (a zombie's are empty as well)."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
