"""A run of an earlier version goes on: resumed, verified, collected.

tests/data/run-of-0.1.0.tar.xz is the run folder of a search by version 0.1.0, whose master and workers were killed
(`kill -9`) while two promoted configurations trained. Its lease has an "epoch", which is a term now. Left out are what
every start makes anew (certificates, jobs) and the logs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import operations
from pipeline.run.creation import read_settings
from pipeline.run.folder import RunFolder
from pipeline.run.history import read_history, read_journal
from pipeline.run.status import read_status
from pipeline.search.verify import verify
from pipeline.storage.results import load_results
from pipeline.training.data import prepare_data
from tests.earlier_run import unpack_earlier_run

RUN_ID = "old-20261125-040615"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = unpack_earlier_run(tmp_path)
    text = made.settings.read_text(encoding="utf-8")
    made.settings.write_text(text.replace("root: data", f"root: {tmp_path / 'data'}"), encoding="utf-8")
    prepare_data(read_settings(made).data)
    return made


def test_an_interrupted_run_of_0_1_0_is_resumed_verified_and_collected(folder: RunFolder) -> None:
    lines = folder.results.read_bytes()
    before = read_status(folder)
    assert before is not None
    assert (before.term, before.is_stale()) == (1, True)
    assert verify(folder) == []

    operations.resume(folder, None, lambda text: None)
    status = operations.wait_for(folder, lambda s: s.has_ended, 120)
    operations.stop(folder, lambda text: None)

    assert status is not None
    assert (status.state, status.term) == ("finished", 2)
    assert folder.results.read_bytes().startswith(lines)  # what was acknowledged stays, to the byte
    assert len(read_history(folder).results) == status.planned == 20
    assert verify(folder) == []
    # What was under way went on: as another attempt, from the checkpoint of the lower rung.
    given_out = [
        (e["config_id"], e["budget"], e["attempt"]) for e in read_journal(folder) if e["event"] == "dispatched"
    ]
    assert ([0, 0, 6], 3.0, 2) in given_out
    assert ([0, 0, 7], 3.0, 2) in given_out

    operations.collect(folder, lambda text: None)
    results = load_results(folder.collected)
    assert (results.evaluations["status"] == "finished").sum() == 20
    assert sorted(results.journal["term"].dropna().unique()) == [1, 2]
    assert "Traceback" not in folder.master_log.read_text(encoding="utf-8")


def test_a_run_of_0_1_0_is_collected_as_it_is(folder: RunFolder) -> None:
    report = operations.collect(folder, lambda text: None)
    results = load_results(folder.collected)
    assert (results.evaluations["status"] == "finished").sum() == 11
    assert report.is_file()
