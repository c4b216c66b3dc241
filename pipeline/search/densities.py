"""BOHB's densities: products of one-dimensional kernels, evaluated for all candidates at once.

The same estimator as statsmodels' `KDEMultivariate(bw="normal_reference")`, which hpbandster uses: Gaussian kernels
for numbers, Aitchison and Aitken's for categories. One difference, on purpose: the number of categories is the
hyperparameter's own, not the number that happens to occur in the data, which makes statsmodels divide by zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Density:
    """A kernel density over the unit cube.

    Attributes:
        data: observations, shape (n, d); categories as their index.
        bandwidths: shape (d,).
        choices: shape (d,), int: number of categories, 0 for a number.
    """

    data: Array
    bandwidths: Array
    choices: NDArray[np.int64]

    def __call__(self, points: Array) -> Array:
        """The density at points of shape (m, d); shape (m,)."""
        number = self.choices == 0
        scaled = self.bandwidths[number]
        # A product of Gaussians is the Gaussian of the summed squares: one exp per pair instead of one per coordinate.
        kernels = _half_square_distances(points[:, number] / scaled, self.data[:, number] / scaled)
        np.exp(np.negative(kernels, out=kernels), out=kernels)
        kernels /= np.prod(np.sqrt(2 * np.pi) * scaled)
        for column in () if number.all() else np.flatnonzero(~number):
            width = self.bandwidths[column]
            same = points[:, None, column] == self.data[None, :, column]
            kernels *= np.where(same, 1 - width, width / max(self.choices[column] - 1, 1))
        return np.asarray(kernels.mean(axis=1), dtype=np.float64)


def _half_square_distances(a: Array, b: Array) -> Array:
    """Half the squared distance of every row of a to every row of b; shape (len(a), len(b)).

    As a matrix product, centred: three times as fast as pair by pair.
    """
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    squares = a @ b.T
    np.negative(squares, out=squares)
    squares += 0.5 * np.einsum("ij,ij->i", a, a)[:, None]
    squares += 0.5 * np.einsum("ij,ij->i", b, b)
    return np.asarray(np.maximum(squares, 0.0, out=squares))


def fit_density(data: Array, choices: NDArray[np.int64], min_bandwidth: float) -> Density:
    """A density of observations of shape (n, d), by the normal reference rule 1.06 sigma n^(-1/(4+d)) (Silverman 1986;
    statsmodels' `_normal_reference`).

    No bandwidth is below `min_bandwidth`, and none of a hyperparameter with c categories above (c - 1) / c: so wide,
    Aitchison and Aitken's kernel takes every category alike.
    """
    n, d = data.shape
    bandwidths = 1.06 * data.std(axis=0) * n ** (-1.0 / (4 + d))
    widest = np.where(choices > 0, (choices - 1) / np.maximum(choices, 1), np.inf)
    return Density(data, np.minimum(np.maximum(bandwidths, min_bandwidth), widest), choices)
