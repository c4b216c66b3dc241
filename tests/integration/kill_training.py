"""Kill workers (-9) in mid-training, again and again, and account for every epoch and every second.

python -m tests.integration.kill_training --kills 20
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.run.folder import RunFolder
from pipeline.run.history import read_history, read_journal
from tests.integration.surrogate import make_run, read_settings, start_master, start_trainer

CHECKPOINT_S = 0.5
LIMIT_S = 600.0


@dataclass(frozen=True)
class Account:
    """What twenty or so kills cost.

    Attributes:
        kills: of workers in mid-training.
        evaluations: that ended.
        repeated_s: by kill, training seconds that a curve shows beyond the checkpoint that the next attempt began from.
        longest_batch_s: of all accepted curves.
        overshoot_s: by evaluation, budget clock at its end minus its budget.
        missing_epochs: whole epochs that a killed attempt had finished and the accepted curve does not have.
    """

    kills: int
    evaluations: int
    repeated_s: list[float]
    longest_batch_s: float
    overshoot_s: list[float]
    missing_epochs: int


def kill_workers(path: Path, kills: int, seed: int) -> Account:
    """A search with real training on budgets of 6 s, one worker at a time, killed `kills` times."""
    from pipeline.training.data import prepare_data

    folder = make_run(
        path / "run",
        "search.method=random",
        "search.min_budget=2",
        "search.max_budget=6",
        f"search.iterations={max(2, kills // 2)}",
        "workers.max_attempts=9",
        "training.threads=1",
        "training.overhead_share=1.0",
        f"training.checkpoint_interval_s={CHECKPOINT_S}",
        f"data.root={path / 'data'}",
    )
    prepare_data(read_settings(folder).data)
    master = start_master(folder)
    chance = random.Random(seed)
    deadline = time.monotonic() + LIMIT_S
    worker, count, started, due = None, 0, 0, None
    try:
        while master.poll() is None:
            assert time.monotonic() < deadline, "the search did not end in time"
            if worker is None or worker.poll() is not None:
                worker, due = start_trainer(folder, f"w{started}"), None
                started += 1
            under_way = attempts_under_way(folder)
            if count < kills and due is None and under_way:
                due = time.monotonic() + chance.uniform(0.2, 3.0)
            if due is not None and time.monotonic() > due:
                if under_way:
                    worker.send_signal(signal.SIGKILL)
                    worker.wait()
                    count += 1
                due = None
            time.sleep(0.01)
    finally:
        for process in (master, worker):
            if process is not None:
                process.kill()
                process.wait()
    assert master.returncode == 0
    return account(folder, count)


def attempts_under_way(folder: RunFolder) -> list[Path]:
    """Curves with a row and without an end."""
    from pipeline.storage.curves import read_attempt_table

    found = []
    for path in folder.attempts.glob("*/*.h5"):
        _, table, end = read_attempt_table(path)
        if end is None and len(table):
            killed = [e for e in read_journal(folder) if e["event"] == "returned" and e["outcome"] == "lost"]
            if all(folder.attempt(tuple(e["config_id"]), e["budget"], e["attempt"]) != path for e in killed):
                found.append(path)
    return found


def account(folder: RunFolder, kills: int) -> Account:
    """Add everything up from the run folder."""
    from pipeline.storage.curves import read_attempt_table

    repeated, overshoot, longest, missing = [], [], 0.0, 0
    results = read_history(folder).results
    assert all(r.exception is None for r in results), [r.exception for r in results]
    for result in results:
        accepted = folder.attempt(result.config_id, result.budget, result.info["attempt"])
        _, table, end = read_attempt_table(accepted)
        assert end.status == "finished"
        assert all(b > a for a, b in zip(table["batches"], table["batches"][1:], strict=False))
        steps = zip(table["training_s"], table["training_s"][1:], table["batches"], table["batches"][1:], strict=False)
        longest = max([longest, *((t1 - t0) / (b1 - b0) for t0, t1, b0, b1 in steps)])
        overshoot.append(end.training_s - result.budget)
        epochs = {round(e) for e in table["epoch"] if float(e).is_integer()}
        for number in range(1, result.info["attempt"]):
            path = folder.attempt(result.config_id, result.budget, number)
            following = folder.attempt(result.config_id, result.budget, number + 1)
            if not path.exists() or not following.exists():
                continue
            _, lost, _ = read_attempt_table(path)
            header, _, _ = read_attempt_table(following)
            if len(lost):
                repeated.append(max(0.0, float(lost["training_s"][-1]) - header.inherited_training_s))
            finished = {round(e) for e in lost["epoch"] if float(e).is_integer()}
            missing += len(finished - epochs)
    return Account(kills, len(results), repeated, longest, overshoot, missing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    path = Path(tempfile.mkdtemp(prefix="kill-"))
    try:
        result = kill_workers(path, options.kills, options.seed)
    finally:
        shutil.rmtree(path)
    print(
        f"{result.kills} kills in {result.evaluations} evaluations: {result.missing_epochs} finished epochs missing; "
        f"repeated training at most {max(result.repeated_s, default=0):.2f} s (a checkpoint every {CHECKPOINT_S} s); "
        f"budget clock beyond the budget at most {max(result.overshoot_s):.3f} s, "
        f"longest batch {result.longest_batch_s:.3f} s"
    )


if __name__ == "__main__":
    main()
