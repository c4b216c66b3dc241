"""A master begins on the files of the one before: it reads them once, and its heart beats from the first moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest

from pipeline.errors import RunError
from pipeline.master import process
from pipeline.master.past import Past, read_past
from pipeline.run.creation import create_run
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings, load_settings


class NoNetwork:
    """Lets a master come as far as its listener; before, what a test wants to happen then."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    def make_authority(self, tls: Path, run_label: str) -> None:
        self._meanwhile()

    def take_credentials(self, *arguments: Any) -> None:
        pass

    def serve(self, *arguments: Any) -> Never:
        raise RunError("it would listen now")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return create_run(load_settings("digits", ["workers.where=local"]), tmp_path / "results")


def begin(folder: RunFolder, network: NoNetwork) -> None:
    process.run_master(folder, load_settings("digits"), None, "127.0.0.1", network=network)  # type: ignore[arg-type]


def beats(folder: RunFolder) -> int:
    (path,) = folder.masters.glob("*.beat")
    return int(json.loads(path.read_text())["beats"])


def test_the_heart_beats_while_what_the_master_before_wrote_last_is_read(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    times_read = 0

    def read_slowly(folder: RunFolder, settings: Settings) -> Past:
        nonlocal times_read
        times_read += 1
        deadline, before = time.monotonic() + 60, beats(folder) if times_read > 1 else 0
        while times_read > 1 and beats(folder) < before + 3:
            assert time.monotonic() < deadline, "the heart stands still"
            time.sleep(0.01)
        return read_past(folder, settings)

    def write_last() -> None:
        line = {"time": 1.0, "event": "master_ended", "term": 0, "reason": "late"}
        folder.journal.write_text(json.dumps(line) + "\n")

    monkeypatch.setattr(process, "BEAT_S", 0.02)
    monkeypatch.setattr(process, "read_past", read_slowly)
    with pytest.raises(RunError, match="it would listen now"):
        begin(folder, NoNetwork(write_last))
    assert times_read == 2


def test_files_that_nobody_wrote_since_are_not_read_again(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(process, "read_past", lambda *given: read.append(read_past(*given)) or read[-1])
    with pytest.raises(RunError, match="it would listen now"):
        begin(folder, NoNetwork(lambda: None))
    assert len(read) == 1
