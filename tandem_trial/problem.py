"""A problem: what is searched, how a configuration is tried, and what is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MINIMISE, MAXIMISE = "minimise", "maximise"
# Columns that every learning curve has; a metric needs another name.
COUNTERS = (
    "epoch", "batches", "training_s", "wall_s", "startup_s", "compile_s", "validation_s", "checkpoint_s", "attempt",
    "rung", "wall_time",
)  # fmt: skip
# What tables put beside them.
_TAKEN = (*COUNTERS, "evaluation", "config_id", "budget", "status", "trained_on_rung", "step", "checkpoint")


@dataclass(frozen=True)
class Metric:
    """Something measured, and how a person reads it.

    Attributes:
        name: a Python name; the column in files and tables.
        unit: as figures write it, "kW"; empty: none.
        direction: "minimise" or "maximise".
        scale: "linear" or "log": how an axis shows it.
        percent: a fraction that is shown times 100, with a percent sign.
        label: as figures write it; default: the name with spaces.
    """

    name: str
    unit: str = ""
    direction: str = MINIMISE
    scale: str = "linear"
    percent: bool = False
    label: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError with what is wrong, and what is allowed."""
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"a metric's name is a Python name such as accuracy, not {self.name!r}")
        if self.name in _TAKEN:
            raise ValueError(f"a metric cannot be called {self.name!r}; Tandem's own columns are {', '.join(_TAKEN)}")
        if self.direction not in (MINIMISE, MAXIMISE):
            raise ValueError(f"metric {self.name}: direction is {self.direction!r}, it may be minimise or maximise")
        if self.scale not in ("linear", "log"):
            raise ValueError(f"metric {self.name}: scale is {self.scale!r}, it may be linear or log")

    def loss(self, value: float) -> float:
        """What the search minimises, of a value of this metric."""
        return -value if self.direction == MAXIMISE else value

    def of_loss(self, loss: float) -> float:
        """The value of this metric, of what the search minimises."""
        return -loss if self.direction == MAXIMISE else loss

    @property
    def title(self) -> str:
        """The name as a person reads it."""
        return self.label or self.name.replace("_", " ")

    @property
    def axis_label(self) -> str:
        """Name and unit, as an axis says them."""
        unit = "%" if self.percent else self.unit
        return f"{self.title} ({unit})" if unit else self.title

    @property
    def factor(self) -> float:
        """Values times this are what a person reads."""
        return 100.0 if self.percent else 1.0

    def text(self, value: float | None) -> str:
        """A value for a person: "93.42%", "1.873 kW"; an en dash when it was not measured."""
        if value is None or math.isnan(value):
            return "–"
        if self.percent:
            return f"{100 * value:.2f}%"
        number = f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 and float(value).is_integer() else f"{value:.4g}"
        return f"{number} {self.unit}" if self.unit else number

    def to_plain(self) -> dict[str, Any]:
        """As a dict of plain types; `Metric(**plain)` reads it."""
        return asdict(self)


@dataclass(frozen=True)
class Problem:
    """What is searched: a space, an objective and its metrics.

    Attributes:
        objective: tries one configuration: reports the metric as it goes (or returns it), until the trial says stop.
        space: a ConfigSpace ConfigurationSpace, or a mapping: name to [lower, upper], a list of choices, a fixed value,
            or a mapping with more (docs/own-problems.md).
        metric: what is minimised or maximised; a name alone is minimised.
        metrics: further metrics that are recorded.
        forbidden: combinations never drawn, each a mapping of names to values; of a space that is a mapping.
        prepare_data: called once, before the search, with a folder to fill; `trial.data` is that folder.
        name: of the problem; default: of its file.
    """

    objective: Callable[[Any], Any]
    space: Any
    metric: Metric | str = "loss"
    metrics: Sequence[Metric | str] = ()
    forbidden: Sequence[Mapping[str, Any]] = ()
    prepare_data: Callable[[Path], Any] | None = None
    name: str = ""
    # Metrics by name, the one that counts first.
    by_name: Mapping[str, Metric] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError with what is wrong."""
        if not callable(self.objective):
            raise ValueError(f"Problem(objective=...) is a function that takes a trial, not {self.objective!r}")
        found: dict[str, Metric] = {}
        for given in (self.metric, *self.metrics):
            each = given if isinstance(given, Metric) else Metric(given)
            if each.name in found:
                raise ValueError(f"two metrics have the name {each.name!r}")
            found[each.name] = each
        object.__setattr__(self, "by_name", found)

    def to_plain(self) -> dict[str, Any]:
        """All but the functions, in plain types.

        Raises:
            ValueError: the space is neither a mapping nor a ConfigurationSpace.
        """
        metrics = [metric.to_plain() for metric in self.by_name.values()]
        if hasattr(self.space, "to_serialized_dict"):
            space = self.space.to_serialized_dict()
        elif isinstance(self.space, Mapping):
            space = dict(self.space)
        else:
            kind = type(self.space).__name__
            raise ValueError(f"Problem(space=...) is a mapping or a ConfigurationSpace, not a {kind}")
        return {
            "name": self.name,
            "metric": metrics[0],
            "metrics": metrics[1:],
            "space": space,
            "forbidden": [dict(clause) for clause in self.forbidden],
            "prepares_data": self.prepare_data is not None,
        }
