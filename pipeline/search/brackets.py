"""Successive halving on hpbandster's own iteration, with ties broken by config_id and exact rebuilding from results.

A bracket is a function of its draws and results alone: whichever order results arrive in within a rung, and wherever
the master was killed, the same configurations are promoted.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from hpbandster.core.base_iteration import BaseIteration
from hpbandster.core.dispatcher import Job

from pipeline.records import ConfigId, Configuration

log = logging.getLogger("tandem.search")

# A configuration that is to be drawn, and the budget that it is first run on.
Due = tuple[ConfigId, float]
Run = tuple[ConfigId, Configuration, float]
# Configurations that have finished on a budget, the best first.
Ranking = Callable[[Sequence[ConfigId], float], list[ConfigId]]
# Which survivors of a rung, by its budget, are not trained on.
Freezing = Callable[[Sequence[ConfigId], float], Collection[ConfigId]]


class ConfigGroup(Protocol):
    """Configurations that are drawn one after the other: a bracket, or what stands in its place.

    Attributes:
        HPB_iter: its number, the first part of its config_ids.
        data: hpbandster's record of each configuration, by config_id.
        num_configs: evaluations expected on each budget.
        budgets: ascending.
        is_finished: none of its configurations will be evaluated any more.
    """

    HPB_iter: int
    data: dict[ConfigId, Any]
    num_configs: list[int]
    budgets: list[float]
    is_finished: bool

    def outstanding(self) -> list[Run]:
        """Evaluations that have been scheduled and have no result: queued or running, by config_id."""


class Halving(Protocol):
    """How configurations are given budgets: what is evaluated next, and what a result means.

    Attributes:
        iterations: groups that have begun.
    """

    @property
    def iterations(self) -> Sequence[ConfigGroup]:
        """See the class."""

    def next_queued(self) -> Run | None:
        """The next evaluation of a configuration that has been drawn; it counts as running from now on."""

    def next_step(self) -> Run | Due | None:
        """As `next_queued`, or a configuration that is to be drawn first; None: wait for results, or done."""

    def next_due(self) -> Due | None:
        """The configuration that is to be drawn next, whenever that is; None: as far as is known, no more."""

    def add_drawn(self, config_id: ConfigId, configuration: Configuration, info: Mapping[str, Any]) -> None:
        """Take in a configuration; it waits to be run.

        Raises:
            ValueError: it would not be drawn now.
        """

    def keep_for_later(self, config_id: ConfigId, configuration: Configuration, info: Mapping[str, Any]) -> bool:
        """Keep a configuration that was drawn for a higher rung and is not due, until it is; False: it is none.

        Such a draw took the place of configurations that had crashed on the rung below, and the disk has lost their
        results. They are run again: if they crash again the draw counts, and else it is never made.
        """

    def awaited(self, config_id: ConfigId, budget: float) -> Configuration:
        """The configuration of an evaluation that has no result yet.

        Raises:
            ValueError: nobody waits for this evaluation.
        """

    def add_result(self, config_id: ConfigId, budget: float, loss: float | None) -> None:
        """Take in a result (None: crashed) and promote.

        Raises:
            ValueError: nobody waits for this evaluation.
        """

    def open(self) -> Sequence[ConfigGroup]:
        """Groups that have begun and not ended."""

    def is_done(self) -> bool:
        """Whether everything has ended."""

    def most_parallel(self, limit: int) -> int:
        """How many evaluations may run side by side from now on, at most `limit`."""

    def parallel_now(self, limit: int) -> int:
        """How many evaluations could run side by side at this moment, at most `limit`, those that run included."""

    def planned(self) -> int:
        """Evaluations of the whole search, promotions included, as far as that is known before."""


def bracket_shape(ladder: Sequence[float], eta: float, iteration: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """How many configurations a bracket takes on each of its budgets (Algorithm 1 of Li et al. 2018, lines 2 and 3,
    with hpbandster's rounding: floor(rungs / (s + 1)) * eta^s).

    Args:
        ladder: all budgets, ascending.
        iteration: number of the bracket, from 0.

    Returns:
        (configurations per rung, budgets of the rungs), both ascending in budget.
    """
    s = len(ladder) - 1 - iteration % len(ladder)
    first = int(math.floor(len(ladder) / (s + 1)) * eta**s)
    return tuple(max(int(first * eta ** (-i)), 1) for i in range(s + 1)), tuple(ladder[-s - 1 :])


def planned_evaluations(ladder: Sequence[float], eta: float, iterations: int) -> int:
    """Evaluations of a whole search, promotions included."""
    cycle = [sum(bracket_shape(ladder, eta, i)[0]) for i in range(len(ladder))]
    cycles, rest = divmod(iterations, len(ladder))
    return cycles * sum(cycle) + sum(cycle[:rest])


class Bracket(BaseIteration):  # type: ignore[misc]
    """One bracket: hpbandster's SuccessiveHalving, given configurations from outside.

    Args:
        iteration: number of the bracket.
        num_configs, budgets: see `bracket_shape`.
        ranking: which configurations are the better ones; None: those with the smaller loss.
        freezing: which survivors are not trained on, their places left empty; None: all are trained on.

    Attributes:
        left_empty: evaluations that there will not be, because survivors were frozen.
    """

    def __init__(
        self, iteration: int, num_configs: Sequence[int], budgets: Sequence[float], ranking: Ranking | None = None,
        freezing: Freezing | None = None,
    ) -> None:  # fmt: skip
        super().__init__(iteration, list(num_configs), list(budgets), None, logger=log)
        self.num_configs: list[int]
        self._ranking, self._freezing = ranking, freezing
        self.left_empty = 0
        # hpbandster looks through all configurations for these two; with thousands of results that is most of the time.
        self._queue: deque[ConfigId] = deque()
        self._awaited = 0
        # The rung's survivors, by stage: what `verify` compares promotions with.
        self.promoted: dict[int, frozenset[ConfigId]] = {}

    def _advance_to_next_stage(self, config_ids: list[ConfigId], losses: np.ndarray) -> np.ndarray:
        """The best by rank or by (loss, config_id): hpbandster's argsort leaves ties to the order of arrival."""
        if self._ranking is None:
            order = sorted(range(len(config_ids)), key=lambda i: (losses[i], config_ids[i]))
        else:
            ranked = self._ranking(config_ids, float(self.budgets[self.stage - 1]))
            order = [config_ids.index(config_id) for config_id in ranked]
        survivors = order[: self.num_configs[self.stage]]
        if self._freezing is not None:
            frozen = self._freezing([config_ids[i] for i in survivors], float(self.budgets[self.stage - 1]))
            survivors = [i for i in survivors if config_ids[i] not in frozen]
            self._leave_empty(len(frozen))
        advance = np.zeros(len(config_ids), dtype=bool)
        advance[survivors] = True
        self.promoted[self.stage] = frozenset(c for c, a in zip(config_ids, advance, strict=True) if a)
        return advance

    def _leave_empty(self, places: int) -> None:
        """Give up so many places of this rung, and those of higher rungs that there is nobody for any more."""
        most = self.num_configs[self.stage] - places
        kept = [*self.num_configs[: self.stage], *(min(count, most) for count in self.num_configs[self.stage :])]
        self.left_empty += sum(self.num_configs) - sum(kept)
        self.num_configs = kept

    def add_configuration(self, config: Any = None, config_info: Any = None) -> ConfigId:
        """As hpbandster's; the new configuration waits to be run."""
        config_id: ConfigId = super().add_configuration(config, config_info)
        self._queue.append(config_id)
        self._awaited += 1
        return config_id

    def register_result(self, job: Job, skip_sanity_checks: bool = False) -> None:
        """As hpbandster's."""
        super().register_result(job, skip_sanity_checks)
        self._awaited -= 1

    def process_results(self) -> None:
        """As hpbandster's; the rung's survivors wait to be run on the next."""
        super().process_results()
        self._queue = deque(c for c, datum in self.data.items() if datum.status == "QUEUED")
        self._awaited = len(self._queue)

    # State -------------------------------------------------------------------------------------------------------
    def next_queued(self) -> Run | None:
        """The next configuration that waits to be run, without drawing one."""
        while self._queue:
            config_id = self._queue.popleft()
            datum = self.data[config_id]
            if datum.status == "QUEUED":
                datum.status = "RUNNING"
                self.num_running += 1
                return config_id, datum.config, float(datum.budget)
        return None

    def outstanding(self) -> list[Run]:
        """See `ConfigGroup`; all are of the present rung."""
        if not self._awaited:
            return []
        return [
            (config_id, datum.config, datum.budget)
            for config_id, datum in sorted(self.data.items())
            if datum.status in ("QUEUED", "RUNNING")
        ]

    def unfilled(self) -> int:
        """Configurations that the present rung will still draw."""
        if self.is_finished:
            return 0
        return int(self.num_configs[self.stage] - self.actual_num_configs[self.stage])

    def to_draw(self) -> Due | None:
        """The configuration that the present rung lacks next."""
        if not self.unfilled():
            return None
        return (self.HPB_iter, self.stage, self.actual_num_configs[self.stage]), float(self.budgets[self.stage])

    def most_parallel(self) -> int:
        """The most evaluations of this bracket that may ever run side by side from now on."""
        if self.is_finished:
            return 0
        now = self.parallel_now()
        return int(max([now, *self.num_configs[self.stage + 1 :]]))

    def parallel_now(self) -> int:
        """Evaluations of this bracket that could run side by side at this moment, those that run included."""
        return self._awaited + self.unfilled()

    # Going on ----------------------------------------------------------------------------------------------------
    def add_drawn(self, config_id: ConfigId, configuration: Configuration, info: Mapping[str, Any]) -> None:
        """Take in a configuration; it waits to be run.

        Raises:
            ValueError: the bracket lacks another one, or none.
        """
        due = self.to_draw()
        if due is None or due[0] != config_id:
            raise ValueError(f"bracket {self.HPB_iter} was not due to draw {config_id} (stage {self.stage})")
        self.add_configuration(dict(configuration), dict(info))

    def awaited(self, config_id: ConfigId, budget: float) -> Configuration:
        """See `Halving`."""
        datum = self.data.get(config_id)
        if datum is None or datum.budget != budget or datum.status not in ("QUEUED", "RUNNING"):
            raise ValueError(f"bracket {self.HPB_iter} does not wait for {config_id} on budget {budget:g}")
        configuration: Configuration = datum.config
        return configuration

    def add_result(self, config_id: ConfigId, budget: float, loss: float | None) -> None:
        """See `Halving`."""
        self.awaited(config_id, budget)
        datum = self.data[config_id]
        if datum.status == "QUEUED":
            datum.status = "RUNNING"
            self.num_running += 1
        job = Job(config_id, config=datum.config, budget=budget)
        job.result = None if loss is None else {"loss": loss}
        self.register_result(job)
        # Once every evaluation of the rung has a result: hpbandster waits until it is asked for a run.
        while not self._awaited and not self.is_finished and self.unfilled() == 0:
            self.process_results()


class Brackets:
    """All brackets of a search, one after the other: one begins when those before it leave nothing to be started.

    Args:
        ladder: all budgets, ascending.
        count: brackets of the search.
        ranking, freezing: see `Bracket`.

    Attributes:
        iterations: brackets that have begun.
    """

    def __init__(
        self, ladder: Sequence[float], eta: float, count: int, ranking: Ranking | None = None,
        freezing: Freezing | None = None,
    ) -> None:  # fmt: skip
        self._ladder, self._eta, self._count = ladder, eta, count
        self._ranking, self._freezing = ranking, freezing
        self.iterations: list[Bracket] = []
        self._open: list[Bracket] = []
        # Those that may have something to start, as a heap: with thousands of workers most only wait for results.
        self._ready: list[int] = []
        self._early: dict[ConfigId, tuple[Configuration, Mapping[str, Any]]] = {}

    def next_queued(self) -> Run | None:
        """See `Halving`."""
        for number in sorted(self._ready):
            if run := self.iterations[number].next_queued():
                return run
        return None

    def next_step(self) -> Run | Due | None:
        """See `Halving`."""
        while self._ready:
            bracket = self.iterations[self._ready[0]]
            if step := bracket.next_queued() or bracket.to_draw():
                return step
            heapq.heappop(self._ready)
        return self._of_new_bracket()

    def next_due(self) -> Due | None:
        """See `Halving`."""
        for number in sorted(self._ready):
            if due := self.iterations[number].to_draw():
                return due
        return self._of_new_bracket()

    def _of_new_bracket(self) -> Due | None:
        if len(self.iterations) >= self._count:
            return None
        return (len(self.iterations), 0, 0), float(self._shape(len(self.iterations))[1][0])

    def add_drawn(self, config_id: ConfigId, configuration: Configuration, info: Mapping[str, Any]) -> None:
        """See `Halving`."""
        if config_id[0] >= self._count:
            raise ValueError(f"the run has {self._count} brackets only")
        while len(self.iterations) <= config_id[0]:
            number = len(self.iterations)
            bracket = Bracket(number, *self._shape(number), self._ranking, self._freezing)
            self.iterations.append(bracket)
            self._open.append(bracket)
        self.iterations[config_id[0]].add_drawn(config_id, configuration, info)
        self._take_in_early(config_id[0])
        self._note_ready(config_id[0])

    def keep_for_later(self, config_id: ConfigId, configuration: Configuration, info: Mapping[str, Any]) -> bool:
        """See `Halving`."""
        number, stage, _ = config_id
        if stage == 0 or number >= len(self.iterations):
            return False
        due = self.iterations[number].to_draw()
        if due is not None and due[0] == config_id:
            return False
        self._early[config_id] = configuration, info
        return True

    def _take_in_early(self, number: int) -> None:
        """Take in the configurations that were kept for the rung that a bracket has reached."""
        bracket = self.iterations[number]
        while (due := bracket.to_draw()) is not None and due[0] in self._early:
            bracket.add_drawn(due[0], *self._early.pop(due[0]))

    def awaited(self, config_id: ConfigId, budget: float) -> Configuration:
        """See `Halving`."""
        if not 0 <= config_id[0] < len(self.iterations):
            raise ValueError(f"bracket {config_id[0]} has not begun")
        return self.iterations[config_id[0]].awaited(config_id, budget)

    def add_result(self, config_id: ConfigId, budget: float, loss: float | None) -> None:
        """See `Halving`."""
        self.awaited(config_id, budget)
        bracket = self.iterations[config_id[0]]
        stage = bracket.stage
        bracket.add_result(config_id, budget, loss)
        if bracket.stage != stage:
            self._take_in_early(config_id[0])
            self._note_ready(config_id[0])

    def open(self) -> list[Bracket]:
        """See `Halving`."""
        self._open = [b for b in self._open if not b.is_finished]
        return self._open

    def is_done(self) -> bool:
        """See `Halving`."""
        return len(self.iterations) >= self._count and not self.open()

    def most_parallel(self, limit: int) -> int:
        """See `Halving`."""
        return self._with_new_brackets(sum(b.most_parallel() for b in self.open()), limit)

    def parallel_now(self, limit: int) -> int:
        """See `Halving`."""
        return self._with_new_brackets(sum(b.parallel_now() for b in self.open()), limit)

    def _with_new_brackets(self, count: int, limit: int) -> int:
        for iteration in range(len(self.iterations), self._count):
            if count >= limit:
                break
            count += self._shape(iteration)[0][0]
        return min(count, limit)

    def planned(self) -> int:
        """See `Halving`."""
        return planned_evaluations(self._ladder, self._eta, self._count) - sum(b.left_empty for b in self.iterations)

    def _note_ready(self, number: int) -> None:
        if number not in self._ready:
            heapq.heappush(self._ready, number)

    def _shape(self, iteration: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        return bracket_shape(self._ladder, self._eta, iteration)
