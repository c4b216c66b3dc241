"""The master as a process of this host."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from pipeline.launch.tasks import end_master_here
from pipeline.run.folder import RunFolder


def test_a_master_that_cannot_be_asked_is_told_by_a_signal_and_nobody_else_is(
    run: RunFolder, publish: Callable[..., Any]
) -> None:
    assert not end_master_here(run), "no master has said anything"
    publish(host=platform.node(), pid=os.getpid())
    assert not end_master_here(run), "another process has its number now"
    program = "import time; print(flush=True); time.sleep(60)"
    command = [sys.executable, "-c", program, "run-master", str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as master:
        master.stdout.readline()
        publish(host="elsewhere", pid=master.pid)
        assert not end_master_here(run)
        publish(host=platform.node(), pid=master.pid)
        assert end_master_here(run)
        assert master.wait(30) == -signal.SIGTERM
