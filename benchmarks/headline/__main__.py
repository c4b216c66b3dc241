"""The headline experiment; `make bench-headline`.

    python -m benchmarks.headline --seconds 1800 --seeds 5         # half an hour a search: ten hours on two idle cores
    python -m benchmarks.headline --seconds 240 --max-budget 90 --seeds 2 --clock processor     # beside other work
    python -m benchmarks.headline ... --report                     # figure and tables from what is stored

Every search is a folder under results/headline and counts once it has ended: the command may be killed at any time and
goes on with the search that it was at. Sides take turns seed by seed. With --keep, what has ended is kept in the
repository, so that another machine goes on from there; kept searches are not run again unless --anew says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.headline.kept import KEPT, SEARCH, keep, stored
from benchmarks.headline.protocol import SIDES, Size, keys
from benchmarks.headline.report import report
from benchmarks.headline.run import prepare, search


def main() -> None:
    """Run the searches that are missing, then write figure and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800.0, help="of every search")
    parser.add_argument("--seeds", type=int, default=5, help="searches of every side")
    parser.add_argument("--max-budget", type=float, default=270.0, help="top of the preset's ladder 10, 30, 90, 270")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall", help="processor: on a busy machine")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--results", type=Path, default=Path("results") / "headline")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--keep", action="store_true", help="keep what has ended in the repository")
    parser.add_argument("--anew", action="store_true", help="as if the repository had kept none")
    given = parser.parse_args()
    size = Size(given.seconds, given.max_budget, given.clock)
    results = given.results.resolve()
    folders = [results] if given.anew else [KEPT, results]
    if not given.report:
        prepare(results / "data")
        for key in keys(given.sides, given.seeds):
            if not stored(folders, SEARCH.format(size=size.name, key=key.name)):
                print(f"{key.name}: {given.seconds:g} s", flush=True)
                search(results / size.name / key.name, size, key, results / "data")
            if given.keep:
                keep(results)
    report(folders, size)


if __name__ == "__main__":
    main()
