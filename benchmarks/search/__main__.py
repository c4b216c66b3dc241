"""The comparison of search methods.

    python -m benchmarks.search                 run what is missing, then write docs/search-quality.md
    python -m benchmarks.search --report        write it from what is there
    python -m benchmarks.search --quick         two problems, one seed, ten budgets: does everything work?
    python -m benchmarks.search --methods tandem.bohb --workers 1 --seeds 20 --problems hartmann6 noisy17

Every search is a file under RESULTS (default results/bench-search), named by problem, method, workers and seed: what is
there is not run again, so the command may be killed and begun again at any time. Two of them share the work on two
cores with --share 1/2 and --share 2/2.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.search.methods import is_ready, methods
from benchmarks.search.report import write
from benchmarks.search.run import run, searches, shared
from benchmarks.search.suite import PROBLEMS

QUICK = {"problems": ["hartmann3", "conditional"], "seeds": 1, "budget": 10.0, "no_report": True}


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), metavar="PROBLEM")
    parser.add_argument("--methods", nargs="+", choices=methods(), metavar="METHOD", help="default: all that are ready")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=100.0, help="of a search, in evaluations on the largest budget")
    parser.add_argument("--results", type=Path, default=Path("results") / "bench-search")
    parser.add_argument("--share", default="1/1", help="i/n: run the i-th of n shares of the searches")
    parser.add_argument("--document", type=Path, default=Path("docs") / "search-quality.md", help="what is written")
    parser.add_argument("--report", action="store_true", help="run nothing, write the document")
    parser.add_argument("--no-report", action="store_true", help="run, and leave the document as it is")
    parser.add_argument("--quick", action="store_true", help="a small comparison; writes no document")
    given = parser.parse_args()
    if given.quick:
        parser.set_defaults(**QUICK)
        given = parser.parse_args()
    if not given.report:
        _run(given)
    if not (given.quick or given.no_report):
        write(given.results, given.document)
        print(f"written: {given.document}")


def _run(given: argparse.Namespace) -> None:
    ready = [name for name in methods() if is_ready(name)]
    missing = sorted({name.split(".")[0] for name in methods()} - {name.split(".")[0] for name in ready})
    if missing and not given.methods:
        print(f"Without {', '.join(missing)}: python -m benchmarks.search.peers.environments makes their environments.")
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    keys = searches(given.problems, given.methods or ready, given.workers, seeds)
    run(shared(keys, given.share), given.results, given.budget)


if __name__ == "__main__":
    main()
