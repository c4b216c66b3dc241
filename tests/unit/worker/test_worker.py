"""What a worker does before it joins and before it says farewell."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import RunError
from pipeline.records import Evaluation, TrainResult, WorkerIdentity
from pipeline.rpc.master_address import MasterAddress, publish_master_address
from pipeline.run.folder import RunFolder
from pipeline.runtime import SystemRuntime
from pipeline.settings import load_settings
from pipeline.worker.connection import MasterConnection
from pipeline.worker.evaluate import ShouldStop
from pipeline.worker.worker import TandemWorker, run_worker

JOINS = """
import sys
from pathlib import Path
from pipeline.records import WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.settings import load_settings
from pipeline.worker.connection import MasterConnection
from pipeline.worker.worker import run_worker

assert "torch" not in sys.modules
MasterConnection.start = lambda self: sys.exit(0 if "torch" in sys.modules else "it joins before it can train")
run_worker(RunFolder(Path(sys.argv[1])), WorkerIdentity("w", "host"), load_settings("digits"))
"""


def test_a_worker_joins_once_everything_that_training_needs_is_imported(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", JOINS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_worker_whose_time_is_up_is_requeued_before_the_master_hears_of_its_leaving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    monkeypatch.setattr(MasterConnection, "start", lambda self: None)
    monkeypatch.setattr(MasterConnection, "announce_leaving", lambda self, reason: happened.append(f"told {reason}"))
    left = run_worker(
        RunFolder(tmp_path),
        WorkerIdentity("w", "host"),
        load_settings("digits"),
        should_stop=lambda: "signal SIGUSR2",
        evaluate=lambda evaluation, should_stop: None,  # type: ignore[arg-type,return-value]
        device="cpu",
        before_farewell=lambda reason: happened.append(f"requeued for {reason}"),
    )
    assert left == "signal SIGUSR2"
    assert happened == ["requeued for signal SIGUSR2", "told signal SIGUSR2"]


EVALUATION = {
    "config_id": [0, 0, 0], "configuration": {}, "budget": 1.0, "attempt": 1, "seed": 1, "continues": None,
    "is_largest": False,
}  # fmt: skip


class MasterOfOneEvaluation:
    """A network and the master behind it, which gives each worker that joins one evaluation and sends it home after.

    Args:
        failures: what taking credentials raises, one after the other.
    """

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures
        self.worker: Any = None
        self.delivered: list[Any] = []

    def own_address(self, towards: str) -> str:
        return "127.0.0.1"

    def take_credentials(self, tls: Path, name: str, addresses: Any) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def serve(self, address: str, *others: Any) -> Any:
        def register(worker: Any, name: str) -> None:
            self.worker = worker

        return SimpleNamespace(
            host=address, register=register, start=lambda: None, uriFor=lambda what: "uri", shutdown=lambda: None
        )

    def proxy(self, uri: str, timeout_s: float) -> Any:
        return self

    def register_worker(self, registration: Any) -> dict[str, Any]:
        return {"accepted": bool(self.worker.start_computation(None, None, EVALUATION)["accepted"])}

    def deliver(self, incarnation: str, attempt: Any, outcome: dict[str, Any]) -> dict[str, Any]:
        self.delivered.append(outcome["status"])
        self.worker.shutdown("done")
        return {"accepted": True}

    def leave(self, incarnation: str, reason: str) -> None: ...

    def _pyroRelease(self) -> None: ...  # noqa: N802 (Pyro4's name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None: ...


def worker_of(folder: RunFolder, network: Any) -> Any:
    publish_master_address(folder, MasterAddress("run", 1, "login1", "127.0.0.1", 9))
    settings = load_settings("digits", ["workers.idle_timeout_min=5"])
    return TandemWorker(folder, WorkerIdentity("w", "host"), settings, lambda: None, None, "cpu", 0.0, network=network)


def test_an_error_that_passes_while_a_worker_registers_costs_nothing(tmp_path: Path) -> None:
    master = MasterOfOneEvaluation([OSError(errno.ESTALE, "Stale file handle"), OSError(errno.EIO, "I/O error")])
    worker = worker_of(RunFolder(tmp_path), master)
    assert worker.work(lambda evaluation, should_stop: TrainResult("finished", 0.5, {})) == "done"
    assert (master.failures, master.delivered) == ([], ["finished"])


def test_a_worker_that_can_never_join_ends_with_the_cause(tmp_path: Path) -> None:
    worker = worker_of(RunFolder(tmp_path), MasterOfOneEvaluation([RunError("no authority")] * 1000))
    with pytest.raises(RunError, match="no authority"):
        worker.work(lambda evaluation, should_stop: None)


def test_an_evaluation_that_was_accepted_is_begun_whatever_happens_to_the_registration(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    worker = worker_of(folder, MasterOfOneEvaluation([RunError("no authority")]))
    master = MasterAddress("run", 1, "login1", "127.0.0.1", 9)
    assert worker.start_computation(None, None, EVALUATION) == {"accepted": True}
    with pytest.raises(RunError):
        worker._introduction(master)
    assert isinstance(worker._next(), Evaluation)
    with pytest.raises(RunError, match="no authority"):
        worker._next()
    assert not worker.start_computation(None, None, EVALUATION)["accepted"], "nobody would train it"
    assert worker._introduction(master)["uri"] == "uri"
    assert worker._failure is None


class Clock(SystemRuntime):
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_a_worker_says_for_how_long_its_training_has_begun_no_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MasterConnection, "start", lambda self: None)
    monkeypatch.setattr(MasterConnection, "deliver", lambda *arguments: True)
    clock, said = Clock(), []

    def say() -> None:
        said.append(worker.state()["quiet_s"])

    def evaluate(evaluation: Evaluation, should_stop: ShouldStop) -> TrainResult:
        clock.now += 700
        say()
        should_stop()
        say()
        worker.shutdown("done")
        return TrainResult("finished", 0.5, {})

    settings = load_settings("digits")
    worker = TandemWorker(
        RunFolder(tmp_path), WorkerIdentity("w", "host"), settings, lambda: None, None, "cpu", 0.0, clock
    )
    clock.now += 700
    say()
    worker.start_computation(None, None, Evaluation((0, 0, 1), {"x": 1}, 3.0, 1, 7).to_plain())
    assert worker.work(evaluate) == "done"
    say()
    assert said == [0.0, 700.0, 0.0, 0.0]
