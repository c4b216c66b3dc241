"""Around the incumbent: slices, what changing one value would do, and the way to it from the default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.analysis import style
from pipeline.analysis.axes import Axis, label_coordinates
from pipeline.analysis.fanova import Fanova
from pipeline.analysis.items import Item
from pipeline.analysis.marginals import Fits, best_on
from pipeline.analysis.marks import EVALUATION, Drawing, Marks
from pipeline.analysis.metric import objective
from pipeline.errors import RunError
from pipeline.settings.space import BY_NAME
from pipeline.storage.results import Results
from pipeline.wording import sentence

PANELS_PER_ROW = 6


def items(results: Results, fits: Fits, names: Sequence[str], start: str | None = None) -> list[Item]:
    """Slices, local importance and ablation, all on the largest budget that has a decomposition.

    Args:
        names: hyperparameters, the most important first.
        start: config_id that the ablation begins at; None: the default.

    Raises:
        RunError: no such configuration was drawn.
    """
    budget = max(fits)
    fit, best = fits[budget], best_on(results, budget)
    label = style.budget_label(budget, results.budget_unit)
    warnings = (f"{label}: {'; '.join(fit.warnings)}.",) if fit.warnings else ()
    here = results.finished()
    here = here[here["budget"] == budget]
    drawing = draw_slices(results, here, fit, names)
    slices = Item(
        "slices", f"Slices on {label}", slices_caption(results, len(here)), drawing.figure,
        data=here[["config_id", "loss", *names]], marks=drawing.marks, warnings=warnings,
    )  # fmt: skip
    near = local_importance(fit, best, names)
    path = ablation(fit, best, None if start is None else drawn(results, start))
    return [
        slices,
        _local_item(results, near, best, label, warnings),
        _ablation_item(results, path, best, label, warnings, start),
    ]


# Slices ---------------------------------------------------------------------------------------------------------------
def draw_slices(results: Results, here: pd.DataFrame, fit: Fanova, names: Sequence[str]) -> Drawing:
    """A panel per hyperparameter: a dot per configuration, and the forest's marginal as a line."""
    metric = objective(results)
    axes = {axis.name: axis for axis in fit.axes}
    rows = -(-len(names) // PANELS_PER_ROW)
    figure, panels = style.new_figure(0.3 + 1.45 * rows, rows, PANELS_PER_ROW, sharey=True)
    losses = metric.shown(here["loss"].to_numpy())
    marks = []
    for panel, name in zip(panels.flat, names, strict=False):
        axis = axes[name]
        places = axis.encode(here[name]) + axis.jitter(len(here))
        alpha = style.alpha_for(len(here))
        panel.scatter(places, losses, s=6, color=style.GREY, lw=0, alpha=alpha, rasterized=True)
        grid, mean, _ = fit.curve(name)
        panel.plot(grid, metric.shown(mean), color=style.BLUE)
        label_coordinates(axis, panel.xaxis)
        panel.set_xlabel(style.two_lines(axis.axis_label), size=7.5)
        panel.tick_params(labelsize=7)
        marks.append(Marks(panel, EVALUATION, here.index.to_numpy(), places, losses))
    for panel in list(panels.flat)[len(names) :]:
        panel.set_axis_off()
    for panel in panels.flat:
        style.metric_axis(panel, metric)
    for line in panels:
        line[0].set_ylabel(metric.short_label, size=8)
    return Drawing(figure, marks)


def slices_caption(results: Results, count: int) -> str:
    """What dots and lines are."""
    return (
        f"{sentence(objective(results).name)} of {count} configurations against each hyperparameter, the most "
        "important first. Line: the forest's marginal, the mean over the whole space. Dots lie below the line where "
        "the search has looked at good places only."
    )


# Local importance -----------------------------------------------------------------------------------------------------
def predicted(fit: Fanova, points: np.ndarray) -> np.ndarray:
    """Mean loss over the forest's trees at points [rows, axes] of coordinates."""
    return np.asarray(fit.forest.predict(points))


def coordinates_of(fit: Fanova, configuration: pd.Series) -> np.ndarray:
    """[axes] coordinates; of an inactive value the middle, which no tree's path to it depends on."""
    values = [axis.encode(pd.Series([configuration[axis.name]]))[0] for axis in fit.axes]
    return np.asarray(np.nan_to_num(np.array(values), nan=0.5))


def local_importance(fit: Fanova, best: pd.Series, names: Sequence[str]) -> pd.DataFrame:
    """How far the forest's prediction moves when one value changes and the others stay.

    Biedenkapp et al. 2018, "CAVE", call it local parameter importance.

    Returns:
        Columns: name, lowest, highest (predicted loss over its range), share (of the summed variances).
    """
    base = coordinates_of(fit, best)
    grids = [axis.grid(50) for axis in fit.axes]
    points = np.repeat(base[None, :], sum(map(len, grids)), axis=0)
    begins = np.cumsum([0, *map(len, grids)])
    for place, grid in enumerate(grids):
        points[begins[place] : begins[place + 1], place] = grid
    parts = np.split(predicted(fit, points), begins[1:-1])  # one question to the forest: each has its price
    rows = [
        (axis.name, float(values.min()), float(values.max()), float(values.var()))
        for axis, values in zip(fit.axes, parts, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["name", "lowest", "highest", "variance"])
    table["share"] = table["variance"] / max(float(table["variance"].sum()), 1e-300)
    return table.drop(columns="variance").sort_values("share", ascending=False, kind="stable").reset_index(drop=True)


def _local_item(results: Results, near: pd.DataFrame, best: pd.Series, label: str, warnings: tuple[str, ...]) -> Item:
    name, title = "local_importance", "What matters around the best configuration"
    table, caption = local_table(results, near), local_caption(best, label)
    return Item(name, title, caption, table=table, data=near, warnings=warnings)


def local_table(results: Results, near: pd.DataFrame) -> pd.DataFrame:
    """Local importance as texts."""
    metric = objective(results)
    return pd.DataFrame(
        {
            "hyperparameter": [_label(n) for n in near["name"]],
            "share": [f"{100 * s:.0f}%" for s in near["share"]],
            metric.label_of("predicted, from"): [metric.number(v) for v in near["lowest"]],
            metric.label_of("to"): [metric.number(v) for v in near["highest"]],
        }
    )


def local_caption(best: pd.Series, label: str) -> str:
    """What a share is."""
    return (
        f"What the forest predicts on {label} when one value of {best['config_id']} changes over its range and the "
        "others stay; share: of the summed variances. Small: the choice does not matter there."
    )


def _label(name: str) -> str:
    return BY_NAME[name].label if name in BY_NAME else name


# Ablation -------------------------------------------------------------------------------------------------------------
def default_of(axis: Axis) -> float:
    """The coordinate of the default: the paper's where it has one and it is in the range, else the middle."""
    known = BY_NAME.get(axis.name)
    if known is None or not axis.is_numeric:
        return axis.coordinates[0] if axis.is_discrete else 0.5
    low, high = axis.ends
    return float(axis.coordinate(np.array([min(max(known.default, low), high)]))[0])


def drawn(results: Results, config_id: str) -> pd.Series:
    """A configuration by its id.

    Raises:
        RunError: no such configuration was drawn.
    """
    found = results.configurations[results.configurations["config_id"] == config_id]
    if found.empty:
        raise RunError(
            f"No configuration {config_id!r} was drawn in run {results.run_id}. tables/configurations.csv lists them."
        )
    return found.iloc[0]


def ablation(fit: Fanova, best: pd.Series, start: pd.Series | None = None) -> pd.DataFrame:
    """The way from one configuration to another, each step the change that the forest likes most.

    Fawcett and Hoos 2016, on the forest's predictions as Biedenkapp et al. 2017 did.

    Args:
        start: where it begins; None: the default.

    Returns:
        Columns: step (0: the start), name ("": the start), loss (predicted).
    """
    point = np.array([default_of(axis) for axis in fit.axes]) if start is None else coordinates_of(fit, start)
    target = coordinates_of(fit, best)
    rows = [(0, "", float(predicted(fit, point[None, :])[0]))]
    left = [place for place in range(len(point)) if point[place] != target[place]]
    for step in range(1, len(left) + 1):
        tries = np.repeat(point[None, :], len(left), axis=0)
        tries[np.arange(len(left)), left] = target[left]
        values = predicted(fit, tries)
        chosen = int(values.argmin())
        place = left.pop(chosen)
        point[place] = target[place]
        rows.append((step, fit.axes[place].name, float(values[chosen])))
    return pd.DataFrame(rows, columns=["step", "name", "loss"])


def _ablation_item(
    results: Results, path: pd.DataFrame, best: pd.Series, label: str, warnings: tuple[str, ...], start: str | None
) -> Item:
    title = f"From {start or 'the default'} to the best"
    caption, figure = ablation_caption(best, label, start), draw_ablation(results, path, start)
    return Item("ablation", title, caption, figure, data=path, warnings=warnings)


def ablation_caption(best: pd.Series, label: str, start: str | None) -> str:
    """What the way is, and how to have another."""
    other = "" if start else " tandem collect-results --from CONFIG begins at another configuration."
    return (
        f"From {start or 'the default configuration'} to {best['config_id']}, one value at a time, each the one that "
        f"lowers the forest's predicted loss on {label} most. What comes first made the difference; nothing was "
        f"trained for this.{other}"
    )


def draw_ablation(results: Results, path: pd.DataFrame, start: str | None = None) -> Figure:
    """A bar per step."""
    metric = objective(results)
    figure, axes = style.new_figure(0.8 + 0.21 * len(path))
    axis = axes[0, 0]
    values = metric.shown(path["loss"].to_numpy())
    colours: list[Any] = [style.GREY, *[style.BLUE] * (len(path) - 1)]
    bars = axis.barh(path["step"], values, color=colours, height=0.7)
    axis.bar_label(bars, [metric.number(loss) for loss in path["loss"]], padding=2, size=7)
    axis.margins(x=0.14)
    axis.set_yticks(path["step"], [start or "the default", *[f"+ {_label(n)}" for n in path["name"][1:]]])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(metric.label_of(f"predicted {metric.name}"))
    return figure
