"""What stored searches say: regret and rank against budget, with standard errors and paired tests.

Regret is divided by a problem's scale (the mean regret of a random configuration) before problems are averaged. A rank
is taken among the methods of a comparison on one problem with one seed; only searches that all methods have count.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, wilcoxon

from benchmarks.search.problem import Problem
from benchmarks.search.protocol import Trace, regrets
from benchmarks.search.results import Key, load, stored
from benchmarks.search.suite import PROBLEMS, problem

BUDGETS = (10.0, 25.0, 50.0, 100.0)
# What paired tests need at least.
PAIRS = 6


@dataclass(frozen=True)
class Search:
    """A stored search, measured.

    Attributes:
        regret: relative to the problem's scale, at each of `Comparison.budgets`; NaN beyond where the search ended.
        proposal_ms: processor time of a proposal.
        clock_s: virtual time at its end.
    """

    key: Key
    regret: np.ndarray
    proposal_ms: float
    clock_s: float
    ended: str


def measured(key: Key, trace: Trace, about: Problem, budgets: Sequence[float]) -> Search:
    """A search, from its trace."""
    found = regrets(trace, about.best, about.scale) / about.scale
    spent = np.array(trace.spent)
    at = np.searchsorted(spent, np.array(budgets) * (1 + 1e-9), side="right")
    regret = np.array([found[i - 1] if i else 1.0 for i in at])
    # The last evaluation may end a little beyond or, where it could not be paid any more, before.
    reached = spent[-1] if len(spent) else 0.0
    regret[np.array(budgets) > reached * 1.01 + 1] = np.nan
    return Search(
        key, regret, 1000 * trace.proposal_s / max(trace.asked, 1), trace.clock_s[-1] if trace.clock_s else 0.0,
        trace.ended,
    )  # fmt: skip


def _mean(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the seeds that went so far, and its standard error; NaN where there is none, or no error."""
    seeds = np.isfinite(found).sum(axis=0)
    mean = np.where(seeds > 0, np.nansum(found, axis=0) / np.maximum(seeds, 1), np.nan)
    squares = np.nansum((found - mean) ** 2, axis=0)
    return mean, np.where(seeds > 1, np.sqrt(squares / np.maximum(seeds - 1, 1) / np.maximum(seeds, 1)), np.nan)


@dataclass(frozen=True)
class Comparison:
    """All stored searches.

    Attributes:
        searches: by key.
        budgets: where regret was taken.
    """

    searches: Mapping[Key, Search]
    budgets: tuple[float, ...]

    def methods(self, workers: int) -> list[str]:
        """Methods that have a search with this many workers."""
        return sorted({key.method for key in self.searches if key.workers == workers})

    def regret(self, about: str, method: str, workers: int) -> np.ndarray:
        """Relative regret of every seed, (seeds, budgets)."""
        return self._regrets.get((about, method, workers), np.empty(0))

    @cached_property
    def _regrets(self) -> dict[tuple[str, str, int], np.ndarray]:
        each: dict[tuple[str, str, int], list[np.ndarray]] = {}
        for key in sorted(self.searches, key=lambda k: k.seed):
            each.setdefault((key.problem, key.method, key.workers), []).append(self.searches[key].regret)
        return {place: np.array(found) for place, found in each.items()}

    def least_seeds(self, method: str, workers: int, problems: Sequence[str], until: float) -> int:
        """How many searches that go to the budget `until` a method has on each of the problems at least."""
        at = self.budgets.index(until)
        each = [self.regret(about, method, workers) for about in problems]
        return min(int(np.isfinite(found[:, at]).sum()) if len(found) else 0 for found in each)

    def whole(self, workers: int, problems: Sequence[str], until: float, seeds: int = 1) -> list[str]:
        """Methods with this many searches on each of the problems that go to the budget `until`."""
        return [m for m in self.methods(workers) if self.least_seeds(m, workers, problems, until) >= seeds]

    def shared(self, methods: Collection[str], workers: int, until: float) -> Comparison:
        """These methods alone, and of them the searches whose problem and seed all have up to the budget `until`."""
        at = self.budgets.index(until)
        there = {k: s for k, s in self.searches.items() if k.workers == workers and np.isfinite(s.regret[at])}
        kept = {k: s for k, s in there.items() if k.method in methods
                and all(Key(k.problem, m, workers, k.seed) in there for m in methods)}  # fmt: skip
        return Comparison(kept, self.budgets)

    def mean_regret(self, method: str, workers: int, problems: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Mean over problems of the mean over seeds, and its standard error from the seeds; (budgets,) each."""
        each = [self.regret(about, method, workers) for about in problems]
        means, errors = zip(*(_mean(found) for found in each), strict=True)
        return np.mean(means, axis=0), np.sqrt(np.sum(np.square(errors), axis=0)) / len(each)

    def ranks(self, methods: Sequence[str], workers: int, problems: Sequence[str]) -> np.ndarray:
        """Rank of each method (1 is best, ties share) on every problem and seed that all have:
        (problems and seeds, methods, budgets).
        """
        found = []
        for about in problems:
            for seed in sorted({key.seed for key in self.searches}):
                keys = [Key(about, method, workers, seed) for method in methods]
                if all(key in self.searches for key in keys):
                    found.append(np.array([self.searches[key].regret for key in keys]))
        if not found or not methods:
            return np.empty((0, len(methods), len(self.budgets)))
        # Regrets that differ by rounding are the same.
        return rankdata(np.round(found, 9), axis=1, nan_policy="propagate")

    def paired(self, first: str, second: str, workers: int, problems: Sequence[str], budget: float) -> Paired | None:
        """First minus second on every problem and seed that both have; None: too few for a test."""
        at = self.budgets.index(budget)
        differences = []
        for key, search in self.searches.items():
            other = self.searches.get(Key(key.problem, second, workers, key.seed))
            if key.method == first and key.workers == workers and key.problem in problems and other is not None:
                differences.append(search.regret[at] - other.regret[at])
        there = np.array([d for d in differences if np.isfinite(d)])
        if len(there) < PAIRS or not there.any():
            return None
        error = float(there.std(ddof=1) / np.sqrt(len(there)))
        return Paired(len(there), float(there.mean()), error, float(wilcoxon(there).pvalue))


@dataclass(frozen=True)
class Paired:
    """Difference of two methods' relative regrets, pair by pair; p of Wilcoxon's signed-rank test, two-sided."""

    pairs: int
    mean: float
    error: float
    p: float


def read(folder: Path, budgets: Sequence[float]) -> Comparison:
    """Every stored search that is of the present protocol and problems."""
    found = {}
    for key in stored(folder):
        if key.problem in PROBLEMS:
            about = problem(key.problem)
            trace = load(folder, key, about, 0.0)
            if trace is not None:
                found[key] = measured(key, trace, about, budgets)
    return Comparison(found, tuple(budgets))


def budget_to_reach(comparison: Comparison, method: str, workers: int, problems: Sequence[str], goal: float) -> float:
    """The least of `Comparison.budgets` from which on the mean relative regret is no more than `goal`; NaN: none."""
    mean, _ = comparison.mean_regret(method, workers, problems)
    above = np.flatnonzero(~(mean <= goal))
    first = 0 if not len(above) else above[-1] + 1
    return comparison.budgets[first] if first < len(mean) else float("nan")
