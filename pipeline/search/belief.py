"""What the model-based proposer `gp` believes: the loss of every configuration on the largest budget, and whether it
crashes; from results, and from evaluations under way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr

from pipeline.records import ConfigId
from pipeline.search.encoding import Array
from pipeline.search.gaussian_process import Data, Embedding, Hyperparameters, Posterior, fit

# Losses are told apart up to so many times the distance from the median to the best tenth: what is hopeless is all one.
TOLD_APART = 3.0
# No configuration is believed to crash for certain.
LEAST_CHANCE = 0.01


@dataclass(frozen=True)
class Observation:
    """A result.

    Attributes:
        vector: see `Encoding`; shape (d,).
        level: number of its budget in the ladder.
        loss: infinite where it crashed.
    """

    config_id: ConfigId
    vector: Array
    level: int
    loss: float

    @property
    def crashed(self) -> bool:
        """Whether there is no loss."""
        return not math.isfinite(self.loss)


class Frame:
    """How observations become data of a Gaussian process.

    Args:
        embedding: of vectors.
        levels: number of budgets.
    """

    def __init__(self, embedding: Embedding, levels: int) -> None:
        self.embedding = embedding
        self.levels = levels

    def data(self, vectors: Array, levels: Sequence[int]) -> Data:
        """Configurations, shape (n, d), each on a budget."""
        return Data(self.embedding(vectors), np.array(levels, dtype=np.int64))

    def on_largest(self, vectors: Array) -> Data:
        """Configurations on the largest budget."""
        return self.data(vectors, [self.levels - 1] * len(vectors))


@dataclass(frozen=True)
class Fitted:
    """Hyperparameters of the loss, and of crashing where something has crashed."""

    loss: Hyperparameters
    crash: Hyperparameters | None


def fit_belief(observed: Sequence[Observation], frame: Frame) -> Fitted:
    """Fit both to observations, of which at least one has a loss."""
    finite = [o for o in observed if not o.crashed]
    loss = fit(_data(finite, frame), standardised(_losses(finite)), frame.embedding.groups, frame.levels)
    if len(finite) == len(observed):
        return Fitted(loss, None)
    data, excess, _ = _crashes(observed, frame)
    return Fitted(loss, fit(data, excess, frame.embedding.groups, 1))


class Belief:
    """The posterior, and how promising it makes a configuration.

    Args:
        observed: results, at least one with a loss.
        under_way: vectors of configurations that are being evaluated, shape (m, d). Each counts as if it had ended on
            the largest budget as expected: what else would keep parallel workers from getting twins?

    Attributes:
        known: vectors of all of these.
        best_first: vectors of the configurations with a loss, by what is expected on the largest budget.
    """

    def __init__(self, observed: Sequence[Observation], under_way: Array, frame: Frame, fitted: Fitted) -> None:
        self._frame = frame
        self._coupling = fitted.loss.coupling
        finite = [o for o in observed if not o.crashed]
        pending = frame.on_largest(under_way) if len(under_way) else None
        y = standardised(_losses(finite))
        self._loss = Posterior(_data(finite, frame), y, frame.embedding.groups, fitted.loss, pending)
        self.known = np.concatenate([np.array([o.vector for o in observed]), under_way])
        unique = {o.config_id: o.vector for o in finite}
        vectors = np.array(list(unique.values()))
        mean, _ = self._loss(frame.on_largest(vectors))
        self.best_first = vectors[np.argsort(mean, kind="stable")]
        self._best = float(mean.min())
        finished = {o.config_id for o in finite if o.level == frame.levels - 1}
        self._best_finished = float(mean[[c in finished for c in unique]].min(initial=math.inf))
        self._crash: tuple[Posterior, float] | None = None
        if fitted.crash is not None:
            data, excess, rate = _crashes(observed, frame)
            self._crash = (Posterior(data, excess, frame.embedding.groups, fitted.crash), rate)

    def expected(self, vectors: Array) -> tuple[Array, Array]:
        """The loss that is expected of configurations on the largest budget, standardised, and the chance that it is
        less than what is expected of the best that has been there; each of shape (n,).
        """
        mean, deviation = self._loss(self._frame.on_largest(vectors))
        return mean, np.asarray(ndtr((self._best_finished - mean) / deviation))

    def agreement(self, level: int) -> float:
        """The correlation that is learnt of losses on a budget, by its number, with those on the largest."""
        largest = self._coupling[-1, -1] * self._coupling[level, level]
        return float(self._coupling[-1, level] / math.sqrt(largest)) if largest > 0 else 0.0

    def merit(self, vectors: Array) -> Array:
        """Logarithm of the expected improvement of configurations on the largest budget over the best that is expected
        there of any so far, times the probability of not crashing; shape (n,).
        """
        data = self._frame.on_largest(vectors)
        mean, deviation = self._loss(data)
        merit = np.log(deviation) + log_expected_improvement((self._best - mean) / deviation)
        if self._crash is not None:
            posterior, rate = self._crash
            excess, _ = posterior(_anywhere(data))
            merit += np.log(np.clip(1 - rate - excess, LEAST_CHANCE, 1.0))
        return np.asarray(merit)


def standardised(losses: Array) -> Array:
    """Losses with mean 0 and standard deviation 1, hopeless ones pulled in (`TOLD_APART`)."""
    middle, good = np.median(losses), np.quantile(losses, 0.1)
    pulled = np.minimum(losses, middle + TOLD_APART * (middle - good)) if middle > good else losses
    # What rounding leaves of equal losses is no spread.
    least = 1e-12 * float(np.abs(pulled).max()) or 1.0
    return np.asarray((pulled - pulled.mean()) / max(float(pulled.std()), least))


def log_expected_improvement(u: Array) -> Array:
    """Logarithm of phi(u) + u Phi(u), also far below zero, where it is almost phi(u) / u^2."""
    log_density = -0.5 * (u * u + math.log(2 * math.pi))
    near = np.maximum(u, -6.0)
    exact = np.log(np.exp(-0.5 * near * near) / math.sqrt(2 * math.pi) + near * np.exp(log_ndtr(near)))
    return np.asarray(np.where(u > -6.0, exact, log_density - 2 * np.log(np.maximum(-u, 6.0))))


def _losses(observed: Sequence[Observation]) -> Array:
    return np.array([o.loss for o in observed])


def _data(observed: Sequence[Observation], frame: Frame) -> Data:
    return frame.data(np.array([o.vector for o in observed]), [o.level for o in observed])


def _anywhere(data: Data) -> Data:
    """The same configurations, whatever the budget."""
    return Data(data.x, np.zeros(len(data), dtype=np.int64))


def _crashes(observed: Sequence[Observation], frame: Frame) -> tuple[Data, Array, float]:
    """Configurations, how far each is above the rate of crashes (1 or 0), and that rate."""
    crashed = np.array([float(o.crashed) for o in observed])
    rate = float(crashed.mean())
    return _anywhere(_data(observed, frame)), crashed - rate, rate
