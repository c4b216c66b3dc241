"""Incumbents over wall-clock time, over GPU-seconds spent and over evaluations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pipeline.analysis import style
from pipeline.analysis.items import Item, Section
from pipeline.analysis.marks import CONFIGURATION, EVALUATION, Drawing, Marks
from pipeline.analysis.metric import VALIDATION_ERROR, WrittenMetric, objective
from pipeline.analysis.quantiles import binned_quantiles
from pipeline.analysis.views import proposals, rungs
from pipeline.storage.results import Results
from pipeline.wording import sentence

OVERALL = "overall"
OVERALL_LINE: dict[str, Any] = {"color": "black", "ls": (0, (4, 2)), "lw": 1.0}


def start_time(results: Results) -> float:
    """When the search began: its first master, else its first evaluation; s since 1970 (UTC), NaN before either."""
    journal = results.journal
    masters = journal.loc[journal["event"] == "master_started", "time"]
    times = [*masters, *results.evaluations["submitted"].dropna(), *results.attempts["started"].dropna()]
    return float(min(times)) if times else float("nan")


def spent_seconds(results: Results, times: np.ndarray) -> np.ndarray:
    """Worker-seconds (GPU-seconds on GPUs) occupied by attempts up to each time, lost ones included.

    Args:
        times: s since 1970 (UTC), any order.
    """
    attempts = results.attempts.dropna(subset=["started", "ended"])
    starts, ends = np.sort(attempts["started"].to_numpy()), np.sort(attempts["ended"].to_numpy())
    if len(starts) == 0:
        return np.zeros(len(times))
    # The integral of the number of busy workers: each attempt adds (t - start) and, once over, takes (t - end) away.
    begun, over = np.searchsorted(starts, times), np.searchsorted(ends, times)
    sums = [np.concatenate([[0.0], np.cumsum(values - starts[0])]) for values in (starts, ends)]
    since = times - starts[0]
    return np.asarray((begun * since - sums[0][begun]) - (over * since - sums[1][over]))


def trajectory(results: Results, budget: float | None = None) -> pd.DataFrame:
    """The incumbent after each improvement.

    Args:
        budget: among the evaluations on that budget; None: overall, which is the best on the largest budget that has a
            result so far (as hpbandster's incumbents: a first result on a larger budget replaces what was there).

    Returns:
        Columns: evaluations (finished so far, on any budget), time_s (since the search began), spent_s
        (worker-seconds), budget, config_id, loss (what the search minimises) and test_error (NaN: not measured).
    """
    done = results.finished().sort_values("finished", kind="stable")
    count = np.arange(1, len(done) + 1)
    keep = _improvements(done["loss"].to_numpy(), done["budget"].to_numpy(), budget)
    chosen = done[keep]
    times = chosen["finished"].to_numpy()
    return pd.DataFrame(
        {
            "evaluations": count[keep],
            "time_s": times - start_time(results),
            "spent_s": spent_seconds(results, times),
            "budget": chosen["budget"].to_numpy(),
            "config_id": chosen["config_id"].to_numpy(),
            "loss": chosen["loss"].to_numpy(),
            "test_error": chosen["test_error"].to_numpy(),
        }
    )


def _improvements(losses: np.ndarray, budgets: np.ndarray, budget: float | None) -> np.ndarray:
    """Which evaluations became the incumbent, in the order in which they finished."""
    if budget is not None:
        return _falls(np.where(budgets == budget, losses, np.inf))
    if len(losses) == 0:
        return np.zeros(0, dtype=bool)
    largest = np.maximum.accumulate(budgets)
    keep = np.zeros(len(losses), dtype=bool)
    for level in np.unique(largest):
        counts = (budgets == level) & (largest == level)
        keep |= _falls(np.where(counts, losses, np.inf))
    return keep


def _falls(losses: np.ndarray) -> np.ndarray:
    """Which losses are lower than all before them (inf: does not count)."""
    before = np.concatenate([[np.inf], np.minimum.accumulate(losses)[:-1]])
    return np.asarray(losses < before)


def section(results: Results) -> Section:
    """Everything about incumbents over time."""
    about = (
        "How good the best configuration was, and what it had cost by then. An incumbent belongs to a budget; "
        "overall, it is the best on the largest budget that has a result."
    )
    return Section(
        "incumbents", "Incumbents", about, [over_time(results), over_cost(results), rungs(results), proposals(results)]
    )


# Error over time ----------------------------------------------------------------------------------------------------
def over_time(results: Results) -> Item:
    """Validation error of every finished evaluation over wall-clock time, with the incumbents' trajectories."""
    title = sentence(f"{objective(results).word} over wall-clock time")
    done = finished_over_time(results)
    if done.empty:
        return Item("error_over_time", title, "", lacking="No evaluation has finished yet.")
    paths = trajectories(results)
    drawing = draw_over_time(results, done, paths)
    caption = over_time_caption(results, done, paths[OVERALL])
    return Item("error_over_time", title, caption, drawing.figure, data=joined(paths), marks=drawing.marks)


def finished_over_time(results: Results) -> pd.DataFrame:
    """Columns time_s (since the search began), budget, config_id and loss of every finished evaluation."""
    done = results.finished()
    return done[["budget", "config_id", "loss"]].assign(time_s=done["finished"] - start_time(results))


def trajectories(results: Results) -> dict[str, pd.DataFrame]:
    """The trajectory on each budget, by the budget's label, and `OVERALL`."""
    paths = {style.budget_label(b, results.budget_unit): trajectory(results, b) for b in results.budgets}
    return {**paths, OVERALL: trajectory(results)}


def joined(paths: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Trajectories as one table, with whose they are as column `of`."""
    return pd.concat([path.assign(of=name) for name, path in paths.items()])


def draw_over_time(results: Results, done: pd.DataFrame, paths: dict[str, pd.DataFrame]) -> Drawing:
    """A dot per evaluation, or, where there are too many, their quantiles; and the incumbents as steps."""
    metric = objective(results)
    end_s = float(done["time_s"].max())
    unit_s, unit = style.time_unit(end_s)
    figure, axes = style.new_figure(3.9)
    axis = axes[0, 0]
    for budget, colour in style.budget_colours(results.budgets).items():
        here = done[done["budget"] == budget]
        times, errors = here["time_s"].to_numpy() / unit_s, metric.shown(here["loss"].to_numpy())
        if len(done) <= style.CROWD:
            axis.scatter(times, errors, s=9, color=colour, alpha=style.alpha_for(len(done)), lw=0, rasterized=True)
        else:
            band = binned_quantiles(times, errors)
            axis.fill_between(band["x"], band["low"], band["high"], color=colour, alpha=0.18, lw=0)
        name = style.budget_label(budget, results.budget_unit)
        _steps(axis, paths[name], "time_s", unit_s, end_s, metric, color=colour, label=f"{name} (n = {len(here)})")
    _steps(axis, paths[OVERALL], "time_s", unit_s, end_s, metric, label=OVERALL, **OVERALL_LINE)
    tested = paths[OVERALL].dropna(subset=["test_error"])
    if not tested.empty:
        axis.plot(
            tested["time_s"] / unit_s, metric.shown(tested["test_error"]), "D", ms=4, mfc="white", mec="black",
            ls="none", label="test error of the overall incumbent",
        )  # fmt: skip
    axis.set_xlabel(f"wall-clock time since the search began ({unit})")
    style.metric_axis(axis, metric, metric.label)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=min(len(results.budgets) + 1, 3))
    places = (done["time_s"].to_numpy() / unit_s, metric.shown(done["loss"].to_numpy()))
    return Drawing(figure, [Marks(axis, EVALUATION, done.index.to_numpy(), *places)])


def _steps(
    axis: Any, path: pd.DataFrame, column: str, unit: float, end: float, metric: WrittenMetric, **options: Any
) -> None:
    """An incumbent's error as steps along a column of its trajectory, on to the end of the run."""
    if path.empty:
        return
    places = np.append(path[column].to_numpy(), end) / unit
    losses = np.append(path["loss"].to_numpy(), path["loss"].iloc[-1])
    axis.step(places, metric.shown(losses), where="post", **options)


def over_time_caption(results: Results, done: pd.DataFrame, best: pd.DataFrame) -> str:
    """How many evaluations, and which incumbent stands at the end."""
    metric, last = objective(results), best.iloc[-1]
    what = (
        f"Each dot is one of {len(done)} finished evaluations"
        if len(done) <= style.CROWD
        else f"Bands: from the 10% to the 90% quantile of {len(done)} finished evaluations"
    )
    ends = f"with {metric.text(last['loss'])}."
    if metric == VALIDATION_ERROR:
        tested = " (its test error has not been measured)"
        if not np.isnan(last["test_error"]):
            tested = f" and {metric.text(last['test_error'])} test error, which is never shown to the search"
        ends = f"with {metric.text(last['loss'])} validation error{tested}."
    return (
        f"{what} of {done['config_id'].nunique()} configurations; lines: the incumbents of each budget; dashed: "
        f"overall. Overall incumbent: {last['config_id']} on {style.budget_label(last['budget'], results.budget_unit)} "
        f"{ends}"
    )


# Error over cost ----------------------------------------------------------------------------------------------------
def over_cost(results: Results) -> Item:
    """The incumbents' validation and test errors over worker-seconds and over evaluations."""
    title = "What an incumbent had cost"
    done = results.finished()
    if done.empty:
        return Item("incumbent_over_cost", title, "", lacking="No evaluation has finished yet.")
    spent_s = float(spent_seconds(results, np.array([done["finished"].max()]))[0])
    paths = trajectories(results)
    drawing, caption = (
        draw_over_cost(results, paths, spent_s, len(done)),
        over_cost_caption(results, len(done), spent_s),
    )
    return Item("incumbent_over_cost", title, caption, drawing.figure, data=joined(paths), marks=drawing.marks)


def draw_over_cost(results: Results, paths: dict[str, pd.DataFrame], spent_s: float, evaluations: int) -> Drawing:
    """The trajectories over worker time, and over evaluations."""
    metric = objective(results)
    if metric == VALIDATION_ERROR:  # the test error has the same axis
        metric = replace(metric, name="error")
    unit_s, unit = style.time_unit(spent_s)
    figure, axes = style.new_figure(3.4, 1, 2, sharey=True)
    colours = [*style.budget_colours(results.budgets).values(), OVERALL_LINE["color"]]
    for axis, column, scale, end, label in (
        (axes[0, 0], "spent_s", unit_s, spent_s, f"worker time spent, all budgets ({unit})"),
        (axes[0, 1], "evaluations", 1.0, float(evaluations), "finished evaluations, all budgets"),
    ):
        for (name, path), colour in zip(paths.items(), colours, strict=True):
            options = OVERALL_LINE if name == OVERALL else {"color": colour}
            _steps(axis, path, column, scale, end, metric, label=name, **options)
            tested = path.dropna(subset=["test_error"])
            errors = metric.shown(tested["test_error"])
            axis.plot(tested[column] / scale, errors, "D", ms=3.5, mfc="white", mec=colour, ls="none")
        axis.set_xlabel(label)
    style.metric_axis(axes[0, 0], metric, metric.label)
    style.metric_axis(axes[0, 1], metric)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(paths))
    best = joined(paths)
    ids = results.configurations["config_id"]
    rows = best["config_id"].map(dict(zip(ids, range(len(ids)), strict=True))).to_numpy()
    heights = metric.shown(best["loss"].to_numpy())
    columns = ((axes[0, 0], best["spent_s"] / unit_s), (axes[0, 1], best["evaluations"]))
    return Drawing(figure, [Marks(axis, CONFIGURATION, rows, x.to_numpy(), heights) for axis, x in columns])


def over_cost_caption(results: Results, evaluations: int, spent_s: float) -> str:
    """What was spent, and what lines and diamonds are."""
    metric = objective(results)
    is_tested = metric == VALIDATION_ERROR and results.finished()["test_error"].notna().any()
    diamonds = "; diamonds: test error, where it was measured" if is_tested else ""
    return (
        f"The incumbents of each budget and overall (dashed) after {evaluations} finished evaluations and "
        f"{style.duration_label(spent_s)} of worker time (every attempt counts, lost ones too). Lines: "
        f"{metric.name}{diamonds}."
    )
