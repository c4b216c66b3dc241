"""A Gaussian process over a configuration and its budget: kernel, marginal likelihood with gradients, posterior.

The covariance of two observations (x, i) and (x', j), i and j the numbers of their budgets in the ladder, is

    k(x, x') B[i, j] + b C[i, j] + noise of the budget on the diagonal,

k a Matern 5/2 kernel with a length scale per hyperparameter. B = W W' is learnt: how much budgets vary and what each
tells about another one, which may be nothing, or the contrary (the intrinsic model of coregionalisation). It is
expected to be C, in which neighbouring budgets are correlated by `NEIGHBOURS`. The second term is what a budget does to
every configuration alike. Squared distances are Euclidean ones of an embedding (`Embedding`), which makes the kernel
valid for categories and conditions, too.

Sources: Rasmussen and Williams 2006, chapters 2, 4 and 5; for coregionalisation Bonilla et al. 2007; for categories and
conditions Hutter and Osborne 2013.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

# Natural logarithms: mean and standard deviation of the prior of each kind of parameter, for standardised values.
# A length scale's grows with the root of the number of hyperparameters, as distances do (Hvarfner et al. 2024).
LENGTH, OFFSET, NOISE = (0.0, 1.0), (-1.5, 1.5), (-4.0, 2.0)
# Correlation of neighbouring budgets that is expected, and the standard deviation of the prior of W's elements.
NEIGHBOURS, COUPLING = 0.9, 0.5
BOUND = 4.0  # standard deviations of the prior
JITTER = 1e-6
FIT_STEPS = 40
# Configurations that are looked at together.
PIECE = 128


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
        level: number of the budget; shape (n,).
    """

    x: Array
    level: Whole

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, chosen: NDArray[np.int64] | slice) -> Data:
        return Data(self.x[chosen], self.level[chosen])

    def joined(self, other: Data) -> Data:
        """These observations, then the others."""
        return Data(np.concatenate([self.x, other.x]), np.concatenate([self.level, other.level]))


@dataclass(frozen=True)
class Hyperparameters:
    """Of the kernel.

    Attributes:
        lengths: length scale of each group of coordinates, shape (d,).
        offset: b above.
        noise: variance on each budget, shape (levels,).
        factor: W above, lower triangular, shape (levels, levels).
    """

    lengths: Array
    offset: float
    noise: Array
    factor: Array

    @classmethod
    def from_vector(cls, vector: Array, d: int, levels: int) -> Hyperparameters:
        """From natural logarithms of length scales, offset and noise, and the elements of the factor."""
        logs = np.exp(vector[: d + 1 + levels])
        factor = np.zeros((levels, levels))
        factor[np.tril_indices(levels)] = vector[d + 1 + levels :]
        return cls(logs[:d], float(logs[d]), logs[d + 1 :], factor)

    @property
    def coupling(self) -> Array:
        """B above, shape (levels, levels)."""
        return np.asarray(self.factor @ self.factor.T)


def expected_coupling(levels: int) -> Array:
    """C above, shape (levels, levels)."""
    numbers = np.arange(levels)
    return np.asarray(NEIGHBOURS ** np.abs(numbers[:, None] - numbers))


def _priors(d: int, levels: int) -> tuple[Array, Array]:
    length = LENGTH[0] + 0.5 * np.log(max(d, 1))
    factor = np.linalg.cholesky(expected_coupling(levels))[np.tril_indices(levels)]
    means = [*[length] * d, OFFSET[0], *[NOISE[0]] * levels, *factor]
    deviations = [*[LENGTH[1]] * d, OFFSET[1], *[NOISE[1]] * levels, *[COUPLING] * len(factor)]
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
    objective = _Objective(data, y, groups, d, levels, means, deviations)
    bounds = list(zip(means - BOUND * deviations, means + BOUND * deviations, strict=True))
    found = minimize(objective, means, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": FIT_STEPS})
    return Hyperparameters.from_vector(found.x, d, levels)


class _Objective:
    """Minus the logarithm of the posterior of the hyperparameters, and its gradient."""

    def __init__(
        self, data: Data, y: Array, groups: Whole, d: int, levels: int, means: Array, deviations: Array
    ) -> None:
        self.data, self.y, self.groups, self.d, self.levels = data, y, groups, d, levels
        self.means, self.deviations = means, deviations
        self.at = np.ix_(data.level, data.level)
        self.alike = expected_coupling(levels)[self.at]
        self.indicator = np.eye(levels)[data.level]

    def __call__(self, vector: Array) -> tuple[float, Array]:
        d, levels = self.d, self.levels
        h = Hyperparameters.from_vector(vector, d, levels)
        scaled = self.data.x / h.lengths[self.groups]
        distance = np.sqrt(5 * _squares(scaled, scaled))
        decay = np.exp(-distance)
        coupled = h.coupling[self.at]
        matern = (1 + distance + distance**2 / 3) * decay
        covariance = matern * coupled + h.offset * self.alike
        covariance[np.diag_indices_from(covariance)] += h.noise[self.data.level] + JITTER
        prior = (vector - self.means) / self.deviations
        try:
            lower = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(vector)
        alpha = _solve(lower, self.y)
        value = 0.5 * self.y @ alpha + np.log(np.diag(lower)).sum() + 0.5 * prior @ prior
        # Half the trace of (alpha alpha' - inverse) times the covariance's derivative (Rasmussen and Williams, 5.9).
        weight = _inverse(lower)
        weight -= np.outer(alpha, alpha)
        weight *= 0.5
        gradient = np.empty_like(vector)
        # The derivative of the Matern kernel by a squared distance, times twice the squared distance.
        by_distance = weight * (5 / 3) * (1 + distance) * decay * coupled
        moments = 2 * (by_distance.sum(axis=1) @ scaled**2 - np.einsum("ij,ij->j", scaled, by_distance @ scaled))
        gradient[:d] = np.bincount(self.groups, moments, minlength=d)
        gradient[d] = h.offset * (weight * self.alike).sum()
        gradient[d + 1 : d + 1 + levels] = h.noise * (np.diag(weight) @ self.indicator)
        by_coupling = self.indicator.T @ (weight * matern) @ self.indicator
        gradient[d + 1 + levels :] = (2 * by_coupling @ h.factor)[np.tril_indices(levels)]
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
        self._coupling, self._alike = h.coupling, h.offset * expected_coupling(len(h.noise))
        self._known = data if pending is None else data.joined(pending)
        covariance = self._covariance(self._known, self._known)
        covariance[np.diag_indices_from(covariance)] += h.noise[self._known.level] + JITTER
        # numpy's, and the others piece by piece: scipy's keep the interpreter to themselves meanwhile.
        self._lower = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        self._alpha = _solve(np.ascontiguousarray(self._lower[: len(data), : len(data)]), y)

    def __call__(self, data: Data) -> tuple[Array, Array]:
        """Mean and standard deviation without noise; each of shape (n,)."""
        pieces = [self._piece(data[begin : begin + PIECE]) for begin in range(0, len(data), PIECE)]
        mean, variance = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def _piece(self, data: Data) -> tuple[Array, Array]:
        cross = self._covariance(self._known, data)
        mean = cross[: len(self._alpha)].T @ self._alpha
        explained = solve_triangular(self._lower, cross, lower=True, check_finite=False, overwrite_b=True)
        before = np.diag(self._coupling + self._alike)[data.level]
        return mean, before - np.einsum("ij,ij->j", explained, explained)

    def _covariance(self, a: Data, b: Data) -> Array:
        scales = self._h.lengths[self._groups]
        distance = np.sqrt(5 * _squares(a.x / scales, b.x / scales))
        matern = (1 + distance + distance**2 / 3) * np.exp(-distance)
        at = np.ix_(a.level, b.level)
        return np.asarray(matern * self._coupling[at] + self._alike[at])
