"""What an objective of the user's own costs beyond its own work: an evaluation, and a row, in a warm child.

    python -m benchmarks.own_objective

The same objective is called in this process, with a trial that does nothing, and in a child through `OwnEvaluator`, as
a worker does it, one after the other: the difference is what the child, the pipes and the files cost. The curve of an
evaluation is durable before its result counts, so that it waits twice for the disk (the file, its name): what the disk
takes for that is measured between the evaluations, on a file of the same size.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.files import publish
from pipeline.records import Evaluation, WorkerIdentity
from pipeline.run.creation import create_run, read_settings
from pipeline.settings import validate_settings
from pipeline.worker.own_objective import OwnEvaluator

OBJECTIVE = """
from tandem_trial import Problem

def objective(trial):
    for step in range(trial["rows"]):
        trial.report(loss=1.0 / (step + 1))
    return 0.5

problem = Problem(objective, {"rows": [0, 100000]})
"""
EVALUATIONS, ROWS, REPEATS = 50, 2000, 5


class Nothing:
    """A trial in this process that keeps nothing."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __getitem__(self, name: str) -> int:
        return self.rows

    def report(self, **metrics: float) -> None:
        """Forget it."""


def in_process(rows: int) -> float:
    """Seconds of one call."""
    scope: dict[str, Callable[[Nothing], float]] = {}
    exec(OBJECTIVE.split("\n\nproblem")[0].replace("from tandem_trial import Problem", ""), scope)
    began = time.perf_counter()
    scope["objective"](Nothing(rows))
    return time.perf_counter() - began


def disk(folder: Path) -> float:
    """Seconds that publishing a small file waits for the disk."""
    began = time.perf_counter()
    with publish(folder / "probe") as temporary:
        temporary.write_bytes(bytes(12_000))
    return time.perf_counter() - began


def main() -> None:
    """Print medians."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "mine.py"
        file.write_text(OBJECTIVE)
        settings = validate_settings({
            "problem": str(file),
            "search": {"budget_unit": "steps", "min_budget": 1, "max_budget": 1},
            "training": {"device": "cpu", "threads": 1},
        })  # fmt: skip
        folder = create_run(settings, Path(place) / "results")
        evaluator = OwnEvaluator(folder, read_settings(folder), WorkerIdentity("w", "here"))
        number = 0

        def evaluate(rows: int) -> float:
            nonlocal number
            number += 1
            began = time.perf_counter()
            evaluator(Evaluation((0, 0, number), {"rows": rows}, 1.0, 1, 0), lambda: None)
            return time.perf_counter() - began

        evaluate(0)  # warm
        pairs = [(evaluate(0) - in_process(0), disk(Path(place))) for _ in range(EVALUATIONS)]
        each, waited = (statistics.median(column) for column in zip(*pairs, strict=True))
        per_row = statistics.median((evaluate(ROWS) - each - in_process(ROWS)) / ROWS for _ in range(REPEATS))
        evaluator.close()
    print(f"an evaluation: {1000 * each:.2f} ms beyond its own work (median of {EVALUATIONS}; at most 10), "
          f"of which the disk takes {1000 * waited:.2f} ms; load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"a row: {1e6 * per_row:.0f} us beyond its own work (median of {REPEATS} x {ROWS}; at most 1000)")


if __name__ == "__main__":
    main()
