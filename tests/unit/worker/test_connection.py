"""When a worker asks for another master, and when it stops waiting for one."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.rpc.master_address import MasterAddress, publish_master_address
from pipeline.rpc.messages import AttemptId, Outcome
from pipeline.rpc.undelivered import Undelivered, read_undelivered
from pipeline.run.folder import RunFolder
from pipeline.run.status import RunStatus, publish_status
from pipeline.worker import connection as connection_module
from pipeline.worker.connection import MasterConnection

# Nobody listens there: the port of the discard service, on this machine.
NOWHERE = MasterAddress("run", term=2, host="login1", address="127.0.0.1", port=9)
STATUS = RunStatus(
    run_id="run", state="finished", message="", term=2, host="login1", pid=1, address="127.0.0.1:9", started=0.0,
    updated=0.0, iterations=1, planned=1, finished=1, crashed=0, queued=0, lost=0, retried=0, trained_s=0.0, lost_s=0.0,
    draws=1, model_based=0, checkpoint_mb=0.0, checkpoint_bound_mb=0.0, workers=(), brackets=(), incumbents=(),
    suspected_nodes={},
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path)
    publish_master_address(made, NOWHERE)
    return made


def contact_of(folder: RunFolder, holds: list[float | list[int]] | None = None) -> MasterConnection:
    return MasterConnection(folder, "incarnation", lambda master: {"holds": holds})


def refusal_of(connection: MasterConnection, wait_s: float) -> str | None:
    connection.start()
    deadline = time.monotonic() + wait_s
    while connection.refusal is None and time.monotonic() < deadline:
        time.sleep(0.02)
    connection.close()
    return connection.refusal


@pytest.mark.parametrize(("state", "reason"), [("finished", "done"), ("stopped", "stopped"), ("broken", "broken")])
def test_a_worker_does_not_wait_for_the_next_master_of_a_run_that_has_ended(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, state: str, reason: str
) -> None:
    monkeypatch.setattr(connection_module, "ENDED_S", 0.1)
    publish_status(folder, replace(STATUS, state=state))
    assert refusal_of(contact_of(folder), wait_s=10) == reason


def test_a_worker_that_holds_a_result_waits_for_a_stopped_run_to_be_resumed(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "ENDED_S", 0.1)
    publish_status(folder, replace(STATUS, state="broken"))
    assert refusal_of(contact_of(folder, holds=[[0, 0, 1], 1.0, 1]), wait_s=1.5) is None


@pytest.mark.parametrize("status", [None, replace(STATUS, state="searching"), replace(STATUS, term=1)])
def test_a_worker_waits_while_the_run_may_go_on(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, status: RunStatus | None
) -> None:
    monkeypatch.setattr(connection_module, "ENDED_S", 0.1)
    if status is not None:
        publish_status(folder, status)
    connection = contact_of(folder)
    assert refusal_of(connection, wait_s=1.5) is None
    assert "cannot reach the master at 127.0.0.1:9 (term 2): connection refused" in connection.problem


def test_a_result_that_no_master_takes_is_left_whole_in_the_run_folder(folder: RunFolder) -> None:
    attempt, outcome = AttemptId((0, 0, 1), 0.4, 2), Outcome("finished", 0.25, {"epochs": 2.0})
    connection = contact_of(folder)
    assert not connection.deliver(attempt, outcome, may_wait=lambda: False)
    left = Undelivered(attempt, outcome, "w0", "node1", 8_000.0)
    connection.leave_behind(left)
    assert read_undelivered(folder) == [left]


def test_a_damaged_result_in_the_run_folder_is_passed_over(folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    folder.undelivered.mkdir()
    (folder.undelivered / "0-0-1-b1-a1.json").write_text('{"attempt": [[0, 0')
    assert read_undelivered(folder) == []
    assert "is damaged" in caplog.text
    assert "its evaluation is run again" in caplog.text
