"""The evaluations and configurations as the page's script reads them: what is hovered, filtered, sorted and plotted."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from pipeline.analysis import style
from pipeline.analysis.axes import ordered
from pipeline.analysis.metric import objective
from pipeline.settings.space import BY_NAME
from pipeline.storage.results import Results
from pipeline.storage.schema import EVALUATION_STATUSES
from tandem_trial.problem import MAXIMISE, MINIMISE, Metric

DIGITS = 4
# What is measured of every evaluation of the paper's search besides its problem's metrics.
IMAGE_MEASURES = (
    Metric("test_error", percent=True, scale="log"),
    Metric("images_per_s", direction=MAXIMISE, scale="log", label="training images per second"),
)


def explorer(results: Results) -> dict[str, Any]:
    """Everything but the places of the marks, in plain types."""
    metric = objective(results)
    names = ordered(results.hyperparameters)
    configurations, evaluations = results.configurations, results.evaluations
    budgets = style.budget_colours(results.budgets)
    return {
        "metric": {"label": metric.label, "unit": metric.unit, "factor": metric.factor, "digits": metric.digits},
        "metrics": measures(results),
        "states": list(EVALUATION_STATUSES),
        "names": [{"name": n, "label": BY_NAME[n].label if n in BY_NAME else n} for n in names],
        "budgets": [
            {"value": b, "label": style.budget_label(b, results.budget_unit), "colour": to_hex(colour)}
            for b, colour in budgets.items()
        ],
        "configurations": {
            "ids": configurations["config_id"].tolist(),
            "model": configurations["model_based"].astype(int).tolist(),
            "values": {name: _values(configurations[name]) for name in names},
        },
        "evaluations": {
            "configuration": evaluations["configuration"].tolist(),
            "budget": [results.budgets.index(b) for b in evaluations["budget"]],
            "state": [EVALUATION_STATUSES.index(s) for s in evaluations["status"]],
            "loss": _values(evaluations["loss"], 6),
            "test": _values(evaluations["test_error"], 6),
        },
    }


def measures(results: Results) -> list[dict[str, Any]]:
    """What was measured of evaluations that finished, a value per evaluation; what nobody measured is left out.

    Returns:
        Of each: label, unit, factor (of what is written), log (its axis), less (is better), values (base64 of 32-bit
        numbers, NaN where there is none).
    """
    metrics = {metric.name: metric for metric in results.problem.metrics}
    values = results.metrics[list(metrics)]
    if results.problem.is_built_in:
        metrics |= {metric.name: metric for metric in IMAGE_MEASURES}
        values = values.join(results.evaluations[[metric.name for metric in IMAGE_MEASURES]])
    values = values.replace([np.inf, -np.inf], np.nan).where(results.evaluations["status"] == "finished")
    return [
        {
            "label": metric.axis_label,
            "unit": "%" if metric.percent else metric.unit,
            "factor": metric.factor,
            "log": metric.scale == "log",
            "less": metric.direction == MINIMISE,
            "values": base64.b64encode(values[name].to_numpy(dtype="<f4").tobytes()).decode(),
        }
        for name, metric in metrics.items()
        if values[name].notna().any()
    ]


def _values(column: pd.Series, digits: int = DIGITS) -> list[Any]:
    """Values in few characters; None where one is missing."""
    if column.dtype.kind not in "fiu":
        return [str(value) for value in column]
    return [_short(value, digits) for value in column.to_numpy(dtype=float)]


def _short(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded == np.round(rounded) and abs(rounded) < 1e15 else rounded
