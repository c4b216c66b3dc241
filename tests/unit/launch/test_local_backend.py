"""What a run asks of a machine without Slurm; tests/integration/test_launch_local.py starts real processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.launch import local_workers
from pipeline.launch.local_backend import LocalBackend
from pipeline.run.folder import RunFolder
from pipeline.settings import load_settings, validate_settings
from tests.unit.launch.conftest import worker


def backend_of(**sections: dict[str, Any]) -> LocalBackend:
    return LocalBackend(validate_settings(sections))


def test_a_machine_without_slurm_has_nothing_to_check(tmp_path: Path) -> None:
    backend = backend_of(workers={"count": 3}, slurm={"partition": "anything", "gpus_per_worker": 0})
    assert backend.check(tmp_path) == []
    assert backend.describe() == "3 workers as processes of this machine on CPUs."
    assert backend.master_address() == "127.0.0.1"


def test_workers_that_share_gpus_of_this_machine_are_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (warning,) = backend_of(workers={"count": 3}).check(tmp_path)
    assert warning.startswith("3 workers share 2 GPUs, up to 2 on each")
    assert "workers.count=2" in warning
    assert backend_of(workers={"count": 2}).check(tmp_path) == []
    assert backend_of(workers={"count": 2}).describe() == "2 workers as processes of this machine on GPU 0, 1."


def test_there_is_no_queue(run: RunFolder) -> None:
    backend = LocalBackend(load_settings("digits"))
    assert backend.queue(run) is None
    assert not backend.cancel_waiting_master(run)
    assert backend.submit_tasks(run, "tandem-baselines", [str]) is None, "the caller trains here"


@pytest.mark.parametrize(("joined", "asked", "started"), [((), 2, 0), ((), 3, 1), (("host-12-ab",), 2, 1)])
def test_processes_that_have_not_joined_yet_are_not_asked_for_again(
    run: RunFolder,
    publish: Callable[..., Any],
    submitted: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    joined: tuple[Any, ...],
    asked: int,
    started: int,
) -> None:
    monkeypatch.setattr(local_workers, "running", lambda folder: ["12", "34"])
    publish(workers=tuple(map(worker, joined)))
    assert len(LocalBackend(load_settings("digits")).start_workers(run, asked)) == started
    assert sum(len(request["devices"]) for _, request in submitted) == started
