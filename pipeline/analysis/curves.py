"""Figures of learning curves and of the errors that evaluations end with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from pipeline.analysis import single_curves, style
from pipeline.analysis.items import Item, Section
from pipeline.analysis.marks import EVALUATION, Drawing, Marks, thinned
from pipeline.analysis.metric import objective
from pipeline.analysis.quantiles import curve_quantiles, density_jitter
from pipeline.analysis.throughput import short_schedule_note
from pipeline.analysis.views import funnel
from pipeline.storage.results import Results
from pipeline.wording import sentence

# More curves than this are drawn as quantiles, with the best of each budget as lines.
MAX_CURVES, BEST_CURVES = 500, 3


def section(results: Results) -> Section:
    """Everything about learning curves."""
    about = f"How {objective(results).name} changes while a configuration trains. Every measurement is kept."
    note = short_schedule_note(results)
    about = f"{about} {note}" if note else about
    return Section(
        "curves",
        "Learning curves",
        about,
        [all_curves(results), *single_curves.items(results), error_per_budget(results), funnel(results)],
    )


# All learning curves ------------------------------------------------------------------------------------------------
def all_curves(results: Results) -> Item:
    """Every learning curve, coloured by the budget that trained it; crashed ones end in a cross."""
    title = "All learning curves"
    if (results.evaluations["curve_length"] > 0).sum() == 0:
        return Item("learning_curves", title, "", lacking="No learning curve has been written yet.")
    points = curve_points(results)
    if points.empty:
        return Item("learning_curves", title, "", lacking="Nothing has been measured on the validation set yet.")
    drawing, caption = draw_curves(results, points), curves_caption(results, points)
    file = "learning_curves.parquet"
    return Item("learning_curves", title, caption, drawing.figure, data_file=file, marks=drawing.marks)


def curve_points(results: Results) -> pd.DataFrame:
    """Every measurement of every evaluation on its own rung, and the one that it went on from.

    Returns:
        Columns: evaluation (row), budget, status, training_s, loss; sorted by evaluation.
    """
    metric = objective(results)
    curves = results.learning_curves[["evaluation", "training_s", metric.column, "rung"]]
    curves = curves[curves[metric.column].notna()]
    evaluation = curves["evaluation"].to_numpy()
    budgets = results.evaluations["budget"].to_numpy()[evaluation]
    own = curves["rung"].to_numpy() == budgets
    # The last row of the lower rung is where the line begins.
    leads_on = np.append(own[1:] & (evaluation[1:] == evaluation[:-1]), False) & ~own
    keep = own | leads_on
    return pd.DataFrame(
        {
            "evaluation": evaluation[keep],
            "budget": budgets[keep],
            "status": results.evaluations["status"].to_numpy()[evaluation[keep]],
            "training_s": curves["training_s"].to_numpy()[keep],
            "loss": (-1 if metric.is_maximised else 1) * curves[metric.column].to_numpy()[keep],
        }
    )


def draw_curves(results: Results, points: pd.DataFrame) -> Drawing:
    """The curves as lines, or, where there are too many, as quantiles over time with the best as lines."""
    metric = objective(results)
    figure, axes = style.new_figure(4.2)
    axis = axes[0, 0]
    is_crowded = points["evaluation"].nunique() > MAX_CURVES
    handles = []
    for budget, colour in style.budget_colours(results.budgets).items():
        here = points[points["budget"] == budget]
        lines = _segments(here, metric.shown(here["loss"].to_numpy()))
        if is_crowded:
            _draw_band(axis, lines, colour)
            lines = sorted(lines, key=lambda line: line[-1, 1] / metric.factor)[:BEST_CURVES]
        axis.add_collection(LineCollection(lines, colors=[colour], linewidths=0.7, alpha=0.55, rasterized=True))
        # An evaluation that was measured once only has no line.
        ends = np.array([line[-1] for line in lines]).reshape(-1, 2)
        axis.scatter(*ends.T, s=5, color=[colour], lw=0, alpha=0.8, rasterized=True)
        label = f"{style.budget_label(budget, results.budget_unit)} (n = {here['evaluation'].nunique()})"
        handles.append(Line2D([], [], color=colour, lw=2, label=label))
    crashed = points[points["status"] == "crashed"].groupby("evaluation").tail(1)
    if len(crashed) and not is_crowded:
        places = crashed["training_s"], metric.shown(crashed["loss"])
        axis.plot(*places, "x", color=style.CRASH_COLOUR, ms=5, mew=1.2, zorder=3)
        handles.append(Line2D([], [], color=style.CRASH_COLOUR, marker="x", ls="none", label="crashed"))
    axis.autoscale_view()
    axis.set_xscale("log")
    style.plain_log_ticks(axis.xaxis)
    axis.set_xlabel("training time, budget clock (s)")
    style.metric_axis(axis, metric, metric.label)
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5))
    lines = _segments(points, metric.shown(points["loss"].to_numpy()))
    return Drawing(figure, [Marks(axis, EVALUATION, points["evaluation"].unique(), *thinned(lines))])


def _segments(points: pd.DataFrame, values: np.ndarray) -> list[np.ndarray]:
    """A [rows, 2] array of (training seconds, value) per evaluation."""
    table = np.column_stack([points["training_s"].to_numpy(), values])
    borders = np.flatnonzero(np.diff(points["evaluation"].to_numpy())) + 1
    return [part for part in np.split(table, borders) if len(part)]


def _draw_band(axis: Any, lines: list[np.ndarray], colour: Any) -> None:
    band = curve_quantiles(lines)
    axis.fill_between(band["x"], band["low"], band["high"], color=colour, alpha=0.16, lw=0)
    axis.plot(band["x"], band["middle"], color=colour, lw=1.8)


def curves_caption(results: Results, points: pd.DataFrame) -> str:
    """How many curves there are, and how a promotion shows in them."""
    shown = results.evaluations.loc[points["evaluation"].unique()]
    how = (
        f" Lines: medians; bands: from the 10% to the 90% quantile of all curves at that time; thin: the {BEST_CURVES} "
        "best of each budget."
        if len(shown) > MAX_CURVES
        else ""
    )
    if results.settings["search"]["promotion"] == "continue":
        promotion = "A promoted configuration continues from its lower rung: its curve goes on where that one ended."
        if how:
            promotion += (
                " At the end of a rung a median jumps, because the promoted, which are better, join the others."
            )
    else:
        promotion = "A promoted configuration starts again: each of its budgets has a curve from the first second."
    return (
        f"{sentence(objective(results).name)} over training time of {len(shown)} evaluations of "
        f"{shown['config_id'].nunique()} configurations, coloured by the budget that trained them (n: evaluations)."
        f"{how} {promotion}"
    )


# Error per budget ---------------------------------------------------------------------------------------------------
def error_per_budget(results: Results) -> Item:
    """The distribution of final validation errors on each budget, model-based and random proposals apart."""
    title = sentence(f"{objective(results).word} per budget")
    data = final_errors(results)
    if data.empty:
        return Item("error_per_budget", title, "", lacking="No evaluation has finished yet.")
    drawing, caption = draw_errors(results, data), errors_caption(results, data)
    return Item("error_per_budget", title, caption, drawing.figure, data=data, marks=drawing.marks)


def final_errors(results: Results) -> pd.DataFrame:
    """Columns config_id, budget, model_based, loss of every finished evaluation."""
    return results.finished()[["config_id", "budget", "model_based", "loss"]]


def draw_errors(results: Results, data: pd.DataFrame) -> Drawing:
    """A cloud of dots per budget and kind of proposal, as wide as errors are frequent there, with its median."""
    metric = objective(results)
    figure, axes = style.new_figure(3.6)
    axis = axes[0, 0]
    generator = np.random.default_rng(0)
    marks: list[Marks] = []
    for place, budget in enumerate(results.budgets):
        here = data[data["budget"] == budget]
        for is_model, shift, colour in ((False, -0.2, style.RANDOM_COLOUR), (True, 0.2, style.MODEL_COLOUR)):
            errors = metric.shown(here.loc[here["model_based"] == is_model, "loss"])
            if len(errors):
                x = _draw_cloud(axis, place + shift, errors.to_numpy(), colour, generator, metric.is_log)
                marks.append(Marks(axis, EVALUATION, errors.index.to_numpy(), x, errors.to_numpy()))
    counts = data.groupby("budget").size()
    labels = [f"{style.budget_label(b, results.budget_unit)}\nn = {counts.get(b, 0)}" for b in results.budgets]
    axis.set_xticks(range(len(results.budgets)), labels)
    axis.set_xlim(-0.5, len(results.budgets) - 0.5)
    axis.set_xlabel("budget")
    style.metric_axis(axis, metric, metric.label_of(f"final {metric.name}"))
    handles = [
        Line2D([], [], color=style.RANDOM_COLOUR, marker="o", ls="none", ms=4, label="random proposals"),
        Line2D([], [], color=style.MODEL_COLOUR, marker="o", ls="none", ms=4, label="proposed by the model"),
        Line2D([], [], color="black", lw=2, label="median"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return Drawing(figure, marks)


def _draw_cloud(
    axis: Any, place: float, errors: np.ndarray, colour: str, generator: np.random.Generator, is_log: bool
) -> np.ndarray:
    """The cloud, with its median; where its dots lie on x."""
    heights = np.log(np.maximum(errors, style.positive_floor(errors))) if is_log else errors
    shifts = density_jitter(heights, 0.16, generator)
    size = 8 if len(errors) < style.CROWD else 4
    alpha = style.alpha_for(len(errors))
    axis.scatter(place + shifts, errors, s=size, color=colour, alpha=alpha, lw=0, rasterized=True)
    axis.plot([place - 0.16, place + 0.16], [np.median(errors)] * 2, color="black", lw=2)
    return np.asarray(place + shifts)


def errors_caption(results: Results, data: pd.DataFrame) -> str:
    """How many there are, and who proposed them."""
    proposals = int(results.configurations["model_based"].sum())
    return (
        f"Final {objective(results).name} of {len(data)} evaluations; a cloud is as wide as values are frequent there. "
        f"Of {len(results.configurations)} configurations the model proposed {proposals}. On the larger budgets only "
        "promoted configurations are left."
    )
