"""One search on a virtual clock: a method is asked by free workers and told the results, until the budget is spent.

What is the same for every method:

- The budget of a search is counted in evaluations on the largest budget. Training goes on from checkpoints: a
  configuration that was trained before on a lower budget costs the difference, whoever asks for it. A configuration
  that is asked for again on a budget that it has had costs its whole budget again.
- Workers are free at once. A free worker asks; the method gives it something, or lets it wait for the next result. An
  evaluation takes the seconds that the problem says.
- The incumbent is the configuration with the lowest observed loss on the largest budget that has been evaluated so far.
  Its regret is its loss without noise on the problem's largest budget, less the best possible.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from benchmarks.search.problem import Outcome, Problem
from pipeline.records import derive_seed


@dataclass(frozen=True)
class Ask:
    """What a method wants evaluated.

    Attributes:
        trial: the method's own name of this evaluation.
    """

    trial: Any
    values: Mapping[str, Any]
    budget: float


class Method(Protocol):
    """A search method: asked for evaluations and told their results."""

    def ask(self) -> Ask | None:
        """The next evaluation; None: nothing before another result is in."""

    def tell(self, trial: Any, outcome: Outcome) -> None:
        """The result of an evaluation that was asked for."""


@dataclass
class Trace:
    """What a search did, a value per result in the order of results.

    Attributes:
        clock_s: when it was there, on the virtual clock.
        spent: what had been spent by then on results, in largest budgets.
        budget, loss: of the evaluation; None: crashed.
        value: loss of the configuration on the largest budget, without noise (None: it crashes there).
        proposal_s: processor seconds of the method, asking and telling together.
        asked: how often it was asked.
        ended: "" or why the search ended before its budget was spent.
    """

    clock_s: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    budget: list[float] = field(default_factory=list)
    loss: list[float | None] = field(default_factory=list)
    value: list[float | None] = field(default_factory=list)
    proposal_s: float = 0.0
    asked: int = 0
    ended: str = ""


@dataclass(order=True)
class _Running:
    ends_s: float
    number: int
    ask: Ask = field(compare=False)
    values: dict[str, Any] = field(compare=False)
    outcome: Outcome = field(compare=False)
    paid: float = field(compare=False)


class Simulation:
    """A search in progress.

    Attributes:
        running: evaluations that have begun and not ended; never more than there are workers.
        most_running: the most there ever were.
    """

    def __init__(self, problem: Problem, method: Method, seed: int, workers: int, full_budgets: float) -> None:
        self.problem = problem
        self.method = method
        self.seed = seed
        self.workers = workers
        self.limit = full_budgets * problem.budgets[-1]
        self.trace = Trace()
        self.running: list[_Running] = []
        self.most_running = 0
        self._begun, self._paid, self._now_s = 0, 0.0, 0.0
        self._spent = 0.0
        # By configuration: the largest budget that is trained, and the seconds that it took.
        self._trained: dict[str, tuple[float, float]] = {}

    def run(self) -> Trace:
        """Until the budget is spent and every evaluation that has begun is in."""
        while True:
            while len(self.running) < self.workers and self._paid < self.limit * (1 - 1e-9):
                if not self._begin():
                    break
            if not self.running:
                break
            self._end(heapq.heappop(self.running))
        self.trace.proposal_s += getattr(self.method, "cpu_s", 0.0)
        if self._paid < self.limit * (1 - 1e-9):
            self.trace.ended = "the method asked for nothing more"
        return self.trace

    def _begin(self) -> bool:
        began = time.process_time()
        ask = self.method.ask()
        self.trace.proposal_s += time.process_time() - began
        if ask is None:
            return False
        self.trace.asked += 1
        values = self.problem.complete(ask.values)
        budget = self._rung(ask.budget)
        outcome = self.problem.evaluate(values, budget, derive_seed(self.seed, "evaluation") % 2**32)
        before, before_s = self._trained.get(repr(sorted(values.items())), (0.0, 0.0))
        if before >= budget:
            before, before_s = 0.0, 0.0
        paid, takes_s = budget - before, max(0.0, outcome.cost_s - before_s)
        if outcome.loss is None:
            # A crash costs what was trained until then.
            paid *= outcome.cost_s / self.problem.cost_s(self.problem.vector(values), values, budget)
        self._paid += paid
        self._begun += 1
        heapq.heappush(self.running, _Running(self._now_s + takes_s, self._begun, ask, values, outcome, paid))
        self.most_running = max(self.most_running, len(self.running))
        return True

    def _rung(self, budget: float) -> float:
        """The problem's own budget that a method means, whose arithmetic may differ in the last digits."""
        nearest = min(self.problem.budgets, key=lambda b: abs(b - budget))
        if abs(nearest - budget) > 0.01 * nearest:
            raise ValueError(f"{budget:g} is none of the budgets {self.problem.budgets}")
        return nearest

    def _end(self, done: _Running) -> None:
        self._now_s = done.ends_s
        budget = self._rung(done.ask.budget)
        if done.outcome.loss is not None:
            key = repr(sorted(done.values.items()))
            self._trained[key] = max(self._trained.get(key, (0.0, 0.0)), (budget, done.outcome.cost_s))
        self._spent += done.paid
        value = self.problem.value(done.values)
        self.trace.clock_s.append(self._now_s)
        self.trace.spent.append(self._spent / self.problem.budgets[-1])
        self.trace.budget.append(budget)
        self.trace.loss.append(done.outcome.loss)
        self.trace.value.append(value if np.isfinite(value) else None)
        began = time.process_time()
        self.method.tell(done.ask.trial, done.outcome)
        self.trace.proposal_s += time.process_time() - began


def regrets(trace: Trace, best: float, worst: float) -> np.ndarray:
    """The incumbent's regret after each result; shape (results,).

    Args:
        trace: of a search.
        best: loss of the best configuration.
        worst: regret while there is no incumbent, or one that crashes.
    """
    found, incumbent = np.full(len(trace.spent), worst), (0.0, np.inf, worst)
    for i, (budget, loss, value) in enumerate(zip(trace.budget, trace.loss, trace.value, strict=True)):
        if loss is not None and (budget, -loss) > (incumbent[0], -incumbent[1]):
            incumbent = budget, loss, worst if value is None else value - best
        found[i] = incumbent[2]
    return found


def regret_at(trace: Trace, best: float, worst: float, spent: float) -> float:
    """The incumbent's regret once `spent` largest budgets were spent on results; `worst` before the first result."""
    seen = int(np.searchsorted(np.array(trace.spent), spent * (1 + 1e-9), side="right"))
    return float(regrets(trace, best, worst)[seen - 1]) if seen else worst
