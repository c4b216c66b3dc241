"""What thawing could gain: would a survivor that `search.freeze_below` froze ever have come back, and been the best?

    python -m benchmarks.search.thawing --seeds 4

Searches by gp that freeze below a chance of .1. Whenever a later rung is decided, the model is asked again for the
chance of everyone who is frozen. In the end their true losses on the largest budget are held to the incumbent's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence, Set
from typing import Any

from benchmarks.search.methods import TandemMethod
from benchmarks.search.problem import Problem
from benchmarks.search.protocol import Simulation, regrets
from benchmarks.search.report import table
from benchmarks.search.suite import PROBLEMS, problem
from pipeline.records import ConfigId
from pipeline.search.freezing import HopelessFrozen
from pipeline.search.methods import make_proposer
from pipeline.search.search import Search

MEASURED = ("misleading", "hartmann6", "noisy17", "conditional", "digits-forest", "fashion_mnist-kernel")
LEAST_CHANCE = 0.1


class Watched(HopelessFrozen):
    """Asks again for the chance of those that it froze.

    Attributes:
        frozen: those that it froze.
        back: those whose chance was large enough later.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.frozen: set[ConfigId] = set()
        self.back: set[ConfigId] = set()

    def __call__(self, survivors: Sequence[ConfigId], budget: float) -> Set[ConfigId]:
        """As `HopelessFrozen`."""
        if self.frozen:
            before = sorted(self.frozen)
            # Chances are of the largest budget, wherever a configuration was frozen.
            expected = self._proposer.expected([self.configuration(c) for c in before], budget)
            if expected is not None:
                self.back |= {c for c, chance in zip(before, expected.chances, strict=True) if chance >= LEAST_CHANCE}
        found = super().__call__(survivors, budget)
        self.frozen |= found
        return found

    def configuration(self, config_id: ConfigId) -> dict[str, object]:
        """A configuration of the search, by name."""
        return dict(self._groups()[config_id[0]].data[config_id].config)


class WatchedSearch(Search):
    """A search that tells who was frozen."""

    def _hopeless_frozen(self) -> Watched:
        self.watched = Watched(self.proposer, lambda: self.iterations, LEAST_CHANCE)
        return self.watched


def measure(about: Problem, seed: int, budget: float) -> tuple[int, int, list[float], int]:
    """One search: how many were frozen; how many of them came back; by how much those that are better than the
    incumbent in the end would lower its relative regret; how many of these came back.
    """
    method = TandemMethod(about, seed, method="gp", freeze_below=LEAST_CHANCE)
    settings = method.search.settings
    search = method.search = WatchedSearch(settings, make_proposer(settings, about.space))
    trace = Simulation(about, method, seed, 1, budget).run()
    incumbent = regrets(trace, about.best, about.scale)[-1]
    watched = search.watched
    regret = {c: about.value(about.complete(watched.configuration(c))) - about.best for c in watched.frozen}
    better = {c: (incumbent - r) / about.scale for c, r in regret.items() if r < incumbent}
    return len(watched.frozen), len(watched.back), sorted(better.values()), len(watched.back & set(better))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=MEASURED, metavar="PROBLEM")
    parser.add_argument("--first-seed", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--budget", type=float, default=100.0, help="of a search, in evaluations on the largest budget")
    given = parser.parse_args()
    rows = []
    for name in given.problems:
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        found = [measure(problem(name), seed, given.budget) for seed in seeds]
        gains = ", ".join(f"{gain:.4f}" for *_, better, _ in found for gain in better) or "-"
        rows.append([name, *(str(sum(f[i] for f in found)) for i in (0, 1)), gains, str(sum(f[3] for f in found))])
    print("\n".join(table(["problem", "frozen", "came back", "better in the end, by", "of these, came back"], rows)))


if __name__ == "__main__":
    main()
