"""Where the search looked: over time, in its best configurations, and how much of the space it covered."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D

from pipeline.analysis import style
from pipeline.analysis.axes import Axis, read_axes
from pipeline.analysis.items import Item, Section
from pipeline.errors import RunError
from pipeline.settings.space import BY_NAME
from pipeline.storage.results import Results
from pipeline.storage.tables import incumbents

BINS = 10
MAX_LINES, BEST_LINES = 500, 20


def section(results: Results) -> Section:
    """Samples over time, parallel coordinates, coverage."""
    about = "Whether the search sampled the whole space, and where it went once its model had seen enough."
    return Section("exploration", "Exploration and exploitation", about, _items(results))


def _items(results: Results) -> list[Item]:
    try:
        axes = read_axes(results.configspace, ordered(results.hyperparameters))
    except RunError as error:
        return [Item("samples_over_time", "Samples over time", "", lacking=str(error))]
    if results.configurations.empty:
        return [Item("samples_over_time", "Samples over time", "", lacking="No configuration has been drawn yet.")]
    return [_over_time(results, axes), _parallel(results, axes), _coverage_figure(results, axes), _space(results, axes)]


def ordered(names: tuple[str, ...]) -> list[str]:
    """Hyperparameters in the order of the paper's figure; others, should there be any, after them."""
    return sorted(names, key=lambda name: list(BY_NAME).index(name) if name in BY_NAME else len(BY_NAME))


def _over_time(results: Results, axes: list[Axis]) -> Item:
    """Every draw's value against its number, model-based and random ones apart."""
    configurations = results.configurations
    columns = 4
    rows = -(-(len(axes) + 1) // columns)  # one panel is the legend
    figure, panels = style.new_figure(0.4 + 1.3 * rows, rows, columns, sharex=True)
    is_model = configurations["model_based"].to_numpy()
    number = np.arange(1, len(configurations) + 1)
    best = incumbents(results)
    size = 5 if len(configurations) < 1000 else 2
    for panel, axis in zip(panels.flat, axes, strict=False):
        values = axis.encode(configurations[axis.name])
        for mask, colour in ((~is_model, style.RANDOM_COLOUR), (is_model, style.MODEL_COLOUR)):
            panel.scatter(number[mask], values[mask], s=size, color=colour, alpha=0.6, lw=0, rasterized=True)
        if not best.empty:
            panel.axhline(values[int(best["configuration"].iloc[-1])], color="#444444", ls="--", lw=0.9)
        label_coordinates(axis, panel.yaxis)
        panel.set_title(style.two_lines(axis.axis_label), size=7.5)
        panel.tick_params(labelsize=7)
    for panel in panels.flat[max(len(axes) - columns, 0) : len(axes)]:  # the lowest ones that are not spare
        panel.tick_params(labelbottom=True)
    spare = list(panels.flat)[len(axes) :]
    handles = [
        Line2D([], [], color=style.RANDOM_COLOUR, marker="o", ls="none", ms=4, label="drawn at random"),
        Line2D([], [], color=style.MODEL_COLOUR, marker="o", ls="none", ms=4, label="proposed by the model"),
        Line2D([], [], color="#444444", ls="--", lw=0.9, label="incumbent"),
    ]
    for panel in spare:
        panel.set_axis_off()
    spare[0].legend(handles=handles, loc="center", fontsize=7.5)
    figure.supxlabel("number of the draw", size=9)
    caption = (
        f"The values of {len(configurations)} configurations in the order in which they were drawn "
        f"({int(is_model.sum())} proposed by the model). Random draws fill the range; the model's gather where errors "
        "are low. Dashed: the incumbent on the largest budget."
    )
    return Item("samples_over_time", "Samples over time", caption, figure, data_file="configurations.csv")


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
    side.set_ticks(list(places), [f"{v:.2g}" if abs(v) < 100 else f"{v:.0f}" for v in values])


def _parallel(results: Results, axes: list[Axis]) -> Item:
    """All configurations in grey, the best ones on the largest budget in colour."""
    name, title = "parallel_coordinates", "Parallel coordinates"
    done = results.finished()
    if done.empty:
        return Item(name, title, "", lacking="No evaluation has finished yet.")
    largest = float(done["budget"].max())
    best = done[done["budget"] == largest].sort_values("loss", kind="stable").head(BEST_LINES)
    everything = results.configurations
    shown = everything if len(everything) <= MAX_LINES else everything.sample(MAX_LINES, random_state=0)
    figure, panels = style.new_figure(4.4)
    panel = panels[0, 0]
    panel.grid(axis="y", visible=False)
    places = np.arange(len(axes))
    grey = np.stack([np.column_stack([places, row]) for row in _encoded(shown, axes)])
    panel.add_collection(LineCollection(list(grey), colors="#9AA3AF", linewidths=0.4, alpha=0.35, rasterized=True))
    losses = 100 * best["loss"].to_numpy()
    floor = style.positive_floor(losses)
    has_zero = bool((losses <= 0).any())
    losses = np.maximum(losses, floor)
    norm = LogNorm(losses.min(), max(losses.max(), losses.min() * 1.01))
    lines = np.stack([np.column_stack([places, row]) for row in _encoded(best, axes)])[::-1]
    colours = colormaps[style.MAP](norm(losses[::-1]))
    panel.add_collection(LineCollection(list(lines), colors=colours, linewidths=1.3))
    bar = figure.colorbar(ScalarMappable(norm, style.MAP), ax=panel, pad=0.01, aspect=30)
    bar.set_label(f"validation error on {style.budget_label(largest, results.budget_unit)} (%)")
    style.plain_log_ticks(bar.ax.yaxis)
    panel.set_xlim(-0.3, len(axes) - 0.7)
    panel.set_ylim(-0.08, 1.08)
    panel.set_xticks(places, [axis.axis_label for axis in axes], rotation=40, ha="right", size=7.5)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)
    for place, axis in zip(places, axes, strict=True):
        ends = (axis.choices[0], axis.choices[-1]) if axis.is_discrete else (axis.lower, axis.upper)
        for value, height, side in zip(ends, (-0.015, 1.015), ("top", "bottom"), strict=True):
            text = f"{value:.3g}" if axis.is_numeric else str(value)
            panel.text(place, height, text, ha="center", va=side, size=6.5, color="#444444")
    caption = (
        f"In colour, the {len(best)} best of {int((done['budget'] == largest).sum())} configurations on "
        f"{style.budget_label(largest, results.budget_unit)} (dark: best); in grey, {len(shown)} of all "
        f"{len(everything)} configurations drawn. Where the coloured lines meet, good configurations agree."
        + (f" An error of 0 is coloured as {floor:.2g}%." if has_zero else "")
    )
    data = best[["config_id", "budget", "loss", *(axis.name for axis in axes)]]
    return Item(name, title, caption, figure, data=data)


def _encoded(table: pd.DataFrame, axes: list[Axis]) -> np.ndarray:
    """[rows, axes] coordinates; an inactive value has none, and its line a gap."""
    return np.column_stack([axis.encode(table[axis.name]) for axis in axes])


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


def _coverages(results: Results, axes: list[Axis]) -> pd.DataFrame:
    """Per budget, the coverage of the configurations that finished there, and of as many random draws."""
    done = results.finished()
    generator = np.random.default_rng(0)
    rows = []
    for budget in results.budgets:
        here = done[done["budget"] == budget]
        if here.empty:
            continue
        alone, pairs = coverage(_encoded(here, axes), axes)
        random = np.column_stack([axis.draw(len(here), generator) for axis in axes])
        random_alone, random_pairs = coverage(random, axes)
        row = {"budget": budget, "n": len(here), "mean": alone.mean(), "pairs": pairs}
        row |= {"random_mean": random_alone.mean(), "random_pairs": random_pairs}
        rows.append(row | {axis.name: share for axis, share in zip(axes, alone, strict=True)})
    return pd.DataFrame(rows)


def _coverage_figure(results: Results, axes: list[Axis]) -> Item:
    table = _coverages(results, axes)
    if table.empty:
        return Item("coverage", "Coverage of the space", "", lacking="No evaluation has finished yet.")
    shares = table[[axis.name for axis in axes]].to_numpy()
    figure, panels = style.new_figure(1.6 + 0.36 * len(table))
    panel = panels[0, 0]
    panel.grid(False)
    panel.imshow(shares, cmap=style.MAP, vmin=0, vmax=1, aspect="auto")
    for (y, x), share in np.ndenumerate(shares):
        panel.text(
            x, y, f"{100 * share:.0f}", ha="center", va="center", size=7, color="white" if share < 0.6 else "black"
        )
    panel.set_xticks(range(len(axes)), [axis.label for axis in axes], rotation=40, ha="right", size=7.5)
    labels = [
        f"{style.budget_label(b, results.budget_unit)}, n = {n}"
        for b, n in zip(table["budget"], table["n"], strict=True)
    ]
    panel.set_yticks(range(len(table)), labels)
    panel.spines[:].set_visible(False)
    caption = (
        f"How evenly the configurations that finished on a budget fill {BINS} equally likely bins of each "
        "hyperparameter (its values, where there are fewer): the effective share of bins, exp(entropy) / bins, in "
        f"percent. 100: evenly, as random draws do; {100 // BINS}: all in one bin. Less on larger budgets is "
        "exploitation."
    )
    return Item("coverage", "Coverage of the space", caption, figure, data=table)


def _space(results: Results, axes: list[Axis]) -> Item:
    """The coverage in numbers, beside that of as many random draws."""
    table = _coverages(results, axes)
    if table.empty:
        return Item("coverage_table", "Coverage beside random draws", "", lacking="No evaluation has finished yet.")
    shown = pd.DataFrame(
        {
            "budget": [style.budget_label(b, results.budget_unit) for b in table["budget"]],
            "configurations": table["n"].astype(str),
            "evenness, one at a time": [f"{100 * v:.0f}%" for v in table["mean"]],
            "as many random draws": [f"{100 * v:.0f}%" for v in table["random_mean"]],
            "cells visited, in pairs": [f"{100 * v:.0f}%" for v in table["pairs"]],
            "as many random draws ": [f"{100 * v:.0f}%" for v in table["random_pairs"]],
        }
    )
    caption = (
        f"Means over {len(axes)} hyperparameters and over all their pairs ({BINS} x {BINS} cells). The same number of "
        "random draws is what pure exploration would have visited."
    )
    return Item("coverage_table", "Coverage beside random draws", caption, table=shown)
