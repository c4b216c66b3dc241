"""How long a GPU waits between two tasks of a worker: requeue, hastened requeue, or a successor, on the test cluster.

    python -m benchmarks.requeue [repetitions]

Needs what tests/slurm needs. For each way, on an idle cluster and on one whose queue is full, it prints the seconds
from the moment in which the first task asks to be followed until the follower's process starts.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from slurm.cluster import Cluster, why_not
from slurm.hosts import wait_until

TASK = """#!/bin/bash
#SBATCH --job-name=measured
#SBATCH --gres=gpu:1
#SBATCH --mem=100M
#SBATCH --time=10
#SBATCH --requeue
#SBATCH --output={log}.out
#SBATCH --open-mode=append
date +%s.%N >> {log}.starts
if [[ $(wc -l < {log}.starts) -eq 1 ]]; then
    sleep 1
    date +%s.%N > {log}.asked
    {follow}
fi
"""
OTHER = "#!/bin/bash\n#SBATCH --gres=gpu:1\n#SBATCH --mem=100M\n#SBATCH --output=/dev/null\nsleep 20\n"
LIMIT_S = 200.0


def measure(cluster: Cluster, folder: Path, way: str, is_full: bool) -> float:
    """Seconds from the request to the follower's start."""
    log = folder / f"{way}-{time.time()}"
    script = Path(f"{log}.sh")
    follow = "scontrol requeue $SLURM_JOB_ID; sleep 30" if way != "successor" else f"sbatch {script}"
    script.write_text(TASK.format(log=log, follow=follow))
    other = folder / "other.sh"
    other.write_text(OTHER)
    cluster.run("login", "sbatch", str(script))
    asked = Path(f"{log}.asked")
    if is_full:  # five GPUs are busy, and more jobs wait for the sixth
        cluster.run("login", "sbatch", "--array=0-3", str(other))
        cluster.run("login", "sbatch", "--array=0-3", str(other))
        cluster.run("login", "sbatch", "--array=0-3", str(other))
    wait_until(asked.exists, LIMIT_S, "the first task")
    starts = Path(f"{log}.starts")
    hastened = False

    def is_followed() -> bool:
        nonlocal hastened
        if way.startswith("hastened") and not hastened:
            waiting = cluster.output("login", "squeue", "-h", "-n", "measured", "-t", "PENDING", "-o", "%i %r").split()
            if waiting[1:] == ["BeginTime"]:
                delay = way.removeprefix("hastened+")
                cluster.run("login", "scontrol", "update", f"JobId={waiting[0]}", f"StartTime=now+{delay}")
                hastened = True
        return len(starts.read_text().splitlines()) == 2

    wait_until(is_followed, LIMIT_S, f"the follower ({way})")
    seconds = float(starts.read_text().splitlines()[1]) - float(asked.read_text())
    cluster.mend()
    return seconds


def main() -> None:
    """Print the table."""
    reason = why_not()
    if reason is not None:
        raise SystemExit(reason)
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory(prefix="tandem-requeue-") as state, Cluster(Path(state)) as cluster:
        for is_full in (False, True):
            for way in ("requeue", "hastened+1", "hastened+3", "hastened+5", "successor"):
                seconds = [measure(cluster, Path(state), way, is_full) for _ in range(repetitions)]
                what = "full" if is_full else "idle"
                print(f"{what}  {way:10}  median {statistics.median(seconds):6.1f} s", [round(s, 1) for s in seconds])


if __name__ == "__main__":
    main()
