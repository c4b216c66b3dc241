"""What proposes configurations, and the simplest that does: at random. Every proposal can be derived again.

A proposal depends on the run's seed, its config_id and the results absorbed so far, and on nothing else: no state of a
random generator is carried from one to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
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


class Proposer(Protocol):
    """Proposes configurations, and learns from results."""

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """Take in a line of results.json, in the file's order; a loss of None is a crash."""

    def propose(self, config_id: ConfigId, budget: float) -> Proposal:
        """The proposal for a config_id that is first run on this budget, given what was absorbed so far."""


class RandomProposer:
    """Proposes uniformly from the space, as Hyperband and random search do.

    Args:
        space: the search space.
        seed: the run's.
    """

    def __init__(self, space: ConfigurationSpace, seed: int) -> None:
        self._space = space
        self._seed = seed

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """Results change nothing here."""

    def propose(self, config_id: ConfigId, budget: float) -> Proposal:
        """As `Proposer.propose`; depends on the seed and the config_id alone."""
        self._space.seed(derive_seed(self._seed, "draw", *config_id) % 2**32)
        return Proposal(plain_configuration(dict(self._space.sample_configuration())))
