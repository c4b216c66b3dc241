"""Who proposes configurations: at random, or BOHB's model; every proposal can be derived again.

A proposal depends on the run's seed, its config_id and the results absorbed so far, and on nothing else: no state of a
random generator is carried from one to the next.

A further method is a class with the two methods of `Proposer`, a line in `make_proposer` and a name in
`SearchSettings.method`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ConfigSpace import Configuration as SpaceConfiguration
from ConfigSpace import ConfigurationSpace
from ConfigSpace.util import deactivate_inactive_hyperparameters
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pipeline.records import ConfigId, Configuration, derive_seed
from pipeline.search.densities import Array, Density, fit_density
from pipeline.settings import Settings
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


class BohbProposer:
    """BOHB's model (Falkner et al. 2018, Algorithm 2; hpbandster's CG_BOHB), vectorised.

    On the largest budget that has enough observations, the best share and the rest each get a density; of
    `num_samples` candidates from the widened good density the one with the largest ratio good / bad is proposed.
    """

    def __init__(self, space: ConfigurationSpace, settings: Settings) -> None:
        self._space = space
        self._seed = settings.seed
        self._random = RandomProposer(space, settings.seed)
        self._search = settings.search
        hyperparameters = list(space.values())
        for h in hyperparameters:
            if hasattr(h, "sequence"):
                raise ValueError(f"{h.name}: BOHB has no kernel for ordinals; make it an integer")
        self._choices = np.array([len(getattr(h, "choices", ())) for h in hyperparameters], dtype=np.int64)
        least = len(hyperparameters) + 1
        self._min_points = max(settings.search.min_points_in_model or least, least)
        # By budget: what was observed, as (loss, config_id, vector); a crash is an infinite loss.
        self._observed: dict[float, list[tuple[float, ConfigId, Array]]] = {}
        self._fitted: dict[float, tuple[int, Density, Density]] = {}

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """As `Proposer.absorb`."""
        vector = SpaceConfiguration(self._space, values=dict(configuration)).get_array()
        value = math.inf if loss is None or not math.isfinite(loss) else loss
        self._observed.setdefault(budget, []).append((value, config_id, np.asarray(vector, dtype=np.float64)))

    def propose(self, config_id: ConfigId, budget: float) -> Proposal:
        """As `Proposer.propose`; at random until a budget has enough observations, and for a share of the draws."""
        random = np.random.default_rng(derive_seed(self._seed, "model", *config_id))
        model_budget = self._model_budget()
        if model_budget is None or random.random() < self._search.random_fraction:
            return self._random.propose(config_id, budget)
        good, bad = self._model(model_budget)
        vector = best_candidate(good, bad, random, self._search.num_samples, self._search.bandwidth_factor)
        return Proposal(self._from_vector(vector), model_budget)

    def _model_budget(self) -> float | None:
        """The largest budget with enough observations for both densities."""
        enough = [b for b, seen in self._observed.items() if self._split(len(seen)) is not None]
        return max(enough, default=None)

    def _split(self, n: int) -> tuple[int, int] | None:
        """How many observations are good and how many bad, or None: too few (hpbandster's rule)."""
        if n < self._min_points:
            return None
        n_good = max(self._min_points, self._search.top_n_percent * n // 100)
        n_bad = min(max(self._min_points, (100 - self._search.top_n_percent) * n // 100), n - n_good)
        d = len(self._choices)
        return (n_good, n_bad) if n_good > d and n_bad > d else None

    def _model(self, budget: float) -> tuple[Density, Density]:
        observed = self._observed[budget]
        cached = self._fitted.get(budget)
        if cached is None or cached[0] != len(observed):
            split = self._split(len(observed))
            assert split is not None
            n_good, n_bad = split
            # Ties break by config_id: the model must not depend on the order of arrival.
            vectors = np.array([v for _, _, v in sorted(observed, key=lambda o: o[:2])])
            random = np.random.default_rng(derive_seed(self._seed, "impute", repr(budget), len(observed)))
            good, bad = (
                fit_density(impute(part, self._choices, random), self._choices, self._search.min_bandwidth)
                for part in (vectors[:n_good], vectors[n_good : n_good + n_bad])
            )
            cached = self._fitted[budget] = (len(observed), good, bad)
        return cached[1], cached[2]

    def _from_vector(self, vector: Array) -> Configuration:
        values = {
            name: h.to_value(np.rint(x) if c else x)
            for (name, h), x, c in zip(self._space.items(), vector, self._choices, strict=True)
        }
        # Candidates have a value everywhere; what a condition switches off is left out here.
        return plain_configuration(dict(deactivate_inactive_hyperparameters(values, self._space)))


def best_candidate(
    good: Density, bad: Density, random: np.random.Generator, num_samples: int, bandwidth_factor: float
) -> Array:
    """The candidate with the largest ratio of the good density to the bad one; shape (d,).

    Each candidate takes a good observation and moves every coordinate: a number by a normal distribution of
    `bandwidth_factor` bandwidths, truncated to the unit interval; a category to a random one with the bandwidth as
    probability.
    """
    n, d = good.data.shape
    centre = good.data[random.integers(n, size=num_samples)]
    width = np.where(good.choices > 0, good.bandwidths, good.bandwidths * bandwidth_factor)
    # Truncated normal by inversion: uniform between the distribution function's values at 0 and at 1.
    low, high = ndtr(-centre / width), ndtr((1 - centre) / width)
    number = centre + width * ndtri(low + random.random((num_samples, d)) * (high - low))
    category = np.where(
        random.random((num_samples, d)) < 1 - width,
        centre,
        np.floor(random.random((num_samples, d)) * np.maximum(good.choices, 1)),
    )
    candidates = np.where(good.choices > 0, category, np.clip(number, 0.0, 1.0))
    # hpbandster's floor keeps the ratio finite far away from all observations.
    ratio = np.maximum(bad(candidates), 1e-32) / np.maximum(good(candidates), 1e-32)
    return np.asarray(candidates[int(np.argmin(ratio))], dtype=np.float64)


def impute(vectors: Array, choices: NDArray[np.int64], random: np.random.Generator) -> Array:
    """Fill coordinates that a condition had switched off (NaN), as hpbandster means to: from a random observation
    that has a value there, else at random. (hpbandster's own loop overlooks index 0 and leaves NaN in the model.)

    Args:
        vectors: shape (n, d).
        choices: shape (d,): number of categories, 0 for a number.
    """
    filled = vectors.copy()
    for column in np.flatnonzero(np.isnan(vectors).any(axis=0)):
        missing = np.isnan(vectors[:, column])
        known = vectors[~missing, column]
        count = int(missing.sum())
        if len(known):
            filled[missing, column] = random.choice(known, size=count)
        elif choices[column]:
            filled[missing, column] = random.integers(choices[column], size=count)
        else:
            filled[missing, column] = random.random(count)
    return filled


def make_proposer(settings: Settings, space: ConfigurationSpace) -> Proposer:
    """The proposer that `search.method` asks for."""
    makers: Mapping[str, Callable[[], Proposer]] = {
        "bohb": lambda: BohbProposer(space, settings),
        "hyperband": lambda: RandomProposer(space, settings.seed),
        "random": lambda: RandomProposer(space, settings.seed),
    }
    return makers[settings.search.method]()
