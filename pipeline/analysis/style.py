"""How figures look: legible in print, told apart by colour-blind readers, drawn without a display.

Figures are made with `matplotlib.figure.Figure` itself, never pyplot: no global state, no display, no leaks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator, NullFormatter

from pipeline.analysis import fonts
from pipeline.analysis.metric import MISSING as MISSING
from pipeline.analysis.metric import WrittenMetric

WIDTH_IN = 7.2
# Okabe and Ito 2008: eight colours that readers with any common colour vision tell apart.
# Orange and sky are darker than theirs: on white they have a contrast of 3 to 1, as lines and dots need.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#BF8200", "#009E73", "#D55E00"
PURPLE, SKY, GREY = "#B85F92", "#3F97CC", "#8A8F98"
CYCLE = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, "#000000")
MODEL_COLOUR, RANDOM_COLOUR, CRASH_COLOUR = BLUE, ORANGE, VERMILLION
MAP, BUDGET_MAP, BEST_MAP, DIVERGING_MAP = "viridis", "plasma", "Blues_r", "RdBu"
# Beyond this many points a figure shows densities and quantiles: dots would only hide each other.
CROWD = 1500

RC: dict[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E6EA",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.3,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "savefig.facecolor": "white",
    # Hinted text is up to a tenth wider or narrower in another resolution than the one that the layout was found in.
    "text.hinting": "no_hinting",
}


def settings() -> Any:
    """A context in which figures are drawn as the report has them."""
    return matplotlib.rc_context(cast(Any, RC | {"font.family": fonts.families()}))


def new_figure(height_in: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of the report's width with an array [rows, columns] of axes."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def budget_colours(budgets: Sequence[float]) -> dict[float, Any]:
    """A colour per budget, from dark (small) to light (large), each with a contrast of 3 to 1 on white."""
    places = np.linspace(0.0, 0.66, len(budgets)) if len(budgets) > 1 else [0.35]
    return {budget: colormaps[BUDGET_MAP](place) for budget, place in zip(budgets, places, strict=True)}


def ink_on(colour: Any, alpha: float = 1.0) -> str:
    """White or black, whichever is read more easily on this colour over white paper.

    Black begins at a relative luminance (WCAG 2) of 0.22. The contrast is equal at 0.18, but a dark page
    dims the picture.
    """
    rgb = alpha * np.array(to_rgb(colour)) + 1 - alpha
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ [0.2126, 0.7152, 0.0722] > 0.22 else "white"


def best_colours(ranks: np.ndarray) -> Any:
    """A colour per rank in [0, 1]: the best is the darkest, the worst recedes."""
    return colormaps[BEST_MAP](0.62 * ranks)


def budget_label(budget: float, unit: str) -> str:
    """A budget as the poster writes it: 400 s, 1200 s, 1 h, 3 h; 9 epochs."""
    if unit != "seconds":
        return f"{budget:g} {unit.removesuffix('es').removesuffix('s') if budget == 1 else unit}"
    if budget >= 3600 and (budget / 3600).is_integer():
        return f"{budget / 3600:g} h"
    return f"{budget:g} s"


def duration_label(seconds: float) -> str:
    """A duration for a person: 42 s, 3.5 min, 2.1 h, 4.0 days."""
    for size, name in ((86_400 * 3, "days"), (5400, "h"), (90, "min")):
        if seconds >= size:
            unit_s = {"days": 86_400, "h": 3600, "min": 60}[name]
            return f"{seconds / unit_s:.1f} {name}"
    return f"{seconds:.3g} s"


def time_unit(longest_s: float) -> tuple[float, str]:
    """(seconds in it, name) of the unit in which an axis up to `longest_s` reads well."""
    if longest_s >= 3 * 86_400:
        return 86_400.0, "d"
    if longest_s >= 2 * 3600:
        return 3600.0, "h"
    return (60.0, "min") if longest_s >= 180 else (1.0, "s")


def metric_axis(axis: Any, metric: WrittenMetric, label: str | None = None) -> None:
    """Make y the axis of a metric: logarithmic where the metric is, with numbers that a person reads.

    Call it once everything is drawn: a value of 0, which has no logarithm, is drawn lower down (see `lift_zeros`) and
    the axis says so.

    Args:
        label: beside the axis, with its unit; None: no label.
    """
    lifted = 0.0
    if metric.is_log:
        lifted = lift_zeros(axis, 1)
        axis.set_yscale("log")
        plain_log_ticks(axis.yaxis)
    if label:
        axis.set_ylabel(f"{label}; 0 drawn at {lifted:.2g}" if lifted else label)


def positive_floor(values: np.ndarray) -> float:
    """Where a logarithmic axis puts 0: half of the smallest positive value (1 where there is none)."""
    positive = values[values > 0]
    return float(positive.min()) / 2 if len(positive) else 1.0


def lift_zeros(axis: Any, side: int) -> float:
    """Move the points at 0 or below of everything drawn so far to `positive_floor`.

    Args:
        side: 0: x, 1: y.

    Returns:
        Where they were put; 0: there were none.
    """
    drawn: list[tuple[Any, list[np.ndarray]]] = []
    for artist in [*axis.lines, *axis.collections]:
        if artist in axis.lines:
            if artist.get_transform() == axis.transData:
                drawn.append((artist, [np.array(artist.get_xydata(), dtype=float)]))
        elif isinstance(artist, LineCollection):
            drawn.append((artist, [np.array(line, dtype=float) for line in artist.get_segments()]))
        elif isinstance(artist, PathCollection):
            drawn.append((artist, [np.array(np.ma.filled(artist.get_offsets(), np.nan), dtype=float)]))
    values = np.concatenate([points.reshape(-1, 2)[:, side] for _, parts in drawn for points in parts] or [np.empty(0)])
    if not (values <= 0).any():
        return 0.0
    floor = positive_floor(values)
    for artist, parts in drawn:
        for points in parts:
            points[points[:, side] <= 0, side] = floor
        if isinstance(artist, LineCollection):
            artist.set_segments(parts)
        elif isinstance(artist, PathCollection):
            artist.set_offsets(parts[0])
        else:
            artist.set_data(*parts[0].T)
    axis.relim(visible_only=False)
    axis.update_datalim([(floor, floor)], updatex=side == 0, updatey=side == 1)
    return floor


def plain_log_ticks(
    axis: Any, write: Callable[[float], str] = "{:g}".format, subs: Sequence[float] = (1, 2, 5)
) -> None:
    """Ticks at 1, 2 and 5 (or other) times the powers of ten, written plainly."""
    axis.set_major_locator(_FewTicks(subs=tuple(map(float, subs))))
    axis.set_major_formatter(_Written(write))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(LogLocator(subs=tuple(range(1, 10))))


class _Written(Formatter):
    """Numbers as a function writes them; unlike FuncFormatter of a lambda, it can be copied."""

    def __init__(self, write: Callable[[float], str]) -> None:
        self._write = write

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._write(x)


class _FewTicks(LogLocator):
    """LogLocator, but no more numbers than have room, and no less than two: a narrow panel gets coarser steps."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        vmin, vmax = sorted((vmin, vmax))
        if vmin <= 0:
            return super().tick_values(vmin, vmax)
        room = max(int(self.axis.get_tick_space()), 3) if self.axis is not None else 9
        powers = np.arange(math.floor(math.log10(vmin)), math.ceil(math.log10(vmax)) + 1.0)
        for steps in (self._subs, (1.0, 3.0), (1.0,)):  # type: ignore[attr-defined]
            ticks = np.outer(10.0**powers, steps).ravel()
            seen = int(((ticks >= vmin) & (ticks <= vmax)).sum())
            if 2 <= seen <= room and (seen <= 5 or vmax >= 10 * vmin):
                return ticks
        if vmax < 100 * vmin:
            return MaxNLocator(4 if room > 5 else 2).tick_values(vmin, vmax)
        inside = 10.0 ** powers[(10.0**powers >= vmin) & (10.0**powers <= vmax)]
        return inside[:: math.ceil(len(inside) / room)]


def two_lines(label: str) -> str:
    """A hyperparameter's label for a narrow panel."""
    if len(label) <= 16:
        return label
    broken = label.replace(", ", ",\n").replace(" (", "\n(")
    return broken if "\n" in broken else "\n".join(label.rsplit(" ", 1))


def plain_number(value: float, smallest: float | None = None) -> str:
    """A number on an axis; all of one axis alike: powers of ten where its smallest number needs them.

    Args:
        smallest: the smallest number of that axis, other than 0; None: this one.
    """
    scale = abs(value if smallest is None else smallest)
    if 0 < scale < 1e-3 and value:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"


def natural(name: str) -> tuple[Any, ...]:
    """A key that sorts w2 before w10."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part)


def alpha_for(count: int) -> float:
    """How opaque dots are of which there are so many."""
    return float(np.clip(12 / np.sqrt(max(count, 1)), 0.12, 0.7))


def note(axis: Any, text: str) -> None:
    """Say in an empty panel why it is empty."""
    axis.set_axis_off()
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="#555555", wrap=True)


def amount(value: float) -> str:
    """A count for a person: 27.6 M, 59.9 k."""
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g}"


def millions(parameters: float) -> str:
    """A number of parameters: 27.6 M, 59,900; a dash where a problem has none."""
    if np.isnan(parameters):
        return MISSING
    return f"{parameters / 1e6:.3g} M" if parameters >= 1e5 else f"{parameters:,.0f}"


def edges(centres: np.ndarray) -> np.ndarray:
    """Cell borders half-way between centres."""
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - inner[0]], inner, [2 * centres[-1] - inner[-1]]])
