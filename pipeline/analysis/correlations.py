"""How well the ranking on one budget predicts the ranking on another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from scipy.stats import kendalltau, rankdata

from pipeline.analysis import style
from pipeline.analysis.items import Item, Section
from pipeline.storage.results import Results

RESAMPLES = 1000
# Below this many pairs an interval says nothing; below FEWEST_RHO even the coefficient is left out.
FEWEST_INTERVAL, FEWEST_RHO = 10, 4


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
        lacking = f"At most {most} configurations have finished on two budgets; {FEWEST_RHO} are needed."
        if most >= FEWEST_RHO:
            lacking = f"{most} configurations have finished on two budgets, with the same error: there are no ranks."
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
    budgets = results.budgets
    size = len(budgets) - 1
    figure, axes = style.new_figure(0.9 + 0.75 * size)
    axis = axes[0, 0]
    axis.grid(False)
    for row in table.itertuples():
        _cell(axis, budgets.index(row.upper) - 1, budgets.index(row.lower), row)
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
    small = table[table["low"].isna()]
    too_few = f" Cells with fewer than {FEWEST_INTERVAL} configurations have no interval." if len(small) else ""
    caption = (
        f"{name} of the final validation errors for every pair of budgets, with the number of configurations that "
        f"finished on both and a 95% bootstrap interval ({RESAMPLES} resamples).{too_few} {_promotion(results)}"
    )
    return Item("rank_correlation", f"{name} between budgets", caption, figure, data=table)


def _cell(axis: Any, x: int, y: int, row: Any) -> None:
    known = not np.isnan(row.correlation)
    colour = colormaps[style.MAP](np.clip(row.correlation, 0, 1)) if known else "#F0F2F4"
    axis.fill([x - 0.48, x + 0.48, x + 0.48, x - 0.48], [y - 0.46, y - 0.46, y + 0.46, y + 0.46], color=colour)
    is_dark = known and np.dot(colour[:3], [0.299, 0.587, 0.114]) < 0.5
    ink = "white" if is_dark else "black"
    axis.text(x, y - 0.1, f"{row.correlation:.2f}" if known else "–", ha="center", va="center", color=ink, size=13)
    interval = f"[{row.low:.2f}, {row.high:.2f}], " if not np.isnan(row.low) else f"{_lacking(row.n)}: "
    axis.text(x, y + 0.25, f"{interval}n = {row.n}", ha="center", va="center", color=ink, size=7.5)


def _lacking(n: int) -> str:
    return "n too small" if n < FEWEST_INTERVAL else "all errors equal"


def _scatter(results: Results, table: pd.DataFrame, name: str) -> Item:
    losses = 100 * losses_by_budget(results)
    budgets = results.budgets
    size = len(budgets) - 1
    figure, axes = style.new_figure(0.6 + 1.75 * size, size, size)
    correlations = table.set_index(["lower", "upper"])["correlation"]
    for y, lower in enumerate(budgets[:-1]):
        for x, upper in enumerate(budgets[1:]):
            axis = axes[y, x]
            if x < y:
                axis.set_axis_off()
                continue
            both = losses[[lower, upper]].dropna()
            if both.empty:
                style.note(axis, "no configuration\non both")
                continue
            axis.plot(both[lower], both[upper], ".", ms=6, alpha=0.55, mew=0, color=style.BLUE, rasterized=True)
            for side_number in (0, 1):
                style.lift_zeros(axis, side_number)
            axis.set_xscale("log")
            axis.set_yscale("log")
            for side in (axis.xaxis, axis.yaxis):
                style.plain_log_ticks(side)
                side.set_tick_params(labelsize=7)
            value = float(correlations[lower, upper])
            axis.set_title(f"{_lacking(len(both)) if np.isnan(value) else f'{value:.2f}'}, n = {len(both)}", size=8.5)
            axis.set_xlabel(f"error on {style.budget_label(lower, results.budget_unit)} (%)", size=8)
            axis.set_ylabel(f"on {style.budget_label(upper, results.budget_unit)} (%)", size=8)
    caption = (
        f"The errors behind each {name}: a point is a configuration that finished on both budgets "
        f"({int(losses.notna().sum(axis=1).ge(2).sum())} did on at least two). Points along a rising line: the shorter "
        "training tells. An error of 0 is drawn at half of the smallest positive one."
    )
    data = losses_by_budget(results).rename(columns=lambda b: f"loss_on_{b:g}")
    data.insert(0, "config_id", results.configurations["config_id"])
    return Item("rank_scatter", "The errors behind the correlations", caption, figure, data=data)
