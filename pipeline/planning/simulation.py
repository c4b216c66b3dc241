"""Run a search on a virtual clock: the search's own scheduling with workers that only wait.

What is simulated: which evaluation goes to which free worker, waiting at the end for the last rungs, promotions that
continue or restart, and workers whose allocation ends, which hand back what they are at and come again. Not
simulated: the queue of the cluster, workers that die, and crashed configurations.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from pipeline.errors import SettingsError
from pipeline.master.retention import most_checkpoints
from pipeline.records import ConfigId, Configuration, EvaluationKey
from pipeline.run.history import Result
from pipeline.search.proposers import Pending, Proposal, Proposer
from pipeline.search.search import Search
from pipeline.settings import Settings

# How long an evaluation takes: (budget, training that it needs) -> the time with its overhead, in budget units.
Duration = Callable[[float, float], float]


@dataclass(frozen=True)
class Site:
    """Where a search is simulated; times in the unit of the budgets.

    Attributes:
        workers: how many there are.
        overhead: what an evaluation takes besides its training (start, validation, checkpoints).
        allocation: how long a worker's job may last; infinite without a time limit.
        margin: how long before its end a worker hands back.
        absence: from a job's end until the worker is back.
    """

    workers: int
    overhead: float = 0.0
    allocation: float = math.inf
    margin: float = 0.0
    absence: float = 0.0


@dataclass(frozen=True)
class Stretch:
    """A worker at an evaluation, without a break.

    Attributes:
        is_handed_back: the allocation ended before the evaluation did.
    """

    worker: int
    config_id: ConfigId
    budget: float
    begin: float
    end: float
    is_handed_back: bool = False


@dataclass
class Timeline:
    """What happened on the virtual clock.

    Attributes:
        stretches: in the order in which they began.
        finished: (time, budget) of each evaluation's end, in order.
        most_checkpoints: that lie on disk at once, as the master keeps them.
    """

    workers: int
    stretches: list[Stretch] = field(default_factory=list)
    finished: list[tuple[float, float]] = field(default_factory=list)
    most_checkpoints: int = 0

    @property
    def wall(self) -> float:
        """From the start of the search to its last result."""
        return self.finished[-1][0] if self.finished else 0.0

    @property
    def utilisation(self) -> float:
        """Share of the workers' time in which they were at an evaluation."""
        busy = sum(s.end - s.begin for s in self.stretches)
        return busy / (self.workers * self.wall) if self.wall else 1.0

    @property
    def handed_back(self) -> int:
        """Evaluations that a worker's time limit broke off."""
        return sum(s.is_handed_back for s in self.stretches)


class NoProposer(Proposer):
    """Stands in for a proposer: which configuration is drawn changes nothing about when it is trained."""

    is_slow = False
    learns_on_the_way = False

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """Results change nothing here."""

    def plan(self, config_id: ConfigId, budget: float, pending: Sequence[Pending]) -> Callable[[], Proposal]:
        """A configuration without values."""
        return partial(Proposal, {})


@dataclass
class _Work:
    """An evaluation that waits or runs; `left` is what it still takes."""

    config_id: ConfigId
    budget: float
    left: float


class Simulation:
    """One search on a virtual clock.

    Args:
        search: as it stands; it is used up.
        duration: what an evaluation takes, overhead included.
        elapsed: how long evaluations that are under way have run already.
    """

    def __init__(
        self, search: Search, site: Site, duration: Duration, elapsed: Mapping[EvaluationKey, float] | None = None
    ) -> None:
        self._search = search
        self._site = site
        self._duration = duration
        self._random = random.Random(0)
        self._waiting: deque[_Work] = deque()
        self._idle = list(range(site.workers))[::-1]
        self._ends_at = [site.allocation] * site.workers
        # (time, number, what happens then); the number keeps what happens at one time in order.
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()
        self._next_count = 0
        self.timeline = Timeline(site.workers)
        for config_id, _, budget in search.outstanding():
            work = self._work(config_id, budget)
            work.left = max(0.0, work.left - (elapsed or {}).get((config_id, budget), 0.0))
            self._waiting.append(work)

    def run(self) -> Timeline:
        """Go on until the search is done."""
        now = 0.0
        while True:
            self._assign(now)
            self._count_checkpoints()
            if not self._agenda:
                return self.timeline
            now, _, happens = heapq.heappop(self._agenda)
            happens(now)

    def _assign(self, now: float) -> None:
        """Give every free worker the next evaluation, as long as there is one."""
        while self._idle:
            work = self._next()
            if work is None:
                return
            self._begin(self._idle.pop(), work, now)

    def _count_checkpoints(self) -> None:
        """Now and then: it looks at every configuration of the open brackets."""
        ended = len(self.timeline.finished)
        if ended < self._next_count:
            return
        self._next_count = ended + 1 + ended // 50
        running = self._site.workers - len(self._idle)
        most = most_checkpoints(self._search, running, 0, self._search.settings.search.promotion == "continue")
        self.timeline.most_checkpoints = max(self.timeline.most_checkpoints, most)

    def _next(self) -> _Work | None:
        if self._waiting:
            return self._waiting.popleft()
        due = self._search.next_evaluation()
        return None if due is None else self._work(due[0], due[2])

    def _work(self, config_id: ConfigId, budget: float) -> _Work:
        lower = self._search.evaluation(config_id, {}, budget, 1).continues
        return _Work(config_id, budget, self._duration(budget, budget - (lower.budget if lower is not None else 0.0)))

    def _begin(self, worker: int, work: _Work, now: float) -> None:
        last = max(now, self._ends_at[worker] - self._site.margin)
        is_handed_back = now + work.left > last
        end = last if is_handed_back else now + work.left
        self._at(end, partial(self._hand_back if is_handed_back else self._finish, worker, work, end - now))
        self.timeline.stretches.append(Stretch(worker, work.config_id, work.budget, now, end, is_handed_back))

    def _at(self, time: float, happens: Callable[[float], None]) -> None:
        heapq.heappush(self._agenda, (time, next(self._numbers), happens))

    def _finish(self, worker: int, work: _Work, spent: float, now: float) -> None:
        self.timeline.finished.append((now, work.budget))
        # How many are promoted does not depend on the losses.
        info = {"attempt": 1, "training_s": work.budget}
        info |= {metric.name: self._random.random() for metric in self._search.objectives.metrics[1:]}
        self._search.absorb(Result(work.config_id, work.budget, now, now, now, self._random.random(), info, None))
        self._idle.append(worker)

    def _hand_back(self, worker: int, work: _Work, spent: float, now: float) -> None:
        """What was trained stays; whoever goes on with it has the overhead again."""
        work.left -= max(0.0, spent - self._site.overhead)
        self._waiting.appendleft(work)
        self._at(now + self._site.absence, partial(self._return, worker))

    def _return(self, worker: int, now: float) -> None:
        self._ends_at[worker] = now + self._site.allocation
        self._idle.append(worker)


def simulate(settings: Settings, site: Site) -> Timeline:
    """The whole search of these settings, from its start.

    Raises:
        SettingsError: there is no worker, or an allocation has no time for training.
    """
    if site.workers < 1:
        raise SettingsError("workers.count: 0 workers never end a search; give 1 or more.")
    if site.overhead + site.margin >= site.allocation:
        raise SettingsError(
            f"An allocation of {site.allocation:g} has no time for training beside {site.overhead:g} of overhead and a "
            f"margin of {site.margin:g}; give slurm.walltime_min more, or workers.handback_margin_s less."
        )
    return Simulation(Search(settings, NoProposer()), site, lambda _, training: training + site.overhead).run()
