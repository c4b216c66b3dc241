"""The Python of the documentation runs, and its cheap commands do, in a folder with a collected run."""

from __future__ import annotations

import shutil
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.synthetic_run import write_synthetic_run
from pipeline.cli import app
from pipeline.settings import load_settings
from pipeline.storage.collect import collect
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
