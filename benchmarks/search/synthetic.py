"""Synthetic problems whose best configuration is known exactly."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer

from benchmarks.search.problem import Problem, Values
from pipeline.settings.space import build_space


def share(budgets: tuple[float, ...], budget: float) -> float:
    """Where a budget lies between the smallest (0) and the largest (1), in logarithm."""
    return math.log(budget / budgets[0]) / math.log(budgets[-1] / budgets[0])


class Counting(Problem):
    """Counting ones (Falkner et al. 2018, 4.1) with 8 binary and 8 continuous dimensions: the share of ones that are
    missing, where a continuous x counts as the mean of `budget` Bernoulli draws of probability x.
    """

    name = "counting"
    budgets = (27.0, 81.0, 243.0, 729.0)
    ones = 8

    @cached_property
    def space(self) -> ConfigurationSpace:
        """8 categories of two, 8 numbers of the unit interval."""
        space = ConfigurationSpace()
        space.add([Categorical(f"cat_{i}", ("0", "1")) for i in range(self.ones)])
        space.add([Float(f"num_{i}", (0.0, 1.0)) for i in range(self.ones)])
        return space

    def loss(self, vector: np.ndarray, values: Values, budget: float) -> float:
        """See the class."""
        found = sum(int(values[f"cat_{i}"]) + values[f"num_{i}"] for i in range(self.ones))
        return 1 - found / (2 * self.ones)

    def observed(
        self, losses: np.ndarray, values: Values, budgets: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """The mean of Bernoulli draws, which grow in number along the curve, in place of each probability."""
        numbers = np.array([values[f"num_{i}"] for i in range(self.ones)])
        steps = np.diff(budgets, prepend=0).astype(int)
        drawn = np.cumsum([random.binomial(step, numbers).sum() for step in steps]) / budgets
        return losses + (numbers.sum() - drawn) / (2 * self.ones)


HARTMANN_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
# What a low fidelity takes from the heights of the four wells, so that another one looks deepest.
HARTMANN_BIAS = np.array([-0.8, 0.4, 1.2, 1.6])
HARTMANN_3 = (
    np.array([[3.0, 10, 30], [0.1, 10, 35], [3.0, 10, 30], [0.1, 10, 35]]),
    1e-4 * np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]),
)
HARTMANN_6 = (
    np.array([
        [10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14],
    ]),
    1e-4 * np.array([
        [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381],
    ]),
)  # fmt: skip


class Hartmann(Problem):
    """Hartmann's function in 3 or 6 dimensions (Surjanovic and Bingham's library of test functions), with fidelities as
    in Kandasamy et al. 2017: the heights of its wells change with the budget, here so much that the wells change
    places, and with noise.
    """

    def __init__(self, dimensions: int) -> None:
        self.name = f"hartmann{dimensions}"
        self.dimensions = dimensions
        self.A, self.P = HARTMANN_3 if dimensions == 3 else HARTMANN_6
        self.best = -3.86278214782 if dimensions == 3 else -3.32236801141

    @cached_property
    def space(self) -> ConfigurationSpace:
        """The unit cube."""
        space = ConfigurationSpace()
        space.add([Float(f"x{i}", (0.0, 1.0)) for i in range(self.dimensions)])
        return space

    def loss(self, vector: np.ndarray, values: Values, budget: float) -> float:
        """See the class."""
        x = np.array([values[f"x{i}"] for i in range(self.dimensions)])
        heights = HARTMANN_ALPHA - HARTMANN_BIAS * (1 - share(self.budgets, budget))
        return float(-heights @ np.exp(-(self.A * (x - self.P) ** 2).sum(axis=1)))

    def noise(self, budget: float) -> float:
        """Less on larger budgets."""
        return 0.02 + 0.08 * (1 - share(self.budgets, budget))


class Noisy17(Problem):
    """The paper's 17-dimensional space with noise, ripples and a bias by budget.

    A bowl whose axes matter unequally, with ripples; on smaller budgets its centre lies elsewhere, farther in some
    dimensions than in others. The centre on the largest budget is a configuration of the space: its loss is `best`.
    """

    name = "noisy17"
    best = 0.03
    ripple, waves, shift = 0.006, 3, 0.35

    @cached_property
    def space(self) -> ConfigurationSpace:
        """The paper's."""
        return build_space({})

    @cached_property
    def centre(self) -> np.ndarray:
        """Vector of the best configuration."""
        self.space.seed(17)
        return np.asarray(self.space.sample_configuration().get_array(), dtype=float)

    @cached_property
    def weights(self) -> np.ndarray:
        """From 0.5 down to 0.01, in an order of their own."""
        return np.random.default_rng(17).permutation(np.geomspace(0.5, 0.01, len(self.centre)))

    @cached_property
    def towards(self) -> np.ndarray:
        """Direction in which small budgets move the centre: into the cube's larger half, a random share of `shift`."""
        return np.where(self.centre < 0.5, 1, -1) * self.shift * np.random.default_rng(18).random(len(self.centre))

    def loss(self, vector: np.ndarray, values: Values, budget: float) -> float:
        """See the class."""
        left = 1 - share(self.budgets, budget)
        away = vector - self.centre - left * self.towards
        bowl = float(self.weights @ away**2)
        ripples = self.ripple * float((1 - np.cos(2 * math.pi * self.waves * away)).sum())
        return self.best + bowl + ripples + 0.25 * left

    def noise(self, budget: float) -> float:
        """As a validation set and a training seed give it."""
        return 0.01 + 0.02 * (1 - share(self.budgets, budget))

    def cost_s(self, vector: np.ndarray, values: Values, budget: float) -> float:
        """An epoch of the largest networks costs five times as much as one of the smallest."""
        return budget * 5 ** float(vector[[i for i, n in enumerate(self.space) if "blocks" in n]].mean())


class Conditional(Problem):
    """Conditions and categories: three kinds of optimiser, each with hyperparameters of its own, one of which diverges.

    Momentum is best in the end and slow at first; "plain" crashes at high rates.
    """

    name = "conditional"
    best = 0.05

    @cached_property
    def space(self) -> ConfigurationSpace:
        """Six hyperparameters always, four with conditions."""
        space = ConfigurationSpace()
        optimiser = Categorical("optimiser", ("plain", "momentum", "adaptive"))
        space.add(optimiser, Categorical("activation", ("relu", "tanh", "elu", "gelu")))
        space.add(Integer("layers", (1, 8)), Integer("width", (16, 512), log=True))
        space.add(Float("dropout", (0.0, 0.8)), Float("decay", (1e-6, 1e-2), log=True))
        own = {
            "plain": [Float("plain_rate", (1e-4, 1.0), log=True)],
            "momentum": [Float("momentum_rate", (1e-4, 1.0), log=True), Float("momentum", (0.0, 0.99))],
            "adaptive": [Float("adaptive_rate", (1e-5, 1e-1), log=True)],
        }
        for kind, hyperparameters in own.items():
            space.add(hyperparameters)
            space.add([EqualsCondition(h, optimiser, kind) for h in hyperparameters])
        return space

    def loss(self, vector: np.ndarray, values: Values, budget: float) -> float | None:
        """See the class."""
        floor, late = self._optimiser_loss(values)
        if floor is None:
            return None
        activation = {"relu": 0.02, "tanh": 0.08, "elu": 0.0, "gelu": 0.01}[values["activation"]]
        size = 0.01 * (values["layers"] - 5) ** 2 / 4 + 0.05 * math.log2(values["width"] / 128) ** 2 / 4
        regular = 0.3 * (values["dropout"] - 0.2) ** 2 + 0.01 * (math.log10(values["decay"]) + 4) ** 2
        left = 1 - share(self.budgets, budget)
        # More dropout and more decay look bad early.
        return self.best + floor + activation + size + regular + left * (0.1 + late + 0.3 * values["dropout"])

    def _optimiser_loss(self, values: Values) -> tuple[float | None, float]:
        """Loss above the best, and what is added early."""
        match values["optimiser"]:
            case "plain":
                rate = math.log10(values["plain_rate"])
                return (None if rate > -0.5 else 0.06 + 0.05 * (rate + 1) ** 2), 0.05
            case "momentum":
                rate, momentum = math.log10(values["momentum_rate"]), values["momentum"]
                if rate > -0.3 and momentum > 0.8:
                    return None, 0.0
                return 0.06 * (rate + 1.5) ** 2 + 0.1 * (momentum - 0.9) ** 2, 0.15
            case _:
                return 0.03 + 0.05 * (math.log10(values["adaptive_rate"]) + 3) ** 2, 0.0

    def noise(self, budget: float) -> float:
        """Small."""
        return 0.005 + 0.01 * (1 - share(self.budgets, budget))

    def cost_s(self, vector: np.ndarray, values: Values, budget: float) -> float:
        """In proportion to the layers and to the root of the width."""
        return budget * values["layers"] / 4 * math.sqrt(values["width"] / 128)


class Misleading(Problem):
    """Low budgets mislead: what is best in the end is slow, and what is fast at first ends badly.

    The smallest budget ranks against the largest, the second is nearly without information, the third is of some use:
    as between 400 s and 3 h in the paper (Spearman 0.05), only worse.
    """

    name = "misleading"
    best = 0.05
    dimensions = 6

    @cached_property
    def space(self) -> ConfigurationSpace:
        """The unit cube."""
        space = ConfigurationSpace()
        space.add([Float(f"x{i}", (0.0, 1.0)) for i in range(self.dimensions)])
        return space

    @cached_property
    def centre(self) -> np.ndarray:
        """Of the best configuration."""
        return np.random.default_rng(6).uniform(0.15, 0.85, self.dimensions)

    def loss(self, vector: np.ndarray, values: Values, budget: float) -> float:
        """See the class."""
        x = np.array([values[f"x{i}"] for i in range(self.dimensions)])
        distance = float(((x - self.centre) ** 2).mean())
        slow = math.exp(-12 * distance)
        return self.best + 1.2 * distance + 0.8 * (1 - share(self.budgets, budget)) ** 0.8 * slow

    def noise(self, budget: float) -> float:
        """Small."""
        return 0.005
