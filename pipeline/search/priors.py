"""What an expert expects of good configurations: where values lie, and how sure that is.

The belief enters every method and fades as results come in: a share of the random draws comes from it (PriorBand:
Mallik et al. 2023), and what a model finds promising is weighted with its density to a power that falls with the
number of results (PiBO: Hvarfner et al. 2022).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtr, ndtri

from pipeline.search.encoding import Array, Encoding
from pipeline.settings.search import PriorSettings

# Standard deviation of a number, as a share of its range; probability of a category besides its even share.
SPREAD = {"low": 0.5, "medium": 0.25, "high": 0.125}
FAVOUR = {"low": 0.25, "medium": 0.5, "high": 0.75}
# Share of the random draws before the first result, and results after which it is half of that.
SHARE, HALF_LIFE = 0.5, 30
# Power of the density in what a model finds promising, times the number of results.
POWER = 10.0
# Draws until one is no forbidden combination.
TRIES = 100


class ExpertPriors:
    """The belief over the whole space; hyperparameters without one are even.

    Args:
        given: by hyperparameter.

    Raises:
        SettingsError: a hyperparameter or a value that the space does not have.
    """

    def __init__(self, encoding: Encoding, given: Mapping[str, PriorSettings]) -> None:
        self._encoding = encoding
        d = len(encoding.choices)
        # NaN: even.
        self._centre, self._spread, self._favour = np.full(d, np.nan), np.full(d, np.nan), np.zeros(d)
        for name, prior in given.items():
            column = encoding.column(f"search.priors.{name}", name)
            self._centre[column] = encoding.coordinate(f"search.priors.{name}.value", name, prior.value)
            self._spread[column] = SPREAD[prior.confidence]
            self._favour[column] = FAVOUR[prior.confidence]

    def draw(self, random: np.random.Generator, results: int) -> Array | None:
        """A configuration's vector, shape (d,), or None: draw evenly (for a share that grows with the results)."""
        if random.random() >= SHARE / (1 + results / HALF_LIFE):
            return None
        points = self._points(random, TRIES)
        _, allowed = self._encoding.legal(points)
        return np.asarray(points[allowed][0]) if allowed.any() else None

    def _points(self, random: np.random.Generator, count: int) -> Array:
        choices = self._encoding.choices
        u, v = random.random((2, count, len(choices)))
        even = np.where(choices > 0, np.floor(u * choices), u)
        # Truncated normal by inversion.
        low, high = ndtr(-self._centre / self._spread), ndtr((1 - self._centre) / self._spread)
        normal = np.clip(self._centre + self._spread * ndtri(low + u * (high - low)), 0.0, 1.0)
        believed = np.where(choices > 0, np.where(v < self._favour, self._centre, even), normal)
        return np.where(np.isnan(self._centre), even, believed)

    def log_weight(self, points: Array, results: int) -> Array:
        """Logarithm of the weight of points of shape (n, d), NaN where switched off; shape (n,)."""
        choices = self._encoding.choices
        normal = -0.5 * ((points - self._centre) / self._spread) ** 2
        share = (1 - self._favour) / np.maximum(choices, 1)
        category = np.log(np.where(points == self._centre, self._favour + share, share))
        terms = np.where(choices > 0, category, normal)
        return np.asarray(np.nansum(np.where(np.isnan(self._centre), 0.0, terms), axis=1) * POWER / max(results, 1))
