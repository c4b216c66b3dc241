"""Asynchronous successive halving (ASHA: Li et al. 2020, Algorithm 2): a configuration is promoted as soon as it is
among the best 1/eta of its rung; nobody waits for a rung to be complete.

Promotions are a function of the results in the order of results.json: each result promotes what it makes promotable, at
once, whether a worker is free or not. So the files say all, wherever the master was killed.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hpbandster.core.base_iteration import Datum

from pipeline.records import ConfigId, Configuration
from pipeline.search.brackets import Due, Ranking, Run, bracket_shape
from pipeline.search.model_ranking import ModelRanking

# A result's place in its rung: ties go to the smaller config_id.
Key = tuple[float, ConfigId]


class Cohort:
    """So many configurations drawn one after the other: what stands in the place of a bracket, where there is none.

    A cohort has as many configurations as the largest bracket, and as many promotions are expected of it. It ends when
    the search does: any configuration may be promoted until then. For its attributes see `ConfigGroup`.
    """

    def __init__(self, number: int, num_configs: Sequence[int], budgets: Sequence[float]) -> None:
        self.HPB_iter = number
        self.data: dict[ConfigId, Datum] = {}
        self.num_configs, self.budgets = list(num_configs), list(budgets)
        self.is_finished = False
        self._awaited = 0

    def outstanding(self) -> list[Run]:
        """See `ConfigGroup`."""
        if not self._awaited:
            return []
        return [
            (config_id, datum.config, datum.budget)
            for config_id, datum in sorted(self.data.items())
            if datum.status in ("QUEUED", "RUNNING")
        ]

    def queue(self, config_id: ConfigId, budget: float) -> None:
        """A configuration waits to be run on a budget."""
        datum = self.data[config_id]
        datum.status, datum.budget = "QUEUED", budget
        self._awaited += 1

    def end(self, config_id: ConfigId, status: str) -> None:
        """An evaluation has its result."""
        self.data[config_id].status = status
        self._awaited -= 1


@dataclass
class Rung:
    """The results on one budget: as heaps, because there may be hundreds of thousands.

    Attributes:
        count: results, crashes included.
        best: the best 1/eta of them, negated: the worst of these first.
        rest: the others with a loss, the best first.
        promoted: what has been among the best.
    """

    count: int = 0
    best: list[Key] = field(default_factory=list)
    rest: list[Key] = field(default_factory=list)
    promoted: set[ConfigId] = field(default_factory=set)

    def add(self, key: Key | None, eta: float) -> ConfigId | None:
        """Take in a result (None: crashed); the configuration that it makes promotable.

        There is never more than one: the best `count // eta` grow by one or exchange one.
        """
        self.count += 1
        entered = None
        if key is not None:
            heapq.heappush(self.rest, key)
        if len(self.best) < int(self.count / eta) and self.rest:
            entered = heapq.heappop(self.rest)
            heapq.heappush(self.best, _negated(entered))
        elif key is not None and self.best and key < _negated(self.best[0]):
            # It is better than every other of the rest, too.
            entered = key
            heapq.heapreplace(self.rest, _negated(heapq.heapreplace(self.best, _negated(key))))
        if entered is None or entered[1] in self.promoted:
            return None
        self.promoted.add(entered[1])
        return entered[1]


def _negated(key: Key) -> Key:
    """A key that comes the earlier the later this one does."""
    loss, (iteration, stage, index) = key
    return -loss, (-iteration, -stage, -index)


class RankedRung:
    """A rung whose results are ranked anew with each one: with several objectives, one may change the places of all.

    Args:
        ranking: see `brackets.Bracket`.
    """

    def __init__(self, ranking: Ranking, budget: float) -> None:
        self._ranking, self._budget = ranking, budget
        self._count = 0
        self._finished: list[ConfigId] = []
        self._promoted: set[ConfigId] = set()

    def add(self, key: Key | None, eta: float) -> ConfigId | None:
        """As `Rung.add`; of several that it makes promotable, the best: the others wait for the next result."""
        self._count += 1
        if key is not None:
            self._finished.append(key[1])
        best = self._ranking(self._finished, self._budget)[: int(self._count / eta)]
        promotable = next((config_id for config_id in best if config_id not in self._promoted), None)
        if promotable is not None:
            self._promoted.add(promotable)
        return promotable


class ModelRung:
    """A rung from which a model promotes: one configuration with every eta-th result, the best that waits.

    A model changes its mind with each result. Whoever is among its best 1/eta at any moment would soon be most of the
    rung, so it is their number that follows from the results, as under `brackets`.

    Args:
        ranking: see `ModelRanking`.
        budget, above: of this rung and of the next.
    """

    def __init__(self, ranking: ModelRanking, budget: float, above: float) -> None:
        self._ranking, self._budget, self._above = ranking, budget, above
        self._count = self._promoted = 0
        self._waiting: dict[ConfigId, float] = {}

    def add(self, key: Key | None, eta: float) -> ConfigId | None:
        """As `Rung.add`."""
        self._count += 1
        if key is not None:
            self._waiting[key[1]] = key[0]
        if not self._waiting or self._promoted >= int(self._count / eta):
            return None
        promoted = self._ranking.best_waiting(self._waiting, self._budget)
        self._take(promoted)
        return promoted

    def take_as_promoted(self, config_id: ConfigId) -> bool:
        """Whether a configuration waits here that was promoted, as the run's files show; then it waits no longer."""
        if config_id not in self._waiting or not self._ranking.was_promoted(config_id, self._budget, self._above):
            return False
        self._take(config_id)
        return True

    def _take(self, config_id: ConfigId) -> None:
        self._promoted += 1
        del self._waiting[config_id]


def _rung(ranking: Ranking | ModelRanking | None, budget: float, above: float) -> Rung | RankedRung | ModelRung:
    if ranking is None:
        return Rung()
    return ModelRung(ranking, budget, above) if isinstance(ranking, ModelRanking) else RankedRung(ranking, budget)


class Asha:
    """All evaluations of a search without barriers.

    Args:
        ladder: all budgets, ascending.
        count: cohorts of the search.
        ranking: see `brackets.Bracket`.

    Attributes:
        iterations: cohorts that have begun.
    """

    def __init__(self, ladder: Sequence[float], eta: float, count: int, ranking: Ranking | None = None) -> None:
        self._ladder, self._eta, self._count = ladder, eta, count
        self._shape = bracket_shape(ladder, eta, 0)
        self._rungs = {b: _rung(ranking, b, above) for b, above in pairwise(ladder)}
        self.iterations: list[Cohort] = []
        self._drawn = 0
        self._awaited = 0
        # Largest budgets first, then in the order of promotion: (-budget, number, config_id).
        self._queue: list[tuple[float, int, ConfigId]] = []
        self._queued = 0

    def next_queued(self) -> Run | None:
        """See `Halving`."""
        while self._queue:
            budget, _, config_id = heapq.heappop(self._queue)
            datum = self._cohort(config_id).data[config_id]
            if datum.status == "QUEUED" and datum.budget == -budget:
                datum.status = "RUNNING"
                return config_id, datum.config, float(datum.budget)
        return None

    def next_step(self) -> Run | Due | None:
        """See `Halving`."""
        return self.next_queued() or self.next_due()

    def next_due(self) -> Due | None:
        """See `Halving`."""
        if self._drawn >= self._total:
            return None
        cohort, index = divmod(self._drawn, self._shape[0][0])
        return (cohort, 0, index), float(self._ladder[0])

    def add_drawn(self, config_id: ConfigId, configuration: Configuration, info: Mapping[str, Any]) -> None:
        """See `Halving`."""
        due = self.next_due()
        if due is None or due[0] != config_id:
            raise ValueError(f"the search was not due to draw {config_id}")
        if config_id[0] == len(self.iterations):
            self.iterations.append(Cohort(config_id[0], *self._shape))
        self._cohort(config_id).data[config_id] = Datum(dict(configuration), dict(info))
        self._drawn += 1
        self._put(config_id, self._ladder[0])

    def keep_for_later(self, config_id: ConfigId, configuration: Configuration, info: Mapping[str, Any]) -> bool:
        """See `Halving`: every configuration is drawn for the lowest rung."""
        return False

    def awaited(self, config_id: ConfigId, budget: float) -> Configuration:
        """See `Halving`."""
        self._take_as_promoted(config_id, budget)
        datum = self._cohort(config_id).data.get(config_id) if 0 <= config_id[0] < len(self.iterations) else None
        if datum is None or datum.budget != budget or datum.status not in ("QUEUED", "RUNNING"):
            raise ValueError(f"the search does not wait for {config_id} on budget {budget:g}")
        configuration: Configuration = datum.config
        return configuration

    def add_result(self, config_id: ConfigId, budget: float, loss: float | None) -> None:
        """See `Halving`."""
        self.awaited(config_id, budget)
        key = (loss, config_id) if loss is not None and math.isfinite(loss) else None
        is_last = budget == self._ladder[-1]
        self._cohort(config_id).end(config_id, "CRASHED" if key is None else "COMPLETED" if is_last else "REVIEW")
        self._awaited -= 1
        promoted = None if is_last else self._rungs[budget].add(key, self._eta)
        if promoted is not None:
            self._put(promoted, self._ladder[self._ladder.index(budget) + 1])
        if self.is_done():
            self._end()

    def open(self) -> list[Cohort]:
        """Cohorts whose configurations may still be promoted: all, until the search ends."""
        return [] if self.is_done() else self.iterations

    def is_done(self) -> bool:
        """Whether everything is drawn and nothing is left to be run."""
        return not self._awaited and self.next_due() is None

    def most_parallel(self, limit: int) -> int:
        """See `Halving`: a result promotes one configuration at most."""
        return min(limit, self._awaited + self._total - self._drawn)

    def parallel_now(self, limit: int) -> int:
        """See `Halving`."""
        return self.most_parallel(limit)

    def planned(self) -> int:
        """See `Halving`; promotions that a later result has overtaken come on top."""
        return self._count * sum(self._shape[0])

    @property
    def _total(self) -> int:
        return self._count * self._shape[0][0]

    def _cohort(self, config_id: ConfigId) -> Cohort:
        return self.iterations[config_id[0]]

    def _take_as_promoted(self, config_id: ConfigId, budget: float) -> None:
        """Where another machine's model promoted a configuration that is not promoted here: believe the files."""
        below = next((b for b, above in pairwise(self._ladder) if above == budget), None)
        rung = None if below is None else self._rungs[below]
        if isinstance(rung, ModelRung) and rung.take_as_promoted(config_id):
            self._put(config_id, budget)

    def _put(self, config_id: ConfigId, budget: float) -> None:
        self._cohort(config_id).queue(config_id, budget)
        self._awaited += 1
        self._queued += 1
        heapq.heappush(self._queue, (-budget, self._queued, config_id))

    def _end(self) -> None:
        for cohort in self.iterations:
            cohort.is_finished = True
            for datum in cohort.data.values():
                datum.status = "TERMINATED" if datum.status == "REVIEW" else datum.status
