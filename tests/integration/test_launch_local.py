"""Workers of a machine without Slurm are real processes under submitit's local executor."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError
from pipeline.files import publish_text
from pipeline.launch import local_workers
from pipeline.launch.local_backend import LocalBackend
from pipeline.run.creation import create_run, read_settings
from pipeline.run.folder import RunFolder
from pipeline.settings import changed, load_settings

LIMIT_S = 60.0


def wait_until(condition: Any, what: Any, limit_s: Any = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def task_logs(folder: Any) -> Any:
    return {path.name: path.read_text() for path in folder.jobs.glob("*_log.out")}


def descendants(pid: Any) -> Any:
    """Process ids below a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children] + [below for child in children for below in descendants(int(child))]


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A run without a master: its workers start, wait for one, and are ended by the test."""
    settings = load_settings("digits", ["workers.where=local", "workers.idle_timeout_min=2"])
    folder = create_run(settings, tmp_path / "results")
    yield folder, LocalBackend(read_settings(folder))
    local_workers.end(folder)
    assert local_workers.running(folder) == []


def started(folder: Any, count: Any) -> Any:
    return lambda: sum("joins run" in text for text in task_logs(folder).values()) == count


def test_workers_start_live_in_a_session_of_their_own_and_leave_when_told(run: Any) -> None:
    folder, backend = run
    jobs = backend.start_workers(folder, 2).jobs
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


def test_workers_on_their_way_are_not_asked_for_again(run: Any) -> None:
    folder, backend = run
    first = backend.start_workers(folder, 1).jobs
    assert backend.start_workers(folder, 1).jobs == ()
    more = backend.start_workers(folder, 2).jobs
    assert len(more) == 1
    assert sorted(local_workers.running(folder)) == sorted(first + more)


def test_a_worker_that_cannot_start_is_told_of_with_its_last_words(run: Any) -> None:
    folder, backend = run
    folder.settings.write_text("search: {method: no such}\n")
    (job,) = backend.start_workers(folder, 1).jobs
    wait_until(lambda: local_workers.running(folder) == [], "the worker has ended")
    assert re.fullmatch(
        rf"1 worker of this machine ended before joining\. .*search\.method.* \({folder.jobs}/{job}_0_log\.out\)",
        backend.start_workers(folder, 1).problem,
    )


def test_each_local_worker_sees_one_gpu_and_a_replacement_the_one_that_is_free(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, local = run
    backend = LocalBackend(changed(local.settings, {"slurm.gpus_per_worker": 1, "training.device": "auto"}))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8f2a")
    jobs = backend.start_workers(folder, 2).jobs
    wait_until(started(folder, 2), "both workers have started")
    seen = {job: local_workers.device_of(int(job)) for job in jobs}
    assert sorted(seen.values()) == ["5", "GPU-8f2a"]
    os.kill(int(jobs[0]), signal.SIGKILL)
    for process in descendants_of_dead(folder, jobs[0]):
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: local_workers.running(folder) == [jobs[1]], "one worker is gone")
    (replacement,) = backend.start_workers(folder, 2).jobs
    assert local_workers.device_of(int(replacement)) == seen[jobs[0]]


def descendants_of_dead(folder: Any, job: Any) -> Any:
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


def test_a_worker_that_does_not_answer_is_ended_by_force_with_what_it_holds_and_that_is_said(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, backend = run
    (job,) = backend.start_workers(folder, 1).jobs
    wait_until(started(folder, 1), "the worker has started")
    processes = [int(job), *descendants(int(job))]
    for process in processes[1:]:
        os.kill(process, signal.SIGSTOP)
    monkeypatch.setattr(local_workers.end, "__defaults__", (None, 0.5))
    assert backend.cancel_workers(folder) == f"Worker processes that did not leave were ended by force: {job}."
    wait_until(lambda: not any(is_alive(process) for process in processes), "every process has ended")


def is_alive(process: Any) -> Any:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", ["submit-search", "demo"])
def test_ctrl_c_while_a_search_is_submitted_leaves_nothing_running(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-m", "pipeline.cli", how, "--results", str(tmp_path / "my results")]
    settings = ["--set", f"data.root={tmp_path / 'data'}", "--set", "workers.where=local", "--set", "workers.count=1"]
    # As a terminal starts it: a shell makes what it runs in the background deaf to SIGINT, and children inherit that.
    deaf = signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen([*command, *settings], stdout=subprocess.PIPE, text=True) as submission:
        signal.signal(signal.SIGINT, deaf)
        said = iter(submission.stdout.readline, "")
        where = next(line for line in said if line.startswith("The master is process"))
        submission.send_signal(signal.SIGINT)
        rest = "".join(said)
    master = int(where.split()[4])
    assert submission.returncode != 0
    assert "Interrupted while the master starts" in rest
    (settings_file,) = (tmp_path / "my results").glob("digits-*/settings.yaml")
    folder = RunFolder(settings_file.parent)
    assert f"`tandem resume-search '{folder.path}'`" in rest, "quoted, as a shell needs it"
    wait_until(lambda: not is_alive(master), "the master has ended")
    assert local_workers.running(folder) == []


def test_a_process_that_was_given_a_workers_old_id_is_not_taken_for_it(run: Any) -> None:
    folder, _ = run
    folder.jobs.mkdir()
    publish_text(folder.jobs / f"{os.getpid()}_submitted.pkl", "of a worker that has long gone")
    assert local_workers.running(folder) == []


def test_what_submitit_reads_belongs_to_the_user_alone(run: Any) -> None:
    folder, backend = run
    backend.start_workers(folder, 1)
    assert folder.jobs.stat().st_mode & 0o777 == 0o700


def test_a_submission_that_fails_says_why(tmp_path: Path) -> None:
    settings = load_settings("digits", ["workers.where=local"])
    folder, backend = create_run(settings, tmp_path / "results"), LocalBackend(settings)
    publish_text(folder.jobs, "a file where a folder should be")
    with pytest.raises(RunError, match="jobs"):
        backend.start_workers(folder, 1)
