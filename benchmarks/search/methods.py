"""The methods that are compared: Tandem's own, through the search that a run uses, and its peers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from benchmarks.search.peers.client import PeerMethod
from benchmarks.search.peers.environments import is_made
from benchmarks.search.problem import Outcome, Problem
from benchmarks.search.protocol import Ask, Method
from pipeline.records import ConfigId
from pipeline.run.history import Result
from pipeline.run.lower_rungs import LOWER_RUNGS_KEY
from pipeline.search.methods import make_proposer
from pipeline.search.search import Search
from pipeline.settings import SearchSettings, Settings

# More brackets than any budget here pays for.
ENDLESS = 1_000_000


class TandemMethod:
    """A method of Tandem, as the master drives it: the same brackets, proposers and bookkeeping, without processes."""

    def __init__(self, problem: Problem, seed: int, **search: Any) -> None:
        settings = Settings(
            seed=seed,
            search=SearchSettings(
                budget_unit="epochs", min_budget=problem.budgets[0], max_budget=problem.budgets[-1],
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
        passed = [list(row) for row in outcome.curve[:-1] if row[0] in self.search.ladder]
        info = {"attempt": 1, "training_s": outcome.cost_s, LOWER_RUNGS_KEY: passed}
        self.search.absorb(Result(config_id, budget, 0.0, 0.0, 0.0, outcome.loss, info, None))


def tandem_methods() -> dict[str, dict[str, Any]]:
    """By name, the settings of what `search.method`, `search.scheduler` and the options of `gp` know: tandem.bohb,
    tandem.bohb-asha, tandem.gp-posterior, ...
    """
    found: dict[str, dict[str, Any]] = {}
    for method in _choices("method"):
        found[f"tandem.{method}"] = {"method": method}
        # Random search has one rung.
        for scheduler in _choices("scheduler") if method != "random" else ():
            if scheduler != SearchSettings().scheduler:
                found[f"tandem.{method}-{scheduler}"] = {"method": method, "scheduler": scheduler}
    for option in ("promote_by", "acquisition"):
        for choice in _choices(option):
            if choice != getattr(SearchSettings(), option):
                found[f"tandem.gp-{choice}"] = {"method": "gp", option: choice}
                if option == "promote_by":
                    found[f"tandem.gp-asha-{choice}"] = {"method": "gp", "scheduler": "asha", option: choice}
    found["tandem.gp-freeze"] = {"method": "gp", "freeze_below": 0.1}
    return found


def _choices(setting: str) -> tuple[str, ...]:
    field = SearchSettings.model_fields.get(setting)
    return get_args(field.annotation) if field else ()


# By peer, the package's methods that its adapter has.
PEER_METHODS: Mapping[str, tuple[str, ...]] = {
    "hpbandster": ("random", "hyperband", "bohb"),
    "dehb": ("dehb",),
    "smac": ("mf",),
    "optuna": ("tpe", "gp"),
    "neps": ("default", "priorband"),
    "synetune": ("bohb", "cqr"),
    "synetune13": ("mobster", "hypertune", "dyhpo"),
}


def methods() -> Mapping[str, Callable[[Problem, int, int], Method]]:
    """Makers by name, of (problem, seed, workers)."""
    makers: dict[str, Callable[[Problem, int, int], Method]] = {}
    for name, search in tandem_methods().items():
        makers[name] = lambda problem, seed, workers, search=search: TandemMethod(problem, seed, **search)
    for peer, names in PEER_METHODS.items():
        for name in (f"{peer}.{name}" for name in names):
            makers[name] = lambda problem, seed, workers, name=name: PeerMethod(problem, name, seed, workers)
    return makers


def is_ready(name: str) -> bool:
    """Whether a method can run here: a peer needs its environment."""
    peer = name.split(".")[0]
    return peer == "tandem" or is_made(peer)
