"""How figures look: legible in print, told apart by colour-blind readers, drawn without a display.

Figures are made with `matplotlib.figure.Figure` itself, never pyplot: no global state, no display, no leaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

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
    """A logarithmic y axis in percent, with numbers a person reads (not powers of ten)."""
    axis.set_yscale("log")
    plain_log_ticks(axis.yaxis)
    if label:
        axis.set_ylabel(label)


def plain_log_ticks(axis: Any) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten, written plainly."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(LogLocator(subs=tuple(range(1, 10))))


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
