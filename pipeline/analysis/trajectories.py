"""Incumbents over wall-clock time, over GPU-seconds spent and over evaluations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.analysis import style
from pipeline.analysis.items import Item, Section
from pipeline.storage.results import Results

OVERALL = "overall"
OVERALL_INK = "black"


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
        (worker-seconds), budget, config_id, validation_error and test_error (fractions; NaN: not measured).
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
            "validation_error": chosen["loss"].to_numpy(),
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
    return Section("incumbents", "Incumbents", about, [over_time(results), over_cost(results)])


def over_time(results: Results) -> Item:
    """Validation error of every finished evaluation over wall-clock time, with the incumbents' trajectories."""
    title = "Error over wall-clock time"
    done = results.finished()
    if done.empty:
        return Item("error_over_time", title, "", lacking="No evaluation has finished yet.")
    begin = start_time(results)
    unit_s, unit = style.time_unit(float(done["finished"].max() - begin))
    figure, axes = style.new_figure(3.9)
    axis = axes[0, 0]
    for budget, colour in style.budget_colours(results.budgets).items():
        here = done[done["budget"] == budget]
        hours = (here["finished"] - begin) / unit_s
        label = f"{style.budget_label(budget, results.budget_unit)} (n = {len(here)})"
        axis.scatter(hours, 100 * here["loss"], s=9, color=colour, alpha=0.45, lw=0, rasterized=True)
        _steps(axis, trajectory(results, budget), unit_s, float(done["finished"].max() - begin), colour, label)
    best = trajectory(results)
    end = float(done["finished"].max() - begin)
    _steps(axis, best, unit_s, end, OVERALL_INK, "overall", ls=(0, (4, 2)), lw=1.0)
    tested = best.dropna(subset=["test_error"])
    if not tested.empty:
        axis.plot(
            tested["time_s"] / unit_s, 100 * tested["test_error"], "D", ms=4, mfc="white", mec="black", ls="none",
            label="test error of the overall incumbent",
        )  # fmt: skip
    axis.set_xlabel(f"wall-clock time since the search began ({unit})")
    style.log_percent_axis(axis, "validation error (%)")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=min(len(results.budgets) + 1, 3))
    last = best.iloc[-1]
    caption = (
        f"Each dot is one of {len(done)} finished evaluations of {done['config_id'].nunique()} configurations; the "
        f"lines are the incumbents of each budget, dashed: overall. Overall incumbent: {last['config_id']} on "
        f"{style.budget_label(last['budget'], results.budget_unit)} with {style.percent(last['validation_error'])} "
        f"validation and {style.percent(last['test_error'])} test error. The test error is never shown to the search."
    )
    data = pd.concat([trajectory(results, b).assign(of=f"{b:g}") for b in results.budgets] + [best.assign(of=OVERALL)])
    return Item("error_over_time", title, caption, figure, data=data)


def _steps(axis: Any, path: pd.DataFrame, unit_s: float, end: float, colour: Any, label: str, **options: Any) -> None:
    if path.empty:
        return
    times = np.append(path["time_s"].to_numpy(), end) / unit_s
    errors = 100 * np.append(path["validation_error"].to_numpy(), path["validation_error"].iloc[-1])
    axis.step(times, errors, where="post", color=colour, label=label, **options)


def over_cost(results: Results) -> Item:
    """The incumbents' validation and test errors over worker-seconds and over evaluations."""
    title = "What an incumbent had cost"
    done = results.finished()
    if done.empty:
        return Item("incumbent_over_cost", title, "", lacking="No evaluation has finished yet.")
    ends = np.array([done["finished"].max()])
    spent = float(spent_seconds(results, ends)[0])
    unit_s, unit = style.time_unit(spent)
    figure, axes = style.new_figure(3.4, 1, 2, sharey=True)
    total = len(done)
    paths: list[tuple[str, pd.DataFrame, Any]] = [
        (style.budget_label(b, results.budget_unit), trajectory(results, b), colour)
        for b, colour in style.budget_colours(results.budgets).items()
    ]
    paths.append((OVERALL, trajectory(results), OVERALL_INK))
    for axis, column, scale, end, label in (
        (axes[0, 0], "spent_s", unit_s, spent, f"worker time spent, all budgets ({unit})"),
        (axes[0, 1], "evaluations", 1.0, float(total), "finished evaluations, all budgets"),
    ):
        for name, path, colour in paths:
            renamed = path.rename(columns={"time_s": "wall", column: "time_s"})
            options = {"ls": (0, (4, 2)), "lw": 1.0} if name == OVERALL else {}
            _steps(axis, renamed, scale, end, colour, name, **options)
            tested = path.dropna(subset=["test_error"])
            axis.plot(
                tested[column] / scale, 100 * tested["test_error"], "D", ms=3.5, mfc="white", mec=colour, ls="none"
            )
        axis.set_xlabel(label)
    style.log_percent_axis(axes[0, 0], "error (%)")
    style.log_percent_axis(axes[0, 1])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(paths))
    caption = (
        f"The incumbents of each budget and overall (dashed) after {total} finished evaluations and "
        f"{style.duration_label(spent)} of worker time (every attempt counts, lost ones too). Lines: validation error; "
        "diamonds: test error, where it was measured."
    )
    data = pd.concat([path.assign(of=name) for name, path, _ in paths])
    return Item("incumbent_over_cost", title, caption, figure, data=data)
