"""What a run's files say of its history, also where they cannot be read at first."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.run.folder import RunFolder
from pipeline.run.history import read_journal


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    run.journal.write_text('{"event": "results_lost", "time": 1.0, "draws": 3, "results": 2}\n')
    return run


def test_a_run_that_has_written_nothing_is_empty(tmp_path: Path) -> None:
    assert read_journal(RunFolder(tmp_path)) == []
    assert read_journal(RunFolder(tmp_path / "gone")) == []


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Any = ".") -> Any:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(os, "scandir", fail)
    monkeypatch.setattr(os, "listdir", fail)
    with pytest.raises(OSError, match="Input/output error"):
        read_journal(folder, wait_s=0.1)


def test_a_folder_that_can_be_read_again_in_time_is_waited_for(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir, failures = os.scandir, iter(range(2))

    def fail_twice(path: Any = ".") -> Any:
        if next(failures, None) is not None:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail_twice)
    (event,) = read_journal(folder, wait_s=60)
    assert event["event"] == "results_lost"
