"""Functional ANOVA of a random forest: how much of the error's variance each hyperparameter and each pair explains.

Hutter, Hoos and Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance". Each tree is a
partition of the space into boxes, so its marginals over the prior are exact sums over leaves; the shares of variance
are taken tree by tree, and the spread over trees is reported.
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

from pipeline.analysis.axes import Axis, encode_all

TREES = 64
MIN_LEAF = 3
# Hutter et al. let a split consider 5/6 of the features.
FEATURE_SHARE = 5 / 6
FEWEST_PER_AXIS, FEWEST = 5, 20
LOW_R2 = 0.3


@dataclass(frozen=True)
class TreeBoxes:
    """A tree as its leaves' boxes.

    Attributes:
        thresholds: per axis, the ascending thresholds that the tree splits it at; k thresholds make k + 1 cells.
        masses: per axis, the prior probability of each cell.
        first, last: [leaves, axes], the cells that a leaf covers, last excluded.
        shares: [leaves, axes], the prior probability of a leaf's interval.
        weights: [leaves], value times volume.
        mean, variance: of the tree's prediction over the prior.
    """

    thresholds: list[np.ndarray]
    masses: list[np.ndarray]
    first: np.ndarray
    last: np.ndarray
    shares: np.ndarray
    weights: np.ndarray
    mean: float
    variance: float

    def marginal(self, axis: int) -> np.ndarray:
        """[cells]: the prediction averaged over all other axes."""
        cells = len(self.masses[axis])
        change = self.weights / self.shares[:, axis]
        steps = np.bincount(self.first[:, axis], change, cells + 1) - np.bincount(self.last[:, axis], change, cells + 1)
        return np.asarray(np.cumsum(steps)[:cells])

    def surface(self, one: int, two: int) -> np.ndarray:
        """[cells of one, cells of two]: the prediction averaged over all axes but these two."""
        rows, columns = len(self.masses[one]) + 1, len(self.masses[two]) + 1
        change = self.weights / (self.shares[:, one] * self.shares[:, two])
        # A leaf adds a rectangle: its four corners, then running sums along both axes.
        corners = [
            corner_one * columns + corner_two
            for corner_one in (self.first[:, one], self.last[:, one])
            for corner_two in (self.first[:, two], self.last[:, two])
        ]
        signed = np.concatenate([change, -change, -change, change])
        steps = np.bincount(np.concatenate(corners), signed, rows * columns).reshape(rows, columns)
        return np.asarray(steps.cumsum(0).cumsum(1)[:-1, :-1])

    def main_variance(self, axis: int) -> float:
        """Variance of the marginal of one axis."""
        return float(self.masses[axis] @ (self.marginal(axis) - self.mean) ** 2)

    def joint_variance(self, one: int, two: int) -> float:
        """Variance of the marginal of two axes (their main effects included)."""
        deviation = (self.surface(one, two) - self.mean) ** 2
        return float(self.masses[one] @ deviation @ self.masses[two])


class Fanova:
    """The decomposition of a forest fitted to losses.

    Attributes:
        axes: the hyperparameters.
        count: number of observations.
        forest: the fitted random forest, over coordinates.
        oob_r2: R2 of the forest's out-of-bag predictions: how much of the losses it explains at all.
        mains: columns name, share, spread (mean and standard deviation over trees of the share of variance).
        pairs: columns one, two, share, spread: pure interactions, without main effects.
        warnings: why the numbers may mislead.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        values: pd.DataFrame,
        losses: np.ndarray,
        *,
        seed: int = 0,
        trees: int = TREES,
        with_pairs: bool = True,
    ) -> None:
        """Fit.

        Args:
            values: a column per axis, a row per observation; NaN: inactive.
            losses: [rows], finite.

        Raises:
            ValueError: fewer than `FEWEST` observations, or all losses are the same.
        """
        if len(losses) < FEWEST or np.ptp(losses) == 0:
            raise ValueError(f"needs at least {FEWEST} configurations with different results, has {len(losses)}")
        self.axes = list(axes)
        self.count = len(losses)
        points = encode_all(self.axes, values, np.random.default_rng(seed))
        forest = RandomForestRegressor(
            trees, min_samples_leaf=MIN_LEAF, max_features=FEATURE_SHARE, oob_score=True, random_state=seed
        )
        with python_warnings.catch_warnings():
            # A point that is in every bootstrap sample has no out-of-bag prediction: rare, and harmless here.
            python_warnings.filterwarnings("ignore", message="Some inputs do not have OOB scores")
            forest.fit(points, losses)
        self.oob_r2 = float(forest.oob_score_)
        self.forest = forest
        self.trees = [tree_boxes(estimator.tree_, self.axes) for estimator in forest.estimators_]
        self._varied = [tree for tree in self.trees if tree.variance > 0]
        if not self._varied:
            raise ValueError("no tree of the forest found a split: the errors do not depend on the configuration")
        self.mains, main_shares = self._main_effects()
        self.pairs = self._interactions(main_shares) if with_pairs else pd.DataFrame()
        self.warnings = self._warnings()

    def _main_effects(self) -> tuple[pd.DataFrame, np.ndarray]:
        shares = np.array(
            [[tree.main_variance(a) / tree.variance for a in range(len(self.axes))] for tree in self._varied]
        )
        names = [axis.name for axis in self.axes]
        return pd.DataFrame({"name": names, "share": shares.mean(0), "spread": shares.std(0)}), shares

    def _interactions(self, mains: np.ndarray) -> pd.DataFrame:
        pairs = list(combinations(range(len(self.axes)), 2))
        shares = np.zeros((len(self._varied), len(pairs)))
        for t, tree in enumerate(self._varied):
            for p, (one, two) in enumerate(pairs):
                # An axis that a tree never splits interacts with none.
                if len(tree.masses[one]) > 1 and len(tree.masses[two]) > 1:
                    joint = tree.joint_variance(one, two) / tree.variance
                    shares[t, p] = max(0.0, joint - mains[t, one] - mains[t, two])  # below 0 by rounding only
        names = [(self.axes[one].name, self.axes[two].name) for one, two in pairs]
        return pd.DataFrame(
            {
                "one": [one for one, _ in names],
                "two": [two for _, two in names],
                "share": shares.mean(0),
                "spread": shares.std(0),
            }
        )

    def _warnings(self) -> tuple[str, ...]:
        found = []
        wanted = FEWEST_PER_AXIS * len(self.axes)
        if self.count < wanted:
            found.append(
                f"only {self.count} configurations for {len(self.axes)} hyperparameters (want {wanted} or more)"
            )
        if self.oob_r2 < LOW_R2:
            found.append(
                f"the forest explains little (out-of-bag R² {self.oob_r2:.2f}): what it calls important may be chance"
            )
        return tuple(found)

    def curve(self, name: str, points: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The marginal of one hyperparameter: (coordinates, mean loss over trees, standard deviation over trees)."""
        a = self._position(name)
        grid = self.axes[a].grid(points)
        rows = [tree.marginal(a)[np.searchsorted(tree.thresholds[a], np.float32(grid))] for tree in self.trees]
        return grid, np.mean(rows, axis=0), np.std(rows, axis=0)

    def surface(self, one: str, two: str, points: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The joint marginal of two: (coordinates of one, of two, mean loss [points of one, points of two])."""
        a, b = self._position(one), self._position(two)
        grid_one, grid_two = self.axes[a].grid(points), self.axes[b].grid(points)
        total = np.zeros((len(grid_one), len(grid_two)))
        for tree in self.trees:
            rows = np.searchsorted(tree.thresholds[a], np.float32(grid_one))
            columns = np.searchsorted(tree.thresholds[b], np.float32(grid_two))
            total += tree.surface(a, b)[np.ix_(rows, columns)]
        return grid_one, grid_two, total / len(self.trees)

    def _position(self, name: str) -> int:
        return [axis.name for axis in self.axes].index(name)


def tree_boxes(tree: object, axes: Sequence[Axis]) -> TreeBoxes:
    """The leaves of a fitted scikit-learn tree (`estimator.tree_`) as boxes, with their volumes under the prior."""
    feature, threshold = tree.feature, tree.threshold  # type: ignore[attr-defined]
    left, right = tree.children_left, tree.children_right  # type: ignore[attr-defined]
    values = tree.value[:, 0, 0]  # type: ignore[attr-defined]
    thresholds = [np.unique(threshold[feature == a]) for a in range(len(axes))]
    first = np.zeros((len(feature), len(axes)), dtype=np.intp)
    last = np.tile([len(t) + 1 for t in thresholds], (len(feature), 1))
    for node in np.flatnonzero(left >= 0):  # parents come before their children
        a = feature[node]
        cell = np.searchsorted(thresholds[a], threshold[node]) + 1
        for child in (left[node], right[node]):
            first[child], last[child] = first[node], last[node]
        last[left[node], a] = first[right[node], a] = cell
    leaves = left < 0
    first, last, values = first[leaves], last[leaves], values[leaves]
    masses, shares = [], np.empty(first.shape)
    for a, axis in enumerate(axes):
        below = np.concatenate([[0.0], axis.mass_below(thresholds[a]), [1.0]])
        masses.append(np.diff(below))
        shares[:, a] = below[last[:, a]] - below[first[:, a]]
    weights = values * shares.prod(axis=1)
    mean = float(weights.sum())
    variance = float((shares.prod(axis=1) * (values - mean) ** 2).sum())
    return TreeBoxes(thresholds, masses, first, last, np.maximum(shares, 1e-12), weights, mean, variance)
