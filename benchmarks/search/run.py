"""Run what is missing of a comparison; every search is stored on its own, so that this resumes where it was killed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.search.methods import methods
from benchmarks.search.protocol import Simulation, Trace
from benchmarks.search.results import Key, load, store
from benchmarks.search.suite import problem


def searches(
    problems: Iterable[str], names: Sequence[str], workers: Sequence[int], seeds: Iterable[int]
) -> Iterator[Key]:
    """All searches of a comparison, seed by seed: a comparison that is cut short has every method equally often."""
    for seed in seeds:
        for count in workers:
            for about in problems:
                for name in names:
                    yield Key(about, name, count, seed)


def shared(keys: Iterable[Key], share: str) -> Iterator[Key]:
    """The i-th of n shares, for a share of "i/n"; every n-th search, so that shares are about equally long."""
    part, parts = (int(number) for number in share.split("/"))
    return (key for number, key in enumerate(keys) if number % parts == part - 1)


def search(key: Key, full_budgets: float) -> Trace:
    """Run one search. A method that fails ends it; what it had found stays."""
    about = problem(key.problem)
    simulation = None
    try:
        method: Any = methods()[key.method](about, key.seed, key.workers)
        with closing(method) if hasattr(method, "close") else nullcontext():
            simulation = Simulation(about, method, key.seed, key.workers, full_budgets)
            return simulation.run()
    except Exception as error:  # peers fail in ways of their own; the report names them
        trace = simulation.trace if simulation else Trace()
        trace.ended = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return trace


def run(keys: Iterable[Key], folder: Path, full_budgets: float) -> int:
    """Run the searches that have no result yet; how many that were."""
    count = 0
    for key in keys:
        about = problem(key.problem)
        if load(folder, key, about, full_budgets) is not None:
            continue
        began = time.monotonic()
        trace = search(key, full_budgets)
        store(folder, key, about, trace, full_budgets)
        count += 1
        print(
            f"{key.problem} {key.method} workers={key.workers} seed={key.seed}: {len(trace.spent)} results, "
            f"{time.monotonic() - began:.1f} s {trace.ended}",
            flush=True,
        )
    return count
