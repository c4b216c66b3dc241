import calendar
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from pipeline.cluster import slurm
from pipeline.cluster.allocation import Allocation, allocation_end, parse_end_time, slurm_task_id, worker_identity
from pipeline.errors import SiteError

JOB = (
    "JobId=45495458 ArrayJobId=45495457 ArrayTaskId=0 JobName=tandem-x UserId=root(0) StartTime=2026-11-24T04:47:54 "
    "EndTime=2026-11-24T04:48:54 Deadline=N/A"
)


@pytest.fixture
def own_handlers() -> Any:
    """Signal handlers as a terminal gives them; afterwards as they were, whatever the test installs."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_end_of_an_allocation_is_read_in_the_hosts_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert parse_end_time(JOB) == calendar.timegm((2026, 11, 24, 3, 48, 54))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_job_without_a_limit_has_no_end() -> None:
    assert parse_end_time("JobId=1 EndTime=Unknown Deadline=N/A") is None
    assert allocation_end({}) is None


def test_newer_slurm_says_the_end_in_the_environment() -> None:
    assert allocation_end({"SLURM_JOB_ID": "5", "SLURM_JOB_END_TIME": "1795492134"}) == 1795492134.0


def test_an_array_task_is_named_as_squeue_names_it() -> None:
    array = {"SLURM_JOB_ID": "45495458", "SLURM_ARRAY_JOB_ID": "45495457", "SLURM_ARRAY_TASK_ID": "3"}
    assert slurm_task_id(array) == "45495457_3"
    assert slurm_task_id({"SLURM_JOB_ID": "45495458"}) == "45495458"
    assert slurm_task_id({}) == ""


def test_a_requeued_task_is_a_new_worker() -> None:
    task = {"SLURM_JOB_ID": "45495458", "SLURM_ARRAY_JOB_ID": "45495457", "SLURM_ARRAY_TASK_ID": "3"}
    first, again = worker_identity(task), worker_identity({**task, "SLURM_RESTART_COUNT": "1"})
    assert "45495457_3" in first.name
    assert "45495457_3-r1" in again.name
    assert worker_identity(task).name != first.name  # a cluster that was wiped gives the same ids out again
    assert first.slurm_job_id == again.slurm_job_id == "45495457_3"


def test_work_is_handed_back_the_margin_before_the_end() -> None:
    now = time.time()
    assert Allocation(None, 60).should_stop() is None
    assert Allocation(now + 1000, 60).should_stop() is None
    over = Allocation(now + 1000, 60)
    over.end = now + 59
    assert over.should_stop() == "allocation_end"
    assert over.asks_for_requeue("allocation_end")
    assert not over.asks_for_requeue("not_needed")  # the search had said so before


def test_a_margin_longer_than_the_allocation_still_leaves_time_to_train() -> None:
    short = Allocation(time.time() + 60, margin_s=300)
    assert short.should_stop() is None
    assert short.margin_s == pytest.approx(15, abs=1)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_warning_asks_for_a_requeue(own_handlers: Any, number: Any) -> None:
    allocation = Allocation(time.time() + 3600, 60)
    allocation.listen()
    os.kill(os.getpid(), number)
    reason = allocation.should_stop()
    assert reason == f"signal {number.name}"
    assert allocation.asks_for_requeue(reason)
    assert not allocation.asks_for_requeue("done")


def test_the_warning_of_a_time_limit_that_is_known_ends_nothing_before_the_margin(own_handlers: Any) -> None:
    allocation = Allocation(time.time() + 100, 20)
    allocation.listen()
    os.kill(os.getpid(), signal.SIGUSR2)
    assert allocation.should_stop() is None
    allocation.end = time.time() + 19
    assert allocation.should_stop() == "allocation_end"


def test_a_warning_is_all_there_is_where_the_end_is_not_known(own_handlers: Any) -> None:
    allocation = Allocation(None, 20)
    allocation.listen()
    os.kill(os.getpid(), signal.SIGUSR2)
    assert allocation.should_stop() == "signal SIGUSR2"


def test_after_term_nothing_asks_for_a_requeue(own_handlers: Any) -> None:
    allocation = Allocation(time.time() + 3600, 60)
    allocation.listen()
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR2)
    assert allocation.should_stop() == "signal SIGTERM"
    assert not allocation.asks_for_requeue("signal SIGTERM")
    assert not allocation.asks_for_requeue("allocation_end")


GRACE = "JobId=7 JobState=RUNNING Reason=None PreemptEligibleTime=2026-11-26T11:00:00 PreemptTime=2026-11-26T11:05:00 x"


@pytest.mark.parametrize(
    ("job", "is_requeued"),
    [
        (GRACE, True),
        (GRACE.replace("RUNNING", "COMPLETING"), False),
        ("JobId=7 JobState=COMPLETING PreemptTime=None EndTime=2026-11-26T11:05:00", False),
        ("JobId=7 JobState=RUNNING PreemptTime=None EndTime=2026-11-26T11:05:00", False),
        (SiteError("Slurm does not answer"), False),
    ],
)
def test_term_asks_for_a_requeue_only_in_the_grace_time_of_a_preemption(
    own_handlers: Any, monkeypatch: pytest.MonkeyPatch, job: Any, is_requeued: Any
) -> None:
    def run_command(*command: Any, timeout_s: float) -> Any:
        assert command == ("scontrol", "-o", "show", "job", "7")
        if isinstance(job, SiteError):
            raise job
        return job

    monkeypatch.setattr(slurm, "run_command", run_command)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    allocation = Allocation(time.time() + 3600, 60)
    allocation.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    assert allocation.asks_for_requeue(str(allocation.should_stop())) is is_requeued
    assert not allocation.asks_for_requeue("not_needed"), "the search had sent it home before"


def test_a_second_interrupt_leaves_at_once(own_handlers: Any) -> None:
    allocation = Allocation(None, 60)
    allocation.listen()
    os.kill(os.getpid(), signal.SIGINT)
    assert allocation.should_stop() == "signal SIGINT"
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


LISTENS = """
import os, signal
from pipeline.cluster.allocation import Allocation

allocation = Allocation(None, 60)
allocation.listen()
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    os.kill(os.getpid(), number)
    print(number.name, allocation.should_stop())
"""


def test_what_nohup_and_background_jobs_ignore_ends_nothing() -> None:
    command = 'trap \'\' HUP INT; exec "$0" -c "$1"'  # as nohup and a shell without job control do
    done = subprocess.run(["sh", "-c", command, sys.executable, LISTENS], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["SIGHUP None", "SIGINT None", "SIGTERM signal SIGTERM"]
