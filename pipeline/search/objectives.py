"""Several objectives: what each evaluation measured of them, which evaluations are better, and what they come to.

With one objective, which is the default, nothing of this is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.problems.description import objectives_of
from pipeline.records import ConfigId, EvaluationKey, measured_values
from pipeline.search.pareto import Array, best_first, hypervolume, on_front
from pipeline.settings import Settings
from tandem_trial.problem import Metric

# Of every objective, what is minimised; the problem's own metric first.
Losses = tuple[float, ...]


class Objectives:
    """The objectives of a search, and the losses of its evaluations that have all of them.

    Attributes:
        metrics: of the problem, its own first; none: that one alone is optimised.
        losses: by evaluation; also those of an earlier run, under the config_ids that the search gives them.
    """

    def __init__(self, metrics: Sequence[Metric] = ()) -> None:
        self.metrics = tuple(metrics)
        self.losses: dict[EvaluationKey, Losses] = {}

    @classmethod
    def of(cls, settings: Settings) -> Objectives:
        """Of a run; raises SettingsError where the problem does not have them."""
        return cls(objectives_of(settings))

    def __bool__(self) -> bool:
        """Whether there are several."""
        return bool(self.metrics)

    # Taking in -----------------------------------------------------------------------------------------------------
    def missing(self, info: Mapping[str, Any]) -> str:
        """Why a result cannot count, by its info: which objectives it lacks; "": it has all."""
        known = self._further(info)
        lacking = [m.name for m in self.metrics[1:] if m.name not in known]
        return f"the result lacks {', '.join(lacking)}, which the search optimises" if lacking else ""

    def take_in(self, key: EvaluationKey, loss: float | None, info: Mapping[str, Any]) -> float | None:
        """Note an evaluation's losses; its loss, None also where it lacks an objective: as good as crashed."""
        known = self._further(info)
        if loss is None or not math.isfinite(loss) or len(known) < len(self.metrics) - 1:
            return None
        self.losses[key] = (loss, *(m.loss(known[m.name]) for m in self.metrics[1:]))
        return loss

    def _further(self, info: Mapping[str, Any]) -> dict[str, float]:
        """What a result measured of the objectives after the first."""
        known = measured_values(info, [metric.name for metric in self.metrics[1:]])
        return {name: value for name, value in known.items() if math.isfinite(value)}

    # Ranking -------------------------------------------------------------------------------------------------------
    def ranked(self, config_ids: Sequence[ConfigId], budget: float) -> list[ConfigId]:
        """Configurations that have losses on a budget, the best first: by non-dominated sorting and crowding distance,
        ties by config_id.
        """
        ordered = sorted(config_ids)
        values = np.array([self.losses[config_id, budget] for config_id in ordered]).reshape(-1, len(self.metrics))
        return [ordered[row] for row in best_first(values)]

    def on_budget(self, budget: float) -> tuple[list[ConfigId], Array]:
        """The configurations with losses on a budget, by config_id, and their losses, shape (n, objectives)."""
        keys = sorted(key for key in self.losses if key[1] == budget and key[0][0] >= 0)
        return [c for c, _ in keys], np.array([self.losses[key] for key in keys]).reshape(-1, len(self.metrics))

    def front(self, budget: float) -> list[ConfigId]:
        """The configurations on a budget that no other dominates, by config_id."""
        config_ids, losses = self.on_budget(budget)
        return [c for c, is_best in zip(config_ids, on_front(losses), strict=True) if is_best]


def dominated_share(values: Array, metrics: Sequence[Metric]) -> float:
    """The share of the box between the best and the worst values that is dominated; see `normalised`."""
    return hypervolume(normalised(values, metrics), np.ones(len(metrics)))


def normalised(losses: Array, metrics: Sequence[Metric], among: Array | None = None) -> Array:
    """Losses between 0, the best that was seen of an objective, and 1, the worst; shape (n, objectives).

    A metric that is shown on a logarithmic scale is measured on one, unless it has negative values; what is 0 lies
    there where half the least positive value does.

    Args:
        among: what was seen; default: the losses themselves.
    """
    among = losses if among is None else among
    columns = []
    for column, seen, metric in zip(losses.T, among.T, metrics, strict=True):
        level = _level(seen, metric)
        low, high = level(seen).min(initial=np.inf), level(seen).max(initial=-np.inf)
        extent = high - low
        columns.append((level(column) - low) / extent if extent > 0 else np.zeros(len(column)))
    return np.array(columns).T.reshape(losses.shape)


def _level(seen: Array, metric: Metric) -> Any:
    """How losses become levels of a metric's scale, in which less is better."""
    sign = metric.loss(1.0)
    positive = sign * seen[sign * seen > 0]
    if metric.scale != "log" or (sign * seen < 0).any() or not len(positive):
        return lambda losses: losses
    least = positive.min() / 2
    return lambda losses: sign * np.log(np.maximum(sign * losses, least))
