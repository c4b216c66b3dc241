"""All tests: `python -m tests`. The cluster mostly waits: its tests run beside the others and are printed last."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile

CLUSTER = "tests/slurm"


def main() -> int:
    """The exit status of whichever failed."""
    pytest = [sys.executable, "-m", "pytest"]
    with tempfile.TemporaryFile("w+") as said:
        cluster = subprocess.Popen([*pytest, CLUSTER], stdout=said, stderr=subprocess.STDOUT)
        others = subprocess.Popen([*pytest, f"--ignore={CLUSTER}"])
        try:
            status = others.wait() or cluster.wait()
        except KeyboardInterrupt:  # they have it, too, and clear up
            status = 130
        others.wait()
        cluster.wait()
        said.seek(0)
        shutil.copyfileobj(said, sys.stdout)
    return status


if __name__ == "__main__":
    sys.exit(main())
