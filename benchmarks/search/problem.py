"""What a search method is compared on: a space, budgets, and a loss whose best value is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ConfigSpace import Configuration, ConfigurationSpace
from ConfigSpace.hyperparameters import CategoricalHyperparameter, IntegerHyperparameter
from ConfigSpace.util import deactivate_inactive_hyperparameters

from pipeline.records import derive_seed
from pipeline.settings.space import plain_configuration

Values = Mapping[str, Any]
# Configurations that tell how far from the best a random one is.
SCALE_SAMPLES = 1000
CURVE_ROWS = 27


@dataclass(frozen=True)
class Outcome:
    """What an evaluation gives.

    Attributes:
        loss: None: the configuration crashed.
        cost_s: training seconds from the first step to this budget.
        curve: (budget, loss) of every row up to this budget, ascending; the last is the result.
    """

    loss: float | None
    cost_s: float
    curve: tuple[tuple[float, float], ...]


class Problem:
    """A multi-fidelity problem.

    Attributes:
        name: of the problem.
        kind: "synthetic" or "real".
        budgets: the ladder, ascending, spaced by `eta`.
        best: the loss of the best configuration on the largest budget, without noise.
    """

    name: str
    kind: str = "synthetic"
    budgets: tuple[float, ...] = (1.0, 3.0, 9.0, 27.0)
    eta: float = 3.0
    best: float = 0.0
    _last: tuple[dict[str, Any], np.ndarray] | None = None

    @property
    def fingerprint(self) -> str:
        """Changes when the problem does: results of another one are not taken for this one's."""
        return "1"

    @cached_property
    def space(self) -> ConfigurationSpace:
        """The search space."""
        raise NotImplementedError

    def loss(self, vector: np.ndarray, values: Values, budget: float) -> float | None:
        """The loss without noise; None: it crashes.

        Args:
            vector: the configuration in ConfigSpace's own form, NaN where a condition switched a coordinate off.
            values: the same as values by name.
        """
        raise NotImplementedError

    def noise(self, budget: float) -> float:
        """Standard deviation of an evaluation's loss."""
        return 0.0

    def cost_s(self, vector: np.ndarray, values: Values, budget: float) -> float:
        """Training seconds up to a budget."""
        return budget

    # For the protocol -----------------------------------------------------------------------------------------------
    def complete(self, values: Values) -> dict[str, Any]:
        """A proposal as a legal configuration in plain values: what a condition switches off is dropped."""
        if not self.space.conditions:
            return plain_configuration({name: values[name] for name in self.space})
        named = {name: values[name] for name in self.space if name in values}
        whole = {**dict(self.space.get_default_configuration()), **named}
        missing = {name: self.space[name].default_value for name in self.space if name not in whole}
        return plain_configuration(dict(deactivate_inactive_hyperparameters({**whole, **missing}, self.space)))

    def vector(self, values: Values) -> np.ndarray:
        """ConfigSpace's form of a complete configuration."""
        # A search looks at one configuration several times in a row.
        if self._last is None or self._last[0] != values:
            array = Configuration(self.space, values=dict(values)).get_array()
            self._last = dict(values), np.asarray(array, dtype=float)
        return self._last[1]

    def evaluate(self, values: Values, budget: float, seed: int) -> Outcome:
        """Train a complete configuration to a budget.

        The noise of a row depends on (seed, configuration, budget): a curve that goes on is the same curve.
        """
        vector = self.vector(values)
        at = self.curve_budgets(budget)
        losses = [self.loss(vector, values, b) for b in at]
        if None in losses:
            first = losses.index(None)
            return Outcome(None, self.cost_s(vector, values, at[first]), ())
        random = np.random.default_rng(derive_seed(seed, self.name, repr(sorted(values.items()))))
        rows = self.observed(np.array(losses, dtype=float), values, np.array(at), random)
        curve = tuple((b, float(row)) for b, row in zip(at, rows, strict=True))
        return Outcome(curve[-1][1], self.cost_s(vector, values, budget), curve)

    def observed(
        self, losses: np.ndarray, values: Values, budgets: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """A curve with its noise: a row's depends on its place alone, not on how long the curve is."""
        return losses + random.standard_normal(len(losses)) * [self.noise(b) for b in budgets]

    def curve_budgets(self, budget: float) -> list[float]:
        """Where a training to `budget` is measured: multiples of the smallest, at most `CURVE_ROWS`, and every rung."""
        step = max(self.budgets[0], self.budgets[-1] / CURVE_ROWS)
        grid = {step * i for i in range(1, int(budget / step + 1e-9) + 1)}
        return sorted({round(b, 9) for b in grid} | {b for b in self.budgets if b <= budget})

    def value(self, values: Values) -> float:
        """The loss on the largest budget without noise: what regret is measured by; infinite where it crashes."""
        loss = self.loss(self.vector(values), values, self.budgets[-1])
        return np.inf if loss is None else loss

    @cached_property
    def scale(self) -> float:
        """Mean regret of a random configuration that does not crash: the unit in which problems are averaged."""
        self.space.seed(1)
        drawn = [self.value(plain_configuration(dict(c))) for c in self.space.sample_configuration(SCALE_SAMPLES)]
        return float(np.mean([v for v in drawn if np.isfinite(v)])) - self.best


def describe(space: ConfigurationSpace) -> list[dict[str, Any]]:
    """A space in plain values, for peers that do not know ConfigSpace: parents stand before their children.

    Each hyperparameter has name and kind ("float", "int", "categorical"), its range and scale or its choices, and,
    where it has a condition, `active_if`: {parent: the values under which it is active}.
    """
    return [_describe(space, name) for name in space]


def _describe(space: ConfigurationSpace, name: str) -> dict[str, Any]:
    h = space[name]
    if isinstance(h, CategoricalHyperparameter):
        about: dict[str, Any] = {"name": name, "kind": "categorical", "choices": [str(c) for c in h.choices]}
    else:
        kind = "int" if isinstance(h, IntegerHyperparameter) else "float"
        lower, upper = (int(h.lower), int(h.upper)) if kind == "int" else (float(h.lower), float(h.upper))
        about = {"name": name, "kind": kind, "lower": lower, "upper": upper, "log": bool(h.log)}
    conditions = space.parent_conditions_of[name]
    if conditions:
        about["active_if"] = {
            c.parent.name: [str(v) for v in getattr(c, "values", None) or [c.value]] for c in conditions
        }
    return about
