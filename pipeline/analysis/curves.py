"""Figures of learning curves and of the errors that evaluations end with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from pipeline.analysis import single_curves, style
from pipeline.analysis.items import Item, Section
from pipeline.storage.results import Results

MAX_CURVES = 1200


def section(results: Results) -> Section:
    """Everything about learning curves."""
    about = "How validation error falls while a configuration trains. Every measurement of every evaluation is kept."
    return Section(
        "curves",
        "Learning curves",
        about,
        [all_curves(results), *single_curves.items(results), error_per_budget(results)],
    )


def segments(results: Results, evaluations: pd.DataFrame) -> list[np.ndarray]:
    """A [rows, 2] array (training seconds, validation error in percent) per evaluation.

    Rows that it inherited from a lower rung are left to that rung's evaluation, but for the one it starts from.
    """
    curves = results.learning_curves
    seconds, errors = curves["training_s"].to_numpy(), 100 * curves["validation_error"].to_numpy()
    rungs = curves["rung"].to_numpy()
    found = []
    columns = ("curve_offset", "curve_length", "budget")
    for offset, length, budget in evaluations[list(columns)].itertuples(index=False):
        rows = np.arange(offset, offset + length)
        rows = rows[~np.isnan(errors[rows])]
        own = np.flatnonzero(rungs[rows] == budget)
        rows = rows[max(own[0] - 1, 0) :] if len(own) else rows[:0]
        found.append(np.column_stack([seconds[rows], errors[rows]]))
    return found


def all_curves(results: Results) -> Item:
    """Every learning curve, coloured by the budget that trained it; crashed ones end in a cross."""
    title = "All learning curves"
    known = results.evaluations[results.evaluations["curve_length"] > 0]
    if known.empty:
        return Item("learning_curves", title, "", lacking="No learning curve has been written yet.")
    if results.learning_curves["validation_error"].isna().all():
        return Item("learning_curves", title, "", lacking="Nothing has been measured on the validation set yet.")
    shown = known
    if len(known) > MAX_CURVES:  # the same ones each time the report is made
        shown = known.sample(MAX_CURVES, random_state=0).sort_index()
    figure, axes = style.new_figure(4.2)
    axis = axes[0, 0]
    handles = []
    any_crashed = False
    for budget, colour in style.budget_colours(results.budgets).items():
        here = shown[shown["budget"] == budget]
        lines = segments(results, here)
        axis.add_collection(LineCollection(lines, colors=[colour], linewidths=0.7, alpha=0.55, rasterized=True))
        # An evaluation that was measured once only has no line.
        ends = np.array([line[-1] for line in lines if len(line)]).reshape(-1, 2)
        axis.scatter(*ends.T, s=5, color=[colour], lw=0, alpha=0.8, rasterized=True)
        crashes = [
            line[-1] for line, status in zip(lines, here["status"], strict=True) if status == "crashed" and len(line)
        ]
        if crashes:
            any_crashed = True
            axis.plot(*np.array(crashes).T, "x", color=style.CRASH_COLOUR, ms=5, mew=1.2, zorder=3)
        count = int((known["budget"] == budget).sum())
        label = f"{style.budget_label(budget, results.budget_unit)} (n = {count})"
        handles.append(Line2D([], [], color=colour, lw=2, label=label))
    if any_crashed:
        handles.append(Line2D([], [], color=style.CRASH_COLOUR, marker="x", ls="none", label="crashed"))
    axis.autoscale_view()
    axis.set_xscale("log")
    style.plain_log_ticks(axis.xaxis)
    axis.set_xlabel("training time, budget clock (s)")
    style.log_percent_axis(axis, "validation error (%)")
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5))
    part = f" ({len(shown)} of them drawn, the same random ones each time)" if len(shown) < len(known) else ""
    caption = (
        f"Validation error over training time of {len(known)} evaluations of {known['config_id'].nunique()} "
        f"configurations{part}, coloured by the budget that trained them. {_promotion(results)}"
    )
    return Item("learning_curves", title, caption, figure, data_file="learning_curves.parquet")


def _promotion(results: Results) -> str:
    if results.settings["search"]["promotion"] == "continue":
        return "A promoted configuration continues from its lower rung: its curve goes on where that one ended."
    return "A promoted configuration starts again: each of its budgets has a curve of its own from the first second."


def error_per_budget(results: Results) -> Item:
    """The distribution of final validation errors on each budget, model-based and random proposals apart."""
    title = "Error per budget"
    done = results.finished()
    if done.empty:
        return Item("error_per_budget", title, "", lacking="No evaluation has finished yet.")
    figure, axes = style.new_figure(3.6)
    axis = axes[0, 0]
    generator = np.random.default_rng(0)
    for place, budget in enumerate(results.budgets):
        here = done[done["budget"] == budget]
        for is_model, shift, colour in ((False, -0.2, style.RANDOM_COLOUR), (True, 0.2, style.MODEL_COLOUR)):
            errors = 100 * here.loc[here["model_based"] == is_model, "loss"].to_numpy()
            if len(errors):
                _strip(axis, place + shift, errors, colour, generator)
    axis.set_xticks(range(len(results.budgets)))
    counts = done.groupby("budget").size()
    labels = [
        f"{style.budget_label(b, results.budget_unit)}\nn = {counts.get(b, 0)}" for b in results.budgets
    ]  # fmt: skip
    axis.set_xticklabels(labels)
    axis.set_xlabel("budget")
    style.log_percent_axis(axis, "final validation error (%)")
    handles = [
        Line2D([], [], color=style.RANDOM_COLOUR, marker="o", ls="none", ms=4, label="random proposals"),
        Line2D([], [], color=style.MODEL_COLOUR, marker="o", ls="none", ms=4, label="proposed by the model"),
        Line2D([], [], color="black", lw=2, label="median"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    proposals = int(results.configurations["model_based"].sum())
    caption = (
        f"Final validation error of {len(done)} evaluations. Of {len(results.configurations)} configurations the "
        f"model proposed {proposals}. On the larger budgets only promoted configurations are left."
    )
    rows = done[["config_id", "budget", "model_based", "loss"]]
    return Item("error_per_budget", title, caption, figure, data=rows)


def _strip(axis: Any, place: float, errors: np.ndarray, colour: str, generator: np.random.Generator) -> None:
    jitter = generator.uniform(-0.14, 0.14, len(errors))
    axis.scatter(place + jitter, errors, s=8, color=colour, alpha=0.5, lw=0, rasterized=True)
    axis.plot([place - 0.16, place + 0.16], [np.median(errors)] * 2, color="black", lw=2)
