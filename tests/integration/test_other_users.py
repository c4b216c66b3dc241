"""A user without a name, and a run that is another user's; to become somebody else takes root."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.run.creation import create_run
from pipeline.settings import load_settings

CHECKOUT = Path(__file__).parents[2]
NAMELESS = 54321  # a user id that no system knows

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")


@pytest.fixture
def run() -> Any:
    # pytest's own folder is root's alone.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = create_run(load_settings("digits", ["workers.where=local"]), Path(place) / "results")
        yield folder
        folder.path.chmod(0o755)


# Everything is imported before: the interpreter itself may lie in a folder that is root's alone.
PROGRAM = f"""
import importlib.readers, os
import pipeline.analysis.report, pipeline.cli, pipeline.operations, pipeline.storage.collect
os.setgroups([]), os.setgid({NAMELESS}), os.setuid({NAMELESS})
pipeline.cli.main()
"""


def as_nameless(*arguments: Any) -> Any:
    """What `tandem ...` prints and returns for the user without a name."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "said"),
    [("stop-search", "only they can stop it"), ("collect-results", "ask them to collect, or collect a copy")],
)
def test_another_users_run_is_refused_in_one_line(run: Any, command: Any, said: Any) -> None:
    done = as_nameless(command, run.path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "is user root's" in line
    assert said in line
    assert not run.stop_request.exists()


def test_another_users_run_that_others_may_write_is_not_extended(run: Any) -> None:
    for path in (run.path, run.settings):
        path.chmod(path.stat().st_mode | 0o022)
    settings = run.settings.read_bytes()
    done = as_nameless("resume-search", run.path, "--iterations", "99")
    assert done.returncode == 2
    assert "is user root's: only they can resume it" in done.stderr
    assert run.settings.read_bytes() == settings


def test_a_run_in_a_folder_that_cannot_be_written_is_stopped_by_a_user_without_a_name(run: Any) -> None:
    for path in (run.path, *run.path.iterdir()):
        shutil.chown(path, NAMELESS, NAMELESS)
    run.path.chmod(0o555)
    done = as_nameless("stop-search", run.path)
    assert done.returncode == 0, done.stderr
    assert "stop.json cannot be written (Permission denied)" in done.stdout
    assert "Stopped." in done.stdout
