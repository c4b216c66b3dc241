"""The proposer of `search.method: gp`: a Gaussian process over configurations and budgets, from the first handful of
results on.

A proposal depends on the seed, its config_id, the results and the evaluations under way. The hyperparameters of the
process depend on the first results alone, up to the number at which they were fitted last (`milestone`), and are fitted
from the prior's own start: whoever resumes a search needs one fit, and gets the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from ConfigSpace import ConfigurationSpace

from pipeline.blas import one_thread
from pipeline.records import ConfigId, Configuration, derive_seed
from pipeline.search.belief import Belief, Fitted, Frame, Observation, fit_belief
from pipeline.search.candidates import most_promising
from pipeline.search.costs import CostModel, UnitCost, learnt_from
from pipeline.search.encoding import Array, Encoding
from pipeline.search.gaussian_process import Embedding
from pipeline.search.priors import ExpertPriors
from pipeline.search.proposers import Expected, Pending, Proposal, RandomProposer
from pipeline.settings import Settings, budget_ladder

# Losses before the model is asked.
LEAST = 5
# Hyperparameters are fitted again once there are so many times more results, and on at most so many.
GROWTH, FIT_MOST = 1.15, 300
# Results and evaluations under way that a proposal takes into account: its cost grows with the cube of their number.
MOST, PENDING_MOST = 1000, 200


class GpProposer:
    """Bayesian optimisation over configurations and budgets."""

    is_slow = True
    learns_on_the_way = True

    def __init__(self, space: ConfigurationSpace, settings: Settings, priors: ExpertPriors | None = None) -> None:
        self._seed = settings.seed
        self._random_fraction = settings.search.gp_random_fraction
        self._random = RandomProposer(space, settings.seed, priors)
        self._priors = priors
        self._encoding = Encoding(space)
        self._ladder = budget_ladder(settings.search)
        self._frame = Frame(Embedding(self._encoding.choices, self._encoding.conditional), len(self._ladder))
        self._observed: list[Observation] = []
        self._losses = self._on_largest = 0
        self._fitted: tuple[int, Fitted] | None = None
        self._per_second = settings.search.acquisition == "improvement_per_second"
        self._costs: list[UnitCost] = []
        self._cost_model: tuple[int, CostModel] | None = None
        # A master shares its host, and the order of additions must not depend on how many cores there are.
        self._one_thread = one_thread()

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """As `Proposer.absorb`."""
        value = math.inf if loss is None or not math.isfinite(loss) else loss
        vector = self._encoding.vector(configuration)
        self._observed.append(Observation(config_id, vector, self._ladder.index(budget), value))
        self._losses += math.isfinite(value)
        self._on_largest += math.isfinite(value) and budget == self._ladder[-1]

    def learn_cost(self, config_id: ConfigId, configuration: Configuration, budget: float, training_s: float) -> None:
        """As `Proposer.learn_cost`."""
        if self._per_second:
            cost = UnitCost(config_id, self._encoding.vector(configuration), math.log(training_s / budget))
            self._costs.append(cost)

    def plan(self, config_id: ConfigId, budget: float, pending: Sequence[Pending]) -> Callable[[], Proposal]:
        """As `Proposer.plan`; at random until there are a few results, and for a share of the draws."""
        random = np.random.default_rng(derive_seed(self._seed, "model", *config_id))
        if self._losses < LEAST or random.random() < self._random_fraction:
            return partial(self._random.propose, config_id, len(self._observed))
        costs = self._costs[: learnt_from(len(self._costs))]
        return partial(self._propose, config_id, random, list(self._observed), costs, list(pending)[-PENDING_MOST:])

    def expected(self, configurations: Sequence[Configuration], budget: float) -> Expected | None:
        """As `Proposer.expected`.

        Nothing before there are a few losses on the largest budget: what the model says of it then is what it was told
        to expect, that budgets agree, and smooths away what each configuration has shown on its own.
        """
        if self._on_largest < LEAST:
            return None
        with self._one_thread:
            vectors = np.array([self._encoding.vector(c) for c in configurations])
            belief = self._belief(self._observed, [])
            return Expected(*belief.expected(vectors), belief.agreement(self._ladder.index(budget)))

    def _propose(
        self, config_id: ConfigId, random: np.random.Generator, observed: list[Observation], costs: list[UnitCost],
        pending: list[Pending],
    ) -> Proposal:  # fmt: skip
        with self._one_thread:
            belief = self._belief(observed, pending)
            log_cost = self._log_cost(costs)

            def merit(points: Array) -> Array:
                weight = 0.0 if self._priors is None else self._priors.log_weight(points, len(observed))
                merit = belief.merit(points) + weight
                return merit if log_cost is None else merit - log_cost(points)

            vector = most_promising(self._encoding, belief.best_first, belief.known, merit, random)
        if vector is None:
            return self._random.propose(config_id, len(observed))

        def merit_of(configuration: Configuration) -> float:
            if not self._encoding.holds(configuration):
                return -math.inf
            return float(merit(self._encoding.vector(configuration)[None])[0])

        return Proposal(self._encoding.configuration(vector), self._ladder[-1], merit_of)

    def _log_cost(self, costs: list[UnitCost]) -> CostModel | None:
        if not costs:
            return None
        model = self._cost_model
        if model is None or model[0] != len(costs):
            model = self._cost_model = (len(costs), CostModel(costs, self._frame))
        return model[1]

    def _belief(self, observed: list[Observation], pending: list[Pending]) -> Belief:
        first = milestone(observed)
        # Another thread may be here with other results.
        fitted = self._fitted
        if fitted is None or fitted[0] != first:
            fitted = self._fitted = (first, fit_belief(_chosen(observed[:first], FIT_MOST), self._frame))
        under_way = np.array([self._encoding.vector(c) for c, _ in pending]).reshape(
            len(pending), len(self._encoding.choices)
        )
        return Belief(_chosen(observed, MOST), under_way, self._frame, fitted[1])


def milestone(observed: Sequence[Observation]) -> int:
    """The number of results at which hyperparameters were fitted last."""
    with_loss = [number for number, o in enumerate(observed, start=1) if not o.crashed]
    reached = with_loss[LEAST - 1]
    while (following := max(reached + 1, int(reached * GROWTH))) <= len(observed):
        reached = following
    return reached


def _chosen(observed: Sequence[Observation], most: int) -> list[Observation]:
    """Observations in an order that does not depend on that of their arrival; the half of `most` that tells most about
    good configurations (no crash, the largest budgets, the smallest losses), and as many, evenly spread, of the others.
    """
    ordered = sorted(observed, key=lambda o: (o.crashed, -o.level, o.loss, o.config_id))
    if len(ordered) <= most:
        return ordered
    first, rest = ordered[: most // 2], ordered[most // 2 :]
    return first + [rest[int(i)] for i in np.linspace(0, len(rest) - 1, most - len(first))]
