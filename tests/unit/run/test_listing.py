"""All runs of a folder, a line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.run.creation import create_run
from pipeline.run.folder import RunFolder
from pipeline.run.listing import list_runs, listing_lines
from pipeline.run.status import STALE_S, publish_status
from pipeline.settings import load_settings
from tests.unit.run.statuses import status_of


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name in ("a", "b", "c", "d"):
        create_run(load_settings("digits", [f"name={name}"]), tmp_path)
    return tmp_path


def test_every_run_has_a_line_whatever_state_it_is_in(results: Path) -> None:
    a, b, c, _ = (RunFolder(p.parent) for p in sorted(results.glob("[abcd]-*/settings.yaml")))
    publish_status(a, status_of())
    publish_status(b, status_of(updated=status_of().updated - 2 * STALE_S, incumbents=()))
    c.status.write_text("{")
    runs = list_runs(results)
    assert [r.state for r in runs] == ["searching", "silent", "unreadable", "not started"]
    assert (runs[0].ended, runs[0].planned, runs[0].best, runs[0].best_budget) == (11, 65, "6.25%", 0.4)
    assert [r.is_latest for r in runs] == [False, False, False, True]
    lines = listing_lines(runs)
    assert len(lines) == 5
    assert "11/65" in lines[1]
    assert "6.25% on 0.4 s " in lines[1]
    assert lines[4].startswith("*")


def test_a_folder_without_runs_lists_none(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == []
