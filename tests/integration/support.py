"""What tests ask of a run from outside, and how long they wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pipeline.run.folder import RunFolder
from pipeline.run.history import read_journal
from tests.integration.surrogate import Processes


def wait_until(condition: Callable[[], object], wait_s: float = 90.0) -> None:
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def results_count(folder: RunFolder) -> int:
    return folder.results.read_bytes().count(b"\n") if folder.results.exists() else 0


def events(folder: RunFolder, kind: str, **fields: object) -> list[dict[str, Any]]:
    found = read_journal(folder) if folder.journal.exists() else []
    return [e for e in found if e["event"] == kind and all(e[k] == v for k, v in fields.items())]


def finish(folder: RunFolder, processes: Processes, wait_s: float = 60.0) -> None:
    master = processes[0]
    assert master.wait(wait_s) == 0, (folder.logs / "master-.log").read_text()[-2000:]
    for worker in processes[1:]:
        assert worker.wait(60) == 0
