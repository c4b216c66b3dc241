"""A search space as a unit cube: what the models calculate with, and the way back to configurations.

The coordinates are ConfigSpace's own, without its objects: a configuration takes microseconds. Constants, which tell a
model nothing, have no coordinate; an ordinal's values lie evenly in the unit interval, in their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import Hyperparameter
from numpy.typing import NDArray

from pipeline.errors import SettingsError
from pipeline.records import Configuration, Value

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Dimension:
    """One coordinate.

    Attributes:
        row: of the hyperparameter in ConfigSpace's vectors.
        values: of a category or an ordinal, in order; none of a number.
        choices: number of categories, whose coordinate is their index; 0 for a number, which is in [0, 1].
        steps: number of an ordinal's values; 0 otherwise.
        encode, decode: a value as its coordinate, and back: to the nearest value.
        snap: coordinates, shape (n,), to those of the values that they stand for.
    """

    name: str
    row: int
    values: tuple[Value, ...]
    choices: int
    steps: int
    encode: Callable[[Any], float]
    decode: Callable[[float], Value]
    snap: Callable[[Array], Array]


class Encoding:
    """Configurations as vectors and back.

    Attributes:
        names: of the hyperparameters with a coordinate, in ConfigSpace's order.
        choices: shape (d,), int: number of categories, 0 for a number.
        conditional: shape (d,): whether a condition may switch it off.
        is_plain: neither conditions nor forbidden clauses.
    """

    def __init__(self, space: ConfigurationSpace) -> None:
        self._space = space
        self._constants: dict[str, Value] = {}
        # Their places in ConfigSpace's own vectors: conditions and clauses may ask for them.
        fixed: list[tuple[int, float]] = []
        dimensions = []
        for row, (name, h) in enumerate(space.items()):
            if hasattr(h, "value"):
                self._constants[name] = _plain(h.value)
                fixed.append((row, float(h.to_vector(h.value))))
            else:
                dimensions.append(_dimension(name, row, h))
        self._fixed = tuple(fixed)
        self._dimensions = tuple(dimensions)
        self.names = tuple(d.name for d in dimensions)
        self.choices = np.array([d.choices for d in dimensions], dtype=np.int64)
        self.conditional = np.array([bool(space.parent_conditions_of[n]) for n in self.names], dtype=np.bool_)
        self.is_plain = not space.conditions and not space.forbidden_clauses
        # Parents first: a condition on a hyperparameter that is switched off itself is not met.
        self._conditions = [
            (space.index_of[name], condition) for name in space for condition in space.parent_conditions_of[name]
        ]

    def column(self, field: str, name: str) -> int:
        """The column of a hyperparameter that the settings name in `field`.

        Raises:
            SettingsError: there is none.
        """
        if name not in self.names:
            raise SettingsError(f"{field}: unknown hyperparameter; known: {', '.join(self.names)}")
        return self.names.index(name)

    def is_fixed(self, field: str, name: str, value: Any) -> bool:
        """Whether the space fixes a hyperparameter, at the value that the settings give in `field`.

        Raises:
            SettingsError: it is fixed at another value.
        """
        if name not in self._constants:
            return False
        fixed = self._constants[name]
        if value != fixed and str(value) != str(fixed):
            raise SettingsError(f"{field}: got {value!r}, but the space fixes it at {fixed!r}")
        return True

    def coordinate(self, field: str, name: str, value: Any) -> float:
        """The coordinate of a value that the settings give in `field`.

        Raises:
            SettingsError: the space has no such hyperparameter or value.
        """
        dimension = self._dimensions[self.column(field, name)]
        # Settings leave scalars as they were typed: the space says what they are.
        typed = {str(v): v for v in dimension.values}
        try:
            coordinate = dimension.encode(typed[str(value)] if typed else float(value))
        except (KeyError, TypeError, ValueError):
            coordinate = math.nan
        if math.isnan(coordinate) or not (dimension.choices or -1e-9 <= coordinate <= 1 + 1e-9):
            raise SettingsError(f"{field}: got {value!r}, which is not in the search space: {self._space[name]}")
        return coordinate

    def holds(self, configuration: Configuration) -> bool:
        """Whether a configuration has the hyperparameters of this space with values of it."""
        if set(configuration) - set(self._space):
            return False
        if any(configuration.get(name, value) != value for name, value in self._constants.items()):
            return False
        try:
            vector = self.vector(configuration)
        except (KeyError, TypeError, ValueError):
            return False
        missing = np.isnan(vector)
        # Categories are inside by having an index; comparisons with NaN are false.
        if ((self.choices == 0) & ((vector < -1e-9) | (vector > 1 + 1e-9))).any():
            return False
        if not self._conditions:
            return not missing.any()
        switched_off = np.isnan(self.legal(np.nan_to_num(vector)[None])[0][0])
        return bool((switched_off == missing).all())

    def vector(self, configuration: Configuration) -> Array:
        """A configuration's coordinates, shape (d,); NaN where a condition has switched a hyperparameter off."""
        nan = math.nan
        return np.array([d.encode(configuration[d.name]) if d.name in configuration else nan for d in self._dimensions])

    def configuration(self, vector: Array) -> Configuration:
        """The configuration at some coordinates, shape (d,), without what is NaN or what a condition switches off."""
        constants = self._constants
        if self._conditions:
            vector = self.legal(vector[None])[0][0]
            rows = self._switched(vector[None])[:, 0]
            constants = {n: v for n, v in constants.items() if not np.isnan(rows[self._space.index_of[n]])}
        pairs = zip(self._dimensions, vector.tolist(), strict=True)
        return {**{d.name: d.decode(x) for d, x in pairs if not math.isnan(x)}, **constants}

    def legal(self, points: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Points, shape (n, d), as the configurations that they stand for.

        Returns:
            (coordinates of values, NaN where a condition switches off; which points no forbidden clause excludes).
        """
        columns = [d.snap(column) for d, column in zip(self._dimensions, points.T, strict=True)]
        snapped = np.array(columns, dtype=np.float64).reshape(len(columns), len(points)).T
        allowed = np.ones(len(points), dtype=np.bool_)
        if self.is_plain:
            return snapped, allowed
        rows = self._switched(snapped)
        for clause in self._space.forbidden_clauses:
            allowed &= ~clause.is_forbidden_vector_array(rows)
        for column, d in enumerate(self._dimensions):
            snapped[np.isnan(rows[d.row]), column] = np.nan
        return snapped, allowed

    def _switched(self, snapped: Array) -> Array:
        """ConfigSpace's own vectors, one a column, NaN where a condition switches off."""
        rows = np.zeros((len(self._space), len(snapped)))
        for d, column in zip(self._dimensions, snapped.T, strict=True):
            rows[d.row] = np.floor(column * d.steps) if d.steps else column
        for row, value in self._fixed:
            rows[row] = value
        for child, condition in self._conditions:
            rows[child, ~condition.satisfied_by_vector_array(rows)] = np.nan
        return rows


def _dimension(name: str, row: int, h: Hyperparameter) -> Dimension:
    if hasattr(h, "sequence"):
        return _ordinal(name, row, tuple(_plain(v) for v in h.sequence))
    if hasattr(h, "choices"):
        return _categorical(name, row, tuple(_plain(v) for v in h.choices))
    return _number(name, row, h)


def _ordinal(name: str, row: int, values: tuple[Value, ...]) -> Dimension:
    n = len(values)
    middle = {value: (i + 0.5) / n for i, value in enumerate(values)}
    return Dimension(
        name, row, values, 0, n,
        encode=middle.__getitem__,
        decode=lambda x: values[min(int(x * n), n - 1)],
        snap=lambda x: (np.minimum(np.floor(x * n), n - 1) + 0.5) / n
    )  # fmt: skip


def _categorical(name: str, row: int, values: tuple[Value, ...]) -> Dimension:
    index = {value: float(i) for i, value in enumerate(values)}
    return Dimension(
        name, row, values, len(values), 0,
        encode=index.__getitem__,
        decode=lambda x: values[round(x)],
        snap=np.rint
    )  # fmt: skip


def _number(name: str, row: int, h: Hyperparameter) -> Dimension:
    is_integer, log = isinstance(h.upper, int | np.integer), bool(h.log)
    low, high = (math.log(h.lower), math.log(h.upper)) if log else (float(h.lower), float(h.upper))
    lower, upper, span = h.lower, h.upper, high - low

    def decode(x: float) -> Value:
        value = math.exp(x * span + low) if log else x * span + low
        return round(value) if is_integer else float(min(max(value, lower), upper))

    def snap(x: Array) -> Array:
        if not is_integer:
            return x
        whole = np.rint(np.exp(x * span + low) if log else x * span + low)
        return np.asarray(((np.log(whole) if log else whole) - low) / span)

    encode = (lambda v: (math.log(v) - low) / span) if log else (lambda v: (v - low) / span)
    return Dimension(name, row, (), 0, 0, encode, decode, snap)


def _plain(value: Any) -> Value:
    value = value.item() if hasattr(value, "item") else value
    return str(value) if isinstance(value, str) else value
