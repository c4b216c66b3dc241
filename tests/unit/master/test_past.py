"""A master begins on the files of the one before: it reads them once, and its heart beats from the first moment."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Never

import pytest

from pipeline.errors import RunError
from pipeline.master import loop, process
from pipeline.master.lease import take_lease
from pipeline.master.past import Past, read_past
from pipeline.run.creation import create_run
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings, load_settings


class NoNetwork:
    """Lets a master come as far as its listener."""

    def make_authority(self, *arguments: Any) -> None:
        pass

    def take_credentials(self, *arguments: Any) -> None:
        pass

    def serve(self, *arguments: Any) -> Never:
        raise RunError("it would listen now")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return create_run(load_settings("digits", ["workers.where=local"]), tmp_path / "results")


def begin(folder: RunFolder, **options: Any) -> None:
    process.run_master(folder, load_settings("digits"), None, "127.0.0.1", network=NoNetwork(), **options)  # type: ignore[arg-type]


def beat(folder: RunFolder) -> Any:
    (path,) = folder.masters.glob("*.beat")
    return json.loads(path.read_text())


def files(folder: RunFolder) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file() and p.parent != folder.masters}


def test_the_heart_beats_while_a_long_run_is_read(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    beats = []

    def read_slowly(folder: RunFolder, settings: Settings) -> Past:
        deadline = time.monotonic() + 60
        while not beats or beats[-1] < beats[0] + 3:
            assert time.monotonic() < deadline, "the heart stands still"
            beats.append(beat(folder)["beats"])
            time.sleep(0.01)
        return read_past(folder, settings)

    monkeypatch.setattr(process, "BEAT_S", 0.02)
    monkeypatch.setattr(loop, "read_past", read_slowly)
    with pytest.raises(RunError, match="it would listen now"):
        begin(folder)


def test_a_run_that_cannot_be_rebuilt_is_left_as_it_is_and_the_next_master_waits_for_nobody(folder: RunFolder) -> None:
    folder.results.write_text("no line\n[]\n")
    before = files(folder)
    for _ in range(2):
        with pytest.raises(RunError, match=r"results\.json, line 1"):
            begin(folder, stopped_s=1e9)
    assert files(folder) == before
    folder.results.write_text("")
    with pytest.raises(RunError, match="it would listen now"):
        begin(folder, stopped_s=1e9)


def test_a_master_that_was_replaced_while_it_read_touches_nothing(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stand_still(folder: RunFolder, settings: Settings) -> Past:
        take_lease(folder, stopped_s=0.0)
        return read_past(folder, settings)

    monkeypatch.setattr(loop, "read_past", stand_still)
    before = files(folder)
    begin(folder)
    assert files(folder) == before


def test_what_a_master_imports_before_its_heart_beats_is_light() -> None:
    """ConfigSpace and scipy take longer than all else before the first beat of a long run's master."""
    code = (
        "import sys; sys.argv = ['tandem', 'run-master', 'x']; import pipeline.cli, pipeline.operations;"
        "import pipeline.cluster.allocation, pipeline.master.process;"
        "sys.exit(bool({'ConfigSpace', 'numpy', 'scipy', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
