"""What a person does with a run; the place where its processes live is a fake one."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import operations
from pipeline.cluster.early_signals import END_SIGNALS, WARNING_SIGNALS
from pipeline.cluster.users import user_name
from pipeline.errors import RunError, SettingsError, SiteError
from pipeline.launch.local_backend import LocalBackend
from pipeline.master import process
from pipeline.master.events import MasterOutcome
from pipeline.master.lease import take_lease
from pipeline.run.creation import create_run
from pipeline.run.folder import RunFolder
from pipeline.run.status import publish_status
from pipeline.settings import load_settings, validate_settings
from tests.unit.run.statuses import status_of


class FakeBackend:
    """A place in which a master waits, or does not; Slurm may not answer."""

    def __init__(self, master_waits: Any = False, error: Any = None) -> None:
        self.master_waits = master_waits
        self.error = error
        self.calls = []

    def cancel_waiting_master(self, folder: Any) -> Any:
        self.calls.append("cancel master")
        if self.error:
            raise self.error
        return self.master_waits

    def end_master(self, folder: Any) -> Any:
        self.calls.append("end master")
        return False

    def cancel_workers(self, folder: Any) -> Any:
        self.calls.append("cancel workers")
        return "one hung"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    return create_run(load_settings("digits", ["workers.where=local"]), tmp_path / "results")


def stop(run: Any, monkeypatch: pytest.MonkeyPatch, backend: Any) -> Any:
    """What is said."""
    said = []
    monkeypatch.setattr(operations, "backend_for", lambda settings: backend)
    operations.stop(run, said.append)
    return "\n".join(said)


def test_a_search_in_which_nothing_can_vary_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    problem = {"command": "true", "metric": "loss", "space": {"width": 64, "kind": {"choices": ["a"]}}}
    settings = validate_settings({"problem": problem, "workers": {"where": "local"}})
    with pytest.raises(SettingsError, match=r"space: nothing is left to search: \w+, \w+ can have one value only"):
        operations.submit(settings, tmp_path / "results", print)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("waits", [True, False])
def test_stopping_a_run_tells_a_master_that_waited_in_the_queue_from_one_that_is_gone(
    run: Any, monkeypatch: pytest.MonkeyPatch, waits: Any
) -> None:
    backend = FakeBackend(waits)
    said = stop(run, monkeypatch, backend)
    assert run.stop_request.exists()
    assert backend.calls == ["cancel master", "cancel workers"]
    assert ("cancelled before it started" in said) is waits
    assert ("does not answer" in said) is not waits
    assert "one hung" in said


@pytest.mark.parametrize("state", ["finished", "stopped", "broken"])
def test_stopping_a_run_that_has_ended_says_so_and_empties_the_queue(
    run: Any, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    publish_status(run, status_of(state=state))
    backend = FakeBackend()
    said = stop(run, monkeypatch, backend)
    assert "The run had ended already. `tandem resume-search" in said
    assert "Stopped" not in said
    assert "does not answer" not in said
    assert backend.calls == ["cancel master", "cancel workers"]


def test_workers_are_cancelled_when_slurm_does_not_answer_and_the_status_is_damaged(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.status.write_text("{")
    monkeypatch.setattr(operations, "read_status", lambda folder: read_damaged(folder))
    backend = FakeBackend(error=SiteError("slurmctld does not answer"))
    said = stop(run, monkeypatch, backend)
    assert "slurmctld does not answer" in said
    assert "status.json is damaged" in said
    assert backend.calls[-1] == "cancel workers"


def read_damaged(folder: Any) -> None:
    raise RunError(f"{folder.status} is damaged")


def test_a_full_disk_has_room_for_the_request_to_stop(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "publish_json", no_space)
    stop(run, monkeypatch, FakeBackend())
    assert run.stop_request.exists()


def no_space(path: Any, value: Any, inside: Any = None) -> None:
    raise OSError(28, "No space left on device")


def test_workers_are_cancelled_and_the_master_is_told_otherwise_when_the_folder_is_read_only(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "publish_json", no_space)
    monkeypatch.setattr(type(run.path), "touch", lambda path: no_space(path, None))
    backend = FakeBackend()
    said = stop(run, monkeypatch, backend)
    assert "stop.json cannot be written" in said
    assert backend.calls == ["cancel master", "end master", "cancel workers"]
    assert "cannot be told to stop from here" in said


def test_another_users_run_is_refused_in_one_line(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(RunError, match=f"is user {user_name()}'s: only they can stop it") as error:
        stop(run, monkeypatch, FakeBackend())
    assert "\n" not in str(error.value)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RunError, match="ask them to collect, or collect a copy") as error:
        operations.collect(run, print)
    assert "\n" not in str(error.value)


def test_a_warning_of_a_site_is_said_once(tmp_path: Path) -> None:
    said = []
    for warnings in (["no shared disk"], ["no shared disk"], ["no shared disk", "logging out ends it"]):
        operations._warn_once(warnings, tmp_path / "results", said.append)
    assert said == ["Warning: no shared disk", "Warning: logging out ends it"]
    operations._warn_once(["no shared disk"], tmp_path / "a file" / "results", said.append)
    (tmp_path / "in its place").touch()
    operations._warn_once(["no shared disk"], tmp_path / "in its place", said.append)
    assert len(said) == 4, "a place that cannot be written is no reason to fail here"


def test_a_user_without_a_name_has_a_number() -> None:
    assert user_name(987654) == "987654"


@pytest.fixture
def own_handlers() -> Iterator[None]:
    """Signal handlers as they were, whatever a master installs."""
    before = {number: signal.getsignal(number) for number in (*WARNING_SIGNALS, *END_SIGNALS)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_handlers")
@pytest.mark.parametrize("has_successor", [True, False])
def test_a_master_that_has_ended_cancels_no_workers_of_its_successor(
    run: Any, monkeypatch: pytest.MonkeyPatch, has_successor: bool
) -> None:
    """As where `hooks.on_break` resumes the run: the master waits for it after its lease has ended."""

    def be_master(folder: RunFolder, *unused: Any, **also_unused: Any) -> MasterOutcome:
        lease = take_lease(folder)
        lease.end("broken")
        if has_successor:
            take_lease(folder)
        return MasterOutcome("broken", "why", lease.term)

    cancelled: list[RunFolder] = []
    monkeypatch.setattr(process, "run_master", be_master)
    monkeypatch.setattr(LocalBackend, "cancel_workers", lambda self, folder: cancelled.append(folder))
    with pytest.raises(RunError, match="is broken: why"):
        operations.run_master(run)
    assert cancelled == ([] if has_successor else [run])
