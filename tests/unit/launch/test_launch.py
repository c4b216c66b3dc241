"""What is asked of Slurm, and what is refused; the answers of Slurm are fixed here, tests/slurm asks a real one."""

import dataclasses
import os
import time

import pytest

from pipeline import operations
from pipeline.cluster import slurm
from pipeline.cluster.gpus import workers_per_device
from pipeline.errors import RunError, SiteError
from pipeline.launch import launch
from pipeline.run.creation import create_run, read_settings
from pipeline.run.folder import ensure_jobs_folder
from pipeline.run.status import RunStatus, publish_status
from pipeline.settings import load_settings


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run on a cluster of three nodes, one of them in another partition too; nothing is submitted."""
    monkeypatch.setattr(slurm, "uses_slurm", lambda settings: True)
    nodes = [("gpu", "node1"), ("gpu", "node2"), ("cpu", "node2"), ("cpu", "node3")]
    monkeypatch.setattr(slurm, "nodes", lambda: [slurm.Node(p, n, n, "gpu:2", 4, 8000) for p, n in nodes])
    monkeypatch.setattr(slurm, "partitions", lambda: [slurm.Partition("gpu", True, True, None, ())])
    monkeypatch.setattr(slurm, "max_array_size", lambda: 1000)
    monkeypatch.setattr(slurm, "tasks", lambda names: [])
    return create_run(load_settings("digits", ["slurm.gpus_per_worker=1"]), tmp_path / "results")


def suspect(folder, *nodes):
    empty = {f.name: 0 for f in dataclasses.fields(RunStatus)} | {
        "run_id": folder.run_id, "state": "searching", "message": "", "host": "login", "address": "login:1",
        "updated": time.time(), "workers": (), "brackets": (), "incumbents": (),
    }  # fmt: skip
    publish_status(folder, RunStatus(**{**empty, "suspected_nodes": dict.fromkeys(nodes, "it broke")}))


def submitted_options(folder, monkeypatch, **changed):
    asked = []
    monkeypatch.setattr(launch, "_submit", lambda *arguments: asked.append(arguments[5]) or ["1_0"])
    settings = read_settings(folder)
    settings = settings.model_copy(update={"slurm": settings.slurm.model_copy(update=changed)})
    launch.request_workers(folder, settings, 1)
    (options,) = asked
    return options


def test_nodes_under_suspicion_are_excluded_beside_those_that_the_settings_exclude(run, monkeypatch):
    assert "exclude" not in submitted_options(run, monkeypatch)
    suspect(run, "node2", "a-host-that-is-no-node")
    assert submitted_options(run, monkeypatch)["exclude"] == "node2"
    options = submitted_options(run, monkeypatch, partition="gpu,cpu", exclude=("node3",))
    assert options["exclude"] == "node3,node2"


def test_nodes_under_suspicion_are_not_excluded_where_there_is_no_other(run, monkeypatch):
    suspect(run, "node1")
    monkeypatch.setattr(slurm, "run_command", lambda *command: {"node[2-9]": "node2\nnode3\n"}[command[-1]])
    assert submitted_options(run, monkeypatch, exclude=("node[2-9]",))["exclude"] == "node[2-9]"
    suspect(run, "node1", "node2")
    assert "exclude" not in submitted_options(run, monkeypatch)
    assert submitted_options(run, monkeypatch, partition="cpu")["exclude"] == "node2"


def test_nobody_else_may_write_where_pickles_lie_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        folder = create_run(load_settings("digits"), tmp_path / "results")
        ensure_jobs_folder(folder)
    finally:
        os.umask(before)
    assert folder.path.stat().st_mode & 0o777 == 0o755
    assert folder.jobs.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("which", ["path", "jobs"])
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_folder_of_pickles_that_others_may_write_is_refused_with_what_mends_it(tmp_path, which, mode):
    folder = create_run(load_settings("digits"), tmp_path / "results")
    ensure_jobs_folder(folder)
    path = getattr(folder, which)
    path.chmod(mode)
    with pytest.raises(RunError, match=f"chmod go-w {path}"):
        ensure_jobs_folder(folder)
    path.chmod(mode & ~0o022)
    ensure_jobs_folder(folder)


def test_a_link_or_a_file_in_the_place_of_the_jobs_is_refused(tmp_path):
    folder = create_run(load_settings("digits"), tmp_path / "results")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.jobs.symlink_to(elsewhere)
    with pytest.raises(RunError, match="must be a folder of yours"):
        ensure_jobs_folder(folder)
    folder.jobs.unlink()
    folder.jobs.write_text("")
    with pytest.raises(RunError, match="Cannot make"):
        ensure_jobs_folder(folder)


def test_slurm_is_asked_for_the_queue_once_in_a_while_also_when_it_does_not_answer(run, monkeypatch):
    asked = []

    def tasks(names):
        asked.append(names)
        raise SiteError("squeue did not answer")

    monkeypatch.setattr(slurm, "tasks", tasks)
    assert [launch.queue_state(run) for _ in range(3)] == [None] * 3
    assert len(asked) == 1
    monkeypatch.setattr(launch, "QUEUE_REFRESH_S", 0.0)
    launch.queue_state(run)
    assert len(asked) == 2


@pytest.mark.parametrize(("state", "is_cancelled"), [("PENDING", True), ("RUNNING", False)])
def test_a_master_in_the_queue_is_cancelled_by_stopping_the_run(run, monkeypatch, state, is_cancelled):
    settings = read_settings(run)
    slurms = settings.model_copy(update={"slurm": settings.slurm.model_copy(update={"master": "slurm"})})
    monkeypatch.setattr(operations, "read_settings", lambda folder: slurms)
    monkeypatch.setattr(slurm, "tasks", lambda names: [slurm.Task("7", *names, state, "0:00", "Resources")])
    cancelled, said = [], []
    monkeypatch.setattr(slurm, "cancel", lambda names, state=None: cancelled.append((*names, state)))
    operations.stop(run, said.append)
    assert ((f"tandem-master-{run.run_id}", "PENDING") in cancelled) is is_cancelled
    assert any("cancelled before it started" in text for text in said) is is_cancelled
    assert any("does not answer" in text for text in said) is not is_cancelled


def test_workers_that_share_a_gpu_are_counted(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    of = ["training.device=auto", "slurm.gpus_per_worker=1"]
    assert [workers_per_device(load_settings("digits", [*of, f"workers.count={n}"])) for n in (0, 2, 5)] == [1, 1, 3]
    assert workers_per_device(load_settings("digits", ["training.device=cpu", "workers.count=5"])) == 1


def test_a_master_that_waits_in_the_queue_is_hastened_and_not_submitted_again(run, monkeypatch):
    settings = read_settings(run)
    slurms = settings.model_copy(update={"slurm": settings.slurm.model_copy(update={"master": "slurm"})})
    monkeypatch.setattr(slurm, "tasks", lambda names: [slurm.Task("7", *names, "PENDING", "0:00", "BeginTime")])
    hastened = []
    monkeypatch.setattr(slurm, "hasten", hastened.append)
    monkeypatch.setattr(launch, "_submit", lambda *arguments: pytest.fail("submitted"))
    started = launch.start_master(run, slurms)
    assert [task.job_id for task in hastened] == ["7"]
    assert "job 7" in started.where
    assert started.process is None


@pytest.mark.parametrize(("used", "is_coming"), [("0:30", True), ("2:30:00", False), ("INVALID", True)])
def test_a_task_that_has_run_for_long_without_a_worker_that_is_known_is_replaced(run, monkeypatch, used, is_coming):
    monkeypatch.setattr(slurm, "tasks", lambda names: [slurm.Task("9_0", *names, "RUNNING", used, "None")])
    asked = []
    monkeypatch.setattr(launch, "_submit", lambda *arguments: asked.append(arguments[3]) or ["1_0"])
    launch.request_workers(run, read_settings(run), 1)
    assert asked == ([] if is_coming else [1])
