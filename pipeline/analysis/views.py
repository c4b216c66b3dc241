"""What costs what, what the model's proposals are worth, and what each rung holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from pipeline.analysis import style
from pipeline.analysis.items import Item
from pipeline.analysis.marks import EVALUATION, Drawing, Marks
from pipeline.analysis.metric import MISSING, WrittenMetric, objective
from pipeline.analysis.quantiles import column_quantiles
from pipeline.storage.results import Results
from pipeline.storage.schema import EVALUATION_STATUSES
from pipeline.wording import sentence, value_text

# Beyond this many ways a figure shows their quantiles: lines would only hide each other.
MOST_WAYS = 500
# Below this many in each group a rank test says nothing.
FEWEST_TESTED = 5
COSTS = (
    ("parameters", "parameters", True),
    ("flops_per_image", "FLOP per image, forward", True),
    ("images_per_s", "training images per second", False),
    ("latency_s", "latency of a batch (s)", True),
)


# Pareto ---------------------------------------------------------------------------------------------------------------
def pareto(results: Results) -> Item:
    """Error against parameters, FLOPs and training speed, with the configurations that nothing beats in both."""
    name, title = "pareto", "Error against what a model costs"
    done = results.finished()
    done = done[done["budget"] == done["budget"].max()]
    known = [cost for cost in COSTS if done[cost[0]].notna().any()]
    if not known:
        return Item(name, title, "", lacking="No evaluation has told what its model costs.")
    drawing = draw_pareto(results, done, known)
    data = done[["config_id", "loss", *(column for column, _, _ in known)]].copy()
    for column, _, is_less in known:
        data[f"on_front_of_{column}"] = front(done[column].to_numpy(), done["loss"].to_numpy(), is_less)
    return Item(name, title, pareto_caption(results, data), drawing.figure, data=data, marks=drawing.marks)


def front(costs: np.ndarray, losses: np.ndarray, is_less_better: bool) -> np.ndarray:
    """Which points no other point beats: as good in both, and better in one. A missing cost is on no front."""
    oriented = costs if is_less_better else -costs
    order = np.lexsort((losses, oriented))
    found = np.zeros(len(costs), dtype=bool)
    best = np.inf
    for place in order:
        if not np.isnan(oriented[place]) and losses[place] < best:
            best = losses[place]
            found[place] = True
    return found


def draw_pareto(results: Results, done: pd.DataFrame, known: list[tuple[str, str, bool]]) -> Drawing:
    """A panel per cost: a dot per configuration, the front as steps."""
    metric = objective(results)
    columns = len(known) if len(known) < len(COSTS) else 2  # all side by side would have no room for their numbers
    rows = -(-len(known) // columns)
    figure, axes = style.new_figure(3.0 if rows == 1 else 2.4 * rows, rows, columns, sharey=True)
    marks = []
    losses = metric.shown(done["loss"].to_numpy())
    for axis, (column, label, is_less) in zip(axes.flat, known, strict=True):
        costs = done[column].to_numpy(dtype=float)
        alpha = style.alpha_for(len(done))
        axis.scatter(costs, losses, s=9, color=style.GREY, alpha=alpha, lw=0, rasterized=True)
        is_best = front(costs, done["loss"].to_numpy(), is_less)
        order = np.argsort(costs[is_best])
        x, y = costs[is_best][order], losses[is_best][order]
        axis.step(x, y, where="post" if is_less else "pre", color=style.BLUE, marker="o", ms=4)
        axis.set_xscale("log")
        is_wide = np.nanmax(costs) > 300 * np.nanmin(costs[costs > 0], initial=np.inf)
        style.plain_log_ticks(axis.xaxis, style.amount, subs=(1,) if is_wide else (1, 3))
        axis.set_xlabel(label)
        marks.append(Marks(axis, EVALUATION, done.index.to_numpy(), costs, losses))
    for line in axes:
        style.metric_axis(line[0], metric, metric.label)
        for axis in line[1:]:
            style.metric_axis(axis, metric)
    return Drawing(figure, marks)


def pareto_caption(results: Results, data: pd.DataFrame) -> str:
    """How many there are, and how many of them are on a front."""
    budget = style.budget_label(float(results.finished()["budget"].max()), results.budget_unit)
    fronts = [str(int(data[column].sum())) for column in data if str(column).startswith("on_front_of_")]
    latency = ", and so is the latency" if "on_front_of_latency_s" in data else ""
    return (
        f"{sentence(objective(results).name)} of {len(data)} configurations on {budget} against what their models "
        f"cost. Blue: the fronts ({', '.join(fronts)} configurations): whatever costs less is worse. Images per second "
        f"are those of the device that trained{latency}."
    )


# Rungs ----------------------------------------------------------------------------------------------------------------
def rungs(results: Results) -> Item:
    """What each rung holds."""
    if results.evaluations.empty:
        return Item("rungs", "The rungs", "", lacking="No evaluation has begun yet.")
    caption = "Evaluations of each budget by their state, over all brackets; promoted: also begun on the next budget."
    return Item("rungs", "The rungs", caption, table=rungs_table(results))


def rungs_table(results: Results) -> pd.DataFrame:
    """A row of texts per budget: evaluations by state, promoted ones, the best and the median."""
    metric = objective(results)
    evaluations = results.evaluations
    rows = []
    for place, budget in enumerate(results.budgets):
        here = evaluations[evaluations["budget"] == budget]
        states = here["status"].value_counts()
        done = here.loc[here["status"] == "finished", "loss"]
        above = evaluations[evaluations["budget"].isin(results.budgets[place + 1 : place + 2])]
        promoted = int(here["configuration"].isin(above["configuration"]).sum())
        row = {"budget": style.budget_label(budget, results.budget_unit), "evaluations": str(len(here))}
        row |= {state: str(states[state]) for state in EVALUATION_STATUSES if state in states}
        row |= {"promoted": str(promoted) if place + 1 < len(results.budgets) else MISSING}
        row |= {
            metric.label_of("best"): metric.number(done.min()),
            metric.label_of("median"): metric.number(done.median()),
        }
        rows.append(row)
    states_seen = [s for s in EVALUATION_STATUSES if any(s in row for row in rows)]
    table = pd.DataFrame(rows)
    ends = [c for c in table if c not in ("budget", "evaluations", *states_seen)]
    return table[["budget", "evaluations", *states_seen, *ends]].fillna("0")


# Is the model working? ------------------------------------------------------------------------------------------------
def proposals(results: Results) -> Item:
    """Whether the model's proposals beat random ones."""
    name, title = "proposals", "Do the model's proposals beat random ones?"
    data = proposal_tests(results)
    if not (data["n_model"].gt(0) & data["n_random"].gt(0)).any():
        lacking = "On no budget have both kinds finished: the model has not proposed anything yet, or is not used."
        return Item(name, title, "", lacking=lacking)
    caption = (
        "Final results of configurations that the model proposed against those drawn at random in the same run. "
        "Chance: how often a proposal of the model beats a random one (50%: no better). p: Mann-Whitney test, "
        f"two-sided, from {FEWEST_TESTED} of each kind on. On the larger budgets only promoted ones are "
        "left, of both kinds."
    )
    return Item(name, title, caption, table=proposals_table(results, data), data=data)


def proposal_tests(results: Results) -> pd.DataFrame:
    """Columns budget, n_model, n_random, median_model, median_random, chance, p; a row per budget."""
    done = results.finished()
    rows = []
    for budget in results.budgets:
        here = done[done["budget"] == budget]
        model, random = (here.loc[here["model_based"] == kind, "loss"].to_numpy() for kind in (True, False))
        chance, p = np.nan, np.nan
        if len(model) and len(random):
            test = mannwhitneyu(model, random)
            chance = 1 - float(test.statistic) / (len(model) * len(random))
            p = float(test.pvalue) if min(len(model), len(random)) >= FEWEST_TESTED else np.nan
        medians = [float(np.median(v)) if len(v) else np.nan for v in (model, random)]
        rows.append((budget, len(model), len(random), *medians, chance, p))
    names = ["budget", "n_model", "n_random", "median_model", "median_random", "chance", "p"]
    return pd.DataFrame(rows, columns=names)


def proposals_table(results: Results, data: pd.DataFrame) -> pd.DataFrame:
    """The tests as texts."""
    metric = objective(results)
    return pd.DataFrame(
        {
            "budget": [style.budget_label(b, results.budget_unit) for b in data["budget"]],
            "from the model": data["n_model"].astype(str),
            "random": data["n_random"].astype(str),
            metric.label_of("median, model"): [metric.number(v) for v in data["median_model"]],
            metric.label_of("median, random"): [metric.number(v) for v in data["median_random"]],
            "chance": [MISSING if np.isnan(v) else f"{100 * v:.0f}%" for v in data["chance"]],
            "p": [MISSING if np.isnan(v) else value_text(float(v), 2) for v in data["p"]],
        }
    )


# Funnel ---------------------------------------------------------------------------------------------------------------
def funnel(results: Results) -> Item:
    """Error against budget: each configuration's way up the rungs."""
    name, title = "funnel", "The way up the rungs"
    data = ways(results)
    if data.empty:
        return Item(name, title, "", lacking="No configuration has finished on two budgets yet.")
    drawing = draw_funnel(results, data)
    tops = int(data[results.budgets[-1]].notna().sum()) if results.budgets[-1] in data else 0
    crowd = (
        " Bands: from the 10% to the 90% quantile, lines: medians; grey: of those that went no further."
        if is_crowd(data)
        else ""
    )
    reached = f"in blue, the {tops} that finished on the largest" if tops else "none has finished on the largest yet"
    caption = (
        f"{sentence(objective(results).name)} on each budget of {len(data)} configurations that finished on two or "
        f"more; {reached}.{crowd}"
    )
    written = data.rename(columns=lambda b: f"loss_on_{b:g}")
    written.insert(0, "config_id", results.configurations["config_id"])
    return Item(name, title, caption, drawing.figure, data=written, marks=drawing.marks)


def ways(results: Results) -> pd.DataFrame:
    """Losses by budget of the configurations that finished on at least two."""
    table = results.finished().pivot_table(index="configuration", columns="budget", values="loss", aggfunc="first")
    table = table.reindex(columns=list(results.budgets))
    several: pd.DataFrame = table[table.notna().sum(axis=1) >= 2]
    return several


def is_crowd(data: pd.DataFrame) -> bool:
    """Whether lines would only hide each other."""
    return len(data) > MOST_WAYS


def draw_funnel(results: Results, data: pd.DataFrame) -> Drawing:
    """The ways over the budgets, those that reached the largest on top."""
    metric: WrittenMetric = objective(results)
    figure, axes = style.new_figure(3.4)
    axis = axes[0, 0]
    places = np.arange(len(results.budgets))
    values = metric.shown(data.to_numpy(dtype=float))
    reached = data.iloc[:, -1].notna().to_numpy()
    draw = _draw_bands if is_crowd(data) else _draw_lines
    for is_top, colour in ((False, style.GREY), (True, style.BLUE)):
        draw(axis, places, values[reached == is_top], colour, is_top)
    axis.set_xticks(places, [style.budget_label(b, results.budget_unit) for b in results.budgets])
    axis.set_xlabel("budget")
    style.metric_axis(axis, metric, metric.label)
    return Drawing(figure, [Marks(axis, "configuration", data.index.to_numpy(), places, values)])


def _draw_lines(axis: Any, places: np.ndarray, ways: np.ndarray, colour: str, is_top: bool) -> None:
    """A line per configuration, [n, budgets]."""
    alpha, width = max(style.alpha_for(len(ways)), 0.2), 1.1 if is_top else 0.6
    for way in ways:
        axis.plot(places, way, "-", alpha=alpha, rasterized=True, color=colour, lw=width)


def _draw_bands(axis: Any, places: np.ndarray, ways: np.ndarray, colour: str, is_top: bool) -> None:
    """Quantiles of the ways, [n, budgets]."""
    band = column_quantiles(places, ways)
    axis.fill_between(band["x"], band["low"], band["high"], color=colour, alpha=0.3, lw=0)
    axis.plot(band["x"], band["middle"], "o-", ms=3, color=colour, lw=2.0 if is_top else 1.3)
