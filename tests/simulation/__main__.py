"""Simulate many searches, or one of them with everything that happens in it.

python -m tests.simulation --seeds 10000     a line per seed that failed, then which faults had an effect how often
python -m tests.simulation --seed 17         the same search again, step by step
python -m tests.simulation --scale           the paper's search with 10 to 10,000 workers
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing import get_context

from tests.simulation.faults import kinds
from tests.simulation.scale import Scale
from tests.simulation.simulation import Outcome, simulate

# With fewer seeds a rare kind of fault may be missing by chance.
ENOUGH_SEEDS = 500


def run_seeds(seeds: Iterable[int], processes: int) -> Iterator[Outcome]:
    """The outcome of every seed, from as many processes."""
    if processes == 1:
        yield from map(_one, seeds)
        return
    with get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(_one, seeds, chunksize=5)


def _one(seed: int) -> Outcome:
    try:
        outcome = simulate(seed)
    except Exception:
        return Outcome(seed, [f"the simulation itself failed: {traceback.format_exc()}"], {}, 0, 0.0)
    # An exception may hold what cannot travel between processes.
    return Outcome(seed, outcome.failures, outcome.bites, outcome.evaluations, outcome.virtual_s, outcome.digest)


def show(seed: int) -> int:
    """One seed, with its trace."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("           %(name)s: %(message)s"))
    logger = logging.getLogger("tandem")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    outcome = simulate(seed, print)
    if outcome.error is not None:
        traceback.print_exception(outcome.error)
    for failure in outcome.failures:
        print(f"seed {seed}: {failure}")
    print(f"{outcome.evaluations} evaluations, {outcome.virtual_s:.0f} virtual s, faults: {outcome.bites}")
    return bool(outcome.failures)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--digests", type=int, nargs="+", metavar="SEED", help="a line of what each came to")
    parser.add_argument("--scale", type=int, nargs="*", metavar="WORKERS")
    options = parser.parse_args()
    if options.scale is not None:
        for workers in options.scale or (10, 100, 1000, 10_000):
            print(Scale(workers).run(), flush=True)
        return 0
    if options.digests is not None:
        for seed in options.digests:
            print(seed, _one(seed).digest, flush=True)
        return 0
    if options.seed is not None:
        return show(options.seed)
    began, bites, failed, evaluations, virtual_s = time.monotonic(), Counter[str](), 0, 0, 0.0
    for outcome in run_seeds(range(options.first, options.first + options.seeds), options.processes):
        bites.update(outcome.bites)
        evaluations += outcome.evaluations
        virtual_s += outcome.virtual_s
        if outcome.failures:
            failed += 1
            print(f"seed {outcome.seed} {outcome.failures[0]}", flush=True)
    for kind in kinds():
        print(f"{bites[kind]:9,d}  {kind}")
    missing = [kind for kind in kinds() if not bites[kind]]
    print(
        f"{options.seeds:,} searches, {evaluations:,} evaluations, {virtual_s / 3600:,.0f} virtual hours, "
        f"{bites.total():,} faults in {time.monotonic() - began:.0f} s: {failed} failed"
    )
    if missing and options.seeds >= ENOUGH_SEEDS:
        print(f"faults that never had an effect: {', '.join(missing)}")
    return bool(failed or (missing and options.seeds >= ENOUGH_SEEDS))


if __name__ == "__main__":
    # The order within sets of names is part of what a seed fixes, and so are sums that threads add up.
    FIXED = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if any(os.environ.get(name) != value for name, value in FIXED.items()):
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], {**os.environ, **FIXED})
    sys.exit(main())
