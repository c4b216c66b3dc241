"""A run, and a Slurm whose answers are fixed; tests/slurm asks a real one."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import slurm
from pipeline.run.creation import create_run
from pipeline.run.status import RunStatus, WorkerStatus, publish_status
from pipeline.settings import load_settings


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """The folder of a run whose workers are to be Slurm tasks with a GPU."""
    overrides = ["slurm.gpus_per_worker=1", "workers.where=slurm"]
    return create_run(load_settings("digits", overrides), tmp_path / "results")


class FakeSlurm:
    """What Slurm is asked, and what it says.

    Attributes:
        queue: the tasks of squeue, given the names.
        cancelled, hastened: what it was told.
    """

    def __init__(self) -> None:
        self.queue = lambda names: []
        self.cancelled = []
        self.hastened = []

    def has(self, state: Any, used: Any = "0:00", reason: Any = "None", name: Any = None, job_id: Any = "7") -> None:
        """Let the queue have one task: of the first name that is asked for, if none is given."""
        self.queue = lambda names: [slurm.Task(job_id, name or names[0], state, used, reason)]


@pytest.fixture
def fake_slurm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cluster of three nodes, one of them in another partition too."""
    fake = FakeSlurm()
    nodes = [("gpu", "node1"), ("gpu", "node2"), ("cpu", "node2"), ("cpu", "node3")]
    monkeypatch.setattr(slurm, "nodes", lambda: [slurm.Node(p, n, n, "gpu:2", 4, 8000) for p, n in nodes])
    monkeypatch.setattr(slurm, "partitions", lambda: [slurm.Partition("gpu", True, True, None, ())])
    monkeypatch.setattr(slurm, "max_array_size", lambda: 4)
    monkeypatch.setattr(slurm, "tasks", lambda names, with_ended=False, of_user=None: fake.queue(names))
    monkeypatch.setattr(slurm, "cancel", lambda names, state=None: fake.cancelled.append((*names, state)))
    monkeypatch.setattr(slurm, "hasten", lambda task: fake.hastened.append(task.job_id))
    return fake


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The requests that would go to submitit, in order: (function, request)."""
    from pipeline.launch import local_backend, slurm_backend

    requests = []

    def submit_apart(submit: Any, request: Any, what: Any, environment: Any = None) -> Any:
        requests.append((submit.__name__, request))
        count = request.get("count", len(request.get("devices", ())))
        return [f"{len(requests)}_{index}" for index in range(count)]

    for module in (slurm_backend, local_backend):
        monkeypatch.setattr(module, "submit_apart", submit_apart)
    return requests


@pytest.fixture
def publish(run: Any) -> Any:
    """Publish a status of the run with some fields changed."""
    required = (f.name for f in dataclasses.fields(RunStatus) if f.default is f.default_factory is dataclasses.MISSING)
    empty = dict.fromkeys(required, 0) | {
        "run_id": run.run_id, "state": "searching", "message": "", "metric": "", "host": "login", "address": "login:1",
        "updated": time.time(), "workers": (), "brackets": (), "incumbents": (), "suspected_nodes": {}, "remarks": (),
    }  # fmt: skip
    return lambda **changes: publish_status(run, RunStatus(**{**empty, **changes}))


@pytest.fixture
def journal(run: Any) -> Any:
    """Let the journal have workers of (task, host) join."""

    def join(*workers: Any) -> None:
        with run.journal.open("a") as file:
            for task, host in workers:
                event = {"event": "worker_joined", "time": time.time(), "worker": f"{host}-{task}", "host": host}
                file.write(json.dumps({**event, "slurm_job_id": task, "device": "cpu"}) + "\n")

    return join


def worker(name: Any, slurm_job_id: Any = "") -> Any:
    """A worker that the master knows."""
    return WorkerStatus(name, "node1", slurm_job_id, "cpu", "idle", "", time.time())
