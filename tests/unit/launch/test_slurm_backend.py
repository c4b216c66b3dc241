"""What a run asks of Slurm."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.cluster import slurm
from pipeline.cluster.slurm import Task
from pipeline.errors import SiteError
from pipeline.launch import slurm_backend
from pipeline.launch.slurm_backend import SlurmBackend
from pipeline.run.creation import read_settings
from pipeline.run.folder import RunFolder
from pipeline.settings import changed
from tests.unit.launch.conftest import FakeSlurm, worker


@pytest.fixture
def backend(run: RunFolder, fake_slurm: FakeSlurm, submitted: list[Any]) -> SlurmBackend:
    return SlurmBackend(read_settings(run))


def with_(backend: SlurmBackend, **slurm_settings: str | tuple[str]) -> SlurmBackend:
    return SlurmBackend(changed(backend.settings, {f"slurm.{name}": value for name, value in slurm_settings.items()}))


def excluded(backend: SlurmBackend, run: RunFolder, submitted: list[Any]) -> str | None:
    """The nodes that the next request leaves out."""
    backend.start_workers(run, 1)
    return submitted[-1][1]["options"].get("exclude")


def test_workers_are_asked_for_by_the_runs_name_in_arrays_that_slurm_takes(
    backend: SlurmBackend, run: RunFolder, submitted: list[Any]
) -> None:
    jobs = with_(backend, setup=("module load cuda",)).start_workers(run, 6)
    assert jobs == ["1_0", "1_1", "1_2", "1_3", "2_0", "2_1"]
    assert [(name, request["count"]) for name, request in submitted] == [("submit_workers", 4), ("submit_workers", 2)]
    for _, request in submitted:
        assert request["run"] == str(run.path)
        assert request["name"] == f"tandem-{run.run_id}"
        assert request["setup"] == ["module load cuda"]


def test_workers_on_their_way_are_not_asked_for_again(
    backend: SlurmBackend, run: RunFolder, submitted: list[Any], fake_slurm: FakeSlurm, publish: Callable[..., Any]
) -> None:
    publish(workers=(worker("a", "7_0"),))
    states = [("7_0", "RUNNING", "5:00"), ("7_1", "RUNNING", "0:30"), ("7_2", "PENDING", "0:00")]
    fake_slurm.queue = lambda names: [slurm.Task(job, *names, state, used, "None") for job, state, used in states]  # type: ignore[call-arg]
    assert backend.start_workers(run, 2) == []
    assert len(backend.start_workers(run, 3)) == 1, "7_0 is no help: the master counts it already"
    assert submitted[0][1]["count"] == 1


@pytest.mark.parametrize(("used", "is_coming"), [("0:30", True), ("2:30:00", False), ("INVALID", True)])
def test_a_task_that_has_run_for_long_without_a_worker_that_is_known_is_replaced(
    backend: SlurmBackend, run: RunFolder, submitted: list[Any], fake_slurm: FakeSlurm, used: str, is_coming: bool
) -> None:
    fake_slurm.has("RUNNING", used)
    backend.start_workers(run, 1)
    assert len(submitted) == (0 if is_coming else 1)


def test_a_requeued_task_is_made_to_start_and_counts(
    backend: SlurmBackend, run: RunFolder, submitted: list[Any], fake_slurm: FakeSlurm
) -> None:
    fake_slurm.has("PENDING", reason="BeginTime")
    assert backend.start_workers(run, 1) == []
    assert fake_slurm.hastened == ["7"]


def test_a_task_that_a_person_holds_is_replaced(
    backend: SlurmBackend, run: RunFolder, submitted: list[Any], fake_slurm: FakeSlurm
) -> None:
    fake_slurm.has("PENDING", reason="JobHeldUser")
    assert len(backend.start_workers(run, 1)) == 1


def test_what_slurm_takes_of_a_request_counts_when_it_refuses_the_rest(
    backend: SlurmBackend, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_the_second(submit: Callable[..., Any], request: dict[str, Any], what: str) -> list[str] | None:
        if request["count"] < 4:
            raise SiteError("QOSMaxSubmitJobPerUserLimit")
        return ["1_0"] * 4

    monkeypatch.setattr(slurm_backend, "submit_apart", refuse_the_second)
    assert len(backend.start_workers(run, 6)) == 4
    with pytest.raises(SiteError, match="QOSMaxSubmitJobPerUserLimit"):
        backend.start_workers(run, 2)


def test_nodes_under_suspicion_are_excluded_beside_those_that_the_settings_exclude(
    backend: SlurmBackend, run: RunFolder, submitted: list[Any], publish: Callable[..., Any]
) -> None:
    assert excluded(backend, run, submitted) is None
    publish(suspected_nodes=dict.fromkeys(("node2", "a-host-that-is-no-node"), "it broke"))
    assert excluded(backend, run, submitted) == "node2"
    assert excluded(with_(backend, partition="gpu,cpu", exclude=("node3",)), run, submitted) == "node3,node2"


def test_nodes_under_suspicion_are_not_excluded_where_there_is_no_other(
    backend: SlurmBackend,
    run: RunFolder,
    submitted: list[Any],
    publish: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(suspected_nodes={"node1": "it broke"})
    monkeypatch.setattr(slurm, "run_command", lambda *command: {"node[2-9]": "node2\nnode3\n"}[command[-1]])
    assert excluded(with_(backend, exclude=("node[2-9]",)), run, submitted) == "node[2-9]"
    publish(suspected_nodes=dict.fromkeys(("node1", "node2"), "it broke"))
    assert excluded(backend, run, submitted) is None
    assert excluded(with_(backend, partition="cpu"), run, submitted) == "node2"


def test_a_master_is_a_job_where_the_settings_say_so(
    backend: SlurmBackend, run: RunFolder, submitted: list[Any]
) -> None:
    started = with_(backend, master="slurm").start_master(run)
    assert [(name, request["name"]) for name, request in submitted] == [
        ("submit_master", f"tandem-master-{run.run_id}")
    ]
    assert started.process is None
    assert "Slurm job 1_0; it starts when Slurm lets it" in started.where


def test_a_master_that_waits_in_the_queue_is_hastened_and_not_submitted_again(
    backend: SlurmBackend, run: RunFolder, submitted: list[Any], fake_slurm: FakeSlurm
) -> None:
    fake_slurm.has("PENDING", reason="BeginTime")
    started = with_(backend, master="slurm").start_master(run)
    assert fake_slurm.hastened == ["7"]
    assert "job 7" in started.where
    assert (started.process, submitted) == (None, [])


@pytest.mark.parametrize(("state", "is_cancelled"), [("PENDING", True), ("RUNNING", False)])
def test_a_master_is_cancelled_only_while_it_waits(
    backend: SlurmBackend, run: RunFolder, fake_slurm: FakeSlurm, state: str, is_cancelled: bool
) -> None:
    fake_slurm.has(state, reason="Resources")
    assert with_(backend, master="slurm").cancel_waiting_master(run) is is_cancelled
    assert fake_slurm.cancelled == [(f"tandem-master-{run.run_id}", "PENDING")] * is_cancelled
    assert not backend.cancel_waiting_master(run), "this master is a session of the login node"


def test_workers_are_cancelled_by_the_runs_name(backend: SlurmBackend, run: RunFolder, fake_slurm: FakeSlurm) -> None:
    backend.cancel_workers(run)
    assert fake_slurm.cancelled == [(f"tandem-{run.run_id}", None)]


def test_the_queue_tells_workers_by_state_and_the_master_apart(
    backend: SlurmBackend, run: RunFolder, fake_slurm: FakeSlurm
) -> None:
    def queue(names: list[str]) -> list[Task]:
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
    assert str(state) == "workers: 1 pending, 1 running, 1 held; master: job 2, pending (BeginTime)"


def test_arrays_of_tasks_are_split_as_slurm_takes_them(
    backend: SlurmBackend, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = []

    def submit_array(executor: None, tasks: list[type[Any]], what: str) -> list[str]:
        arrays.append(list(tasks))
        return [f"{len(arrays)}_{index}" for index in range(len(tasks))]

    monkeypatch.setattr(slurm_backend, "slurm_executor", lambda *arguments: None)
    monkeypatch.setattr(slurm_backend, "submit_array", submit_array)
    assert backend.submit_tasks(run, "tandem-baselines", [str] * 6) == ["1", "2"]
    assert [len(tasks) for tasks in arrays] == [4, 2]
    assert run.jobs.stat().st_mode & 0o777 == 0o700
