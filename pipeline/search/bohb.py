"""BOHB's model (Falkner et al. 2018), vectorised: densities of good and bad configurations, and candidates."""

from __future__ import annotations

import math
from array import array
from bisect import bisect
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from ConfigSpace import ConfigurationSpace
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pipeline.records import ConfigId, Configuration, derive_seed
from pipeline.search.densities import Array, Density, fit_density
from pipeline.search.encoding import Encoding
from pipeline.search.priors import ExpertPriors
from pipeline.search.proposers import Pending, Proposal, Proposer, RandomProposer
from pipeline.settings import Settings


class Observations:
    """Vectors of one budget, ordered by (loss, config_id): the model must not depend on the order of arrival.

    Args:
        dimensions: of the vectors.
    """

    def __init__(self, dimensions: int) -> None:
        self._vectors = np.empty((64, dimensions))
        self._keys: list[tuple[float, ConfigId]] = []
        self._rows = array("q")

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, loss: float, config_id: ConfigId, vector: Array) -> None:
        """Take one in; a crash is an infinite loss."""
        row = len(self._keys)
        if row == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self._vectors[row] = vector
        place = bisect(self._keys, (loss, config_id))
        self._keys.insert(place, (loss, config_id))
        self._rows.insert(place, row)

    def best_first(self, begin: int, end: int) -> Array:
        """The vectors of these ranks, shape (end - begin, d)."""
        return np.asarray(self._vectors[np.frombuffer(self._rows, dtype=np.int64)[begin:end]])


class BohbProposer(Proposer):
    """BOHB's model (Falkner et al. 2018, Algorithm 2; hpbandster's CG_BOHB), vectorised.

    On the largest budget that has enough observations, the best share and the rest each get a density; of
    `num_samples` candidates from the widened good density the one with the largest ratio good / bad is proposed.
    """

    is_slow = False
    learns_on_the_way = False

    def __init__(self, space: ConfigurationSpace, settings: Settings, priors: ExpertPriors | None = None) -> None:
        self._seed = settings.seed
        self._random = RandomProposer(space, settings.seed, priors)
        self._priors = priors
        self._search = settings.search
        self._encoding = Encoding(space)
        self._choices = self._encoding.choices
        least = len(self._choices) + 1
        self._min_points = max(settings.search.min_points_in_model or least, least)
        self._observed: dict[float, Observations] = {}
        self._results = 0
        self._fitted: dict[float, tuple[int, Density, Density]] = {}

    def absorb(self, config_id: ConfigId, configuration: Configuration, budget: float, loss: float | None) -> None:
        """As `Proposer.absorb`."""
        if budget not in self._observed:
            self._observed[budget] = Observations(len(self._choices))
        value = math.inf if loss is None or not math.isfinite(loss) else loss
        self._results += 1
        self._observed[budget].add(value, config_id, self._encoding.vector(configuration))

    def plan(self, config_id: ConfigId, budget: float, pending: Sequence[Pending]) -> Callable[[], Proposal]:
        """As `Proposer.plan`."""
        return partial(self.propose, config_id)

    def propose(self, config_id: ConfigId) -> Proposal:
        """The proposal of a config_id; at random until there are enough observations, and for a share of the draws."""
        random = np.random.default_rng(derive_seed(self._seed, "model", *config_id))
        model_budget = self._model_budget()
        if model_budget is None or random.random() < self._search.random_fraction:
            return self._random.propose(config_id, self._results)
        good, bad = self._model(model_budget)
        candidates = best_first(
            good, bad, random, self._search.num_samples, self._search.bandwidth_factor, self._log_weight
        )
        for vector in candidates if self._encoding.is_plain else self._allowed(candidates):
            return Proposal(self._encoding.configuration(vector), model_budget)
        # Every candidate is forbidden.
        return self._random.propose(config_id, self._results)

    def _log_weight(self, candidates: Array) -> Array | float:
        return 0.0 if self._priors is None else self._priors.log_weight(candidates, self._results)

    def _allowed(self, candidates: Array) -> Array:
        return np.asarray(candidates[self._encoding.legal(candidates)[1]])

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
            good, bad = (
                fit_density(part, self._choices, self._search.min_bandwidth)
                for part in self._whole(budget, observed.best_first(0, n_good + n_bad), n_good)
            )
            cached = self._fitted[budget] = (len(observed), good, bad)
        return cached[1], cached[2]

    def _whole(self, budget: float, vectors: Array, n_good: int) -> tuple[Array, Array]:
        """The good and the bad vectors, every coordinate filled."""
        good, bad = vectors[:n_good], vectors[n_good:]
        if not np.isnan(vectors).any():
            return good, bad
        random = np.random.default_rng(derive_seed(self._seed, "impute", repr(budget), len(self._observed[budget])))
        return impute(good, self._choices, random), impute(bad, self._choices, random)


def best_first(
    good: Density,
    bad: Density,
    random: np.random.Generator,
    num_samples: int,
    bandwidth_factor: float,
    log_weight: Callable[[Array], Array | float] = lambda candidates: 0.0,
) -> Array:
    """Candidates, those with the largest ratio of the good density to the bad one first; shape (num_samples, d).

    Each candidate takes a good observation and moves every coordinate: a number by a normal distribution of
    `bandwidth_factor` bandwidths, truncated to the unit interval; a category to a random one with the bandwidth as
    probability.

    Args:
        log_weight: of candidates; logarithm of what the ratio good / bad is multiplied by.
    """
    n, d = good.data.shape
    centre = good.data[random.integers(n, size=num_samples)]
    width = np.where(good.choices > 0, good.bandwidths, good.bandwidths * bandwidth_factor)
    # Truncated normal by inversion: uniform between the distribution function's values at 0 and at 1.
    low, high = ndtr(-centre / width), ndtr((1 - centre) / width)
    candidates = centre + width * ndtri(low + random.random((num_samples, d)) * (high - low))
    np.clip(candidates, 0.0, 1.0, out=candidates)
    if good.choices.any():
        category = np.where(
            random.random((num_samples, d)) < 1 - width,
            centre,
            np.floor(random.random((num_samples, d)) * np.maximum(good.choices, 1)),
        )
        candidates = np.where(good.choices > 0, category, candidates)
    # hpbandster's floor keeps the ratio finite far away from all observations.
    ratio = np.maximum(bad(candidates), 1e-32) / np.maximum(good(candidates), 1e-32) / np.exp(log_weight(candidates))
    return np.asarray(candidates[np.argsort(ratio, kind="stable")])


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
