"""Where a figure shows which evaluation or configuration, so that the page's script can answer the pointer."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Places are sent as whole numbers: fractions of the figure times `SCALE`; `MISSING` where there is none.
SCALE, MISSING = 65_000, 65_535
# A line is sent with so many points at most: the pointer needs no more.
MOST_POINTS = 10
EVALUATION, CONFIGURATION = "evaluation", "configuration"


@dataclass(frozen=True)
class Marks:
    """Points or lines of one panel, each of one evaluation or configuration.

    Attributes:
        axis: the panel.
        of: `EVALUATION` or `CONFIGURATION`.
        rows: [n], rows of that table.
        x, y: in the panel's data units, [n] of points, [n, k] of lines (NaN: a gap); x may be [k], the same for all.
    """

    axis: Axes
    of: str
    rows: np.ndarray
    x: np.ndarray
    y: np.ndarray

    def packed(self, figure: Figure, foot: float = 0.0) -> dict[str, Any]:
        """As the page has it: places as fractions of the picture, once the figure's layout is final.

        Args:
            foot: the share of the figure's height, at its foot, that the picture leaves out.
        """
        y = np.asarray(self.y, dtype=float)
        shape = y.shape
        x = np.broadcast_to(np.asarray(self.x, dtype=float), shape)
        with np.errstate(all="ignore"):  # what a logarithmic axis cannot show has no place
            pixels = self.axis.transData.transform(np.column_stack([x.ravel(), y.ravel()]))
        places = pixels / [figure.bbox.width, figure.bbox.height]
        places[:, 1] = (places[:, 1] - foot) / (1 - foot)
        points = shape[1] if len(shape) == 2 else 1
        across = places[:points, 0] if points > 1 and np.ndim(self.x) == 1 else places[:, 0]
        return {
            "of": self.of,
            "points": points,
            "rows": _rows(np.asarray(self.rows)),
            "x": _text(_whole(across)),
            "y": _text(_whole(places[:, 1])),
        }


@dataclass(frozen=True)
class Drawing:
    """A figure and the marks in it."""

    figure: Figure
    marks: list[Marks] = field(default_factory=list)


def _rows(rows: np.ndarray) -> str | int:
    """Rows of a table, in two bytes each where that is enough; their number where they are all of it in order, as most
    panels have them.
    """
    if np.array_equal(rows, np.arange(len(rows))):
        return len(rows)
    return _text(rows.astype("<u2" if rows.max(initial=0) < 2**16 else "<u4"))


def _whole(fractions: np.ndarray) -> np.ndarray:
    is_inside = (fractions >= 0) & (fractions <= 1)
    return np.where(is_inside, np.round(np.where(is_inside, fractions, 0) * SCALE), MISSING).astype("<u2")


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def thinned(lines: Sequence[np.ndarray], most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Lines of [rows, 2] as x and y of [lines, most], rows evenly left out of long ones, NaN behind short ones."""
    x, y = np.full((2, len(lines), most), np.nan)
    for number, line in enumerate(lines):
        keep = line if len(line) <= most else line[np.linspace(0, len(line) - 1, most).round().astype(int)]
        x[number, : len(keep)], y[number, : len(keep)] = keep.T
    return x, y
