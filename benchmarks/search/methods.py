"""The methods that are compared: Tandem's own, through the search that a run uses, and its peers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from benchmarks.search.problem import Outcome, Problem
from benchmarks.search.protocol import Ask, Method
from pipeline.records import ConfigId
from pipeline.run.history import Result
from pipeline.search.proposers import make_proposer
from pipeline.search.search import Search
from pipeline.settings import SearchSettings, Settings

# More brackets than any budget here pays for.
ENDLESS = 1_000_000


class TandemMethod:
    """A method of Tandem, as the master drives it: the same brackets, proposers and bookkeeping, without processes."""

    def __init__(self, problem: Problem, method: str, seed: int, **search: Any) -> None:
        settings = Settings(
            seed=seed,
            search=SearchSettings(
                method=method, budget_unit="epochs", min_budget=problem.budgets[0], max_budget=problem.budgets[-1],
                eta=problem.eta, iterations=ENDLESS, **search,
            ),
        )  # fmt: skip
        self.search = Search(settings, make_proposer(settings, problem.space))

    def ask(self) -> Ask | None:
        """See `Method`."""
        evaluation = self.search.next_evaluation()
        self.search.take_new_draws()
        if evaluation is None:
            return None
        config_id, configuration, budget = evaluation
        return Ask((config_id, budget), configuration, budget)

    def tell(self, trial: tuple[ConfigId, float], outcome: Outcome) -> None:
        """See `Method`."""
        config_id, budget = trial
        info = {"attempt": 1, "training_s": outcome.cost_s}
        self.search.absorb(Result(config_id, budget, 0.0, 0.0, 0.0, outcome.loss, info, None))


def tandem_methods() -> tuple[str, ...]:
    """What `search.method` knows."""
    return tuple(get_args(SearchSettings.model_fields["method"].annotation))


def methods() -> Mapping[str, Callable[[Problem, int, int], Method]]:
    """Makers by name, of (problem, seed, workers)."""
    return {
        f"tandem.{name}": lambda problem, seed, workers, name=name: TandemMethod(problem, name, seed)
        for name in tandem_methods()
    }
