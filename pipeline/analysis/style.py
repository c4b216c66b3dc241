"""How figures look: legible in print, told apart by colour-blind readers, drawn without a display.

Figures are made with `matplotlib.figure.Figure` itself, never pyplot: no global state, no display, no leaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

WIDTH_IN = 7.2
# Okabe and Ito 2008: eight colours that readers with any common colour vision tell apart.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#8A8F98"
CYCLE = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, "#000000")
MODEL_COLOUR, RANDOM_COLOUR, CRASH_COLOUR = BLUE, ORANGE, VERMILLION
MAP = "viridis"

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
    "pdf.fonttype": 42,  # text stays text: publishers refuse type 3 fonts
}


def new_figure(height_in: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of the report's width with an array [rows, columns] of axes."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def budget_colours(budgets: Sequence[float]) -> dict[float, Any]:
    """A colour per budget, from dark (small) to light (large); the palest end of the map is left out for print."""
    places = np.linspace(0.0, 0.82, len(budgets)) if len(budgets) > 1 else [0.35]
    return {budget: colormaps[MAP](place) for budget, place in zip(budgets, places, strict=True)}


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


def percent(fraction: float, digits: int = 2) -> str:
    """An error for a person; an en dash when it was not measured."""
    return "–" if fraction is None or np.isnan(fraction) else f"{100 * fraction:.{digits}f}%"


def log_percent_axis(axis: Any, label: str | None = None) -> None:
    """A logarithmic y axis in percent, with numbers a person reads (not powers of ten).

    Call it once everything is drawn: an error of 0, which has no logarithm, is drawn lower down (see `lift_zeros`) and
    the axis says so.
    """
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


def plain_log_ticks(axis: Any) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten, written plainly."""
    axis.set_major_locator(_FewTicks(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(LogLocator(subs=tuple(range(1, 10))))


class _FewTicks(LogLocator):
    """LogLocator, but for a few numbers only on less than a decade, where it fills a narrow panel with them."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        ticks = np.asarray(super().tick_values(vmin, vmax))
        if vmax < 10 * vmin and ((ticks >= vmin) & (ticks <= vmax)).sum() > 5:
            return MaxNLocator(4).tick_values(vmin, vmax)
        return ticks


def two_lines(label: str) -> str:
    """A hyperparameter's label for a narrow panel."""
    if len(label) <= 16:
        return label
    broken = label.replace(", ", ",\n").replace(" (", "\n(")
    return broken if "\n" in broken else "\n".join(label.rsplit(" ", 1))


def note(axis: Any, text: str) -> None:
    """Say in an empty panel why it is empty."""
    axis.set_axis_off()
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="#555555", wrap=True)
