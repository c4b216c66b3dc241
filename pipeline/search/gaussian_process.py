"""A Gaussian process over a configuration and its budget: kernel, marginal likelihood with gradients, posterior.

The covariance of two observations (x, z) and (x', z'), z a budget's place between the smallest (0) and the largest (1)
in logarithm, is

    a k(x, x') l(z, z') + b l(z, z') + noise of the budget on the diagonal,

k a Matern 5/2 kernel with a length scale per hyperparameter, l a squared exponential. The second term is what a budget
does to every configuration alike. Squared distances are Euclidean ones of an embedding (`Embedding`), which makes the
kernel valid for categories and conditions, too.

Sources: Rasmussen and Williams 2006, chapters 2, 4 and 5; for categories and conditions Hutter and Osborne 2013.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, lapack, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

# Natural logarithms: mean and standard deviation of the prior of each kind of parameter, for standardised values.
# A length scale's grows with the root of the number of hyperparameters, as distances do (Hvarfner et al. 2024).
LENGTH, FIDELITY_LENGTH = (0.0, 1.0), (0.0, 0.7)
VARIANCE, OFFSET, NOISE = (0.0, 1.0), (-1.5, 1.5), (-4.0, 2.0)
BOUND = 4.0  # standard deviations of the prior
JITTER = 1e-6
FIT_STEPS = 40


class Embedding:
    """Coordinates in which squared distances are Euclidean.

    A number is itself; a category is a corner of a simplex, every other one at distance 1; a number that is switched
    off lies in the middle and half a unit aside.

    Args:
        choices: shape (d,): categories of each coordinate, 0 for a number.
        conditional: shape (d,): whether a condition may switch it off.

    Attributes:
        groups: shape (D,): the coordinate that each embedded one belongs to.
    """

    def __init__(self, choices: Whole, conditional: NDArray[np.bool_]) -> None:
        self._choices, self._conditional = choices, conditional
        widths = np.where(choices > 0, choices, 1 + conditional)
        self.groups: Whole = np.repeat(np.arange(len(choices)), widths)

    def __call__(self, points: Array) -> Array:
        """Points of shape (n, d), NaN where switched off; shape (n, D)."""
        columns: list[Array] = []
        for column, choices, conditional in zip(points.T, self._choices, self._conditional, strict=True):
            if choices:
                columns.extend((column == c) * np.sqrt(0.5) for c in range(choices))
                continue
            off = np.isnan(column)
            columns.append(np.where(off, 0.5, column))
            if conditional:
                columns.append(0.5 * off)
        return np.array(columns, dtype=np.float64).reshape(len(self.groups), len(points)).T


@dataclass(frozen=True)
class Data:
    """Observations.

    Attributes:
        x: embedded configurations, shape (n, D).
        z: place of the budget, in [0, 1]; shape (n,).
        level: number of the budget, for its noise; shape (n,).
    """

    x: Array
    z: Array
    level: Whole

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, chosen: NDArray[np.int64] | slice) -> Data:
        return Data(self.x[chosen], self.z[chosen], self.level[chosen])

    def joined(self, other: Data) -> Data:
        """These observations, then the others."""
        return Data(
            np.concatenate([self.x, other.x]),
            np.concatenate([self.z, other.z]),
            np.concatenate([self.level, other.level]),
        )


@dataclass(frozen=True)
class Hyperparameters:
    """Of the kernel.

    Attributes:
        lengths: length scale of each group of coordinates, shape (d,).
        fidelity_length: of the budget's place.
        variance, offset: a and b above.
        noise: variance on each budget, shape (levels,).
    """

    lengths: Array
    fidelity_length: float
    variance: float
    offset: float
    noise: Array

    @classmethod
    def from_logs(cls, logs: Array, d: int) -> Hyperparameters:
        """From natural logarithms: length scales, the budget's, variance, offset, noise."""
        values = np.exp(logs)
        return cls(values[:d], float(values[d]), float(values[d + 1]), float(values[d + 2]), values[d + 3 :])


def _priors(d: int, levels: int) -> tuple[Array, Array]:
    length = LENGTH[0] + 0.5 * np.log(max(d, 1))
    means = [*[length] * d, FIDELITY_LENGTH[0], VARIANCE[0], OFFSET[0], *[NOISE[0]] * levels]
    deviations = [*[LENGTH[1]] * d, FIDELITY_LENGTH[1], VARIANCE[1], OFFSET[1], *[NOISE[1]] * levels]
    return np.array(means), np.array(deviations)


def fit(data: Data, y: Array, groups: Whole, levels: int) -> Hyperparameters:
    """The hyperparameters of the largest posterior probability, from the prior's own start: the same observations give
    the same, whatever was fitted before.

    Args:
        y: standardised values, shape (n,).
        groups: see `Embedding`.
        levels: number of budgets.
    """
    d = int(groups.max(initial=-1)) + 1
    means, deviations = _priors(d, levels)
    objective = _Objective(data, y, groups, d, means, deviations)
    bounds = list(zip(means - BOUND * deviations, means + BOUND * deviations, strict=True))
    found = minimize(objective, means, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": FIT_STEPS})
    return Hyperparameters.from_logs(found.x, d)


class _Objective:
    """Minus the logarithm of the posterior of the hyperparameters' logarithms, and its gradient."""

    def __init__(self, data: Data, y: Array, groups: Whole, d: int, means: Array, deviations: Array) -> None:
        self.data, self.y, self.groups, self.d = data, y, groups, d
        self.means, self.deviations = means, deviations
        self.squared_z = (data.z[:, None] - data.z) ** 2
        self.levels = np.eye(len(means) - d - 3)[data.level]

    def __call__(self, logs: Array) -> tuple[float, Array]:
        h = Hyperparameters.from_logs(logs, self.d)
        scaled = self.data.x / h.lengths[self.groups]
        distance = np.sqrt(5 * _squares(scaled, scaled))
        decay = np.exp(-distance)
        fidelity = np.exp(-0.5 * self.squared_z / h.fidelity_length**2)
        shared, offset = (h.variance * (1 + distance + distance**2 / 3) * decay * fidelity, h.offset * fidelity)
        covariance = shared + offset
        covariance[np.diag_indices_from(covariance)] += h.noise[self.data.level] + JITTER
        prior = (logs - self.means) / self.deviations
        try:
            lower = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return 1e10, np.zeros_like(logs)
        alpha = _solve(lower, self.y)
        value = 0.5 * self.y @ alpha + np.log(np.diag(lower)).sum() + 0.5 * prior @ prior
        # Half the trace of (alpha alpha' - inverse) times the covariance's derivative (Rasmussen and Williams, 5.9).
        weight = _inverse(lower)
        weight -= np.outer(alpha, alpha)
        weight *= 0.5
        gradient = np.empty_like(logs)
        # The derivative of the Matern kernel by a squared distance, times twice the squared distance.
        by_distance = weight * (h.variance * 5 / 3) * (1 + distance) * decay * fidelity
        moments = 2 * (by_distance.sum(axis=1) @ scaled**2 - np.einsum("ij,ij->j", scaled, by_distance @ scaled))
        gradient[: self.d] = np.bincount(self.groups, moments, minlength=self.d)
        gradient[self.d] = (weight * (shared + offset) * self.squared_z).sum() / h.fidelity_length**2
        gradient[self.d + 1] = (weight * shared).sum()
        gradient[self.d + 2] = (weight * offset).sum()
        gradient[self.d + 3 :] = h.noise * (np.diag(weight) @ self.levels)
        return float(value), gradient + prior / self.deviations


def _squares(a: Array, b: Array) -> Array:
    """Squared distances of the rows, shape (len(a), len(b))."""
    squares = -2 * (a @ b.T)
    squares += np.einsum("ij,ij->i", a, a)[:, None]
    squares += np.einsum("ij,ij->i", b, b)
    return np.asarray(np.maximum(squares, 0.0, out=squares))


def _solve(lower: Array, y: Array) -> Array:
    half = solve_triangular(lower, y, lower=True, check_finite=False)
    return np.asarray(solve_triangular(lower, half, lower=True, trans="T", check_finite=False))


def _inverse(lower: Array) -> Array:
    inverse, _ = lapack.dpotri(lower, lower=1)
    return np.asarray(np.tril(inverse) + np.tril(inverse, -1).T)


class Posterior:
    """What is believed of every configuration, given observations and evaluations that are under way.

    Args:
        data, y: observations.
        pending: evaluations under way: they leave the mean as it is and take away their share of the uncertainty, as
            if each had ended as expected.
    """

    def __init__(self, data: Data, y: Array, groups: Whole, h: Hyperparameters, pending: Data | None = None) -> None:
        self._groups, self._h = groups, h
        self._known = data if pending is None else data.joined(pending)
        covariance = self._covariance(self._known, self._known)
        covariance[np.diag_indices_from(covariance)] += h.noise[self._known.level] + JITTER
        self._lower = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        self._alpha = _solve(np.ascontiguousarray(self._lower[: len(data), : len(data)]), y)

    def __call__(self, data: Data) -> tuple[Array, Array]:
        """Mean and standard deviation without noise; each of shape (n,)."""
        cross = self._covariance(self._known, data)
        mean = cross[: len(self._alpha)].T @ self._alpha
        explained = solve_triangular(self._lower, cross, lower=True, check_finite=False, overwrite_b=True)
        variance = self._h.variance + self._h.offset - np.einsum("ij,ij->j", explained, explained)
        return np.asarray(mean), np.sqrt(np.maximum(variance, 1e-12))

    def _covariance(self, a: Data, b: Data) -> Array:
        h = self._h
        scales = h.lengths[self._groups]
        distance = np.sqrt(5 * _squares(a.x / scales, b.x / scales))
        matern = (1 + distance + distance**2 / 3) * np.exp(-distance)
        fidelity = np.exp(-0.5 * ((a.z[:, None] - b.z) / h.fidelity_length) ** 2)
        return np.asarray((h.variance * matern + h.offset) * fidelity)
