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


def test_a_run_is_known_by_the_name_that_it_was_given_as_long_as_it_alone_has_it(tmp_path: Path) -> None:
    def create(name: str) -> str:
        return create_run(load_settings("digits", [f"name={name}"]), tmp_path).run_id

    first = create("bohb-0")
    create("bohb-0-longer")
    assert find_run(tmp_path, "bohb-0").run_id == first
    with pytest.raises(RunError, match="No run 'bohb' in"):
        find_run(tmp_path, "bohb")
    second = create("bohb-0")
    with pytest.raises(RunError, match=rf"2 runs in .* have the name 'bohb-0': {first}, {second}\. Say which\."):
        find_run(tmp_path, "bohb-0")
