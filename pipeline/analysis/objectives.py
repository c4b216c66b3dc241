"""Several objectives in the report: fronts of any two of them, the front as a table, hypervolume over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.analysis import style
from pipeline.analysis.axes import ordered
from pipeline.analysis.items import Item, Section
from pipeline.analysis.marks import EVALUATION, Drawing, Marks
from pipeline.analysis.metric import MISSING
from pipeline.analysis.trajectories import start_time
from pipeline.search.objectives import dominated_share, normalised
from pipeline.search.pareto import hypervolume, on_front
from pipeline.settings.space import BY_NAME
from pipeline.storage.results import Results
from pipeline.storage.tables import is_switched_off
from pipeline.wording import sentence, value_text
from tandem_trial.problem import Metric

PANELS_PER_ROW = 3
NOTHING = "No evaluation has finished with a value of every objective yet."


def objectives(results: Results) -> tuple[Metric, ...]:
    """What the run optimised together; empty: one metric alone."""
    names = results.settings["search"].get("objectives") or ()
    known = {metric.name: metric for metric in results.problem.metrics}
    return tuple(known[name] for name in names) if len(names) > 1 else ()


def section(results: Results) -> Section:
    """Everything about several objectives."""
    metrics = objectives(results)
    titles = ", ".join(metric.title for metric in metrics)
    about = (
        f"The search optimised {len(metrics)} objectives together: {titles}. On the front are the configurations that "
        "no other dominates: none is as good in all of them and better in one."
    )
    items = [trade_offs(results, metrics), front_item(results, metrics), hypervolume_over_time(results, metrics)]
    return Section("objectives", "Several objectives", about, items)


def values_on_largest(results: Results, metrics: Sequence[Metric]) -> pd.DataFrame:
    """The finished evaluations of the largest budget that has any, and their values, a column per metric; those that
    lack a value are left out.
    """
    done = results.finished()
    measured = results.metrics[[metric.name for metric in metrics]].replace([np.inf, -np.inf], np.nan).dropna()
    done = done[done.index.isin(measured.index)]
    done = done[done["budget"] == done["budget"].max()]
    own: pd.DataFrame = done[[name for name in done if name not in measured]]
    return own.join(measured)


def losses_of(values: pd.DataFrame, metrics: Sequence[Metric]) -> np.ndarray:
    """What is minimised; shape (n, metrics)."""
    return np.array([metric.loss(1.0) * values[metric.name].to_numpy() for metric in metrics]).T


def _budget(results: Results, values: pd.DataFrame) -> str:
    return style.budget_label(float(values["budget"].iloc[0]), results.budget_unit)


def front_facts(results: Results) -> tuple[str, str] | None:
    """How many configurations are on the front, and a text of its hypervolume and the best of each objective; None:
    there is one objective, or no result.
    """
    metrics = objectives(results)
    values = values_on_largest(results, metrics) if metrics else pd.DataFrame()
    if values.empty:
        return None
    losses = losses_of(values, metrics)
    best = ", ".join(f"{m.title} {m.text(m.of_loss(v))}" for m, v in zip(metrics, losses.min(axis=0), strict=True))
    detail = f"hypervolume {dominated_share(losses, metrics):.3f}; best {best}"
    return f"{int(on_front(losses).sum())} of {len(values)}", detail


# Fronts ---------------------------------------------------------------------------------------------------------------
def trade_offs(results: Results, metrics: Sequence[Metric]) -> Item:
    """A panel for every two of the metrics."""
    name, title = "trade_offs", "Every two objectives"
    values = values_on_largest(results, metrics)
    if values.empty:
        return Item(name, title, "", lacking=NOTHING)
    drawing = draw_trade_offs(values, metrics)
    data = values[["config_id", *(metric.name for metric in metrics)]].copy()
    data["on_front"] = on_front(losses_of(values, metrics))
    of_all = int(data["on_front"].sum())
    caption = (
        f"{len(values)} configurations on {_budget(results, values)}, grey where another one dominates them in these "
        f"two. Blue: the front of the two. Of all {len(metrics)} objectives together {of_all} are on the front."
    )
    return Item(name, title, caption, drawing.figure, data=data, marks=drawing.marks, has_choice=True)


def against_others(results: Results) -> list[Item]:
    """Of a problem of the user's own with one objective: its metric against each of the others."""
    metric, *others = results.problem.metrics
    others = [m for m in others if results.metrics[m.name].notna().any()]
    if objectives(results) or not others:
        return []
    values = [values_on_largest(results, (metric, other)) for other in others]
    pairs = [(metric, other) for other, v in zip(others, values, strict=True) if not v.empty]
    if not pairs:
        return []
    drawing = draw_pairs([v for v in values if not v.empty], pairs)
    caption = (
        f"Results on the largest budget, {metric.title} against what else was measured; blue: the front of the two, "
        "grey: another one dominates them in both."
    )
    return [Item("trade_offs", f"{sentence(metric.title)} against the other metrics", caption, drawing.figure,
                 marks=drawing.marks, data_file="evaluations.csv", has_choice=True)]  # fmt: skip


def draw_trade_offs(values: pd.DataFrame, metrics: Sequence[Metric]) -> Drawing:
    """A panel for every two of the metrics."""
    pairs = list(combinations(metrics, 2))
    return draw_pairs([values] * len(pairs), pairs)


def draw_pairs(tables: Sequence[pd.DataFrame], pairs: Sequence[tuple[Metric, Metric]]) -> Drawing:
    """A panel for each pair of metrics (vertical, across), with its values: a dot per configuration, the front as
    steps.
    """
    columns = min(PANELS_PER_ROW, len(pairs))
    rows = -(-len(pairs) // columns)
    figure, axes = style.new_figure(3.0 * rows, rows, columns)
    marks = []
    for axis, values, (vertical, across) in zip(axes.flat, tables, pairs, strict=False):
        x, y = (metric.factor * values[metric.name].to_numpy() for metric in (across, vertical))
        best = on_front(losses_of(values, (across, vertical)))
        axis.scatter(x[~best], y[~best], s=9, color=style.GREY, alpha=style.alpha_for(len(values)), lw=0)
        order = np.argsort(x[best], kind="stable")
        where = "post" if across.direction == "minimise" else "pre"
        axis.step(x[best][order], y[best][order], where=where, color=style.BLUE, marker="o", ms=4)
        for side, metric in enumerate((across, vertical)):
            _scale(axis, side, metric)
        marks.append(Marks(axis, EVALUATION, values.index.to_numpy(), x, y))
    for axis in axes.flat[len(pairs) :]:
        axis.set_axis_off()
    return Drawing(figure, marks)


def _scale(axis: object, side: int, metric: Metric) -> None:
    """The axis of a metric, logarithmic where the metric is, once everything is drawn."""
    which = "xy"[side]
    label = metric.axis_label
    if metric.scale == "log":
        lifted = style.lift_zeros(axis, side)
        getattr(axis, f"set_{which}scale")("log")
        write = "{:g}".format if metric.percent else style.amount
        style.plain_log_ticks(getattr(axis, f"{which}axis"), write, subs=(1, 3) if side == 0 else (1, 2, 5))
        label += f"; 0 drawn at {lifted:.2g}" if lifted else ""
    getattr(axis, f"set_{which}label")(label)


# The front as a table -------------------------------------------------------------------------------------------------
def front_item(results: Results, metrics: Sequence[Metric]) -> Item:
    """The front as a table: the incumbents."""
    name, title = "front", "The front"
    values = values_on_largest(results, metrics)
    if values.empty:
        return Item(name, title, "", lacking=NOTHING)
    front = front_of(values, metrics)
    share = dominated_share(losses_of(values, metrics), metrics)
    caption = (
        f"The {len(front)} of {len(values)} configurations on {_budget(results, values)} that no other dominates, by "
        f"{metrics[0].title}; hypervolume {share:.3f} of the box between the best and the worst values. Each is an "
        "incumbent; the command tandem retrain-incumbent --config ID trains another one than the first."
    )
    return Item(name, title, caption, table=front_table(results, front), data=_written(results, front, metrics))


def front_of(values: pd.DataFrame, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Those that no other dominates, by the first metric."""
    losses = losses_of(values, metrics)
    is_on_front = on_front(losses)
    front = values[is_on_front]
    order = np.lexsort((*front[["index", "stage", "iteration"]].to_numpy().T, losses[is_on_front, 0]))
    return front.iloc[order]


def front_table(results: Results, front: pd.DataFrame) -> pd.DataFrame:
    """Every metric of the problem and every hyperparameter as texts."""
    measured = results.metrics.loc[front.index]
    table = pd.DataFrame({"configuration": front["config_id"].astype(str)})
    for metric in results.problem.metrics:
        if measured[metric.name].notna().any():
            table[metric.axis_label] = [_number(metric, value) for value in measured[metric.name]]
    for name in ordered(results.hyperparameters):
        table[BY_NAME[name].label if name in BY_NAME else name] = [_text(value) for value in front[name]]
    return table.reset_index(drop=True)


def _text(value: object) -> str:
    """Of a hyperparameter; a dash where a condition switched it off."""
    if is_switched_off(value):
        return MISSING
    return value_text(value, 3)


def _number(metric: Metric, value: float) -> str:
    """Without its unit, which the column's head has."""
    if np.isnan(value):
        return MISSING
    if metric.percent:
        return f"{100 * value:.2f}"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _written(results: Results, front: pd.DataFrame, metrics: Sequence[Metric]) -> pd.DataFrame:
    first = ["config_id", *(metric.name for metric in metrics)]
    others = [m.name for m in results.problem.metrics if m.name not in first]
    return front[[*first, *results.hyperparameters]].join(results.metrics[others])


# Hypervolume ----------------------------------------------------------------------------------------------------------
def hypervolume_over_time(results: Results, metrics: Sequence[Metric]) -> Item:
    """How much of the box between the best and the worst values is dominated, as the results came in."""
    name, title = "hypervolume", "Hypervolume over wall-clock time"
    values = values_on_largest(results, metrics)
    if values.empty:
        return Item(name, title, "", lacking=NOTHING)
    data = volumes(results, values, metrics)
    figure, axes = style.new_figure(2.8)
    axis = axes[0, 0]
    size, unit = style.time_unit(float(data["time_s"].max()))
    axis.step(data["time_s"] / size, data["hypervolume"], where="post", color=style.BLUE)
    axis.set_xlabel(f"time since the search began ({unit})")
    axis.set_ylabel("dominated share of the box")
    axis.set_ylim(0, 1.02)
    worst = ", ".join(f"{m.title} {m.text(m.of_loss(loss))}" for m, loss in zip(metrics, _worst(values, metrics),
                                                                             strict=True))  # fmt: skip
    logs = [metric.title for metric in metrics if metric.scale == "log"]
    measured = f" On a logarithmic scale: {', '.join(logs)}." if logs else ""
    caption = (
        f"The share of the box between the best and the worst values of all {len(values)} results on "
        f"{_budget(results, values)} that the results up to then dominate. Reference point: the worst values, "
        f"{worst}.{measured} The box is this run's own: shares of different runs are not to be compared."
    )
    return Item(name, title, caption, figure, data=data)


def _worst(values: pd.DataFrame, metrics: Sequence[Metric]) -> list[float]:
    return [float(loss) for loss in losses_of(values, metrics).max(axis=0)]


def volumes(results: Results, values: pd.DataFrame, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Columns time_s (since the search began), evaluations (so far, of those with all values), hypervolume and
    on_front (how many configurations); a row whenever the front changes.
    """
    came = values.sort_values("finished", kind="stable")
    places = normalised(losses_of(came, metrics), metrics)
    rows: list[tuple[float, int, float, int]] = []
    front = np.empty((0, len(metrics)))
    for number, (time_s, place) in enumerate(zip(came["finished"] - start_time(results), places, strict=True), start=1):
        if ((front <= place).all(axis=1) & (front < place).any(axis=1)).any():
            continue
        is_beaten = (place <= front).all(axis=1) & (place < front).any(axis=1)
        front = np.vstack([front[~is_beaten], place])
        rows.append((time_s, number, hypervolume(front, np.ones(len(metrics))), len(front)))
    last = float((came["finished"] - start_time(results)).iloc[-1])
    rows.append((last, len(came), rows[-1][2], rows[-1][3]))
    return pd.DataFrame(rows, columns=["time_s", "evaluations", "hypervolume", "on_front"])
