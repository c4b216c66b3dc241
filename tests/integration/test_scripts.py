"""The scripts that a person submits or starts by hand, without Slurm."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.run.creation import create_run
from pipeline.run.folder import RunFolder
from pipeline.settings import load_settings
from tests.integration.support import wait_until

ROOT = Path(__file__).parents[2]
SLOW_SITE = """
touch "$TANDEM_HOME/is_getting_ready"
until [[ -e $TANDEM_HOME/is_ready ]]; do sleep 0.05; done
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return create_run(load_settings("digits", ["workers.where=local", "workers.count=0"]), tmp_path / "results")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout's scripts, at a site where the shell takes as long to get ready as the test wants."""
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm")
    (tmp_path / "slurm" / "site.sh").write_text(SLOW_SITE)
    return tmp_path


def start(checkout: Path, script: str, folder: RunFolder) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TANDEM_"))}
    return subprocess.Popen(
        ["bash", f"slurm/{script}", str(folder.path)],
        cwd=checkout,
        env={**environment, "TANDEM_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("script", ["worker.sh", "master.sh"])
def test_a_signal_that_comes_while_the_shell_gets_ready_is_kept_for_the_program(
    checkout: Path, folder: RunFolder, script: str
) -> None:
    with start(checkout, script, folder) as process:
        wait_until((checkout / "is_getting_ready").exists)
        process.send_signal(signal.SIGUSR2)
        process.send_signal(signal.SIGTERM)
        (checkout / "is_ready").touch()
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    if script == "worker.sh":
        assert "leaves: signal SIGTERM" in said
    else:
        assert "master ends: left (signal SIGTERM)" in folder.master_log.read_text()
