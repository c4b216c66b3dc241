"""A surrogate objective and the processes of a search that uses it: everything is real but the training.

Run as a program it is one worker: `python surrogate.py RUN_FOLDER NAME [SECONDS]`, or with `master` one master.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import BrokenError, CrashedError
from pipeline.files import publish_text
from pipeline.records import Evaluation, TrainResult, WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings, dump_settings, load_settings

# Short, so that a killed master is soon replaced; the heart beats every second.
STOPPED_S = 3.0
THIS = Path(__file__)
Processes = list[subprocess.Popen[bytes]]


def surrogate_loss(evaluation: Evaluation) -> float:
    """Depends on configuration and budget alone."""
    c: Mapping[str, Any] = evaluation.configuration
    distance = (math.log10(float(c["learning_rate"])) + 1.5) ** 2 + (float(c["momentum"]) - 0.7) ** 2
    return 0.05 + 0.1 * distance + 0.3 / (1 + float(evaluation.budget)) + 0.01 * float(c["cutout_length"]) / 20


class Surrogate:
    """Waits while there is a file `gate`, sleeps, then returns `surrogate_loss`; misbehaves as `trouble.json` says,
    {config name, "*" or "@host": kind}.
    """

    def __init__(self, folder: RunFolder, seconds: float, host: str) -> None:
        self.folder = folder
        self.seconds = seconds
        self.host = host
        path = folder.path / "trouble.json"
        self.trouble = json.loads(path.read_text()) if path.exists() else {}

    def __call__(self, evaluation: Evaluation, should_stop: Callable[[], str | None]) -> TrainResult:
        name = "-".join(map(str, evaluation.config_id))
        kind = self.trouble.get(name) or self.trouble.get("*") or self.trouble.get(f"@{self.host}")
        while (self.folder.path / "gate").exists():
            time.sleep(0.01)
        if kind:
            self._misbehave(kind)
        began = time.monotonic()
        while time.monotonic() - began < self.seconds:
            reason = should_stop()
            if reason:
                return TrainResult("handed_back", None, {}, reason)
            time.sleep(min(0.01, self.seconds))
        info = {"training_s": float(evaluation.budget), "trained_by": os.getpid()}
        return TrainResult("finished", surrogate_loss(evaluation), info)

    def _misbehave(self, kind: str) -> None:
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "exit":
            sys.exit(3)
        if kind == "broken":
            raise BrokenError("the data is missing")
        if kind == "error":
            raise RuntimeError("no such layer")
        if kind == "dead gpu":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        raise CrashedError(kind, "as the test wants it")


def make_run(path: Path, *overrides: str, preset: str = "digits", trouble: dict[str, str] | None = None) -> RunFolder:
    """A run folder with budgets 1, 3, 9 and short patience."""
    defaults = ["search.min_budget=1", "search.max_budget=9", "search.iterations=3", "workers.patience_s=6"]
    path.mkdir(parents=True)
    folder = RunFolder(path)
    if trouble:
        (path / "trouble.json").write_text(json.dumps(trouble))
    publish_text(folder.settings, dump_settings(load_settings(preset, [*defaults, *overrides])))
    return folder


def close_gate(folder: RunFolder) -> None:
    """Let surrogates wait before they begin."""
    (folder.path / "gate").touch()


def open_gate(folder: RunFolder) -> None:
    """Let them begin."""
    (folder.path / "gate").unlink()


def read_settings(folder: RunFolder) -> Settings:
    return load_settings(folder.settings)


def start_worker(folder: RunFolder, name: str, seconds: float = 0.02, host: str = "here") -> subprocess.Popen[bytes]:
    return _start(folder, "worker", name, str(seconds), host)


def start_trainer(folder: RunFolder, name: str, host: str = "here") -> subprocess.Popen[bytes]:
    """A worker that really trains."""
    return _start(folder, "trainer", name, "0", host)


def start_master(folder: RunFolder) -> subprocess.Popen[bytes]:
    return _start(folder, "master")


def _start(folder: RunFolder, *arguments: str) -> subprocess.Popen[bytes]:
    folder.logs.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder.logs / f"{arguments[0]}-{arguments[1] if len(arguments) > 1 else ''}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(THIS), str(folder.path), *arguments], stdout=log, stderr=log, env=environment
        )


def main(path: str, role: str, *arguments: str) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(name)s %(message)s", datefmt="%H:%M:%S")
    folder = RunFolder(Path(path))
    settings = read_settings(folder)
    if role == "master":
        from pipeline.master.process import run_master

        outcome = run_master(folder, settings, None, "127.0.0.1", stopped_s=STOPPED_S)
        print(outcome, flush=True)
        return 0 if outcome.state in ("finished", "stopped", "left") else 1
    from pipeline.worker.worker import run_worker

    name, seconds, host = arguments
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    reason = run_worker(
        folder,
        WorkerIdentity(name, host),
        settings,
        should_stop=lambda: "terminated" if stop.is_set() else None,
        evaluate=None if role == "trainer" else Surrogate(folder, float(seconds), host),
    )
    print("left:", reason, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
