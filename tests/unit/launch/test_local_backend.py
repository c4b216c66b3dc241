"""What a run asks of a machine without Slurm; tests/integration/test_launch_local.py starts real processes."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SiteError
from pipeline.launch import local_backend, local_workers
from pipeline.launch.local_backend import LocalBackend
from pipeline.settings import load_settings, validate_settings
from tests.unit.launch.conftest import worker


def backend_of(**sections: Any) -> Any:
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


def test_training_on_a_gpu_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SiteError, match=r"training\.device is cuda, and there is no GPU for it here"):
        backend_of(training={"device": "cuda"}).check(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert backend_of(training={"device": "cuda"}, workers={"count": 1}).check(tmp_path) == []


def test_there_is_no_queue(run: Any) -> None:
    backend = LocalBackend(load_settings("digits"))
    assert backend.queue(run) is None
    assert not backend.cancel_waiting_master(run)
    assert backend.submit_tasks(run, "tandem-baselines", [str]) is None, "the caller trains here"


@pytest.mark.parametrize(("joined", "asked", "started"), [((), 2, 0), ((), 3, 1), (("host-12-ab",), 2, 1)])
def test_processes_that_have_not_joined_yet_are_not_asked_for_again(
    run: Any, publish: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch, joined: Any, asked: Any, started: Any
) -> None:
    monkeypatch.setattr(local_workers, "running", lambda folder: ["12", "34"])
    publish(workers=tuple(map(worker, joined)))
    assert len(LocalBackend(load_settings("digits")).start_workers(run, asked).jobs) == started
    assert sum(len(request["devices"]) for _, request in submitted) == started


def test_a_process_that_hangs_is_ended_and_replaced_and_that_is_said(
    run: Any, publish: Any, submitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, ages, ended = [1000.0], {"12": 5.0, "34": 1e6}, []
    alive = ["12", "34"]
    monkeypatch.setattr(local_backend.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(local_workers, "running", lambda folder: alive)
    monkeypatch.setattr(local_workers, "age_s", lambda folder, job: ages[job])
    monkeypatch.setattr(local_workers, "end", lambda folder, jobs, grace_s: ended.extend(jobs))
    publish()
    backend = LocalBackend(load_settings("digits"))
    assert backend.start_workers(run, 2).jobs == (), "34 may have lost its master for a moment"
    now[0] += 100
    started = backend.start_workers(run, 2)
    assert ended == ["34"]
    assert len(started.jobs) == 1, "12 is on its way"
    assert "were ended: 34" in started.problem
    alive[1:] = started.jobs
    publish(workers=(worker("host-12-ab"), worker(f"host-{alive[1]}-cd")))
    assert backend.start_workers(run, 0).problem == ""


def test_workers_that_end_before_they_join_are_told_of_until_one_joins(
    run: Any, publish: Any, submitted: Any, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[str] = []
    monkeypatch.setattr(local_workers, "running", lambda folder: alive)
    publish()
    backend = LocalBackend(load_settings("digits"))
    assert backend.start_workers(run, 2).problem == "", "nothing is known yet of those that are just starting"
    run.jobs.mkdir(exist_ok=True)
    log = run.jobs / "1_1_0_log.out"
    log.write_text("Traceback\npipeline.errors.SiteError: Cannot listen on a port in 4000..4000\n")
    journal(("1_0-ab", "host"))
    problem = (
        f"1 worker of this machine ended before joining. The last one said: pipeline.errors.SiteError: Cannot "
        f"listen on a port in 4000..4000 ({log})"
    )
    assert backend.start_workers(run, 1).problem == problem
    alive.append("2_0")
    assert backend.start_workers(run, 1).problem == problem, "it stands until a worker joins"
    journal(("2_0-cd", "host"))
    assert backend.start_workers(run, 0).problem == ""
    alive.clear()
    assert backend.start_workers(run, 0).problem == "", "what had joined has left"


def test_workers_that_another_master_starts_meanwhile_are_not_ended(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([["11"], ["11", "12"], ["11", "12"], ["12"]])
    told: set[int] = set()
    monkeypatch.setattr(local_workers, "running", lambda folder: next(looks))
    monkeypatch.setattr(local_workers.os, "kill", lambda pid, number: told.add(pid))
    assert local_workers.end(run) == []
    assert told == {11}
