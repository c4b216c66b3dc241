"""What proposes configurations, and the simplest that does: at random. Every proposal can be derived again.

A proposal depends on the run's seed, its config_id and the results absorbed so far, and on nothing else: no state of a
random generator is carried from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ConfigSpace import ConfigurationSpace

from pipeline.records import ConfigId, Configuration, derive_seed
from pipeline.settings.space import plain_configuration


@dataclass(frozen=True)
class Proposal:
    """A configuration to evaluate.

    Attributes:
        configuration: plain Python values by hyperparameter name.
        model_budget: the budget whose observations the model was fitted on; None: drawn at random.
    """

    configuration: Configuration
    model_budget: float | None = None


# An evaluation under way: its configuration and its budget.
Pending = tuple[Configuration, float]


class Proposer(Protocol):
    """Proposes configurations, and learns from results.

    Attributes:
        is_slow: a proposal may take long enough to keep the master waiting. Only such a proposer is told what is under
            way.
    """

    is_slow: bool

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """Take in a line of results.json, in the file's order; a loss of None is a crash."""

    def plan(self, config_id: ConfigId, budget: float, pending: Sequence[Pending]) -> Callable[[], Proposal]:
        """How to make the proposal for a config_id that is first run on this budget, given what was absorbed so far and
        the evaluations that are under way.

        What is returned holds all that it needs: another thread may call it, while results are absorbed.
        """


class RandomProposer:
    """Proposes uniformly from the space, as Hyperband and random search do.

    Args:
        space: the search space.
        seed: the run's.
    """

    is_slow = False

    def __init__(self, space: ConfigurationSpace, seed: int) -> None:
        self._space = space
        self._seed = seed

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """Results change nothing here."""

    def plan(self, config_id: ConfigId, budget: float, pending: Sequence[Pending]) -> Callable[[], Proposal]:
        """As `Proposer.plan`."""
        return partial(self.propose, config_id)

    def propose(self, config_id: ConfigId) -> Proposal:
        """A proposal that depends on the seed and the config_id alone."""
        self._space.seed(derive_seed(self._seed, "draw", *config_id) % 2**32)
        return Proposal(plain_configuration(dict(self._space.sample_configuration())))
