"""Is an evaluation of the built-in problem as cheap as in another version of Tandem? In turn, in processor time.

    git worktree add /tmp/before 636e28b
    python -m benchmarks.paired /tmp/before

Every run is a process of its own, in which one evaluation warms up and another one is measured: training, the final
validation and test, curve and checkpoints. A ratio is that of neighbouring runs; the order alternates. What only newer
versions do beside training, measuring the latency, is left out; `training.overhead_share` bounds it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parents[1]
TRAINING = {
    "learning_rate": 0.1, "batch_size": 64, "weight_decay": 1e-4, "momentum": 0.9, "mixup_alpha": 0.3,
    "cutout_length": 2, "death_rate": 0.2,
}  # fmt: skip
BLOCKS = tuple(f"nr_residual_blocks_{group}" for group in (1, 2, 3))
BRANCHES = tuple(f"res_branches_{group}" for group in (1, 2, 3))
# (batches of the measured evaluation, configuration), by name; Shake-Shake 26 2x32d has 2.9 M parameters.
NETWORKS = {
    "the smallest": (300, {**TRAINING, **dict.fromkeys((*BLOCKS, *BRANCHES), 1), "initial_filters": 8,
                           "widen_factor_1": 1.0, "widen_factor_2": 1.0, "widen_factor_3": 1.0}),
    "2.9 M parameters": (24, {**TRAINING, **dict.fromkeys(BLOCKS, 4), **dict.fromkeys(BRANCHES, 2),
                              "initial_filters": 16, "widen_factor_1": 2.0, "widen_factor_2": 2.0,
                              "widen_factor_3": 2.0}),
}  # fmt: skip
# Runs in either version, so it imports by the names that both have.
RUN = """
import json, sys, time
from pathlib import Path
from pipeline.records import Evaluation, WorkerIdentity
from pipeline.run.creation import create_run, read_settings
from pipeline.settings import load_settings
from pipeline.training.data import prepare_data
from pipeline.training import loop
from pipeline.worker.evaluate import TrainingEvaluator

if hasattr(loop, "measure_latency"):
    loop.measure_latency = lambda *_: 1.0
place, batches, configuration = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
settings = load_settings("digits", [f"data.root={place / 'data'}", "training.threads=1", "training.device=cpu",
    "search.budget_unit=batches", f"search.min_budget={batches}", f"search.max_budget={batches}"])
prepare_data(settings.data)
folder = create_run(settings, place / "results")
evaluate = TrainingEvaluator(folder, read_settings(folder), WorkerIdentity("w", "here"))
for number, budget in enumerate((2.0, float(batches))):
    began = time.process_time()
    evaluate(Evaluation((0, 0, number), configuration, budget, 1, 5), lambda *_: None)
print(1000 * (time.process_time() - began) / batches)
"""


def cpu_ms(checkout: Path, place: Path, batches: int, configuration: dict[str, object]) -> float:
    """Processor time of an evaluation, per batch, in ms."""
    words = [sys.executable, "-c", RUN, str(place), str(batches), json.dumps(configuration)]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
    return float(done.stdout)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of the other version")
    parser.add_argument("--pairs", type=int, default=9)
    arguments = parser.parse_args()
    checkouts = [arguments.before.resolve(), HERE]
    with tempfile.TemporaryDirectory() as folder:
        for name, (batches, configuration) in NETWORKS.items():
            times: list[list[float]] = [[], []]
            for pair in range(arguments.pairs):
                for side in (0, 1) if pair % 2 else (1, 0):
                    place = Path(folder) / str(side)
                    times[side].append(cpu_ms(checkouts[side], place, batches, configuration))
            ratios = [now / before for before, now in zip(*times, strict=True)]
            before, here = map(statistics.median, times)
            spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            print(
                f"{name}: before {before:.3g}, here {here:.3g} ms of processor time per batch; ratio {spread}",
                flush=True,
            )


if __name__ == "__main__":
    main()
