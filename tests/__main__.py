"""All tests: `python -m tests`. The cluster mostly waits: its tests run beside the others and are printed last."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO

CLUSTER = "tests/slurm"
# The cluster's tests end with the others or a few minutes later. One that waits for what never comes must not end
# without a word of which it was.
LONGER_S = 1800
GRACE_S = 60


def main() -> int:
    """The exit status of whichever failed."""
    pytest = [sys.executable, "-m", "pytest"]
    with tempfile.NamedTemporaryFile("r") as said, open(said.name, "w") as written:  # noqa: PTH123
        # A line per test, so that the last one says where they are.
        cluster = subprocess.Popen([*pytest, "-v", CLUSTER], stdout=written, stderr=subprocess.STDOUT)
        others = subprocess.Popen([*pytest, f"--ignore={CLUSTER}"])
        try:
            status = others.wait()
            status = _followed(cluster, said, LONGER_S) or status
        except KeyboardInterrupt:  # they have it, too, and clear up
            others.wait()
            cluster.wait()
            shutil.copyfileobj(said, sys.stdout)
            status = 130
    return status


def _followed(process: subprocess.Popen[bytes], said: IO[str], limit_s: float) -> int:
    """Print what a process writes until it ends; it is interrupted after the limit. Its exit status."""
    deadline = time.monotonic() + limit_s
    while process.poll() is None and time.monotonic() < deadline:
        shutil.copyfileobj(said, sys.stdout)
        sys.stdout.flush()
        time.sleep(0.5)
    if process.poll() is None:
        print(f"\nnot ended {limit_s / 60:g} minutes after the other tests: interrupted", flush=True)
        process.send_signal(signal.SIGINT)  # pytest says where it was, and clears up
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
    shutil.copyfileobj(said, sys.stdout)
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
