"""Workers of a machine without Slurm are real processes under submitit's local executor."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.files import publish_text
from pipeline.launch import local_workers
from pipeline.launch.local_backend import LocalBackend
from pipeline.run.creation import create_run, read_settings
from pipeline.run.folder import RunFolder
from pipeline.settings import changed, load_settings

LIMIT_S = 60.0
Run = tuple[RunFolder, LocalBackend]


def wait_until(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def task_logs(folder: RunFolder) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.jobs.glob("*_log.out")}


def descendants(pid: int) -> list[int]:
    """Process ids below a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children] + [below for child in children for below in descendants(int(child))]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run without a master: its workers start, wait for one, and are ended by the test."""
    settings = load_settings("digits", ["workers.where=local", "workers.idle_timeout_min=2"])
    folder = create_run(settings, tmp_path / "results")
    yield folder, LocalBackend(read_settings(folder))
    local_workers.end(folder)
    assert local_workers.running(folder) == []


def started(folder: RunFolder, count: int) -> Callable[[], bool]:
    return lambda: sum("joins run" in text for text in task_logs(folder).values()) == count


def test_workers_start_live_in_a_session_of_their_own_and_leave_when_told(run: Run) -> None:
    folder, backend = run
    jobs = backend.start_workers(folder, 2)
    assert len(jobs) == len(set(jobs)) == 2
    assert sorted(local_workers.running(folder)) == sorted(jobs)
    wait_until(started(folder, 2), "both workers have started")
    for job in jobs:
        for process in (int(job), *descendants(int(job))):
            assert os.getsid(process) != os.getsid(0), "Ctrl-C would reach it"
    assert len(list(folder.logs.glob("worker-*.log"))) == 2
    backend.cancel_workers(folder)
    assert local_workers.running(folder) == []
    assert all("leaves: signal SIGTERM" in text for text in task_logs(folder).values())


def test_workers_on_their_way_are_not_asked_for_again(run: Run) -> None:
    folder, backend = run
    first = backend.start_workers(folder, 1)
    assert backend.start_workers(folder, 1) == []
    more = backend.start_workers(folder, 2)
    assert len(more) == 1
    assert sorted(local_workers.running(folder)) == sorted(first + more)


def test_each_local_worker_sees_one_gpu_and_a_replacement_the_one_that_is_free(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, local = run
    backend = LocalBackend(changed(local.settings, {"slurm.gpus_per_worker": 1, "training.device": "auto"}))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8f2a")
    jobs = backend.start_workers(folder, 2)
    wait_until(started(folder, 2), "both workers have started")
    seen = {job: local_workers.device_of(int(job)) for job in jobs}
    assert sorted(seen.values()) == ["5", "GPU-8f2a"]
    os.kill(int(jobs[0]), signal.SIGKILL)
    for process in descendants_of_dead(folder, jobs[0]):
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: local_workers.running(folder) == [jobs[1]], "one worker is gone")
    (replacement,) = backend.start_workers(folder, 2)
    assert local_workers.device_of(int(replacement)) == seen[jobs[0]]


def descendants_of_dead(folder: RunFolder, job: str) -> list[int]:
    """The worker of a controller that was killed: it is known by its environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"SUBMITIT_LOCAL_JOB_ID={job}".encode() in environment and os.fsencode(folder.jobs) in (
            entry / "cmdline"
        ).read_bytes().split(b"\0"):
            found.append(int(entry.name))
    return found


def test_a_process_that_was_given_a_workers_old_id_is_not_taken_for_it(run: Run) -> None:
    folder, _ = run
    folder.jobs.mkdir()
    publish_text(folder.jobs / f"{os.getpid()}_submitted.pkl", "of a worker that has long gone")
    assert local_workers.running(folder) == []


def test_what_submitit_reads_belongs_to_the_user_alone(run: Run) -> None:
    folder, backend = run
    backend.start_workers(folder, 1)
    assert folder.jobs.stat().st_mode & 0o777 == 0o700


def test_a_submission_that_fails_says_why(tmp_path: Path) -> None:
    settings = load_settings("digits", ["workers.where=local"])
    folder, backend = create_run(settings, tmp_path / "results"), LocalBackend(settings)
    publish_text(folder.jobs, "a file where a folder should be")
    with pytest.raises(RunError, match="jobs"):
        backend.start_workers(folder, 1)
