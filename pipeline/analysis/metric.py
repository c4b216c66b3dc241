"""What the search minimises and how it is written: the one place where an objective becomes a label or a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.storage.results import Results
from tandem_trial.problem import MAXIMISE

MISSING = "–"


@dataclass(frozen=True)
class WrittenMetric:
    """A measured quantity as figures, tables and captions write it.

    Attributes:
        name: "validation error".
        unit: as written behind a number; "" where there is none.
        factor: from the stored value to the written one: 100 for a fraction in percent; negative where a loss is the
            negative of what is written, which is then maximised.
        digits: behind the point, in tables; None: four digits in all.
        is_log: axes are logarithmic.
        column: of the learning curves.
    """

    name: str
    unit: str = "%"
    factor: float = 100.0
    digits: int | None = 2
    is_log: bool = True
    column: str = "validation_error"

    @property
    def is_maximised(self) -> bool:
        """More is better."""
        return self.factor < 0

    @property
    def better(self) -> str:
        """`lower` or `higher`: what is better of the written numbers."""
        return "higher" if self.is_maximised else "lower"

    @property
    def label(self) -> str:
        """Name and unit, for an axis or a column."""
        return self.label_of(self.name)

    @property
    def short_label(self) -> str:
        """The last word of the name, and the unit: `error (%)`."""
        return self.label_of(self.name.rpartition(" ")[2])

    @property
    def word(self) -> str:
        """What a number of it is called where it was named before: `error`, or the whole name of anything else."""
        last = self.name.rpartition(" ")[2]
        return last if last == "error" else self.name

    def label_of(self, what: str) -> str:
        """Another name for it with its unit: `error on 3 h (%)`."""
        return f"{what} ({self.unit})" if self.unit else what

    def shown(self, values: Any) -> Any:
        """Stored values as numbers on an axis."""
        return self.factor * values

    def number(self, value: float) -> str:
        """A value without its unit; a dash when it was not measured."""
        if value is None or np.isnan(value):
            return MISSING
        return f"{self.factor * value:.4g}" if self.digits is None else f"{self.factor * value:.{self.digits}f}"

    def text(self, value: float) -> str:
        """A value with its unit: `3.33%`."""
        number = self.number(value)
        space = "" if self.unit in ("", "%") else " "
        return number if number == MISSING else f"{number}{space}{self.unit}"

    def mean_text(self, values: np.ndarray) -> str:
        """Mean and standard error of several runs' values, without the unit."""
        if len(values) < 2:
            return f"{self.number(values[0])} (one run)" if len(values) else MISSING
        error = values.std(ddof=1) / np.sqrt(len(values))
        return f"{self.number(values.mean())} ± {self.number(error).removeprefix('-')}"


ERROR = WrittenMetric("error")
VALIDATION_ERROR = WrittenMetric("validation error")
TEST_ERROR = WrittenMetric("test error")


def objective(results: Results) -> WrittenMetric:
    """What the run's search minimises, or, of a problem of the user's own, what it maximises."""
    metric = results.problem.metric
    sign = -1 if metric.direction == MAXIMISE else 1
    digits = 2 if metric.percent else None
    unit = "%" if metric.percent else metric.unit
    return WrittenMetric(metric.title, unit, sign * metric.factor, digits, metric.scale == "log", metric.name)
