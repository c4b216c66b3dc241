"""How well the ranking on one budget predicts the ranking on another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.stats import kendalltau, rankdata

from pipeline.analysis import style
from pipeline.analysis.items import Item, Section
from pipeline.analysis.marks import CONFIGURATION, Drawing, Marks
from pipeline.analysis.metric import objective
from pipeline.storage.results import Results

RESAMPLES = 1000
# Below this many pairs an interval says nothing; below FEWEST_RHO even the coefficient is left out.
FEWEST_INTERVAL, FEWEST_RHO = 10, 4
PANELS_PER_ROW = 3


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rho of each row of two [..., n] arrays, ties given their mean rank; NaN where all ranks are tied."""
    a, b = rankdata(x, axis=-1), rankdata(y, axis=-1)
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1)))


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of each row of two [..., n] arrays."""
    if x.ndim == 1:
        return np.asarray(kendalltau(x, y).statistic)
    return np.array([kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)])


METHODS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "spearman": ("Spearman's rho", spearman),
    "kendall": ("Kendall's tau", kendall),
}


def losses_by_budget(results: Results) -> pd.DataFrame:
    """A row per configuration, a column per budget of the ladder: final validation error (NaN: not finished there)."""
    table = results.finished().pivot_table(index="configuration", columns="budget", values="loss", aggfunc="first")
    return table.reindex(columns=list(results.budgets))


def rank_correlations(results: Results, method: str = "spearman", seed: int = 0) -> pd.DataFrame:
    """The rank correlation of every pair of budgets, over the configurations that finished on both.

    Args:
        method: "spearman" or "kendall".

    Returns:
        Columns: lower, upper (budgets), n, correlation, low, high (percentile bootstrap, 95%). NaN: n is too small, or
        all errors are equal.
    """
    measure = METHODS[method][1]
    table = losses_by_budget(results)
    generator = np.random.default_rng(seed)
    rows = []
    for lower, upper in combinations(results.budgets, 2):
        both = table[[lower, upper]].dropna().to_numpy()
        n = len(both)
        value, low, high = np.nan, np.nan, np.nan
        if n >= FEWEST_RHO:
            value = float(measure(both[:, 0], both[:, 1]))
        if n >= FEWEST_INTERVAL:
            low, high = _bootstrap(both, measure, generator)
        rows.append((lower, upper, n, value, low, high))
    return pd.DataFrame(rows, columns=["lower", "upper", "n", "correlation", "low", "high"])


def _bootstrap(
    both: np.ndarray, measure: Callable[[np.ndarray, np.ndarray], np.ndarray], generator: np.random.Generator
) -> tuple[float, float]:
    values = []
    block = max(1, 200_000 // len(both))  # bounded memory, whatever n
    for start in range(0, RESAMPLES, block):
        picks = generator.integers(len(both), size=(min(block, RESAMPLES - start), len(both)))
        values.append(measure(both[picks, 0], both[picks, 1]))
    drawn = np.concatenate(values)
    if np.isnan(drawn).all():
        return np.nan, np.nan
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def section(results: Results, method: str = "spearman") -> Section:
    """The matrix of the poster, and the scatter behind each of its cells."""
    about = (
        "Whether a short training tells which configuration will be best after a long one. Only configurations that "
        "finished on both budgets count, and only good ones are promoted: a correlation among them is lower than among "
        "all."
    )
    return Section("correlations", "Rank correlation between budgets", about, _items(results, method))


def _items(results: Results, method: str) -> list[Item]:
    name, _ = METHODS[method]
    if len(results.budgets) < 2:
        lacking = "The run has one budget only: there is nothing to correlate."
        return [Item("rank_correlation", f"{name} between budgets", "", lacking=lacking)]
    table = rank_correlations(results, method)
    if table["correlation"].isna().all():
        most = int(table["n"].max())
        have = "1 configuration has" if most == 1 else f"{most or 'no'} configurations have"
        lacking = f"{'Only ' if most else ''}{have} finished on two budgets; {FEWEST_RHO} are needed.".capitalize()
        if most >= FEWEST_RHO:
            lacking = f"{most} configurations have finished on two budgets, with the same result: there are no ranks."
        return [Item("rank_correlation", f"{name} between budgets", "", data=table, lacking=lacking)]
    return [_matrix(results, table, name), _scatter(results, table, name)]


def _promotion(results: Results) -> str:
    if results.settings["search"]["promotion"] == "continue":
        return (
            "Higher rungs continued from the lower ones' checkpoints, which raises the correlation: both errors belong "
            "to one training."
        )
    return "Higher rungs were trained again from the start, as on the poster."


def _matrix(results: Results, table: pd.DataFrame, name: str) -> Item:
    caption = matrix_caption(results, table, name)
    return Item("rank_correlation", f"{name} between budgets", caption, draw_matrix(results, table, name), data=table)


def draw_matrix(results: Results, table: pd.DataFrame, name: str) -> Figure:
    """A cell per pair of budgets, on a map that is white at 0; cells that stand on few configurations are pale."""
    budgets = results.budgets
    size = len(budgets) - 1
    figure, axes = style.new_figure(0.9 + 0.75 * size)
    axis = axes[0, 0]
    axis.grid(False)
    norm = Normalize(-1, 1)
    for row in table.itertuples():
        _cell(axis, budgets.index(row.upper) - 1, budgets.index(row.lower), row, norm)
    labels = [style.budget_label(b, results.budget_unit) for b in budgets]
    axis.set_xlim(-0.5, size - 0.5)
    axis.set_ylim(size - 0.5, -0.5)
    axis.set_xticks(range(size), labels[1:])
    axis.set_yticks(range(size), labels[:-1])
    axis.xaxis.tick_top()
    axis.xaxis.set_label_position("top")
    axis.set_xlabel("larger budget")
    axis.set_ylabel("smaller budget")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(ScalarMappable(norm, style.DIVERGING_MAP), ax=axis, pad=0.02, aspect=18)
    bar.set_label(name)
    bar.set_ticks([-1, -0.5, 0, 0.5, 1])
    return figure


def matrix_caption(results: Results, table: pd.DataFrame, name: str) -> str:
    """What the numbers are, which of them to leave alone, and what moves them."""
    small = table[table["n"] < FEWEST_INTERVAL]
    too_few = f" Pale cells stand on fewer than {FEWEST_INTERVAL} and have no interval." if len(small) else ""
    return (
        f"{name} of the final {objective(results).name}s for every pair of budgets, with the number of configurations "
        f"that finished on both and a 95% bootstrap interval ({RESAMPLES} resamples). Blue: the ranking on the smaller "
        f"budget holds; red: it turns round.{too_few} {_promotion(results)}"
    )


def cell_colour(correlation: float, n: int, norm: Normalize) -> Any:
    """Of a cell, RGB: on the diverging map; nearly white where n is too small, grey where there is none."""
    if np.isnan(correlation):
        return np.array([0.89, 0.90, 0.91])
    colour = np.array(colormaps[style.DIVERGING_MAP](norm(correlation))[:3])
    return colour if n >= FEWEST_INTERVAL else 0.25 * colour + 0.75


def _cell(axis: Any, x: int, y: int, row: Any, norm: Normalize) -> None:
    colour = cell_colour(row.correlation, row.n, norm)
    axis.fill([x - 0.48, x + 0.48, x + 0.48, x - 0.48], [y - 0.46, y - 0.46, y + 0.46, y + 0.46], color=colour)
    ink = style.ink_on(colour) if row.n >= FEWEST_INTERVAL else "#5b6472"
    value = "–" if np.isnan(row.correlation) else f"{row.correlation:.2f}"
    axis.text(x, y - 0.1, value, ha="center", va="center", color=ink, size=13)
    interval = f"[{row.low:.2f}, {row.high:.2f}], " if not np.isnan(row.low) else f"{_lacking(row.n)}: "
    axis.text(x, y + 0.25, f"{interval}n = {row.n}", ha="center", va="center", color=ink, size=7.5)


def _lacking(n: int) -> str:
    return "n too small" if n < FEWEST_INTERVAL else "all results equal"


def _scatter(results: Results, table: pd.DataFrame, name: str) -> Item:
    losses = losses_by_budget(results)
    data = losses.rename(columns=lambda b: f"loss_on_{b:g}")
    data.insert(0, "config_id", results.configurations["config_id"])
    title = "The results behind the correlations"
    drawing = draw_scatter(results, losses, table.set_index(["lower", "upper"])["correlation"])
    caption = scatter_caption(results, losses, name)
    return Item("rank_scatter", title, caption, drawing.figure, data=data, marks=drawing.marks)


def draw_scatter(results: Results, losses: pd.DataFrame, correlations: pd.Series) -> Drawing:
    """A panel per pair of budgets that configurations share, with the line on which both results are the same."""
    metric = objective(results)
    shared = shared_losses(results, losses)
    columns = min(PANELS_PER_ROW, len(shared))
    rows = -(-len(shared) // columns)
    figure, axes = style.new_figure(0.2 + 2.1 * rows, rows, columns)
    marks = []
    for axis, ((lower, upper), both) in zip(axes.flat, shared.items(), strict=False):
        x, y = metric.shown(both[lower]), metric.shown(both[upper])
        _pairs_panel(axis, x, y, metric.is_log)
        marks.append(Marks(axis, CONFIGURATION, both.index.to_numpy(), x.to_numpy(), y.to_numpy()))
        value = float(correlations[lower, upper])
        axis.set_title(f"{_lacking(len(both)) if np.isnan(value) else f'{value:.2f}'}, n = {len(both)}", size=8.5)
        here, there = (style.budget_label(budget, results.budget_unit) for budget in (lower, upper))
        axis.set_xlabel(metric.label_of(f"{metric.word} on {here}"), size=8)
        axis.set_ylabel(metric.label_of(f"on {there}"), size=8)
    for axis in axes.flat[len(shared) :]:
        axis.set_axis_off()
    return Drawing(figure, marks)


def shared_losses(results: Results, losses: pd.DataFrame) -> dict[tuple[float, float], pd.DataFrame]:
    """The losses of the configurations that finished on both, for every two budgets that have any."""
    pairs = {pair: losses[list(pair)].dropna() for pair in combinations(results.budgets, 2)}
    return {pair: both for pair, both in pairs.items() if len(both)}


def _pairs_panel(axis: Any, x: pd.Series, y: pd.Series, is_log: bool) -> None:
    alpha = style.alpha_for(len(x))
    axis.plot(x, y, ".", ms=6 if len(x) < style.CROWD else 3, alpha=alpha, mew=0, color=style.BLUE, rasterized=True)
    if is_log:
        for side in (0, 1):
            style.lift_zeros(axis, side)
        axis.set_xscale("log")
        axis.set_yscale("log")
        for side_axis in (axis.xaxis, axis.yaxis):
            style.plain_log_ticks(side_axis)
    axis.tick_params(labelsize=7)
    limits = axis.get_xlim(), axis.get_ylim()
    axis.axline((1, 1), (2, 2), color="#999999", lw=0.8, ls=":", zorder=0)
    axis.set(xlim=limits[0], ylim=limits[1])


def scatter_caption(results: Results, losses: pd.DataFrame, name: str) -> str:
    """What a point is, and how many pairs of budgets have none."""
    empty = len(list(combinations(results.budgets, 2))) - len(shared_losses(results, losses))
    pairs = "1 pair" if empty == 1 else f"{empty} pairs"
    none = f" {pairs} of budgets without a configuration on both {'is' if empty == 1 else 'are'} left out."
    return (
        f"The results behind each {name}: a point is a configuration that finished on both budgets "
        f"({int(losses.notna().sum(axis=1).ge(2).sum())} did on at least two). Points along a rising line: the shorter "
        "training tells. Dotted: both results are the same. On a logarithmic axis 0 is drawn at half of the "
        f"smallest positive one.{none if empty else ''}"
    )
