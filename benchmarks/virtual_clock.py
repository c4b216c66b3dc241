"""The paper's search (400 s to 3 h) on a virtual clock, with 10 to 10,000 workers, under brackets and without barriers.

    python -m benchmarks.virtual_clock [--workers 10 100 1000 10000] [--brackets 64]

The search's own scheduling runs; workers only wait, a promoted configuration the difference of its budgets. Losses are
normal, with a correlation of 0.87 between neighbouring budgets (the poster's is 0.86 to 0.88), and a configuration's
loss does not depend on the scheduler. Under asha there are as many batches as take the same time of workers.
"""

from __future__ import annotations

import argparse
import heapq
import math
import time
from dataclasses import dataclass

import numpy as np

from pipeline.planning.simulation import NoProposer
from pipeline.records import ConfigId, derive_seed
from pipeline.run.history import Result
from pipeline.search.search import Search
from pipeline.settings import Settings, load_settings

CORRELATION = 0.87


@dataclass(frozen=True)
class Outcome:
    """How a search went.

    Attributes:
        wall_h: until the last result.
        utilisation: share of the workers' time in which they trained.
        first_h, incumbent_h: until the first result on the largest budget, and that of the final incumbent.
        incumbent: its loss, in standard deviations from the mean configuration.
        scheduler_ms: processor time of the search itself, an evaluation.
    """

    evaluations: int
    wall_h: float
    utilisation: float
    first_h: float
    incumbent_h: float
    incumbent: float
    scheduler_ms: float


def losses(config_id: ConfigId, rungs: int, first: int) -> list[float]:
    """The losses of a configuration on every budget; the number of its draw is its name under every scheduler."""
    random = np.random.default_rng(derive_seed(0, "loss", *config_id, first))
    values = [float(random.standard_normal())]
    for _ in range(rungs - 1):
        step = math.sqrt(1 - CORRELATION**2) * float(random.standard_normal())
        values.append(CORRELATION * values[-1] + step)
    return values


def simulate(settings: Settings, workers: int) -> Outcome:
    """Run a whole search."""
    search, rung = Search(settings, NoProposer()), {}
    rung = {budget: number for number, budget in enumerate(search.ladder)}
    running: list[tuple[float, int, ConfigId, float]] = []
    now = busy = spent = 0.0
    number, best, first = 0, (math.inf, 0.0), 0.0
    while True:
        began = time.process_time()
        while len(running) < workers and (due := search.next_evaluation()) is not None:
            config_id, configuration, budget = due
            lower = search.evaluation(config_id, configuration, budget, 1).continues
            takes = budget - (lower.budget if lower else 0.0)
            number, busy = number + 1, busy + takes
            heapq.heappush(running, (now + takes, number, config_id, budget))
        search.take_new_draws()
        spent += time.process_time() - began
        if not running:
            break
        now, _, config_id, budget = heapq.heappop(running)
        loss = losses(config_id, len(rung), 0)[rung[budget]]
        began = time.process_time()
        search.absorb(Result(config_id, budget, 0.0, 0.0, now, loss, {"attempt": 1, "training_s": budget}, None))
        spent += time.process_time() - began
        if budget == search.ladder[-1]:
            first = first or now
            best = min(best, (loss, now))
    return Outcome(
        evaluations=number,
        wall_h=now / 3600,
        utilisation=busy / (now * workers),
        first_h=first / 3600,
        incumbent_h=best[1] / 3600,
        incumbent=best[0],
        scheduler_ms=1e3 * spent / number,
    )


def paper(scheduler: str, brackets: int) -> Settings:
    """The paper's search; without barriers, four fifths as many batches, which take about as long."""
    count = brackets if scheduler == "brackets" else max(1, round(0.8 * brackets))
    return load_settings("cifar10", [f"search.scheduler={scheduler}", f"search.iterations={count}"])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", nargs="+", type=int, default=[10, 100, 1000, 10000])
    parser.add_argument("--brackets", type=int, default=64, help="of the search; more where workers would stand idle")
    arguments = parser.parse_args()
    print("workers scheduler brackets evaluations  wall h  used  first at h  incumbent at h  its loss  ms/evaluation")
    for workers in arguments.workers:
        # From 100 workers on, the paper's 64 brackets are too few to keep them busy.
        for brackets in sorted({arguments.brackets, max(arguments.brackets, 2 * workers)}):
            for scheduler in ("brackets", "asha"):
                settings = paper(scheduler, brackets)
                o = simulate(settings, workers)
                print(
                    f"{workers:7d} {scheduler:9s} {settings.search.iterations:8d} {o.evaluations:11d} {o.wall_h:7.1f} "
                    f"{o.utilisation:5.0%} {o.first_h:11.1f} {o.incumbent_h:15.1f} {o.incumbent:9.2f} "
                    f"{o.scheduler_ms:14.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
