"""The live view on a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from pipeline.run.folder import RunFolder
from pipeline.run.status import RunStatus, publish_status
from tests.earlier_run import unpack_earlier_run
from tests.unit.run.statuses import status_of

# A busy machine takes a minute to start the command.
pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).parents[3]


class Terminal:
    """`tandem status` on a terminal of 100 x 30."""

    def __init__(self, folder: RunFolder) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "status", str(folder.path)], stdin=slave, stdout=slave, stderr=slave,
            cwd=ROOT, env={**environment, "TERM": "xterm"}, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C reaches whom the terminal controls
        )  # fmt: skip
        self.shown = ""

    def wait_for(self, text: str, renew: RunFolder, limit_s: float = 400.0) -> None:
        deadline = time.monotonic() + limit_s
        while text not in self.shown:
            assert time.monotonic() < deadline, f"waited for {text!r}:\n{self.shown[-3000:]}"
            publish_status(renew, running())  # a master that is at work
            if select.select([self.master], [], [], 0.5)[0]:
                self.shown += os.read(self.master, 1 << 16).decode("utf-8", "replace")

    def end(self) -> int:
        deadline = time.monotonic() + 200
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.2)[0]:
                self.shown += os.read(self.master, 1 << 16).decode("utf-8", "replace")
        self.process.kill()
        return self.process.wait()


def running() -> RunStatus:
    return status_of()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = unpack_earlier_run(tmp_path)
    publish_status(found, running())
    return found


@pytest.mark.slow
def test_a_run_is_watched_sorted_and_left_by_keys_and_the_terminal_is_as_before(folder: RunFolder) -> None:
    terminal = Terminal(folder)
    terminal.wait_for("q leaves, the run goes on", folder)
    assert "11/65 evaluations" in terminal.shown
    before = len(terminal.shown)
    os.write(terminal.master, b"s")
    terminal.wait_for("w2", folder)
    os.write(terminal.master, b"q")
    assert terminal.end() == 0
    assert len(terminal.shown) > before
    assert termios.tcgetattr(terminal.slave) == terminal.before


@pytest.mark.slow
def test_ctrl_c_leaves_the_view_without_an_error(folder: RunFolder) -> None:
    terminal = Terminal(folder)
    terminal.wait_for("q leaves", folder)
    os.write(terminal.master, b"\x03")
    assert terminal.end() in (0, -2)
    assert "Traceback" not in terminal.shown
