"""What a worker does before it joins and before it says farewell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.records import WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.settings import load_settings
from pipeline.worker.connection import MasterConnection
from pipeline.worker.worker import run_worker

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
