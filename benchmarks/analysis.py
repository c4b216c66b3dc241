"""How long collection and the report take, and how much memory, for a synthetic run of any size.

    python benchmarks/analysis.py --evaluations 10000 --folder /tmp/synthetic

The run is made first (that takes longer than what is measured) and left in the folder for the next time.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.synthetic_run import write_synthetic_run
from pipeline.analysis.report import make_report
from pipeline.run.folder import RunFolder
from pipeline.settings import load_settings
from pipeline.storage.collect import collect
from pipeline.storage.results import load_results


def timed(name: str, action: Callable[[], Any]) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    result = action()
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{name:<10} {time.perf_counter() - wall:6.1f} s ({time.process_time() - cpu:5.1f} s of CPU), "
        f"peak memory so far {peak_gb:.2f} GB",
        flush=True,
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=100, help="epochs that an attempt adds, at most")
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    folder = RunFolder(given.folder / f"run-{given.evaluations}-{given.rows}")
    if not folder.results.exists():
        settings = load_settings("cifar10-fast", ["search.iterations=1000000", "workers.count=32"])
        write_synthetic_run(folder.path, settings, evaluations=given.evaluations, max_rows=given.rows)
    timed("collect", lambda: collect(folder))
    timed("report", lambda: make_report(folder.collected, folder))
    results = load_results(folder.collected)
    print(
        f"{len(results.evaluations)} evaluations, {len(results.learning_curves)} rows of learning curves, "
        f"results.h5 {folder.collected.stat().st_size / 1e6:.0f} MB, report {folder.report.stat().st_size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
