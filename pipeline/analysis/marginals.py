"""Marginals of the forests: the mean error as one or two hyperparameters change, all of a budget on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.analysis import style
from pipeline.analysis.axes import Axis, label_coordinates
from pipeline.analysis.fanova import Fanova
from pipeline.analysis.items import Item
from pipeline.analysis.marks import EVALUATION, Drawing, Marks
from pipeline.analysis.metric import WrittenMetric, objective
from pipeline.storage.results import Results

SHOWN_CURVES = 6
Fits = dict[float, Fanova]
Surface = tuple[np.ndarray, np.ndarray, np.ndarray]


def best_on(results: Results, budget: float) -> pd.Series:
    """The best configuration on a budget; ties go to the lower config_id."""
    done = results.finished()
    here = done[done["budget"] == budget]
    return here.sort_values(["loss", "iteration", "stage", "index"], kind="stable").iloc[0]


def _by_name(fits: Fits) -> dict[str, Axis]:
    return {axis.name: axis for axis in next(iter(fits.values())).axes}


# Curves ---------------------------------------------------------------------------------------------------------------
def marginal_curves(results: Results, fits: Fits, names: Sequence[str], warnings: tuple[str, ...]) -> Item:
    """The marginal curves of the most important hyperparameters; the data has those of all.

    Args:
        names: hyperparameters, the most important first.
    """
    shown = names[:SHOWN_CURVES]
    caption, drawing = curves_caption(results, fits, names), draw_marginals(results, fits, shown)
    title, data = "Marginal curves", curve_data(fits, names)
    return Item("fanova_curves", title, caption, drawing.figure, data=data, warnings=warnings, marks=drawing.marks)


def curves_caption(results: Results, fits: Fits, names: Sequence[str]) -> str:
    """What a curve is, and which are left out."""
    left_out = len(names) - SHOWN_CURVES
    others = f" The {SHOWN_CURVES} most important; the data has the other {left_out}, too." if left_out > 0 else ""
    return (
        f"Mean {objective(results).name} over the whole space as one hyperparameter changes, a row per budget, all of "
        "a row on one scale: a flat curve does not matter. Band: one standard deviation over trees; dashed: the "
        f"budget's best configuration.{others} {_counts(results, fits)}"
    )


def _counts(results: Results, fits: Fits) -> str:
    parts = [f"{fit.count} on {style.budget_label(b, results.budget_unit)}" for b, fit in fits.items()]
    return f"Configurations: {', '.join(parts)}."


def curve_data(fits: Fits, names: Sequence[str]) -> pd.DataFrame:
    """Columns budget, name, value, mean, spread (over trees) of the marginals of some hyperparameters."""
    axes = _by_name(fits)
    rows = []
    for budget, fit in fits.items():
        for name in names:
            grid, mean, spread = fit.curve(name)
            values = axes[name].decode(grid) if axes[name].is_numeric else np.array(axes[name].choices)
            rows.append(pd.DataFrame({"budget": budget, "name": name, "value": values, "mean": mean, "spread": spread}))
    return pd.concat(rows)


def common_limits(fit: Fanova) -> tuple[float, float]:
    """Where all marginal curves of a budget lie, with their bands."""
    curves = [fit.curve(axis.name, 30) for axis in fit.axes]
    return float(min((m - s).min() for _, m, s in curves)), float(max((m + s).max() for _, m, s in curves))


def draw_marginals(results: Results, fits: Fits, names: Sequence[str]) -> Drawing:
    """A row per budget, a column per hyperparameter; a configuration lies on the curve, at its value."""
    figure, axes = style.new_figure(0.55 + 1.25 * len(fits), len(fits), SHOWN_CURVES, sharey="row")
    by_name, metric, done = _by_name(fits), objective(results), results.finished()
    marks = []
    for line, (budget, fit) in zip(axes, fits.items(), strict=True):
        best, here = best_on(results, budget), done[done["budget"] == budget]
        for panel, name in zip(line, names, strict=False):
            grid, mean, spread = fit.curve(name)
            _draw_curve(panel, by_name[name], (grid, mean, spread), best[name], metric)
            places = by_name[name].encode(here[name])
            marks.append(
                Marks(panel, EVALUATION, here.index.to_numpy(), places, metric.shown(np.interp(places, grid, mean)))
            )
        for panel in line[len(names) :]:
            panel.set_axis_off()
        line[0].set_ylim(*sorted(metric.shown(np.array(common_limits(fit)))))
        doubt = ", doubtful" if fit.warnings else ""
        line[0].set_ylabel(
            f"{style.budget_label(budget, results.budget_unit)}{doubt}\n{metric.short_label}",
            size=8,
        )
    for panel, name in zip(axes[-1], names, strict=False):
        panel.set_xlabel(style.two_lines(by_name[name].axis_label), size=7.5)
    return Drawing(figure, marks)


def _draw_curve(panel: Any, axis: Axis, curve: Surface, best: Any, metric: WrittenMetric) -> None:
    grid, mean, spread = curve
    panel.fill_between(
        grid, metric.shown(mean - spread), metric.shown(mean + spread), color=style.SKY, alpha=0.45, lw=0
    )
    marker = {"marker": "o", "ms": 2.5} if axis.is_discrete and len(grid) < 25 else {}
    panel.plot(grid, metric.shown(mean), color=style.BLUE, **marker)
    place = axis.encode(pd.Series([best]))[0]
    if not np.isnan(place):
        panel.axvline(place, color="#555555", ls="--", lw=1)
    label_coordinates(axis, panel.xaxis)
    panel.tick_params(labelsize=7)


# Surfaces -------------------------------------------------------------------------------------------------------------
def marginal_surfaces(
    results: Results, fits: Fits, pairs: Sequence[tuple[str, str]], warnings: tuple[str, ...]
) -> Item:
    """The marginal surfaces of the largest interactions."""
    caption = (
        f"Mean {objective(results).name} over the two hyperparameters of the {len(pairs)} largest interactions, a row "
        f"per budget (yellow: better). Cross: the budget's best configuration. {_counts(results, fits)}"
    )
    surfaces = {budget: [fit.surface(one, two) for one, two in pairs] for budget, fit in fits.items()}
    drawing, data = draw_surfaces(results, fits, pairs, surfaces), surface_data(pairs, surfaces)
    title = "Marginal surfaces of pairs"
    return Item("fanova_surfaces", title, caption, drawing.figure, data=data, warnings=warnings, marks=drawing.marks)


def surface_data(pairs: Sequence[tuple[str, str]], surfaces: dict[float, list[Surface]]) -> pd.DataFrame:
    """Columns budget, name_one, name_two, one, two (coordinates) and mean of every surface."""
    rows = []
    for budget, found in surfaces.items():
        for (one, two), (x, y, surface) in zip(pairs, found, strict=True):
            values = {"one": np.repeat(x, len(y)), "two": np.tile(y, len(x)), "mean": surface.ravel()}
            rows.append(pd.DataFrame({"budget": budget, "name_one": one, "name_two": two, **values}))
    return pd.concat(rows)


def draw_surfaces(
    results: Results, fits: Fits, pairs: Sequence[tuple[str, str]], surfaces: dict[float, list[Surface]]
) -> Drawing:
    """A row per budget, all its panels on one map; a configuration lies at its two values."""
    figure, axes = style.new_figure(0.5 + 1.75 * len(fits), len(fits), len(pairs))
    by_name, metric, done = _by_name(fits), objective(results), results.finished()
    marks = []
    colours = style.MAP if metric.is_maximised else style.MAP + "_r"
    for line, (budget, found) in zip(axes, surfaces.items(), strict=True):
        best, here = best_on(results, budget), done[done["budget"] == budget]
        values = [metric.shown(surface) for _, _, surface in found]
        limits = {"vmin": min(v.min() for v in values), "vmax": max(v.max() for v in values)}
        meshes = []
        for panel, (one, two), (x, y, _), shown in zip(line, pairs, found, values, strict=True):
            mesh = panel.pcolormesh(style.edges(x), style.edges(y), shown.T, cmap=colours, rasterized=True, **limits)
            _finish_surface(panel, by_name[one], by_name[two], best)
            places = [by_name[name].encode(here[name]) for name in (one, two)]
            marks.append(Marks(panel, EVALUATION, here.index.to_numpy(), *places))
            meshes.append(mesh)
        bar = figure.colorbar(mesh, ax=list(line), pad=0.01, aspect=14)
        bar.set_label(
            f"{style.budget_label(budget, results.budget_unit)}: {metric.short_label}",
            size=8,
        )
        bar.ax.tick_params(labelsize=7)
        for mesh in meshes:
            mesh.colorbar = bar  # one bar tells the colours of all
    return Drawing(figure, marks)


def _finish_surface(panel: Any, one: Axis, two: Axis, best: pd.Series) -> None:
    panel.grid(False)
    cross = [axis.encode(pd.Series([best[axis.name]]))[0] for axis in (one, two)]
    panel.plot(*cross, "x", ms=7, mew=2.4, color="white", clip_on=False, zorder=4)
    panel.plot(*cross, "x", ms=6, mew=1.3, color=style.VERMILLION, clip_on=False, zorder=4)
    label_coordinates(one, panel.xaxis)
    label_coordinates(two, panel.yaxis)
    panel.tick_params(labelsize=7)
    panel.set_xlabel(one.axis_label, size=7.5)
    panel.set_ylabel(two.axis_label, size=7.5)
