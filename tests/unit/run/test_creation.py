"""A run folder is whole or not there."""

from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.run import creation
from pipeline.run.creation import create_run
from pipeline.run.folder import find_run
from pipeline.settings import load_settings


def test_an_interrupted_submission_leaves_no_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(creation, "provenance", interrupt)
    with pytest.raises(KeyboardInterrupt):
        create_run(load_settings("digits"), tmp_path / "results")
    assert list((tmp_path / "results").iterdir()) == []


def test_half_a_run_folder_is_called_that(tmp_path: Path) -> None:
    folder = create_run(load_settings("digits"), tmp_path / "results")
    folder.settings.unlink()
    with pytest.raises(RunError, match=r"was never finished .* Remove it, and submit again"):
        find_run(tmp_path / "results", folder.run_id)
