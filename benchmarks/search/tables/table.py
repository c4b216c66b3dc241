"""A recorded table, and the problem that it is with a surrogate between its points.

A surrogate predicts the whole curve of validation errors from the 17 coordinates. There are two kinds, so that no
proposer profits from sharing a surrogate's shape: a random forest (piecewise constant) and a kernel-weighted mean of
the table's points (smooth, and exact at none of them). What an epoch costs is a sum of what its batches, its branches'
calls and its floating-point operations cost, fitted to the recorded processor seconds.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ConfigSpace import Configuration, ConfigurationSpace
from ConfigSpace.hyperparameters import UniformFloatHyperparameter
from scipy.optimize import nnls
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold

from benchmarks.search.problem import Outcome, Problem, Values
from models.registry import model_cost
from pipeline.settings.space import build_space, plain_configuration

TABLES = Path(__file__).parent
# What a classifier that learnt nothing has: the error of a row that a crash left out.
CHANCE_ERROR = 0.9
TREES = 100
FOLDS = 5
SEARCHED = 2000
# A descent to the best: draws for each coordinate and round, and how far from the present value.
TRIES = 12
DESCENT = (0.3, 0.3, 0.1, 0.1, 0.03, 0.03, 0.01, 0.01, 0.003)


def read_lines(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a text, one a line; lines that a kill tore are left out."""
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


@dataclass(frozen=True)
class Table:
    """A recorded table.

    Attributes:
        head: how it was recorded.
        X: configurations in ConfigSpace's form, (n, 17).
        errors: validation error after each epoch, (n, epochs); chance from a crash on.
        epoch_s: processor seconds of an epoch, (n,).
        configurations: in plain values.
        crashed: how many configurations crashed.
        digest: of the file.
    """

    head: Mapping[str, Any]
    X: np.ndarray
    errors: np.ndarray
    epoch_s: np.ndarray
    configurations: tuple[dict[str, Any], ...]
    crashed: int
    digest: str


def table_path(name: str) -> Path:
    """Where a table is in the repository."""
    return TABLES / f"{name}.jsonl.xz"


@cache
def read_table(name: str) -> Table:
    """A table of the repository."""
    content = table_path(name).read_bytes()
    head, *lines = read_lines(lzma.decompress(content).decode())
    space = space_of(head)
    epochs = int(head["budgets"][-1])
    X = [Configuration(space, values=line["configuration"]).get_array() for line in lines]
    errors = np.full((len(lines), epochs), CHANCE_ERROR)
    for row, line in zip(errors, lines, strict=True):
        at = [round(epoch) - 1 for epoch in line["epoch"]]
        row[at] = line["validation_error"]
    epoch_s = [line["training_s"][-1] / line["epoch"][-1] if line["epoch"] else np.nan for line in lines]
    return Table(
        head, np.array(X), errors, np.where(np.isnan(epoch_s), np.nanmedian(epoch_s), epoch_s),
        tuple(line["configuration"] for line in lines), sum(line["crashed"] is not None for line in lines),
        hashlib.sha256(content).hexdigest()[:12],
    )  # fmt: skip


def space_of(head: Mapping[str, Any]) -> ConfigurationSpace:
    """The space of a table, from its first line."""
    return build_space({name: tuple(limits) for name, limits in head["space"].items()})


class Surrogate(Protocol):
    """Predicts several outputs at once."""

    def fit(self, X: np.ndarray, Y: np.ndarray) -> Surrogate:
        """Fit to (n, d) and (n, outputs)."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Outputs at points, (m, d) to (m, outputs)."""


class Forest:
    """A random forest."""

    def fit(self, X: np.ndarray, Y: np.ndarray) -> Forest:
        """See `Surrogate`."""
        forest = RandomForestRegressor(TREES, max_features=0.5, random_state=0, n_jobs=1).fit(X, Y)
        # A tree's own predict, without the checks that cost a hundred times as much for a single point.
        self._trees = [tree.tree_ for tree in forest.estimators_]
        self.importances = forest.feature_importances_
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """See `Surrogate`."""
        points = np.ascontiguousarray(X, dtype=np.float32)
        return np.asarray(np.mean([tree.predict(points)[..., 0] for tree in self._trees], axis=0))


class Kernel:
    """A kernel-weighted mean of all points (Nadaraya and Watson), coordinates scaled by what a forest makes of them.

    The bandwidth is the one with the least squared error when each point is left out.
    """

    bandwidths = np.geomspace(0.02, 0.5, 15)

    def fit(self, X: np.ndarray, Y: np.ndarray) -> Kernel:
        """See `Surrogate`."""
        self._scale = np.sqrt(Forest().fit(X, Y).importances)
        self._X, self._Y = X * self._scale, Y
        squares = cdist(self._X, self._X, "sqeuclidean")
        np.fill_diagonal(squares, np.inf)
        errors = [((self._mean(squares, width) - Y) ** 2).mean() for width in self.bandwidths]
        self._width = self.bandwidths[int(np.argmin(errors))]
        return self

    def _mean(self, squares: np.ndarray, width: float) -> np.ndarray:
        exponents = -squares / (2 * width**2)
        weights = np.exp(exponents - exponents.max(axis=-1, keepdims=True))
        return (weights @ self._Y) / weights.sum(axis=-1, keepdims=True)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """See `Surrogate`."""
        return self._mean(cdist(X * self._scale, self._X, "sqeuclidean"), self._width)


SURROGATES = {"forest": Forest, "kernel": Kernel}


class Recorded(Problem):
    """A table of real trainings with a surrogate between its points.

    The surrogate's prediction is the truth of this problem: its value at a table's own point is near what was recorded
    there, not equal. Its best is the least value that a long random search and a descent from its best points find.
    """

    kind = "real"

    def __init__(self, table: str, surrogate: str) -> None:
        self.name = f"{table}-{surrogate}"
        self.table = read_table(table)
        self.budgets = tuple(float(b) for b in self.table.head["budgets"])
        self.eta = self.budgets[1] / self.budgets[0]
        self._made = SURROGATES[surrogate]
        self._known: dict[bytes, np.ndarray] = {}

    @property
    def fingerprint(self) -> str:
        """The table's."""
        return self.table.digest

    @cached_property
    def space(self) -> ConfigurationSpace:
        """The 17-dimensional space, as narrow as the table's."""
        return space_of(self.table.head)

    @cached_property
    def surrogate(self) -> Surrogate:
        """Fitted to the whole table."""
        return self._made().fit(self.table.X, self.table.errors)

    def predicted(self, vector: np.ndarray) -> np.ndarray:
        """The error after each epoch."""
        key = vector.tobytes()
        if key not in self._known:
            self._known[key] = self.surrogate.predict(vector[None])[0]
        return self._known[key]

    def loss(self, vector: np.ndarray, values: Values, budget: float) -> float:
        """The validation error after `budget` epochs."""
        return float(self.predicted(vector)[round(budget) - 1])

    def cost_s(self, vector: np.ndarray, values: Values, budget: float) -> float:
        """Processor seconds of `budget` epochs."""
        return float(budget * epoch_parts(self.table.head, values) @ self.epoch_costs)

    @cached_property
    def epoch_costs(self) -> np.ndarray:
        """Seconds per part of an epoch, none below zero."""
        return fit_epoch_costs(self.table, np.arange(len(self.table.X)))

    def evaluate(self, values: Values, budget: float, seed: int) -> Outcome:
        """A row per epoch; the seed changes nothing."""
        vector = self.vector(values)
        curve = tuple((float(e), self.loss(vector, values, e)) for e in range(1, round(budget) + 1))
        return Outcome(curve[-1][1], self.cost_s(vector, values, budget), curve)

    @cached_property
    def best(self) -> float:  # type: ignore[override]
        """See the class."""
        self.space.seed(0)
        drawn = [plain_configuration(dict(c)) for c in self.space.sample_configuration(SEARCHED)]
        vectors = np.array([*self.table.X, *(self.vector(c) for c in drawn)])
        values = self.surrogate.predict(vectors)[:, -1]
        return min(self._descend(vectors[i], float(values[i])) for i in np.argsort(values)[:5])

    def _descend(self, vector: np.ndarray, value: float) -> float:
        """Coordinate by coordinate, to values of the table's points, and of real numbers to values nearby."""
        random = np.random.default_rng(0)
        is_float = [isinstance(h, UniformFloatHyperparameter) for h in self.space.values()]
        for width in DESCENT:
            for column in random.permutation(len(vector)):
                moved = np.tile(vector, (2 * TRIES, 1))
                moved[:TRIES, column] = random.choice(self.table.X[:, column], TRIES)
                if is_float[column]:
                    moved[TRIES:, column] = np.clip(vector[column] + width * random.normal(size=TRIES), 0, 1)
                there = self.surrogate.predict(moved)[:, -1]
                if there.min() < value:
                    vector, value = moved[there.argmin()], float(there.min())
        return value


def epoch_parts(head: Mapping[str, Any], values: Values) -> np.ndarray:
    """What an epoch consists of: batches, calls of a branch, and operations; (3,)."""
    batches = head["images"]["train"] // values["batch_size"]
    branches = sum(values[f"nr_residual_blocks_{i}"] * values[f"res_branches_{i}"] for i in (1, 2, 3))
    flops = model_cost(values, tuple(head["image_shape"]), 10).flops_per_image
    return np.array([batches, batches * branches, batches * values["batch_size"] * flops / 1e9])


def fit_epoch_costs(table: Table, of: np.ndarray) -> np.ndarray:
    """Seconds per part of an epoch, by least squares of the relative error over some of the table's configurations."""
    parts = np.array([epoch_parts(table.head, table.configurations[i]) for i in of])
    seconds = table.epoch_s[of]
    costs, _ = nnls(parts / seconds[:, None], np.ones(len(of)))
    return np.asarray(costs)


@dataclass(frozen=True)
class SurrogateError:
    """How well a surrogate predicts configurations that it was not fitted to (cross-validated, largest budget).

    Attributes:
        rmse: root mean squared error of the validation error.
        r2: share of its variance that is explained.
        spearman: rank correlation.
        cost: mean relative error of an epoch's seconds.
    """

    rmse: float
    r2: float
    spearman: float
    cost: float


def surrogate_error(name: str, surrogate: str) -> SurrogateError:
    """By 5-fold cross-validation."""
    table = read_table(name)
    true = table.errors[:, -1]
    guess, seconds = np.empty(len(true)), np.empty(len(true))
    for fit, held_out in KFold(FOLDS, shuffle=True, random_state=0).split(table.X):
        model = SURROGATES[surrogate]().fit(table.X[fit], table.errors[fit])
        costs = fit_epoch_costs(table, fit)
        guess[held_out] = model.predict(table.X[held_out])[:, -1]
        seconds[held_out] = [epoch_parts(table.head, table.configurations[i]) @ costs for i in held_out]
    return SurrogateError(
        rmse=float(np.sqrt(((true - guess) ** 2).mean())),
        r2=float(1 - ((true - guess) ** 2).sum() / ((true - true.mean()) ** 2).sum()),
        spearman=float(spearmanr(true, guess)[0]),
        cost=float(np.abs(seconds / table.epoch_s - 1).mean()),
    )
