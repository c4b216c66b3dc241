"""The Python of the documentation runs, and its cheap commands do, in a folder with a collected run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.synthetic_run import write_synthetic_run
from pipeline.cli import app
from pipeline.operations import stop
from pipeline.run.folder import find_run
from pipeline.run.history import read_history
from pipeline.run.status import read_status
from pipeline.settings import load_settings
from pipeline.storage.collect import collect
from tests.integration.support import wait_until
from tests.unit.docs.blocks import ROOT, Block, blocks, commands

# Commands that take a moment and leave nothing behind. The others are run by the tests of what they do.
CHEAP = {"init", "list", "plan", "presets", "settings", "show"}
PYTHON = {page: list(found) for page, found in groupby((b for b in blocks() if b.kind == "python"), lambda b: b.page)}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collected run of four brackets."""
    folder = write_synthetic_run(
        tmp_path_factory.mktemp("run") / "run", load_settings("digits", ["search.iterations=4"]), seed=2, max_rows=8
    )
    collect(folder)
    return folder.path


@pytest.fixture
def here(tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the reader's: a checkout's examples and scripts, and a collected run that is the latest."""
    run = tmp_path / "results" / "digits-20260101-000000"
    shutil.copytree(run_folder, run)
    (tmp_path / "results" / "latest").symlink_to(run.name)
    for name in ("examples", "slurm"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    return tmp_path


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path, here: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in PYTHON[page]:
        run_block(block, namespace)


def run_block(block: Block, namespace: dict[str, Any]) -> None:
    # Lines of an error are those of the page.
    code = compile("\n" * (block.line) + block.text, str(block.page), "exec")
    try:
        exec(code, namespace)
    except Exception as error:
        raise AssertionError(f"{block.place} fails: {error!r}") from error


def test_the_cheap_commands_of_the_documentation_run(here: Path) -> None:
    done = set()
    for command in commands():
        words = command.words[1:]
        if command.words[0].endswith("tandem") and words and words[0] in CHEAP and words not in done:
            done.add(words)
            answer = CliRunner().invoke(app, list(words))
            assert answer.exit_code == 0, f"{command}\n{answer.output}\n{answer.exception!r}"
    assert {words[0] for words in done} >= {"init", "plan", "settings"}


@pytest.mark.slow
def test_the_search_that_is_shown_twice_runs_as_it_stands_there(tmp_path: Path) -> None:
    page = ROOT / "docs" / "coming-from.md"
    (tmp_path / "descent.py").write_text(PYTHON[page][-1].text, encoding="utf-8")
    (settings,) = (b.text for b in blocks() if b.page == page and b.kind == "settings")
    (tmp_path / "descent.yaml").write_text(settings, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "submit-search",
        "-p",
        "descent.yaml",
        "--set",
        "search.iterations=1",
    ]
    done = subprocess.run(
        [*command, "--set", "workers.where=local"], cwd=tmp_path, capture_output=True, text=True, timeout=200,
        check=False, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = find_run(tmp_path / "results")
    try:
        wait_until(lambda: (status := read_status(folder)) is not None and status.has_ended, 150)
    finally:
        stop(folder, lambda _: None)
    history = read_history(folder)
    assert len(history.results) == 40  # 27, 9, 3 and 1
    assert all(result.loss is not None for result in history.results)
