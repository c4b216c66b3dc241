"""Figures of single configurations: the incumbent's curve, and one configuration across its budgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.analysis import style
from pipeline.analysis.correlations import losses_by_budget
from pipeline.analysis.items import Item
from pipeline.analysis.marks import EVALUATION, Drawing, Marks, thinned
from pipeline.analysis.metric import ERROR, objective
from pipeline.analysis.ranks import rank_crossings
from pipeline.run.lower_rungs import CLOCK_COLUMNS
from pipeline.settings import Settings
from pipeline.storage.results import Results
from pipeline.storage.tables import incumbents
from pipeline.training.schedule import schedule_for
from pipeline.wording import sentence

# A mean over fewer batches than this share of the usual row's is left out: it is of a partial epoch, and jumps.
FULL_ROW_SHARE, NEIGHBOURS = 0.5, 9
SCHEDULE_POINTS = 200
# A curve alone is followed more closely than one of thousands.
MARKED_POINTS = 60


def items(results: Results) -> list[Item]:
    """One configuration across budgets, and ranks that cross."""
    return [across_budgets(results), rank_crossings(results)]


# The incumbent ------------------------------------------------------------------------------------------------------
def incumbent_curve(results: Results) -> Item:
    """The incumbent's errors and its learning rate over training time."""
    name, title = "incumbent_curve", "The incumbent's learning curve"
    best = incumbents(results)
    if best.empty:
        return Item(name, title, "", lacking="No evaluation has finished yet.")
    chosen, number = best.iloc[-1], int(best.index[-1])
    curve = results.curve(number).drop(columns="evaluation")
    if not results.problem.is_built_in:
        return own_curve(results, chosen, number, curve)
    if curve.empty:
        label = style.budget_label(chosen["budget"], results.budget_unit)
        return Item(name, title, "", lacking=f"The learning curve of {chosen['config_id']} on {label} was not found.")
    rates = learning_rates(results, curve, float(chosen["learning_rate"])) if "learning_rate" in chosen else None
    figure, caption = draw_incumbent(chosen, curve, rates), incumbent_caption(results, chosen, curve, rates is not None)
    validated = curve.dropna(subset=["validation_error"])
    marks = [line_mark(figure.axes[0], number, validated["training_s"], ERROR.shown(validated["validation_error"]))]
    return Item(name, title, caption, figure, data=curve, marks=marks)


def line_mark(axis: Any, evaluation: int, x: Any, y: Any) -> Marks:
    """The curve of one evaluation, for the pointer."""
    line = np.column_stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)])
    return Marks(axis, EVALUATION, np.array([evaluation]), *thinned([line], MARKED_POINTS))


def own_curve(results: Results, chosen: pd.Series, number: int, curve: pd.DataFrame) -> Item:
    """The incumbent's curve of a problem of the user's own: its metric alone."""
    name, title, metric = "incumbent_curve", "The incumbent's learning curve", objective(results)
    measured = curve.dropna(subset=[metric.column])
    if measured.empty:
        return Item(name, title, "", lacking=f"{chosen['config_id']} has measured its {metric.name} at the end only.")
    figure, axes = style.new_figure(3.2)
    x, y = measured["training_s"], abs(metric.factor) * measured[metric.column]
    axes[0, 0].plot(x, y, "o-", color=style.BLUE, ms=3)
    axes[0, 0].set_xlabel("training time, budget clock (s)")
    style.metric_axis(axes[0, 0], metric, metric.label)
    label = style.budget_label(chosen["budget"], results.budget_unit)
    caption, marks = f"{metric.name} of {chosen['config_id']} on {label}.", [line_mark(axes[0, 0], number, x, y)]
    return Item(name, title, caption, figure, data=curve, marks=marks)


def whole_rows(curve: pd.DataFrame) -> pd.DataFrame:
    """The rows whose means stand on about as many batches as their neighbours': those of partial epochs are left out.

    Neighbours, because rows may come more often from some moment on, on another machine for instance.
    """
    batches = pd.Series(np.diff(curve["batches"].to_numpy(dtype=float), prepend=0), index=curve.index)
    usual = batches.rolling(NEIGHBOURS, center=True, min_periods=1).median()
    whole: pd.DataFrame = curve[batches >= FULL_ROW_SHARE * usual]
    return whole


def learning_rates(results: Results, curve: pd.DataFrame, initial: float) -> pd.DataFrame | None:
    """The learning rate between the rows of a curve, from the schedule itself.

    Args:
        initial: the configuration's learning rate.

    Returns:
        Columns training_s, learning_rate, with a gap (NaN) between the rungs; None: the settings are not of this
        version, and say no schedule.
    """
    try:
        settings = Settings.model_validate(results.settings)
    except ValueError:
        return None
    column = CLOCK_COLUMNS.get(results.budget_unit, "batches")
    parts = []
    begin_s = begin = 0.0
    for rung, rows in curve.groupby("rung", sort=False):
        seconds, positions = ([b, *rows[c]] for b, c in ((begin_s, "training_s"), (begin, column)))
        times = np.linspace(begin_s, seconds[-1], SCHEDULE_POINTS)
        schedule = schedule_for(settings, float(str(rung)))
        factors = np.array([schedule.factor(p) for p in np.interp(times, seconds, positions)])
        # A restart, also inside a rung, is no line from the end of one cycle to the start of the next.
        factors[np.append(np.diff(factors) > 0, True)] = np.nan
        parts.append(pd.DataFrame({"training_s": times, "learning_rate": initial * factors}))
        begin_s, begin = seconds[-1], positions[-1]
    return pd.concat(parts, ignore_index=True)


def _rung_ends(chosen: pd.Series, curve: pd.DataFrame) -> pd.Series:
    ends: pd.Series = curve.loc[curve["rung"] < chosen["budget"]].groupby("rung")["training_s"].max()
    return ends


def draw_incumbent(chosen: pd.Series, curve: pd.DataFrame, rates: pd.DataFrame | None) -> Figure:
    """Errors above, learning rate below."""
    figure, axes = style.new_figure(4.2, 2, 1, sharex=True, height_ratios=[3, 1])
    top, bottom = axes[:, 0]
    validated = curve.dropna(subset=["validation_error"])
    trained = whole_rows(curve)
    marker = {"marker": "o", "ms": 2.5} if len(validated) < 40 else {}
    shown = ERROR.shown
    top.plot(trained["training_s"], shown(trained["training_error"]), color=style.ORANGE, label="training (with mixup)")
    top.plot(
        validated["training_s"], shown(validated["validation_error"]), color=style.BLUE, label="validation", **marker
    )
    if not np.isnan(chosen["test_error"]):
        end = curve["training_s"].iloc[-1]
        top.plot([end], [shown(chosen["test_error"])], "D", mfc="white", mec="black", ms=5, label="test, at the end")
    for axis in (top, bottom):
        for end in _rung_ends(chosen, curve):
            axis.axvline(end, color="#999999", ls=":", lw=1)
    style.metric_axis(top, ERROR, ERROR.label)
    top.legend(loc="best")
    if rates is None:
        bottom.plot(curve["training_s"], curve["learning_rate"], ".", color=style.GREEN, ms=3)
    else:
        bottom.plot(rates["training_s"], rates["learning_rate"], color=style.GREEN)
    bottom.set_ylabel("learning rate")
    bottom.set_ylim(bottom=0)
    bottom.set_xlabel("training time, budget clock (s)")
    return figure


def incumbent_caption(results: Results, chosen: pd.Series, curve: pd.DataFrame, has_schedule: bool) -> str:
    """Which configuration, how large, how long, and what the lines are."""
    label = style.budget_label(chosen["budget"], results.budget_unit)
    rates = "the learning rate of its schedule" if has_schedule else "the learning rate at the end of each row"
    return (
        f"{chosen['config_id']} on {label}, one configuration ({style.millions(chosen['parameters'])} parameters, "
        f"{chosen['epochs']:.1f} epochs). Errors above, {rates} below"
        + ("; dotted: the ends of the rungs that it continued from." if len(_rung_ends(chosen, curve)) else ".")
    )


# One configuration across its budgets ---------------------------------------------------------------------------------
def across_budgets(results: Results) -> Item:
    """The curves of one configuration on each of its budgets: the best among those with the most budgets."""
    name, title = "one_configuration", "One configuration across its budgets"
    candidates = most_budgets(results)
    if candidates.empty:
        return Item(name, title, "", lacking="No configuration has finished on two budgets yet.")
    last = candidates.apply(lambda row: row.dropna().iloc[-1], axis=1)
    configuration = int(last.idxmin())
    data = curves_of(results, configuration)
    if data.empty:
        return Item(name, title, "", lacking="The learning curves of the configurations on two budgets are missing.")
    finished = int(candidates.notna().to_numpy().sum(axis=1).max())
    caption = across_caption(results, configuration, data["budget"].nunique(), finished, len(candidates))
    drawing = draw_across(results, data)
    return Item(name, title, caption, drawing.figure, data=data.drop(columns="evaluation"), marks=drawing.marks)


def most_budgets(results: Results) -> pd.DataFrame:
    """Losses by budget of the configurations that finished on the most budgets; empty: none finished on two."""
    losses = losses_by_budget(results)
    counts = losses.notna().sum(axis=1)
    most: pd.DataFrame = losses[(counts == counts.max()) & (counts >= 2)]
    return most


def curves_of(results: Results, configuration: int) -> pd.DataFrame:
    """The curves of one configuration, the longest budget first, with the budget as a column."""
    evaluations = results.evaluations
    here = evaluations[(evaluations["configuration"] == configuration) & (evaluations["curve_length"] > 0)]
    parts = [
        results.curve(int(str(number))).assign(budget=budget)
        for number, budget in here["budget"].sort_values(ascending=False).items()
    ]
    return pd.concat(parts) if parts else pd.DataFrame({"budget": []})


def draw_across(results: Results, data: pd.DataFrame) -> Drawing:
    """A line per budget, the longest undermost."""
    metric = objective(results)
    figure, axes = style.new_figure(3.6)
    axis = axes[0, 0]
    colours, marks = style.budget_colours(results.budgets), []
    for budget, curve in data.groupby("budget", sort=False):
        validated = curve.dropna(subset=[metric.column])
        x, y = validated["training_s"], abs(metric.factor) * validated[metric.column]
        colour: Any = colours[float(str(budget))]
        label = style.budget_label(float(str(budget)), results.budget_unit)
        axis.plot(x, y, color=colour, label=label, lw=1.5)
        axis.plot(x.iloc[-1:], y.iloc[-1:], "o", color=colour)
        marks.append(line_mark(axis, int(curve["evaluation"].iloc[0]), x, y))
    axis.set_xscale("log")
    style.plain_log_ticks(axis.xaxis)
    axis.set_xlabel("training time, budget clock (s)")
    style.metric_axis(axis, metric, metric.label)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=len(handles))
    return Drawing(figure, marks)


def across_caption(results: Results, configuration: int, begun: int, finished: int, candidates: int) -> str:
    """Which configuration, and how its budgets belong together.

    Args:
        begun: on how many budgets it has a curve.
        finished: on how many of them it has finished.
        candidates: how many configurations have finished on as many.
    """
    how = (
        "continued from rung to rung: one curve in pieces"
        if results.settings["search"]["promotion"] == "continue"
        else "trained again on each budget, with the schedule of that budget"
    )
    still = f" ({begun - finished} not finished)" if begun > finished else ""
    chosen = f"the best of the {candidates} configurations" if candidates > 1 else "the only configuration"
    return (
        f"{sentence(objective(results).name)} of {results.configurations['config_id'].iloc[configuration]} on its "
        f"{begun} budgets{still}, {how}. It is {chosen} that finished on {finished} budgets."
    )
