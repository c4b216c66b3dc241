"""Successive halving on hpbandster's own iteration, with ties broken by config_id and exact rebuilding from results.

A bracket is a function of its draws and results alone: whichever order results arrive in within a rung, and wherever
the master was killed, the same configurations are promoted.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from hpbandster.core.base_iteration import BaseIteration
from hpbandster.core.dispatcher import Job

from pipeline.records import ConfigId, Configuration
from pipeline.run.history import Draw

log = logging.getLogger("tandem.search")

Sampler = Callable[[ConfigId, float], Draw]


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
    """One bracket: hpbandster's SuccessiveHalving, with draws keyed by config_id.

    Args:
        iteration: number of the bracket.
        num_configs, budgets: see `bracket_shape`.
        sampler: draws the configuration of a config_id that is first run on a budget.
    """

    def __init__(self, iteration: int, num_configs: Sequence[int], budgets: Sequence[float], sampler: Sampler) -> None:
        super().__init__(iteration, list(num_configs), list(budgets), self._sample_next, logger=log)
        self._sampler = sampler
        # hpbandster looks through all configurations for these two; with thousands of results that is most of the time.
        self._queue: deque[ConfigId] = deque()
        self._awaited = 0
        # The rung's survivors, by stage: what `verify` compares promotions with.
        self.promoted: dict[int, frozenset[ConfigId]] = {}

    def _sample_next(self, budget: float) -> tuple[dict[str, Any], dict[str, Any]]:
        draw = self._sampler((self.HPB_iter, self.stage, self.actual_num_configs[self.stage]), budget)
        return dict(draw.configuration), dict(draw.info)

    def _advance_to_next_stage(self, config_ids: list[ConfigId], losses: np.ndarray) -> np.ndarray:
        """The best by (loss, config_id): hpbandster's argsort leaves ties to the order of arrival."""
        order = sorted(range(len(config_ids)), key=lambda i: (losses[i], config_ids[i]))
        advance = np.zeros(len(config_ids), dtype=bool)
        advance[order[: self.num_configs[self.stage]]] = True
        self.promoted[self.stage] = frozenset(c for c, a in zip(config_ids, advance, strict=True) if a)
        return advance

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

    def get_next_run(self) -> tuple[ConfigId, Configuration, float] | None:
        """The next configuration to run, drawn if need be; None: wait for results, or finished."""
        while not self.is_finished:
            due = self.next_queued()
            if due is not None:
                return due
            if self.unfilled():
                self.add_configuration()
            elif self._awaited:
                return None
            else:
                self.process_results()
        return None

    # State -------------------------------------------------------------------------------------------------------
    def next_queued(self) -> tuple[ConfigId, Configuration, float] | None:
        """The next configuration that waits to be run, without drawing one."""
        while self._queue:
            config_id = self._queue.popleft()
            datum = self.data[config_id]
            if datum.status == "QUEUED":
                datum.status = "RUNNING"
                self.num_running += 1
                return config_id, datum.config, float(datum.budget)
        return None

    def outstanding(self) -> list[tuple[ConfigId, Configuration, float]]:
        """Evaluations of the present rung without a result: queued or running, by config_id."""
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

    def most_parallel(self) -> int:
        """The most evaluations of this bracket that may ever run side by side from now on."""
        if self.is_finished:
            return 0
        now = len(self.outstanding()) + self.unfilled()
        return int(max([now, *self.num_configs[self.stage + 1 :]]))

    # Rebuilding --------------------------------------------------------------------------------------------------
    def add_drawn(self, config_id: ConfigId, configuration: Configuration, info: Mapping[str, Any]) -> None:
        """Take in a configuration that was drawn before.

        Raises:
            ValueError: the bracket would not have drawn this config_id now.
        """
        self.promote_when_complete()
        due = (self.HPB_iter, self.stage, self.actual_num_configs[self.stage])
        if self.is_finished or self.unfilled() == 0 or config_id != due:
            raise ValueError(f"bracket {self.HPB_iter} was not due to draw {config_id} (stage {self.stage})")
        self.add_configuration(dict(configuration), dict(info))

    def add_result(self, config_id: ConfigId, budget: float, loss: float | None) -> None:
        """Take in a result; None: crashed.

        Raises:
            ValueError: the bracket does not wait for this evaluation.
        """
        self.promote_when_complete()
        datum = self.data.get(config_id)
        if datum is None or datum.budget != budget or datum.status not in ("QUEUED", "RUNNING"):
            raise ValueError(f"bracket {self.HPB_iter} does not wait for {config_id} on budget {budget:g}")
        if datum.status == "QUEUED":
            datum.status = "RUNNING"
            self.num_running += 1
        job = Job(config_id, config=datum.config, budget=budget)
        job.result = None if loss is None else {"loss": loss}
        self.register_result(job)

    def promote_when_complete(self) -> None:
        """Promote the rung's best once every evaluation of it has a result (hpbandster waits until asked for a run)."""
        while not self._awaited and not self.is_finished and self.unfilled() == 0:
            self.process_results()
