"""Figures of single configurations: the incumbent's curve, one across its budgets, and ranks that cross."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.analysis import style
from pipeline.analysis.correlations import losses_by_budget
from pipeline.analysis.items import Item
from pipeline.storage.results import Results
from pipeline.storage.tables import incumbents

MAX_RANKED = 30


def items(results: Results) -> list[Item]:
    """The three figures."""
    return [incumbent_curve(results), across_budgets(results), rank_crossings(results)]


def incumbent_curve(results: Results) -> Item:
    """The incumbent's errors and its learning rate over training time."""
    name, title = "incumbent_curve", "The incumbent's learning curve"
    best = incumbents(results)
    if best.empty:
        return Item(name, title, "", lacking="No evaluation has finished yet.")
    chosen = best.iloc[-1]
    curve = results.curve(int(best.index[-1]))
    label = style.budget_label(chosen["budget"], results.budget_unit)
    if curve.empty:
        return Item(name, title, "", lacking=f"The learning curve of {chosen['config_id']} on {label} was not found.")
    figure, axes = style.new_figure(4.2, 2, 1, sharex=True, height_ratios=[3, 1])
    top, bottom = axes[:, 0]
    validated = curve.dropna(subset=["validation_error"])
    marker = {"marker": "o", "ms": 2.5} if len(validated) < 40 else {}
    top.plot(curve["training_s"], 100 * curve["training_error"], color=style.ORANGE, label="training (with mixup)")
    top.plot(
        validated["training_s"], 100 * validated["validation_error"], color=style.BLUE, label="validation", **marker
    )
    if not np.isnan(chosen["test_error"]):
        end = curve["training_s"].iloc[-1]
        top.plot([end], [100 * chosen["test_error"]], "D", mfc="white", mec="black", ms=5, label="test, at the end")
    came_from = curve.loc[curve["rung"] < chosen["budget"]].groupby("rung")["training_s"].max()
    for axis in (top, bottom):
        for end in came_from:
            axis.axvline(end, color="#999999", ls=":", lw=1)
    style.log_percent_axis(top, "error (%)")
    top.legend(loc="best")
    bottom.plot(curve["training_s"], curve["learning_rate"], color=style.GREEN)
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("training time, budget clock (s)")
    caption = (
        f"{chosen['config_id']} on {label}, one configuration ({chosen['parameters'] / 1e6:.3g} M parameters, "
        f"{chosen['epochs']:.1f} epochs). Errors above, learning rate below"
        + ("; dotted: the ends of the rungs that it continued from." if len(came_from) else ".")
    )
    return Item(name, title, caption, figure, data=curve.drop(columns="evaluation"))


def across_budgets(results: Results) -> Item:
    """The curves of one configuration on each of its budgets: the best among those with the most budgets."""
    name, title = "one_configuration", "One configuration across its budgets"
    losses = losses_by_budget(results)
    counts = losses.notna().sum(axis=1)
    if counts.empty or counts.max() < 2:
        return Item(name, title, "", lacking="No configuration has finished on two budgets yet.")
    candidates = losses[counts == counts.max()]
    last = candidates.apply(lambda row: row.dropna().iloc[-1], axis=1)
    configuration = int(last.idxmin())
    evaluations = results.evaluations
    here = evaluations[(evaluations["configuration"] == configuration) & (evaluations["curve_length"] > 0)]
    if here.empty:
        return Item(name, title, "", lacking="The learning curves of the configurations on two budgets are missing.")
    figure, axes = style.new_figure(3.6)
    axis = axes[0, 0]
    colours = style.budget_colours(results.budgets)
    rows = []
    for number, budget in here["budget"].sort_values(ascending=False).items():  # the longest lies undermost
        curve = results.curve(int(str(number)))
        validated = curve.dropna(subset=["validation_error"])
        axis.plot(
            validated["training_s"],
            100 * validated["validation_error"],
            color=colours[budget],
            label=style.budget_label(budget, results.budget_unit),
            lw=1.5,
        )
        axis.plot(
            validated["training_s"].iloc[-1:], 100 * validated["validation_error"].iloc[-1:], "o", color=colours[budget]
        )
        rows.append(curve.assign(budget=budget))
    axis.set_xscale("log")
    style.plain_log_ticks(axis.xaxis)
    axis.set_xlabel("training time, budget clock (s)")
    style.log_percent_axis(axis, "validation error (%)")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=len(handles))
    how = (
        "continued from rung to rung: one curve in pieces"
        if results.settings["search"]["promotion"] == "continue"
        else "trained again on each budget, with the schedule of that budget"
    )
    caption = (
        f"Validation error of {results.configurations['config_id'].iloc[configuration]} on its {len(here)} budgets, "
        f"{how}. One configuration of {len(candidates)} that finished on as many budgets: the best of them."
    )
    return Item(name, title, caption, figure, data=pd.concat(rows).drop(columns="evaluation"))


def ranks(results: Results) -> pd.DataFrame:
    """The rank (1: best) on each budget among the configurations that finished on the most budgets that many share.

    Returns:
        A row per configuration, a column per budget: the top rungs that at least three configurations went through.
    """
    losses = losses_by_budget(results)
    budgets = list(results.budgets)
    for first in range(len(budgets) - 1):
        table = losses[budgets[first:]].dropna()
        if len(table) >= 3:
            return table.rank(method="min")
    return losses.iloc[:0]


def rank_crossings(results: Results) -> Item:
    """Ranks on each budget of the configurations that went through the same budgets, joined by lines."""
    name, title = "rank_crossings", "Ranks that cross between budgets"
    table = ranks(results)
    if table.empty:
        return Item(name, title, "", lacking="Fewer than three configurations have finished on the same budgets.")
    ladder = [budget for budget in results.budgets if budget in table.columns]
    shown = table.iloc[np.argsort(table[ladder[-1]].to_numpy(), kind="stable")[:MAX_RANKED]]
    figure, axes = style.new_figure(4.2)
    axis = axes[0, 0]
    places = range(len(ladder))
    final = shown[ladder[-1]].to_numpy()
    best = max(1, len(table) // 5)
    for row, rank in zip(shown.to_numpy(), final, strict=True):
        colour = style.BLUE if rank <= best else style.GREY
        axis.plot(places, row, color=colour, lw=2.0 if rank <= best else 0.9, alpha=1.0 if rank <= best else 0.6)
        axis.plot(places, row, "o", color=colour, ms=4)
    axis.invert_yaxis()
    axis.set_xticks(list(places), [style.budget_label(b, results.budget_unit) for b in ladder])
    axis.set_xlabel("budget")
    axis.set_ylabel("rank (1: lowest validation error)")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(handles=_legend(best), loc="outside upper center", ncols=2)
    parts = [
        f"{style.budget_label(a, results.budget_unit)} to {style.budget_label(b, results.budget_unit)} "
        f"{100 * _crossings(table[a].to_numpy(), table[b].to_numpy()):.0f}%"
        for a, b in pairwise(ladder)
    ]
    only = f", the best {len(shown)} of them drawn" if len(shown) < len(table) else ""
    caption = (
        f"Ranks of the {len(table)} configurations that finished on each of these budgets{only}. Lines that cross are "
        f"pairs which a longer training puts the other way round: {', '.join(parts)} of all pairs."
    )
    data = table.rename(columns=lambda b: f"rank_on_{b:g}")
    data.insert(0, "config_id", results.configurations["config_id"])
    return Item(name, title, caption, figure, data=data)


def _legend(best: int) -> list[Any]:
    return [
        Line2D(
            [],
            [],
            color=style.BLUE,
            lw=2,
            label=f"the best {best} on the largest budget" if best > 1 else "the best on the largest budget",
        ),
        Line2D([], [], color=style.GREY, lw=1, label="others"),
    ]


def _crossings(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the pairs whose order changes."""
    one, two = np.triu_indices(len(before), 1)
    return float(np.mean((before[one] - before[two]) * (after[one] - after[two]) < 0))
