"""A plan as a figure: what the workers would do, and how long the search takes with how many of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.collections import PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from pipeline.analysis import style
from pipeline.errors import SettingsError
from pipeline.planning.advice import Advice

FORMATS = ("png", "pdf", "svg")
# More workers than this are not drawn one by one.
DRAWN_WORKERS = 40


def write_figure(advice: Advice, path: Path) -> None:
    """Draw the plan into a file, whose ending says the format.

    Raises:
        SettingsError: the ending is none of `FORMATS`, or the file cannot be written.
    """
    if path.suffix.lstrip(".") not in FORMATS:
        raise SettingsError(f"--figure {path}: give a name that ends in {', '.join('.' + f for f in FORMATS)}.")
    figure, axes = style.new_figure(5.4, rows=2)
    above, below = axes[:, 0]
    _draw_workers(above, advice)
    _draw_staffing(below, advice)
    budgets = style.budget_colours(advice.cost.ladder)
    unit = advice.settings.search.budget_unit
    handles = [Rectangle((0, 0), 1, 1, color=c, label=style.budget_label(b, unit)) for b, c in budgets.items()]
    above.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=len(handles), fontsize=8)
    try:
        figure.savefig(path, dpi=200)
    except OSError as error:
        raise SettingsError(f"--figure {path}: cannot be written ({error.strerror}).") from None


def _unit(advice: Advice) -> tuple[float, str]:
    """How many budget units one unit of the time axes has, and its name."""
    unit = advice.settings.search.budget_unit
    return style.time_unit(advice.timeline.wall) if unit == "seconds" else (1.0, unit)


def _draw_workers(axis: Any, advice: Advice) -> None:
    """A bar per stretch of a worker at an evaluation, coloured by its budget."""
    scale, unit = _unit(advice)
    colours = style.budget_colours(advice.cost.ladder)
    shown = [s for s in advice.timeline.stretches if s.worker < DRAWN_WORKERS]
    bars = [Rectangle((s.begin / scale, s.worker - 0.4), (s.end - s.begin) / scale, 0.8) for s in shown]
    axis.add_collection(PatchCollection(bars, facecolor=[colours[s.budget] for s in shown], edgecolor="white", lw=0.2))
    axis.set_xlim(0, advice.timeline.wall / scale)
    axis.set_ylim(min(DRAWN_WORKERS, advice.site.workers) - 0.5, -0.5)
    axis.set_xlabel(f"time since the start ({unit})")
    axis.set_ylabel("worker")


def _draw_staffing(axis: Any, advice: Advice) -> None:
    """Time to the last result, and the share of the workers' time at evaluations, over the number of workers."""
    scale, unit = _unit(advice)
    workers = [s.workers for s in advice.staffing]
    axis.loglog(workers, [s.wall / scale for s in advice.staffing], marker="o", color=style.BLUE)
    axis.set_xlabel("workers")
    axis.set_ylabel(f"until the last result ({unit})")
    axis.set_xticks(workers, [str(w) for w in workers])
    axis.minorticks_off()
    style.plain_log_ticks(axis.yaxis)
    other = axis.twinx()
    other.plot(workers, [100 * s.utilisation for s in advice.staffing], marker="s", color=style.ORANGE)
    other.set_ylim(0, 105)
    other.set_ylabel("at evaluations (% of worker time)")
    axis.legend(
        handles=[
            Line2D([], [], color=style.BLUE, marker="o", label="time"),
            Line2D([], [], color=style.ORANGE, marker="s", label="share at evaluations"),
        ],
        loc="center left",
        fontsize=8,
    )
