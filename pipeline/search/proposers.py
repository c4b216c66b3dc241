"""What proposes configurations, and the simplest that does: at random. Every proposal can be derived again.

A proposal depends on the run's seed, its config_id and the results absorbed so far, and on nothing else: no state of a
random generator is carried from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
from ConfigSpace import ConfigurationSpace

from pipeline.errors import SettingsError
from pipeline.records import ConfigId, Configuration, derive_seed
from pipeline.search.encoding import Array, Encoding
from pipeline.search.priors import ExpertPriors
from pipeline.settings.space import plain_configuration


@dataclass(frozen=True)
class Proposal:
    """A configuration to evaluate.

    Attributes:
        configuration: plain Python values by hyperparameter name.
        model_budget: the budget whose observations the model was fitted on; None: drawn at random.
        merit: what the model makes of any configuration, as a logarithm, where that decided: on another machine,
            rounding may lead to another one that is as good.
    """

    configuration: Configuration
    model_budget: float | None = None
    merit: Callable[[Configuration], float] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Expected:
    """What a model expects.

    Attributes:
        losses: of configurations on the largest budget, in standard deviations of all losses; shape (n,).
        chances: that they are better there than the best configuration that has been there; shape (n,).
        agreement: the correlation of losses on their own budget with those on the largest, as far as it is learnt.
    """

    losses: Array
    chances: Array
    agreement: float


# How often the open part of a given configuration is drawn until the whole is legal.
ATTEMPTS = 1000

# An evaluation under way: its configuration and its budget.
Pending = tuple[Configuration, float]


class Proposer(Protocol):
    """Proposes configurations, and learns from results.

    Attributes:
        is_slow: a proposal may take long enough to keep the master waiting. Only such a proposer is told what is under
            way.
        learns_on_the_way: it also takes in the losses that an evaluation had on lower rungs which its training passed.
    """

    is_slow: bool
    learns_on_the_way: bool

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """Take in a line of results.json, in the file's order; a loss of None is a crash.

        To one that learns on the way, the losses on the lower rungs come just before the result that brought them.
        """

    def learn_cost(self, config_id: ConfigId, configuration: Configuration, budget: float, training_s: float) -> None:
        """Take in what the whole budget took of a result with a loss that was just absorbed: training seconds, more
        than 0. Most do not care.
        """
        return

    def plan(self, config_id: ConfigId, budget: float, pending: Sequence[Pending]) -> Callable[[], Proposal]:
        """How to make the proposal for a config_id that is first run on this budget, given what was absorbed so far and
        the evaluations that are under way.

        What is returned holds all that it needs: another thread may call it, while results are absorbed.
        """

    def expected(self, configurations: Sequence[Configuration], budget: float) -> Expected | None:
        """What a model expects of configurations that have had this budget; None: it knows too little, or is none."""
        return None


class RandomProposer(Proposer):
    """Proposes uniformly from the space, as Hyperband and random search do, or where an expert expects good ones.

    Args:
        space: the search space.
        seed: the run's.
        priors: what the expert expects; None: nothing.
    """

    is_slow = False
    learns_on_the_way = False

    def __init__(self, space: ConfigurationSpace, seed: int, priors: ExpertPriors | None = None) -> None:
        self._space = space
        self._seed = seed
        self._priors = priors
        self._encoding = Encoding(space)
        self._results = 0

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """As `Proposer.absorb`; only how many there are counts."""
        self._results += 1

    def plan(self, config_id: ConfigId, budget: float, pending: Sequence[Pending]) -> Callable[[], Proposal]:
        """As `Proposer.plan`."""
        return partial(self.propose, config_id, self._results)

    def propose(self, config_id: ConfigId, results: int = 0) -> Proposal:
        """A proposal that depends on the seed, the config_id and, where there are priors, the number of results."""
        if self._priors is not None:
            random = np.random.default_rng(derive_seed(self._seed, "prior", *config_id))
            vector = self._priors.draw(random, results)
            if vector is not None:
                return Proposal(self._encoding.configuration(vector))
        self._space.seed(derive_seed(self._seed, "draw", *config_id) % 2**32)
        return Proposal(plain_configuration(dict(self._space.sample_configuration())))


class GivenFirst:
    """Proposes the configurations that the settings ask to try first, then what another proposer does.

    Args:
        given: a configuration, or a part of one, by the config_id that it shall have; the rest is drawn at random.
    """

    def __init__(
        self, proposer: Proposer, space: ConfigurationSpace, seed: int, given: Mapping[ConfigId, Configuration]
    ) -> None:
        self._proposer = proposer
        self._random = RandomProposer(space, seed)
        self._encoding = Encoding(space)
        self._given = given
        self.is_slow, self.learns_on_the_way = proposer.is_slow, proposer.learns_on_the_way

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """As `Proposer.absorb`."""
        self._proposer.absorb(config_id, configuration, budget, loss)

    def learn_cost(self, config_id: ConfigId, configuration: Configuration, budget: float, training_s: float) -> None:
        """As `Proposer.learn_cost`."""
        self._proposer.learn_cost(config_id, configuration, budget, training_s)

    def plan(self, config_id: ConfigId, budget: float, pending: Sequence[Pending]) -> Callable[[], Proposal]:
        """As `Proposer.plan`."""
        if config_id in self._given:
            return partial(Proposal, self._whole(config_id))
        return self._proposer.plan(config_id, budget, pending)

    def expected(self, configurations: Sequence[Configuration], budget: float) -> Expected | None:
        """As `Proposer.expected`."""
        return self._proposer.expected(configurations, budget)

    def _whole(self, config_id: ConfigId) -> Configuration:
        """The given values, the others drawn so that nothing given is switched off and no clause forbids it all."""
        given = {}
        for name, value in self._given[config_id].items():
            field = f"search.try_first: {name}"
            if not self._encoding.is_fixed(field, name, value):
                given[self._encoding.column(field, name)] = self._encoding.coordinate(field, name, value)
        for attempt in range(ATTEMPTS):
            vector = self._open_part(config_id, attempt)
            vector[list(given)] = list(given.values())
            snapped, allowed = self._encoding.legal(vector[None])
            if allowed[0] and not np.isnan(snapped[0, list(given)]).any():
                return self._encoding.configuration(vector)
        raise SettingsError(
            f"search.try_first: {dict(self._given[config_id])} is in no legal configuration: a clause forbids it, or a "
            "condition switches off a part of it. Give what the condition asks for, too, or leave that part out."
        )

    def _open_part(self, config_id: ConfigId, attempt: int) -> Array:
        """A vector to put the given values into: first the random draw of this config_id, then any."""
        if attempt:
            fresh = np.random.default_rng(derive_seed(0, "given", *config_id, attempt)).random(
                len(self._encoding.choices)
            )
            return self._even(fresh)
        vector = self._encoding.vector(self._random.propose(config_id).configuration)
        fresh = np.random.default_rng(derive_seed(0, "given", *config_id)).random(len(vector))
        return np.where(np.isnan(vector), self._even(fresh), vector)

    def _even(self, fresh: Array) -> Array:
        choices = self._encoding.choices
        return np.where(choices > 0, np.floor(fresh * choices), fresh)

    def check(self) -> None:
        """Raises SettingsError where what is given does not lie in the space, or in no legal configuration of it."""
        for config_id in self._given:
            self._whole(config_id)
