"""A master's job, a controller that does not answer, a master still at work: real commands, files and leases."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster.allocation import Allocation
from pipeline.errors import SiteError
from pipeline.launch import master_job
from pipeline.launch.slurm_backend import SlurmBackend
from pipeline.master.events import MasterOutcome
from pipeline.master.lease import LivingMasterError, take_lease
from pipeline.run.folder import RunFolder
from pipeline.run.status import publish_status, read_status
from pipeline.settings import load_settings
from tests.unit.master.hearts import beating
from tests.unit.run.statuses import status_of

LEFT = MasterOutcome("left", "allocation_end", term=1)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUEUE_PAUSE_S", "ADDRESS_PAUSE_S", "WATCH_PAUSE_S"):
        monkeypatch.setattr(master_job, name, 0.05)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Commands of Slurm's whose controller is down for the first so many calls."""

    def is_down_for(
        calls: int, name: str, answer: str = "", problem: str = "Unable to contact slurm controller"
    ) -> Path:
        commands, asked = tmp_path / "bin", tmp_path / "asked"
        commands.mkdir(exist_ok=True)
        script = commands / name
        script.write_text(
            f'#!/bin/sh\necho "$*" >> {asked}\n'
            f"[ $(wc -l < {asked}) -le {calls} ] && echo '{problem}' >&2 && exit 1\n"
            f"echo '{answer}'\n"
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(commands), prepend=":")
        return asked

    return is_down_for


def allocation(lasts_s: float = 3600.0) -> Allocation:
    return Allocation(time.time() + lasts_s, 0.0)


def message(run: RunFolder) -> str:
    status = read_status(run)
    assert status is not None
    return status.message


@pytest.mark.usefixtures("job")
def test_a_requeue_is_asked_for_until_the_controller_is_back_and_the_status_says_so_meanwhile(
    run: RunFolder, controller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = controller(2, "scontrol")
    take_lease(run)
    publish_status(run, status_of(state="left", message="allocation_end"))
    said = []
    real = master_job.publish_status

    def publish(folder: RunFolder, status: Any) -> None:
        said.append(status.message)
        real(folder, status)

    monkeypatch.setattr(master_job, "publish_status", publish)
    master_job.requeue(run, LEFT, allocation())
    assert asked.read_text().splitlines() == ["requeue 77"] * 3
    assert len(said) == 2
    assert "is not requeued: `scontrol requeue 77` failed: Unable to contact slurm controller" in said[0]
    assert message(run) == "allocation_end"


@pytest.mark.usefixtures("job")
def test_a_job_that_is_not_requeued_by_its_end_fails_and_its_status_says_how_to_go_on(
    run: RunFolder, controller: Any
) -> None:
    controller(1000, "scontrol")
    take_lease(run)
    publish_status(run, status_of(state="left", message="allocation_end"))
    with pytest.raises(SiteError, match=rf"Unable to contact slurm controller.*tandem resume-search {run.shell_path}"):
        master_job.requeue(run, LEFT, allocation(master_job.LAST_S + 0.5))
    assert message(run).startswith("allocation_end. The master's job is not requeued: ")
    assert f"`tandem resume-search {run.shell_path}` goes on" in message(run)


@pytest.mark.usefixtures("job")
def test_a_job_that_was_requeued_by_a_request_whose_answer_was_lost_is_done(run: RunFolder, controller: Any) -> None:
    asked = controller(1000, "scontrol", problem="Job is pending execution for job 77")
    master_job.requeue(run, LEFT, allocation())
    assert asked.read_text().splitlines() == ["requeue 77"]


@pytest.mark.usefixtures("job")
def test_the_status_of_a_successor_is_left_alone(run: RunFolder, controller: Any) -> None:
    controller(1000, "scontrol")
    take_lease(run).end("left")
    take_lease(run)
    publish_status(run, status_of(state="searching", message="another master's", term=2))
    with pytest.raises(SiteError):
        master_job.requeue(run, LEFT, allocation(0))
    assert message(run) == "another master's"


def test_a_master_in_a_job_asks_for_its_address_until_the_controller_is_back(
    run: RunFolder, controller: Any, job: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = controller(2, "sinfo", "gpu|node1|127.0.0.1|gpu:2|4|8000")
    backend = SlurmBackend(load_settings("digits", ["workers.where=slurm", "network.address=null"]))
    with pytest.raises(SiteError, match="no route to any of the nodes"):  # that node is this machine
        master_job.master_address(backend, allocation())
    assert len(asked.read_text().splitlines()) == 3
    monkeypatch.delenv("SLURM_JOB_ID")
    asked.unlink()
    with pytest.raises(SiteError, match="Unable to contact"):  # a person who waits is told at once
        master_job.master_address(backend, allocation())


def test_a_job_that_slurm_has_started_again_waits_for_the_master_that_it_meets_and_a_new_one_does_not(
    run: RunFolder, job: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take_lease(run)
    publish_status(run, status_of(state="searching", updated=time.time()))
    refused = threading.Event()

    def be_master() -> MasterOutcome:
        try:
            return MasterOutcome("finished", term=take_lease(run, stopped_s=0.5).term)
        except LivingMasterError:
            refused.set()
            raise

    with beating(first):
        with pytest.raises(LivingMasterError, match="A master is at work"):
            master_job.after_its_predecessor(run, be_master, allocation())
        refused.clear()
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        outcomes: list[MasterOutcome] = []
        waiting = threading.Thread(
            target=lambda: outcomes.append(master_job.after_its_predecessor(run, be_master, allocation()))
        )
        waiting.start()
        assert refused.wait(60)
    publish_status(run, status_of(state="searching", updated=time.time() - 60))
    waiting.join(60)
    assert [(outcome.state, outcome.term) for outcome in outcomes] == [("finished", 2)]


@pytest.mark.parametrize(
    ("state", "lasts_s", "why"),
    [("finished", 3600.0, "the run has ended (finished)"), ("searching", 0.0, "allocation_end")],
)
def test_a_job_that_waits_for_a_living_master_leaves_when_the_run_or_its_own_time_has_ended(
    run: RunFolder, job: None, monkeypatch: pytest.MonkeyPatch, state: str, lasts_s: float, why: str
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    publish_status(run, status_of(state=state, updated=time.time()))

    def be_master() -> MasterOutcome:
        raise LivingMasterError("A master is at work")

    assert master_job.after_its_predecessor(run, be_master, allocation(lasts_s)) == MasterOutcome("left", why)
