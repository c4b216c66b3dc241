"""Ranks of configurations on each budget, and how often a longer training puts two the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.analysis import style
from pipeline.analysis.correlations import losses_by_budget
from pipeline.analysis.items import Item
from pipeline.analysis.marks import CONFIGURATION, Drawing, Marks
from pipeline.analysis.metric import objective
from pipeline.storage.results import Results

MAX_RANKED, MOST_BEST = 30, 10


def rank_crossings(results: Results) -> Item:
    """Ranks on each budget of the configurations that went through the same budgets, joined by lines."""
    name, title = "rank_crossings", "Ranks that cross between budgets"
    table = ranks(results)
    if table.empty:
        return Item(name, title, "", lacking="Fewer than three configurations have finished on the same two budgets.")
    data = table.rename(columns=lambda b: f"rank_on_{b:g}")
    data.insert(0, "config_id", results.configurations["config_id"])
    drawing, caption = draw_ranks(results, table), ranks_caption(results, table)
    return Item(name, title, caption, drawing.figure, data=data, marks=drawing.marks)


def ranks(results: Results) -> pd.DataFrame:
    """The rank (1: best) on each budget among the configurations that finished on the most budgets that many share.

    Returns:
        A row per configuration, a column per budget: the top rungs that at least three configurations went through.
        While a search runs, its largest budgets may have no result yet.
    """
    losses = losses_by_budget(results)
    budgets = list(results.budgets)
    for end in range(len(budgets), 1, -1):
        for first in range(end - 1):
            table = losses[budgets[first:end]].dropna()
            if len(table) >= 3:
                return table.rank(method="min")
    return losses.iloc[:0]


def best_count(ranked: int) -> int:
    """How many of so many configurations are coloured as the best: a fifth, and few enough to follow by eye."""
    return max(1, min(ranked // 5, MOST_BEST))


def draw_ranks(results: Results, table: pd.DataFrame) -> Drawing:
    """A line per configuration, the best on the largest budget in colour."""
    ladder = [float(b) for b in table.columns]
    shown = table.iloc[np.argsort(table[ladder[-1]].to_numpy(), kind="stable")[:MAX_RANKED]]
    figure, axes = style.new_figure(4.2)
    axis = axes[0, 0]
    places = range(len(ladder))
    best = best_count(len(table))
    for row, rank in zip(shown.to_numpy(), shown[ladder[-1]], strict=True):
        colour, width, alpha = (style.BLUE, 2.0, 1.0) if rank <= best else (style.GREY, 0.9, 0.6)
        axis.plot(places, row, "o-", color=colour, lw=width, ms=4, alpha=alpha)
    lowest = float(shown.to_numpy().max())
    limits = (lowest + 0.5 + 0.015 * lowest, 0.5 - 0.015 * lowest)  # room for half a dot at either end
    axis.set_ylim(limits)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True, prune="lower"))
    axis.set_yticks([1, *(tick for tick in axis.get_yticks() if tick > 1)])
    axis.set_ylim(limits)
    axis.set_xticks(list(places), [style.budget_label(b, results.budget_unit) for b in ladder])
    axis.set_xlabel("budget")
    axis.set_ylabel(f"rank (1: the best {objective(results).name})")
    count = int((shown[ladder[-1]] <= best).sum())  # more than `best` where errors are the same
    name = f"the best {count} on the largest budget" if count > 1 else "the best on the largest budget"
    handles = [Line2D([], [], color=style.BLUE, lw=2, label=name)]
    handles.append(Line2D([], [], color=style.GREY, lw=1, label=f"the next {len(shown) - count}"))
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    rows = shown.index.to_numpy()
    return Drawing(figure, [Marks(axis, CONFIGURATION, rows, np.arange(len(ladder)), shown.to_numpy())])


def ranks_caption(results: Results, table: pd.DataFrame) -> str:
    """How many pairs change their order from each budget to the next."""
    parts = []
    for one, two in pairwise(table.columns):
        changed, pairs = crossings(table[one].to_numpy(), table[two].to_numpy())
        names = [style.budget_label(float(b), results.budget_unit) for b in (one, two)]
        parts.append(f"{' to '.join(names)} {counted(changed, pairs)}")
    only = f", the best {MAX_RANKED} of them drawn" if len(table) > MAX_RANKED else ""
    return (
        f"Ranks of the {len(table)} configurations that finished on each of these budgets{only}. Lines that cross are "
        f"pairs which a longer training puts the other way round: {', '.join(parts)}."
    )


def counted(part: int, whole: int) -> str:
    """A share as a person reads it: a percentage only where it stands on many."""
    return f"{part} of {whole} pairs" + (f" ({100 * part / whole:.0f}%)" if whole >= 20 else "")


def crossings(before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray) -> tuple[int, int]:
    """How many pairs change their order, and how many pairs there are."""
    x, y = np.asarray(before), np.asarray(after)
    one, two = np.triu_indices(len(x), 1)
    return int(((x[one] - x[two]) * (y[one] - y[two]) < 0).sum()), len(one)
