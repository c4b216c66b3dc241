"""Figures of the functional ANOVA: which hyperparameters matter on which budget, and how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.analysis import style
from pipeline.analysis.axes import Axis, read_axes
from pipeline.analysis.exploration import label_coordinates, ordered
from pipeline.analysis.fanova import FEWEST, Fanova
from pipeline.analysis.items import Item, Section
from pipeline.errors import RunError
from pipeline.settings.space import BY_NAME
from pipeline.storage.results import Results

# More observations change the shares by less than their spread over trees, and cost seconds.
MOST = 1000
SHOWN_PAIRS, SURFACES, CURVES_PER_FIGURE = 12, 4, 6
Fits = dict[float, Fanova]


def section(results: Results) -> Section:
    """Main effects, interactions, marginal curves and surfaces, a row or panel per budget."""
    about = (
        "Functional ANOVA (Hutter et al. 2014): the share of the error's variance over the whole search space that one "
        "hyperparameter explains alone, and that pairs explain beyond that. It describes a random forest fitted to the "
        "final validation errors of each budget; crashed evaluations are left out."
    )
    return Section("importance", "Importance of hyperparameters", about, _items(results))


def fit_budgets(results: Results, seed: int = 0) -> tuple[Fits, dict[float, str]]:
    """A decomposition per budget, and for the others why there is none.

    Raises:
        RunError: the space has a kind of hyperparameter that the analysis does not know.
    """
    axes = _axes(results)
    done = results.finished()
    fits: Fits = {}
    reasons = {}
    for budget in results.budgets:
        here = done[done["budget"] == budget]
        if len(here) > MOST:
            here = here.sample(MOST, random_state=seed)
        try:
            fits[budget] = Fanova(axes, here, here["loss"].to_numpy(), seed=seed)
        except ValueError as error:
            reasons[budget] = str(error)
    return fits, reasons


def _axes(results: Results) -> list[Axis]:
    return read_axes(results.configspace, ordered(results.hyperparameters))


def _items(results: Results) -> list[Item]:
    try:
        fits, reasons = fit_budgets(results)
    except RunError as error:
        return [Item("fanova", "fANOVA", "", lacking=str(error))]
    overview = _overview(results, fits, reasons)
    if not fits:
        return [overview]
    most = list(_ranking(fits))
    curves = [
        _curves(results, fits, most[start : start + CURVES_PER_FIGURE], number)
        for number, start in enumerate(range(0, len(most), CURVES_PER_FIGURE), start=1)
    ]
    return [overview, _mains(results, fits), _pairs(results, fits), *curves, _surfaces(results, fits)]


def _overview(results: Results, fits: Fits, reasons: dict[float, str]) -> Item:
    rows = []
    for budget in results.budgets:
        row = {"budget": style.budget_label(budget, results.budget_unit)}
        if budget in fits:
            fit = fits[budget]
            top = fit.mains.iloc[int(fit.mains["share"].argmax())]
            pair = fit.pairs.iloc[int(fit.pairs["share"].argmax())]
            row |= {
                "N": str(fit.count),
                "out-of-bag R²": f"{fit.oob_r2:.2f}",
                "all main effects": f"{100 * fit.mains['share'].sum():.0f}%",
                "all pairs": f"{100 * fit.pairs['share'].sum():.0f}%",
                "most important": f"{_label(top['name'])} ({100 * top['share']:.0f}%)",
                "largest interaction": f"{_label(pair['one'])} × {_label(pair['two'])} ({100 * pair['share']:.0f}%)",
            }
        rows.append(row)
    table = pd.DataFrame(rows).fillna("–")
    notes = [
        f"{style.budget_label(b, results.budget_unit)}: {'; '.join(fit.warnings)}."
        for b, fit in fits.items()
        if fit.warnings
    ] + [f"{style.budget_label(b, results.budget_unit)}: no decomposition: {text}." for b, text in reasons.items()]
    caption = (
        "Out-of-bag R² near 1: the forest explains errors it has not seen; low: do not trust "
        f"the shares. N is the number of configurations (at most {MOST} are used)."
    )
    lacking = "" if fits else f"No budget has {FEWEST} finished configurations with different errors yet."
    return Item(
        "fanova", "What the decompositions stand on", caption, table=table, warnings=tuple(notes), lacking=lacking
    )


def _label(name: str) -> str:
    return BY_NAME[name].label if name in BY_NAME else name


def _ranking(fits: Fits) -> list[str]:
    shares = pd.concat([fit.mains.set_index("name")["share"] for fit in fits.values()], axis=1)
    return [str(name) for name in shares.mean(axis=1).sort_values(ascending=False, kind="stable").index]


def _mains(results: Results, fits: Fits) -> Item:
    names = _ranking(fits)
    figure, axes = style.new_figure(0.9 + 0.24 * len(names), 1, len(fits), sharey=True)
    for axis, (budget, fit) in zip(axes[0], fits.items(), strict=True):
        mains = fit.mains.set_index("name").loc[names]
        colours = [
            style.BLUE if n in BY_NAME and BY_NAME[n].part == "architecture" else style.ORANGE for n in names
        ]  # fmt: skip
        _bars(axis, mains["share"], mains["spread"], colours)
        axis.set_title(f"{style.budget_label(budget, results.budget_unit)}\nN = {fit.count}")
    axes[0, 0].set_yticks(range(len(names)), [_label(n) for n in names])
    axes[0, 0].invert_yaxis()
    figure.supxlabel("share of the variance of the error (%)", size=9)
    data = pd.concat([fit.mains.assign(budget=budget, N=fit.count) for budget, fit in fits.items()])
    caption = (
        f"Main effects on each budget (blue: architecture, orange: training), ordered by their mean. Bars: mean over "
        f"the {len(next(iter(fits.values())).trees)} trees; lines: one standard deviation over trees. "
        f"{_counts(results, fits)}"
    )
    return Item("fanova_mains", "Main effects", caption, figure, data=data)


def _counts(results: Results, fits: Fits) -> str:
    parts = [f"{fit.count} on {style.budget_label(b, results.budget_unit)}" for b, fit in fits.items()]
    return f"Configurations: {', '.join(parts)}."


def _bars(axis: Any, shares: pd.Series, spreads: pd.Series, colours: Any) -> None:
    places = range(len(shares))
    axis.barh(places, 100 * shares, color=colours, height=0.7)
    # A share is never negative, nor more than all.
    ends = [100 * np.minimum(spreads, shares), 100 * np.minimum(spreads, 1 - shares)]
    axis.errorbar(100 * shares, places, xerr=ends, fmt="none", ecolor="#333333", elinewidth=0.8, capsize=1.5)
    axis.grid(axis="y", visible=False)


def _top_pairs(fits: Fits, count: int) -> list[tuple[str, str]]:
    shares = pd.concat([fit.pairs.set_index(["one", "two"])["share"] for fit in fits.values()], axis=1).mean(axis=1)
    return [(str(a), str(b)) for a, b in shares.sort_values(ascending=False, kind="stable").index[:count]]


def _pairs(results: Results, fits: Fits) -> Item:
    pairs = _top_pairs(fits, SHOWN_PAIRS)
    figure, axes = style.new_figure(0.9 + 0.26 * len(pairs), 1, len(fits), sharey=True)
    for axis, (budget, fit) in zip(axes[0], fits.items(), strict=True):
        found = fit.pairs.set_index(["one", "two"]).loc[pairs]
        _bars(axis, found["share"], found["spread"], style.GREEN)
        axis.set_title(f"{style.budget_label(budget, results.budget_unit)}\nN = {fit.count}")
    axes[0, 0].set_yticks(range(len(pairs)), [f"{_label(a)} × {_label(b)}" for a, b in pairs], size=7.5)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("share of the variance of the error (%)", size=9)
    total = len(next(iter(fits.values())).pairs)
    caption = (
        f"The {len(pairs)} largest of {total} interactions (what a pair explains beyond its two main effects), "
        f"ordered by their mean over budgets; lines: one standard deviation over trees. {_counts(results, fits)}"
    )
    data = pd.concat([fit.pairs.assign(budget=budget, N=fit.count) for budget, fit in fits.items()])
    return Item("fanova_pairs", "Interactions of pairs", caption, figure, data=data)


def _best(results: Results, budget: float) -> pd.Series:
    done = results.finished()
    here = done[done["budget"] == budget]
    return here.sort_values(["loss", "iteration", "stage", "index"], kind="stable").iloc[0]


def _curves(results: Results, fits: Fits, names: list[str], number: int) -> Item:
    figure, axes = style.new_figure(0.55 + 1.25 * len(fits), len(fits), CURVES_PER_FIGURE, sharey="row")
    by_name = {axis.name: axis for axis in next(iter(fits.values())).axes}
    rows = []
    for number_of_line, (line, (budget, fit)) in enumerate(zip(axes, fits.items(), strict=True), start=1):
        best = _best(results, budget)
        for panel, name in zip(line, names, strict=False):
            grid, mean, spread = fit.curve(name)
            panel.fill_between(grid, 100 * (mean - spread), 100 * (mean + spread), color=style.SKY, alpha=0.45, lw=0)
            style_of_line = {"marker": "o", "ms": 2.5} if by_name[name].is_discrete and len(grid) < 25 else {}
            panel.plot(grid, 100 * mean, color=style.BLUE, **style_of_line)
            place = by_name[name].encode(pd.Series([best[name]]))[0]
            if not np.isnan(place):
                panel.axvline(place, color="#555555", ls="--", lw=1)
            label_coordinates(by_name[name], panel.xaxis)
            panel.tick_params(labelsize=7)
            if number_of_line == len(fits):
                panel.set_xlabel(style.two_lines(by_name[name].axis_label), size=7.5)
            values = by_name[name].decode(grid) if by_name[name].is_numeric else np.array(by_name[name].choices)
            rows.append(pd.DataFrame({"budget": budget, "name": name, "value": values, "mean": mean, "spread": spread}))
        for panel in line[len(names) :]:
            panel.set_axis_off()
        line[0].set_ylabel(f"{style.budget_label(budget, results.budget_unit)}\nerror (%)", size=8)
    figure.align_ylabels(axes[:, 0])
    caption = (
        "Mean validation error over the whole space as one hyperparameter changes, a row per budget. Band: one "
        f"standard deviation over trees; dashed: the budget's best configuration. {_counts(results, fits)}"
    )
    title = f"Marginal curves, {number}: {'the most important' if number == 1 else 'in order of importance'}"
    return Item(f"fanova_curves_{number}", title, caption, figure, data=pd.concat(rows))


def _surfaces(results: Results, fits: Fits) -> Item:
    pairs = _top_pairs(fits, SURFACES)
    figure, axes = style.new_figure(0.5 + 1.75 * len(fits), len(fits), len(pairs))
    by_name = {axis.name: axis for axis in next(iter(fits.values())).axes}
    rows = []
    for line, (budget, fit) in zip(axes, fits.items(), strict=True):
        best = _best(results, budget)
        found = [fit.surface(one, two) for one, two in pairs]
        low, high = min(s.min() for _, _, s in found), max(s.max() for _, _, s in found)
        for panel, (one, two), (x, y, surface) in zip(line, pairs, found, strict=True):
            mesh = panel.pcolormesh(
                _edges(x),
                _edges(y),
                100 * surface.T,
                cmap=style.MAP + "_r",
                vmin=100 * low,
                vmax=100 * high,
                rasterized=True,
            )
            panel.grid(False)
            cross = [by_name[name].encode(pd.Series([best[name]]))[0] for name in (one, two)]
            panel.plot(*cross, "x", ms=7, mew=2.4, color="white")
            panel.plot(*cross, "x", ms=6, mew=1.3, color=style.VERMILLION)
            label_coordinates(by_name[one], panel.xaxis)
            label_coordinates(by_name[two], panel.yaxis)
            panel.tick_params(labelsize=7)
            panel.set_xlabel(by_name[one].axis_label, size=7.5)
            panel.set_ylabel(by_name[two].axis_label, size=7.5)
            values = {"one": np.repeat(x, len(y)), "two": np.tile(y, len(x)), "mean": surface.ravel()}
            rows.append(pd.DataFrame({"budget": budget, "name_one": one, "name_two": two, **values}))
        bar = figure.colorbar(mesh, ax=list(line), pad=0.01, aspect=14)
        bar.set_label(f"{style.budget_label(budget, results.budget_unit)}: error (%)", size=8)
        bar.ax.tick_params(labelsize=7)
    caption = (
        f"Mean validation error over the two hyperparameters of the {len(pairs)} largest interactions, a row per "
        f"budget (yellow: better). Cross: the budget's best configuration. {_counts(results, fits)}"
    )
    return Item("fanova_surfaces", "Marginal surfaces of pairs", caption, figure, data=pd.concat(rows))


def _edges(centres: np.ndarray) -> np.ndarray:
    """Cell borders half-way between centres."""
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - inner[0]], inner, [2 * centres[-1] - inner[-1]]])
