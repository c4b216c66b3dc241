"""Hyperparameters as axes: the coordinate and the prior of each, read from configspace.json without ConfigSpace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pipeline.analysis.style import MISSING, plain_number
from pipeline.errors import RunError
from pipeline.settings.space import BY_NAME
from pipeline.wording import value_text


@dataclass(frozen=True)
class Axis:
    """One hyperparameter.

    Its coordinate is a number in [0, 1] in which a continuous prior is uniform. Attributes:
        label: as figures write it.
        choices: the legal values of a discrete one, in the order of their coordinates; empty: continuous.
        coordinates, masses: of the choices, their coordinates and prior probabilities.
        lower, upper, log: of a numeric one.
        unit: of its values.
    """

    name: str
    label: str
    choices: tuple[Any, ...] = ()
    coordinates: tuple[float, ...] = ()
    masses: tuple[float, ...] = ()
    lower: float = 0.0
    upper: float = 1.0
    log: bool = False
    is_numeric: bool = True
    unit: str = ""

    @property
    def is_discrete(self) -> bool:
        """Whether it has finitely many values."""
        return bool(self.choices)

    @property
    def axis_label(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def encode(self, values: pd.Series) -> np.ndarray:
        """Coordinates of values; NaN where a value is missing (the hyperparameter is inactive)."""
        if not self.is_numeric:
            return np.asarray(values.map(dict(zip(self.choices, self.coordinates, strict=True))), dtype=float)
        return self.coordinate(values.to_numpy(dtype=float))

    def coordinate(self, values: np.ndarray) -> np.ndarray:
        """Coordinates of numeric values."""
        if self.log:
            return np.asarray(np.log(values / self.lower) / np.log(self.upper / self.lower))
        return np.asarray((values - self.lower) / (self.upper - self.lower))

    def decode(self, coordinates: np.ndarray) -> np.ndarray:
        """Numeric values at coordinates."""
        if self.log:
            return np.asarray(self.lower * (self.upper / self.lower) ** coordinates)
        return np.asarray(self.lower + (self.upper - self.lower) * coordinates)

    def mass_below(self, thresholds: np.ndarray) -> np.ndarray:
        """Prior probability of a coordinate <= each threshold."""
        if not self.is_discrete:
            return np.asarray(np.clip(thresholds, 0.0, 1.0))
        # Trees compare in single precision.
        places = np.searchsorted(np.asarray(self.coordinates, dtype=np.float32), thresholds, side="right")
        return np.asarray(np.concatenate([[0.0], np.cumsum(self.masses)])[places])

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Coordinates drawn from the prior."""
        if not self.is_discrete:
            return np.asarray(generator.random(count))
        return np.asarray(generator.choice(np.array(self.coordinates), size=count, p=np.array(self.masses)))

    @property
    def ends(self) -> tuple[Any, Any]:
        """The lowest and the highest value."""
        return (self.choices[0], self.choices[-1]) if self.is_discrete else (self.lower, self.upper)

    def text(self, value: Any) -> str:
        """A value as a person reads it: three digits of a number."""
        if not self.is_numeric:
            return str(value)
        return MISSING if pd.isna(value) else f"{value:.0f}" if self.is_discrete else value_text(float(value), 3)

    @property
    def end_texts(self) -> tuple[str, str]:
        """The lowest and the highest value, written alike."""
        if not self.is_numeric:
            return str(self.choices[0]), str(self.choices[-1])
        smallest = min((abs(end) for end in self.ends if end), default=1.0)
        return plain_number(self.ends[0], smallest), plain_number(self.ends[1], smallest)

    @property
    def range_text(self) -> str:
        """All its values, for a table."""
        return ", ".join(map(str, self.choices)) if not self.is_numeric else " to ".join(self.end_texts)

    @property
    def kind_text(self) -> str:
        """What its values are and how they are drawn, for a table."""
        kind = "whole number" if self.is_discrete else "number"
        return "category" if not self.is_numeric else f"{kind}, logarithmic" if self.log else kind

    def jitter(self, count: int, share: float = 0.35) -> np.ndarray:
        """Shifts that tell points at one value of a discrete hyperparameter apart; the same each time.

        Args:
            share: of the distance to the next value, that a point moves at most.
        """
        if not self.is_discrete or len(self.choices) < 2:
            return np.zeros(count)
        step = min(float(np.diff(self.coordinates).min()), 0.18)
        return np.asarray(np.random.default_rng(0).uniform(-share, share, count) * step)

    def grid(self, points: int) -> np.ndarray:
        """Coordinates to draw a curve at: all choices, or evenly spaced ones."""
        if self.is_discrete and len(self.choices) <= 4 * points:
            return np.array(self.coordinates)
        return np.linspace(0.0, 1.0, points)


def read_axes(configspace: Mapping[str, Any], labels: Sequence[str] | None = None) -> list[Axis]:
    """The axes of a search space in the form that ConfigSpace writes; constants have no axis.

    Args:
        labels: names to keep, in this order; None: all, in the file's order.

    Raises:
        RunError: a hyperparameter is damaged, or has another prior than uniform or categorical.
    """
    try:
        axes = [_axis(entry) for entry in configspace.get("hyperparameters", [])]
    except (LookupError, TypeError, ValueError, ArithmeticError, MemoryError) as error:
        raise RunError(
            f"configspace.json is damaged ({type(error).__name__}: {error}). Take that of another run of the same "
            f"settings, and collect again."
        ) from None
    found = {axis.name: axis for axis in axes if axis is not None}
    return list(found.values()) if labels is None else [found[name] for name in labels if name in found]


def _axis(entry: Mapping[str, Any]) -> Axis | None:
    name, kind = str(entry["name"]), str(entry["type"])
    known = BY_NAME.get(name)
    plain = Axis(name, known.label if known else name, unit=known.unit if known else "")
    if kind == "constant":
        return None
    if kind in ("uniform_float", "uniform_int"):
        lower, upper, log = float(entry["lower"]), float(entry["upper"]), bool(entry["log"])
        axis = replace(plain, lower=lower, upper=upper, log=log)
        return axis if kind == "uniform_float" else _integer(axis)
    if kind in ("categorical", "ordinal"):
        choices = tuple(entry["choices" if kind == "categorical" else "sequence"])
        weights = np.asarray(entry.get("weights") or [1.0] * len(choices), dtype=float)
        places = np.linspace(0.0, 1.0, len(choices))
        masses = tuple(weights / weights.sum())
        return replace(plain, choices=choices, coordinates=tuple(places), masses=masses, is_numeric=False)
    raise RunError(
        f"configspace.json: {name}: the analysis knows uniform, categorical and ordinal hyperparameters, not {kind!r}."
    )


def _integer(axis: Axis) -> Axis:
    values = np.arange(int(axis.lower), int(axis.upper) + 1)
    if axis.log:
        # As ConfigSpace draws: log-uniform in [lower, upper], then cut into equally wide bins, one per value.
        edges = axis.lower + (axis.upper - axis.lower) * np.arange(len(values) + 1) / len(values)
        masses = np.diff(np.log(edges)) / np.log(axis.upper / axis.lower)
    else:
        masses = np.full(len(values), 1.0 / len(values))
    coordinates = tuple(axis.coordinate(values.astype(float)))
    return replace(axis, choices=tuple(int(v) for v in values), coordinates=coordinates, masses=tuple(masses))


def encode_all(axes: Sequence[Axis], values: pd.DataFrame, generator: np.random.Generator) -> np.ndarray:
    """Coordinates [rows, axes]; inactive values are drawn from the prior.

    With their defaults instead, an inactive child looks as if its value mattered: measured 7 times too important, and
    its parent 3 times too little.
    """
    columns = []
    for axis in axes:
        column = axis.encode(values[axis.name]).copy()
        inactive = np.isnan(column)
        column[inactive] = axis.draw(int(inactive.sum()), generator)
        columns.append(column)
    return np.column_stack(columns)


def ordered(names: Sequence[str]) -> list[str]:
    """Hyperparameters in the order of the paper's figure; others, should there be any, after them."""
    return sorted(names, key=lambda name: list(BY_NAME).index(name) if name in BY_NAME else len(BY_NAME))


def label_coordinates(axis: Axis, side: Any) -> None:
    """Label a coordinate axis with a few of the hyperparameter's own values."""
    if not axis.is_numeric:
        side.set_ticks(list(axis.coordinates), [str(c) for c in axis.choices])
        return
    places = np.array([0.0, 0.5, 1.0])
    values = axis.decode(places)
    if axis.is_discrete:
        values = np.unique(np.round(values))
        places = axis.coordinate(values)
    smallest = float(np.abs(values[values != 0]).min())
    side.set_ticks(list(places), [plain_number(v, smallest) for v in values])
