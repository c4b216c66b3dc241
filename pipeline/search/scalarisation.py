"""Proposals for several objectives from a proposer that knows one: random scalarisation (ParEGO; Knowles 2006).

For each proposal the objectives are weighed anew, at random, and put together as the augmented Tchebycheff function

    max_j w_j f_j + 0.05 sum_j w_j f_j,

f_j an objective between 0 and 1, its best and its worst value among all results so far (`objectives.normalised`). A
proposer that begins afresh takes these numbers for losses. Weights in all directions lead to all parts of the front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pipeline.records import ConfigId, Configuration, derive_seed
from pipeline.search.objectives import Losses, Objectives, normalised
from pipeline.search.pareto import Array
from pipeline.search.proposers import Pending, Proposal, Proposer

# Knowles's: enough of the sum that what is better in one objective and equal in the others is better.
AUGMENTATION = 0.05

# (config_id, configuration, budget, losses; None: crashed).
_Seen = tuple[ConfigId, Configuration, float, Losses | None]


class RandomScalarisation(Proposer):
    """Proposes for several objectives; derivable: the weights depend on the run's seed and the config_id alone.

    Args:
        make: a proposer that has seen nothing.
        objectives: whose losses are noted before a result is absorbed.
    """

    # Its proposer learns everything again for each proposal.
    is_slow = True
    learns_on_the_way = False

    def __init__(self, make: Callable[[], Proposer], objectives: Objectives, seed: int) -> None:
        self._make = make
        self._objectives = objectives
        self._seed = seed
        self._seen: list[_Seen] = []

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """As `Proposer.absorb`."""
        losses = None if loss is None else self._objectives.losses[config_id, budget]
        self._seen.append((config_id, configuration, budget, losses))

    def plan(self, config_id: ConfigId, budget: float, pending: Sequence[Pending]) -> Callable[[], Proposal]:
        """As `Proposer.plan`."""
        return partial(self._propose, config_id, budget, list(self._seen), pending)

    def _propose(
        self, config_id: ConfigId, budget: float, seen: Sequence[_Seen], pending: Sequence[Pending]
    ) -> Proposal:
        proposer = self._make()
        known = np.array([losses for *_, losses in seen if losses is not None])
        scalars = iter(self._scalarised(known, config_id).tolist() if len(known) else ())
        for its_id, configuration, its_budget, losses in seen:
            proposer.absorb(its_id, configuration, its_budget, None if losses is None else next(scalars))
        return proposer.plan(config_id, budget, pending)()

    def _scalarised(self, losses: Array, config_id: ConfigId) -> Array:
        metrics = self._objectives.metrics
        random = np.random.default_rng(derive_seed(self._seed, "weights", *config_id))
        return tchebycheff(normalised(losses, metrics), random.dirichlet(np.ones(len(metrics))))


def tchebycheff(values: Array, weights: Array) -> Array:
    """The augmented Tchebycheff function of values of shape (n, objectives) between 0 and 1; shape (n,)."""
    weighed = values * weights
    return np.asarray(weighed.max(axis=1) + AUGMENTATION * weighed.sum(axis=1))
