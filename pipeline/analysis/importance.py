"""Figures of the functional ANOVA: which hyperparameters matter on which budget, and how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.analysis import local, style
from pipeline.analysis.axes import Axis, ordered, read_axes
from pipeline.analysis.fanova import FEWEST, Fanova
from pipeline.analysis.items import Item, Section
from pipeline.analysis.marginals import marginal_curves, marginal_surfaces
from pipeline.analysis.metric import objective
from pipeline.errors import RunError
from pipeline.settings.space import BY_NAME
from pipeline.storage.results import Results

# More observations change the shares by less than their spread over trees, and cost seconds.
MOST = 1000
SHOWN_PAIRS, SURFACES = 12, 4
Fits = dict[float, Fanova]


def section(results: Results, start: str | None = None) -> Section:
    """Main effects, interactions, marginal curves and surfaces, a row or panel per budget.

    Args:
        start: config_id that the ablation begins at; None: the default.
    """
    about = (
        "Functional ANOVA (Hutter et al. 2014): the share of the variance over the whole search space that one "
        "hyperparameter explains alone, and that pairs explain beyond that. It describes a random forest fitted to the "
        f"final {objective(results).name} of each budget; crashed evaluations are left out."
    )
    return Section("importance", "Importance of hyperparameters", about, _items(results, start))


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


def _items(results: Results, start: str | None) -> list[Item]:
    try:
        fits, reasons = fit_budgets(results)
    except RunError as error:
        return [Item("fanova", "fANOVA", "", lacking=str(error))]
    overview = _overview(results, fits, reasons)
    if not fits:
        return [overview]
    warnings = fit_warnings(results, fits)
    most = ranking(fits)
    curves = marginal_curves(results, fits, most, warnings)
    surfaces = marginal_surfaces(results, fits, top_pairs(fits, SURFACES), warnings)
    around = local.items(results, fits, most, start)
    return [overview, _mains(results, fits, warnings), _pairs(results, fits, warnings), curves, surfaces, *around]


def fit_warnings(results: Results, fits: Fits) -> tuple[str, ...]:
    """Why not to believe the decomposition of a budget: a sentence per budget that has a reason."""
    return tuple(
        f"{style.budget_label(budget, results.budget_unit)}: {'; '.join(fit.warnings)}."
        for budget, fit in fits.items()
        if fit.warnings
    )


# What the decompositions stand on -------------------------------------------------------------------------------------
def _overview(results: Results, fits: Fits, reasons: dict[float, str]) -> Item:
    notes = [*fit_warnings(results, fits)]
    notes += [f"{style.budget_label(b, results.budget_unit)}: no decomposition: {text}." for b, text in reasons.items()]
    lacking = "" if fits else f"No budget has {FEWEST} finished configurations with different results yet."
    name, title, table = "fanova", "What the decompositions stand on", overview_table(results, fits)
    return Item(name, title, OVERVIEW_CAPTION, table=table, warnings=tuple(notes), lacking=lacking)


OVERVIEW_CAPTION = (
    "Out-of-bag R² near 1: the forest explains results it has not seen; low: do not trust the shares. N is the number "
    f"of configurations (at most {MOST} are used)."
)


def overview_table(results: Results, fits: Fits) -> pd.DataFrame:
    """A row of texts per budget: N, R2, the sums, and the largest main effect and interaction."""
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
    return pd.DataFrame(rows).fillna(style.MISSING)


def _label(name: str) -> str:
    return BY_NAME[name].label if name in BY_NAME else name


def ranking(fits: Fits) -> list[str]:
    """Hyperparameters by their mean share over budgets, the largest first."""
    shares = pd.concat([fit.mains.set_index("name")["share"] for fit in fits.values()], axis=1)
    return [str(name) for name in shares.mean(axis=1).sort_values(ascending=False, kind="stable").index]


def top_pairs(fits: Fits, count: int) -> list[tuple[str, str]]:
    """The pairs with the largest mean share over budgets."""
    shares = pd.concat([fit.pairs.set_index(["one", "two"])["share"] for fit in fits.values()], axis=1).mean(axis=1)
    return [(str(a), str(b)) for a, b in shares.sort_values(ascending=False, kind="stable").index[:count]]


def counts_text(results: Results, fits: Fits) -> str:
    """How many configurations each budget's decomposition stands on."""
    parts = [f"{fit.count} on {style.budget_label(b, results.budget_unit)}" for b, fit in fits.items()]
    return f"Configurations: {', '.join(parts)}."


# Shares ---------------------------------------------------------------------------------------------------------------
def _mains(results: Results, fits: Fits, warnings: tuple[str, ...]) -> Item:
    data = pd.concat([fit.mains.assign(budget=budget, N=fit.count) for budget, fit in fits.items()])
    caption = (
        f"Main effects on each budget (blue: architecture, orange: training), ordered by their mean. Bars: mean over "
        f"the {len(next(iter(fits.values())).trees)} trees; lines: one standard deviation over trees. "
        f"{counts_text(results, fits)}"
    )
    figure = draw_mains(results, fits)
    return Item("fanova_mains", "Main effects", caption, figure, data=data, warnings=warnings)


def draw_mains(results: Results, fits: Fits) -> Figure:
    """A panel per budget, all on one scale."""
    names = ranking(fits)
    colours = [
        style.BLUE if n in BY_NAME and BY_NAME[n].part == "architecture" else style.ORANGE for n in names
    ]  # fmt: skip
    tables = {budget: fit.mains.set_index("name").loc[names] for budget, fit in fits.items()}
    figure, axes = _draw_shares(results, fits, tables, 0.24, colours)
    axes[0].set_yticks(range(len(names)), [_label(n) for n in names])
    return figure


def _draw_shares(
    results: Results, fits: Fits, tables: dict[float, pd.DataFrame], row_in: float, colours: Any
) -> tuple[Figure, Any]:
    """Bars of shares, a panel per budget."""
    count = len(next(iter(tables.values())))
    figure, axes = style.new_figure(0.9 + row_in * count, 1, len(fits), sharey=True, sharex=True)
    for axis, (budget, fit) in zip(axes[0], fits.items(), strict=True):
        _bars(axis, tables[budget]["share"], tables[budget]["spread"], colours)
        doubt = "\ndoubtful" if fit.warnings else ""
        axis.set_title(f"{style.budget_label(budget, results.budget_unit)}\nN = {fit.count}{doubt}")
    axes[0, 0].invert_yaxis()
    axes[0, len(fits) // 2].set_xlabel("share of the variance (%)")
    return figure, axes[0]


def _bars(axis: Any, shares: pd.Series, spreads: pd.Series, colours: Any) -> None:
    places = range(len(shares))
    axis.barh(places, 100 * shares, color=colours, height=0.7)
    # A share is never negative, nor more than all.
    ends = [100 * np.minimum(spreads, shares), 100 * np.minimum(spreads, 1 - shares)]
    axis.errorbar(100 * shares, places, xerr=ends, fmt="none", ecolor="#333333", elinewidth=0.8, capsize=1.5)
    axis.grid(axis="y", visible=False)


def _pairs(results: Results, fits: Fits, warnings: tuple[str, ...]) -> Item:
    shown = min(SHOWN_PAIRS, len(next(iter(fits.values())).pairs))
    caption = (
        f"The {shown} largest of {len(next(iter(fits.values())).pairs)} interactions (what a pair explains beyond its "
        f"two main effects), ordered by their mean over budgets; lines: one standard deviation over trees. "
        f"{counts_text(results, fits)}"
    )
    data = pd.concat([fit.pairs.assign(budget=budget, N=fit.count) for budget, fit in fits.items()])
    figure = draw_pairs(results, fits)
    return Item("fanova_pairs", "Interactions of pairs", caption, figure, data=data, warnings=warnings)


def draw_pairs(results: Results, fits: Fits) -> Figure:
    """A panel per budget, all on one scale."""
    pairs = top_pairs(fits, SHOWN_PAIRS)
    tables = {budget: fit.pairs.set_index(["one", "two"]).loc[pairs] for budget, fit in fits.items()}
    figure, axes = _draw_shares(results, fits, tables, 0.26, style.GREEN)
    axes[0].set_yticks(range(len(pairs)), [f"{_label(a)} × {_label(b)}" for a, b in pairs])
    for axis in axes:
        axis.tick_params(axis="y", labelsize=7.5)
    return figure
