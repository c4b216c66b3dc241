"""What a search takes: configurations, evaluations and training."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pipeline.planning.simulation import Site, simulate
from pipeline.search.brackets import bracket_shape
from pipeline.settings import Settings, budget_ladder, changed


@dataclass(frozen=True)
class BracketCost:
    """One kind of bracket.

    Attributes:
        first: number of the first bracket of this kind; the kinds follow one another and begin again.
        times: how many brackets of the search are of this kind.
        rungs: (budget, configurations) of each rung, ascending.
        training: budget units that one of them trains when promotions restart.
        training_continued: the same when a promoted configuration continues from its lower rung.
    """

    first: int
    times: int
    rungs: tuple[tuple[float, int], ...]
    training: float
    training_continued: float


@dataclass(frozen=True)
class SearchCost:
    """A whole search; training in budget units.

    Attributes:
        ladder: all budgets, ascending.
        brackets: one entry per kind of bracket; empty where promotions have no barriers (ASHA).
        evaluations: how many there are on each budget.
        configurations: how many are drawn.
        continues: whether promotions continue, as the settings say.
        training: of the whole search when promotions restart.
        training_continued: of the whole search when they continue.
    """

    ladder: tuple[float, ...]
    brackets: tuple[BracketCost, ...]
    evaluations: dict[float, int]
    configurations: int
    continues: bool
    training: float
    training_continued: float

    @property
    def planned(self) -> int:
        """Evaluations in all."""
        return sum(self.evaluations.values())

    @property
    def training_as_set(self) -> float:
        """Training of the whole search as the settings have it."""
        return self.training_continued if self.continues else self.training


def search_cost(settings: Settings) -> SearchCost:
    """What the search of these settings takes: by arithmetic, or, where promotions have no barriers, by simulation."""
    return _simulated(settings) if settings.search.scheduler == "asha" else _arithmetic(settings)


def _simulated(settings: Settings) -> SearchCost:
    """As one worker finds it. How many are promoted depends on the results and on who ends first."""
    continuing = simulate(changed(settings, {"search.promotion": "continue"}), Site(1))
    ended = Counter(budget for _, budget in continuing.finished)
    drawn = {stretch.config_id for stretch in continuing.stretches}
    return SearchCost(
        ladder=budget_ladder(settings.search),
        brackets=(),
        evaluations={budget: ended[budget] for budget in budget_ladder(settings.search)},
        configurations=len(drawn),
        continues=settings.search.promotion == "continue",
        training=sum(n * budget for budget, n in ended.items()),
        training_continued=continuing.wall,
    )


def _arithmetic(settings: Settings) -> SearchCost:
    search = settings.search
    ladder = budget_ladder(search)
    # Without barriers, a batch of configurations costs what the largest bracket does, or a little more.
    kinds = 1 if search.scheduler == "asha" else len(ladder)
    brackets = tuple(
        _bracket_cost(ladder, search.eta, first, len(range(first, search.iterations, kinds)))
        for first in range(min(kinds, search.iterations))
    )
    evaluations: Counter[float] = Counter()
    for bracket in brackets:
        for budget, count in bracket.rungs:
            evaluations[budget] += bracket.times * count
    return SearchCost(
        ladder=ladder,
        brackets=brackets,
        evaluations={budget: evaluations[budget] for budget in ladder},
        configurations=sum(b.times * b.rungs[0][1] for b in brackets),
        continues=search.promotion == "continue",
        training=sum(b.times * b.training for b in brackets),
        training_continued=sum(b.times * b.training_continued for b in brackets),
    )


def _bracket_cost(ladder: tuple[float, ...], eta: float, first: int, times: int) -> BracketCost:
    counts, budgets = bracket_shape(ladder, eta, first)
    steps = [b - lower for lower, b in zip((0.0, *budgets), budgets, strict=False)]
    return BracketCost(
        first=first,
        times=times,
        rungs=tuple(zip(budgets, counts, strict=True)),
        training=sum(n * b for n, b in zip(counts, budgets, strict=True)),
        training_continued=sum(n * s for n, s in zip(counts, steps, strict=True)),
    )
