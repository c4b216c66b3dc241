"""What a run asks of Slurm."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import slurm
from pipeline.errors import SiteError
from pipeline.launch import slurm_backend
from pipeline.launch.slurm_backend import SlurmBackend
from pipeline.run.creation import read_settings
from pipeline.run.identity import run_label
from pipeline.run.status import read_status
from pipeline.settings import changed
from tests.unit.launch.conftest import worker


@pytest.fixture
def backend(run: Any, fake_slurm: Any, submitted: Any) -> Any:
    return SlurmBackend(read_settings(run))


def with_(backend: Any, **slurm_settings: Any) -> Any:
    return SlurmBackend(changed(backend.settings, {f"slurm.{name}": value for name, value in slurm_settings.items()}))


def excluded(backend: Any, run: Any, submitted: Any) -> Any:
    """The nodes that the next request leaves out."""
    backend.start_workers(run, 1)
    return submitted[-1][1]["options"].get("exclude")


def test_workers_are_asked_for_by_the_runs_name_in_arrays_that_slurm_takes(
    backend: Any, run: Any, submitted: Any
) -> None:
    started = with_(backend, setup=("module load cuda",)).start_workers(run, 6)
    assert started.jobs == ("1_0", "1_1", "1_2", "1_3", "2_0", "2_1")
    assert [(name, request["count"]) for name, request in submitted] == [("submit_workers", 4), ("submit_workers", 2)]
    for _, request in submitted:
        assert request["run"] == str(run.path)
        assert request["name"] == f"tandem-{run_label(run)}"
        assert request["setup"] == ["module load cuda"]


def test_workers_on_their_way_are_not_asked_for_again(
    backend: Any, run: Any, submitted: Any, fake_slurm: Any, publish: Any
) -> None:
    publish(workers=(worker("a", "7_0"),))
    states = [("7_0", "RUNNING", "5:00"), ("7_1", "RUNNING", "0:30"), ("7_2", "PENDING", "0:00")]
    fake_slurm.queue = lambda names: [slurm.Task(job, names[0], state, used, "None") for job, state, used in states]
    assert backend.start_workers(run, 2).jobs == ()
    assert len(backend.start_workers(run, 3).jobs) == 1, "7_0 is no help: the master counts it already"
    assert submitted[0][1]["count"] == 1


def test_no_more_arrays_are_in_the_queue_than_tasks_may_run_at_once(
    backend: Any, run: Any, submitted: Any, fake_slurm: Any
) -> None:
    limited = with_(backend, array_parallelism=2)
    assert len(limited.start_workers(run, 10).jobs) == 8, "Slurm takes four tasks in an array"
    assert [request["options"]["array-parallelism"] for _, request in submitted] == [1, 1]
    fake_slurm.queue = lambda names: [
        slurm.Task(f"1_{index}", names[0], "RUNNING" if index < 2 else "PENDING", "5:00:00", "None")
        for index in range(7)
    ]
    assert len(limited.start_workers(run, 8).jobs) == 1, "one has left the queue, and two of those there have joined"
    fake_slurm.queue = lambda names: [slurm.Task(f"1_{i}", names[0], "PENDING", "0:00", "None") for i in range(8)]
    assert limited.start_workers(run, 10).jobs == ()


def test_a_worker_that_joins_while_the_status_is_read_is_on_its_way_in_the_masters_count(
    backend: Any, run: Any, submitted: Any, fake_slurm: Any, publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_late(folder: Any) -> Any:
        publish(workers=(worker("a", "7"),))
        return read_status(folder)

    monkeypatch.setattr(slurm_backend, "read_status", read_late)
    fake_slurm.has("RUNNING", "0:30")
    assert backend.start_workers(run, 1).jobs == ()


@pytest.mark.parametrize(
    ("silent_s", "is_coming"), [pytest.param(90, True, id="its node was lost"), pytest.param(10, False, id="it hangs")]
)
def test_a_task_that_was_requeued_from_a_lost_node_brings_a_worker_and_one_that_has_fallen_silent_does_not(
    backend: Any, run: Any, submitted: Any, fake_slurm: Any, publish: Any, silent_s: float, is_coming: bool
) -> None:
    publish(workers=(replace(worker("a", "7"), state="suspect", since=time.time() - silent_s),))
    fake_slurm.has("RUNNING", "0:30")
    assert len(backend.start_workers(run, 1).jobs) == (0 if is_coming else 1)


@pytest.mark.parametrize(("used", "is_coming"), [("0:30", True), ("2:30:00", False), ("INVALID", True)])
def test_a_task_that_has_run_for_long_without_a_worker_that_is_known_is_replaced(
    backend: Any, run: Any, submitted: Any, fake_slurm: Any, used: Any, is_coming: Any
) -> None:
    fake_slurm.has("RUNNING", used)
    backend.start_workers(run, 1)
    assert len(submitted) == (0 if is_coming else 1)


def test_a_requeued_task_is_made_to_start_and_counts(backend: Any, run: Any, submitted: Any, fake_slurm: Any) -> None:
    fake_slurm.has("PENDING", reason="BeginTime")
    assert backend.start_workers(run, 1).jobs == ()
    assert fake_slurm.hastened == ["7"]


def test_a_begin_time_of_a_person_is_left_alone(backend: Any, run: Any, submitted: Any, fake_slurm: Any) -> None:
    fake_slurm.has("PENDING", reason="BeginTime")
    later = with_(backend, extra={"begin": "20:00"}, master="slurm")
    assert later.start_workers(run, 1).jobs == ()
    assert "waits in the queue" in later.start_master(run).where
    assert fake_slurm.hastened == []


def test_a_node_whose_tasks_end_before_they_join_is_left_out_of_the_next_request(
    backend: Any, run: Any, submitted: Any, fake_slurm: Any, journal: Any
) -> None:
    backend.start_workers(run, 4)
    journal(("1_3", "node2"))
    fake_slurm.queue = lambda names: [
        slurm.Task(f"1_{index}", names[0], "FAILED", "0:02", "NonZeroExitCode", "node1") for index in range(3)
    ]
    started = backend.start_workers(run, 3)
    assert submitted[-1][1]["options"]["exclude"] == "node1"
    assert started.failing_nodes.keys() == {"node1"}
    assert started.failing_nodes["node1"].startswith("3 tasks ended there before a worker joined")


def test_a_task_that_a_person_holds_is_replaced(backend: Any, run: Any, submitted: Any, fake_slurm: Any) -> None:
    fake_slurm.has("PENDING", reason="JobHeldUser")
    assert len(backend.start_workers(run, 1).jobs) == 1


def test_what_slurm_takes_of_a_request_counts_when_it_refuses_the_rest(
    backend: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_the_second(submit: Any, request: Any, what: Any) -> Any:
        if request["count"] < 4:
            raise SiteError("QOSMaxSubmitJobPerUserLimit")
        return ["1_0"] * 4

    monkeypatch.setattr(slurm_backend, "submit_apart", refuse_the_second)
    assert len(backend.start_workers(run, 6).jobs) == 4
    with pytest.raises(SiteError, match="QOSMaxSubmitJobPerUserLimit"):
        backend.start_workers(run, 2)


def test_nodes_under_suspicion_are_excluded_beside_those_that_the_settings_exclude(
    backend: Any, run: Any, submitted: Any, publish: Any
) -> None:
    assert excluded(backend, run, submitted) is None
    publish(suspected_nodes=dict.fromkeys(("node2", "a-host-that-is-no-node"), "it broke"))
    assert excluded(backend, run, submitted) == "node2"
    assert excluded(with_(backend, partition="gpu,cpu", exclude=("node3",)), run, submitted) == "node3,node2"


def test_nodes_under_suspicion_are_not_excluded_where_there_is_no_other(
    backend: Any, run: Any, submitted: Any, publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(suspected_nodes={"node1": "it broke"})
    monkeypatch.setattr(slurm, "run_command", lambda *command: {"node[2-9]": "node2\nnode3\n"}[command[-1]])
    assert excluded(with_(backend, exclude=("node[2-9]",)), run, submitted) == "node[2-9]"
    publish(suspected_nodes=dict.fromkeys(("node1", "node2"), "it broke"))
    assert excluded(backend, run, submitted) is None
    assert excluded(with_(backend, partition="cpu"), run, submitted) == "node2"


def test_a_master_is_a_job_where_the_settings_say_so(backend: Any, run: Any, submitted: Any) -> None:
    started = with_(backend, master="slurm").start_master(run)
    assert [(name, request["name"]) for name, request in submitted] == [
        ("submit_master", f"tandem-master-{run_label(run)}")
    ]
    assert started.process is None
    assert "Slurm job 1_0; it starts when Slurm lets it" in started.where


def test_a_master_that_waits_in_the_queue_is_hastened_and_not_submitted_again(
    backend: Any, run: Any, submitted: Any, fake_slurm: Any
) -> None:
    fake_slurm.has("PENDING", reason="BeginTime")
    started = with_(backend, master="slurm").start_master(run)
    assert fake_slurm.hastened == ["7"]
    assert "job 7" in started.where
    assert (started.process, submitted) == (None, [])


@pytest.mark.parametrize(("state", "is_cancelled"), [("PENDING", True), ("RUNNING", False)])
def test_a_master_is_cancelled_only_while_it_waits(
    backend: Any, run: Any, fake_slurm: Any, state: Any, is_cancelled: Any
) -> None:
    fake_slurm.has(state, reason="Resources")
    assert with_(backend, master="slurm").cancel_waiting_master(run) is is_cancelled
    assert fake_slurm.cancelled == [(f"tandem-master-{run_label(run)}", "PENDING")] * is_cancelled
    assert not backend.cancel_waiting_master(run), "this master is a session of the login node"


def test_workers_are_cancelled_by_the_runs_name(backend: Any, run: Any, fake_slurm: Any) -> None:
    backend.cancel_workers(run)
    assert fake_slurm.cancelled == [(f"tandem-{run_label(run)}", None)]


def test_the_queue_tells_workers_by_state_and_the_master_apart(backend: Any, run: Any, fake_slurm: Any) -> None:
    def queue(names: Any) -> Any:
        workers, master = names
        return [
            slurm.Task("1_0", workers, "RUNNING", "1:00", "None"),
            slurm.Task("1_1", workers, "PENDING", "0:00", "Resources"),
            slurm.Task("1_2", workers, "PENDING", "0:00", "JobHeldUser"),
            slurm.Task("2", master, "PENDING", "0:00", "BeginTime"),
        ]

    fake_slurm.queue = queue
    state = backend.queue(run)
    assert (state.pending, state.running, state.held, state.master_waits) == (1, 1, 1, True)
    assert str(state) == (
        "workers: 1 pending, 1 running, 1 held (1 x Resources; 1 x JobHeldUser); master: job 2, pending (BeginTime)"
    )


def test_the_queue_says_why_tasks_wait(backend: Any, run: Any, fake_slurm: Any) -> None:
    reason = "Job's account not permitted to use this partition (gpu allows ml not bio)"
    fake_slurm.has("PENDING", reason=reason)
    assert str(backend.queue(run)) == f"workers: 1 pending, 0 running ({reason})"
    fake_slurm.has("PENDING", reason="None")
    assert str(backend.queue(run)) == "workers: 1 pending, 0 running"


def test_arrays_of_tasks_are_split_as_slurm_takes_them(backend: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = []

    def submit_array(executor: Any, tasks: Any, what: Any) -> Any:
        arrays.append(list(tasks))
        return [f"{len(arrays)}_{index}" for index in range(len(tasks))]

    monkeypatch.setattr(slurm_backend, "slurm_executor", lambda *arguments: None)
    monkeypatch.setattr(slurm_backend, "submit_array", submit_array)
    submitted = backend.submit_tasks(run, "tandem-baselines", [str] * 6)
    assert submitted == ["1_0", "1_1", "1_2", "1_3", "2_0", "2_1"]
    assert [len(tasks) for tasks in arrays] == [4, 2]
    assert run.jobs.stat().st_mode & 0o777 == 0o700


def test_a_dry_run_shows_the_script_that_sbatch_would_be_given_and_writes_nothing(
    backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    asked = with_(backend, partition="gpu", setup=("module load cuda",), walltime_min=60)
    text = asked.submission_text(tmp_path / "elsewhere").splitlines()
    assert text[0].startswith("#!")
    options = {line.removeprefix("#SBATCH --") for line in text if line.startswith("#SBATCH ")}
    assert {"partition=gpu", "time=60", "job-name=tandem-RUN", "requeue"} <= options
    assert any(option.startswith("array=0-") for option in options)
    assert "module load cuda" in text
    assert text[-1].startswith("srun ")
    assert f"{tmp_path}/elsewhere/RUN/jobs" in text[-1]
    assert not (tmp_path / "elsewhere").exists()
    assert SlurmBackend(changed(backend.settings, {"workers.count": 0})).submission_text(tmp_path) == ""
