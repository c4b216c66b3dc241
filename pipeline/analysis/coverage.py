"""How much of the space the search has visited: evenness per hyperparameter, and cells of pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from pipeline.analysis import style
from pipeline.analysis.axes import Axis
from pipeline.analysis.items import Item
from pipeline.storage.results import Results

BINS = 10


def items(results: Results, axes: list[Axis]) -> list[Item]:
    """The figure of coverage per hyperparameter, and the table beside random draws."""
    data = coverages(results, axes)
    if data.empty:
        return [Item("coverage", "Coverage of the space", "", lacking="No evaluation has finished yet.")]
    figure = Item("coverage", "Coverage of the space", COVERAGE_CAPTION, draw_coverage(results, data, axes), data=data)
    caption = (
        f"Means over {len(axes)} hyperparameters and over all their pairs ({BINS} x {BINS} cells). The same number of "
        "random draws is what pure exploration would have visited."
    )
    table = coverage_table(results, data)
    return [figure, Item("coverage_table", "Coverage beside random draws", caption, table=table)]


def bin_numbers(axis: Axis, coordinates: np.ndarray) -> np.ndarray:
    """The bin of each coordinate: `BINS` bins of equal prior mass, or one per value where there are fewer values."""
    if axis.is_discrete:
        choice = np.searchsorted(np.asarray(axis.coordinates), coordinates - 1e-9)
        if len(axis.choices) <= BINS:
            return np.asarray(choice)
        masses = np.asarray(axis.masses)
        below = (np.cumsum(masses) - masses / 2)[choice]  # the middle of a value's own mass
    else:
        below = axis.mass_below(coordinates)
    return np.asarray(np.minimum((below * BINS).astype(int), BINS - 1))


def coverage(coordinates: np.ndarray, axes: list[Axis]) -> tuple[np.ndarray, float]:
    """How much of the space some points have visited.

    Args:
        coordinates: [points, axes], NaN: inactive.

    Returns:
        Per axis, how evenly its bins are filled: the effective share of bins, exp(entropy) / bins (1: all alike, 1 /
        bins: all in one); and the mean share of cells with a point over all pairs of axes.
    """
    filled = np.where(np.isnan(coordinates), 0.0, coordinates)
    bins = np.column_stack([bin_numbers(axis, filled[:, a]) for a, axis in enumerate(axes)])
    bins[np.isnan(coordinates)] = -1
    sizes = [_bin_count(axis) for axis in axes]
    alone = np.array([_evenness(bins[bins[:, a] >= 0, a], sizes[a]) for a in range(len(axes))])
    pairs = []
    for a, b in combinations(range(len(axes)), 2):
        both = (bins[:, a] >= 0) & (bins[:, b] >= 0)
        pairs.append(len(np.unique(bins[both, a] * sizes[b] + bins[both, b])) / (sizes[a] * sizes[b]))
    return alone, float(np.mean(pairs)) if pairs else float("nan")


def _evenness(bins: np.ndarray, size: int) -> float:
    shares = np.unique(bins, return_counts=True)[1] / max(len(bins), 1)
    return float(np.exp(-(shares * np.log(shares)).sum()) / size)


def _bin_count(axis: Axis) -> int:
    """How many bins can be reached at all (few values with unequal masses may leave some of equal mass empty)."""
    if not axis.is_discrete:
        return BINS
    return len(np.unique(bin_numbers(axis, np.array(axis.coordinates))))


def coverages(results: Results, axes: list[Axis]) -> pd.DataFrame:
    """Per budget, the coverage of the configurations that finished there, and of as many random draws."""
    done = results.finished()
    generator = np.random.default_rng(0)
    rows = []
    for budget in results.budgets:
        here = done[done["budget"] == budget]
        if here.empty:
            continue
        alone, pairs = coverage(np.column_stack([axis.encode(here[axis.name]) for axis in axes]), axes)
        random = np.column_stack([axis.draw(len(here), generator) for axis in axes])
        random_alone, random_pairs = coverage(random, axes)
        row = {"budget": budget, "n": len(here), "mean": alone.mean(), "pairs": pairs}
        row |= {"random_mean": random_alone.mean(), "random_pairs": random_pairs}
        rows.append(row | {axis.name: share for axis, share in zip(axes, alone, strict=True)})
    return pd.DataFrame(rows)


def draw_coverage(results: Results, data: pd.DataFrame, axes: list[Axis]) -> Figure:
    """A cell per budget and hyperparameter, with its percentage."""
    shares = data[[axis.name for axis in axes]].to_numpy()
    figure, panels = style.new_figure(1.6 + 0.36 * len(data))
    panel = panels[0, 0]
    panel.grid(False)
    panel.imshow(shares, cmap=style.MAP, vmin=0, vmax=1, aspect="auto")
    for (y, x), share in np.ndenumerate(shares):
        ink = style.ink_on(colormaps[style.MAP](share))
        panel.text(x, y, f"{100 * share:.0f}", ha="center", va="center", size=7, color=ink)
    panel.set_xticks(range(len(axes)), [axis.label for axis in axes], rotation=40, ha="right", size=7.5)
    budgets = [style.budget_label(b, results.budget_unit) for b in data["budget"]]
    panel.set_yticks(range(len(data)), [f"{b}, n = {n}" for b, n in zip(budgets, data["n"], strict=True)])
    panel.spines[:].set_visible(False)
    return figure


COVERAGE_CAPTION = (
    f"How evenly the configurations that finished on a budget fill {BINS} equally likely bins of each hyperparameter "
    "(its values, where there are fewer): the effective share of bins, exp(entropy) / bins, in percent. 100: evenly, "
    f"as random draws do; {100 // BINS}: all in one bin. Less on larger budgets is exploitation."
)


def coverage_table(results: Results, data: pd.DataFrame) -> pd.DataFrame:
    """The means of each budget as texts, beside those of as many random draws."""
    return pd.DataFrame(
        {
            "budget": [style.budget_label(b, results.budget_unit) for b in data["budget"]],
            "configurations": data["n"].astype(str),
            "evenness, one at a time": [f"{100 * v:.0f}%" for v in data["mean"]],
            "as many random draws": [f"{100 * v:.0f}%" for v in data["random_mean"]],
            "cells visited, in pairs": [f"{100 * v:.0f}%" for v in data["pairs"]],
            "as many random draws ": [f"{100 * v:.0f}%" for v in data["random_pairs"]],
        }
    )
