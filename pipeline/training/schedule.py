"""Learning rates: cosine annealing with warm restarts (Loshchilov and Hutter 2017), in budget units."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from pipeline.settings import Settings, budget_ladder


class CosineCycles:
    """Cosine from 1 to 0 within each cycle, then a restart at 1.

    Attributes:
        ends: ends of the cycles in budget units, ascending.
    """

    def __init__(self, ends: Sequence[float]) -> None:
        if not ends or list(ends) != sorted(set(ends)) or ends[0] <= 0:
            raise ValueError(f"the ends of cycles are positive and ascend, got {ends}")
        self.ends = tuple(ends)

    def factor(self, position: float) -> float:
        """Factor of the initial learning rate at a position in budget units; 0 from the last end on."""
        cycle = bisect_right(self.ends, position)
        if cycle == len(self.ends):
            return 0.0
        begin = self.ends[cycle - 1] if cycle else 0.0
        return 0.5 * (1 + math.cos(math.pi * (position - begin) / (self.ends[cycle] - begin)))


def schedule_for(settings: Settings, budget: float) -> CosineCycles:
    """The schedule of an evaluation on `budget`; every kind ends at zero there.

    ladder: cycles end on the rungs of the budget ladder, so that every rung is measured at a learning rate near zero
        and a promoted configuration goes on with the next cycle.
    doubling: as many cycles as rungs up to this one, each twice as long as the one before (first cycles
        of 400, 400, 514.3 and 720 s on 400 s, 1200 s, 1 h and 3 h).
    cosine: a single cycle.
    """
    rungs_below = [rung for rung in budget_ladder(settings.search) if rung < budget * (1 - 1e-9)]
    match settings.training.schedule:
        case "ladder":
            return CosineCycles([*rungs_below, budget])
        case "doubling":
            cycles = len(rungs_below) + 1
            first = budget / (2**cycles - 1)
            return CosineCycles([first * (2**i - 1) for i in range(1, cycles)] + [budget])
        case "cosine":
            return CosineCycles([budget])
