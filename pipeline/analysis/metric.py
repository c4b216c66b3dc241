"""What the search minimises and how it is written: the one place where an objective becomes a label or a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.storage.results import Results

MISSING = "–"


@dataclass(frozen=True)
class Metric:
    """A measured quantity as figures, tables and captions write it.

    Attributes:
        name: "validation error".
        unit: as written behind a number; "" where there is none.
        factor: from the stored value to the written one: 100 for a fraction in percent.
        digits: behind the point, in tables.
        is_log: axes are logarithmic.
    """

    name: str
    unit: str = "%"
    factor: float = 100.0
    digits: int = 2
    is_log: bool = True

    @property
    def label(self) -> str:
        """Name and unit, for an axis or a column."""
        return self.label_of(self.name)

    def label_of(self, what: str) -> str:
        """Another name for it with its unit: `error on 3 h (%)`."""
        return f"{what} ({self.unit})" if self.unit else what

    def shown(self, values: Any) -> Any:
        """Stored values as numbers on an axis."""
        return self.factor * values

    def number(self, value: float) -> str:
        """A value without its unit; a dash when it was not measured."""
        return MISSING if value is None or np.isnan(value) else f"{self.factor * value:.{self.digits}f}"

    def text(self, value: float) -> str:
        """A value with its unit: `3.33%`."""
        number = self.number(value)
        return number if number == MISSING else number + self.unit

    def mean_text(self, values: np.ndarray) -> str:
        """Mean and standard error of several runs' values, without the unit."""
        if len(values) < 2:
            return f"{self.number(values[0])} (one run)" if len(values) else MISSING
        error = values.std(ddof=1) / np.sqrt(len(values))
        return f"{self.number(values.mean())} ± {self.number(error)}"


ERROR = Metric("error")
VALIDATION_ERROR = Metric("validation error")
TEST_ERROR = Metric("test error")


def objective(results: Results) -> Metric:
    """What the run's search minimises."""
    return VALIDATION_ERROR
