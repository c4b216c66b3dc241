"""What a budget bought: batches, images per second and overshoot, and which comparisons of errors suffer from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.analysis import style
from pipeline.analysis.items import Item
from pipeline.analysis.marks import EVALUATION, Drawing, Marks
from pipeline.analysis.trajectories import start_time
from pipeline.storage.results import Results

# A budget in seconds is the same training for everybody only within these.
MOST_OVERSHOOT, FEWEST_BATCHES = 0.2, 10
# One configuration at another speed: so many times faster or slower, in so large a share of them, is the machine.
DRIFT, DRIFTING_SHARE = 1.5, 0.1
# Of a schedule in so few batches the last step is far from its end: a cosine after 20 steps ends at 0.6% of its start.
FEWEST_SCHEDULE_BATCHES = 20
FEWEST_COMPARED = 5
# Of its figure: letters of the budgets' labels that fit side by side, and the speeds that it shows at least.
WIDEST_LABELS, SHOWN_REACH = 22, 2.0


def throughput(results: Results) -> Item:
    """Batches, images per second and overshoot of every budget, and warnings."""
    name, title = "throughput", "What a budget bought"
    done = results.finished()
    if done.empty:
        return Item(name, title, "", lacking="No evaluation has finished yet.")
    data = bought(results)
    drawing, caption = draw_throughput(results, data), throughput_caption(results, data)
    warnings = throughput_warnings(results, data)
    return Item(name, title, caption, drawing.figure, data=data, warnings=warnings, marks=drawing.marks)


def bought(results: Results) -> pd.DataFrame:
    """Columns config_id, configuration, budget, time_s, batches_here, images_per_s, overshoot, relative_speed.

    `relative_speed` is an evaluation's images per second over the median of its configuration's evaluations: without
    a machine that is busy or slow, 1. NaN: the configuration has finished on one budget only.
    """
    done = results.finished()
    columns = ["config_id", "configuration", "budget", "batches_here", "images_per_s", "overshoot"]
    data = done[columns].assign(time_s=done["finished"] - start_time(results))
    speeds = data.groupby("configuration")["images_per_s"]
    relative = data["images_per_s"] / speeds.transform("median")
    return data.assign(relative_speed=relative.where(speeds.transform("count") > 1))


def drifting(data: pd.DataFrame) -> tuple[int, int]:
    """How many configurations trained at speeds that differ `DRIFT` times, and how many finished more than once."""
    several = data.dropna(subset=["relative_speed"]).groupby("configuration")["images_per_s"]
    ratios = several.max() / several.min()
    return int((ratios > DRIFT).sum()), len(ratios)


def throughput_warnings(results: Results, data: pd.DataFrame) -> tuple[str, ...]:
    """What is wrong with comparing errors of this run, each with the comparisons that suffer."""
    found = []
    late = data[data["overshoot"] > MOST_OVERSHOOT]
    if len(late):
        found.append(
            f"{_where(results, late, data)} trained more than {100 * MOST_OVERSHOOT:.0f}% beyond the budget, because a "
            "single batch took so long: they had more training than what they are ranked against on that budget."
        )
    few = data[data["batches_here"] < FEWEST_BATCHES]
    if len(few):
        found.append(
            f"{_where(results, few, data)} had fewer than {FEWEST_BATCHES} batches: ranks and promotions on that "
            "budget tell little of the configuration. A larger search.min_budget gives more."
        )
    changed, several = drifting(data)
    if results.budget_unit == "seconds" and several >= FEWEST_COMPARED and changed > DRIFTING_SHARE * several:
        found.append(
            f"The machine did not keep its speed: {changed} of {several} configurations with several evaluations "
            f"trained {DRIFT:g} times faster in one of them than in another. A budget in seconds then buys different "
            "amounts of training; results on one budget, and this run and another, compare the machine, too. "
            "search.budget_unit=epochs does not depend on it."
        )
    return tuple(found)


def _where(results: Results, part: pd.DataFrame, whole: pd.DataFrame) -> str:
    """`12 of 54 evaluations on 0.6 s and 1 of 36 on 1.8 s`."""
    counts, of = part.groupby("budget").size(), whole.groupby("budget").size()
    texts = [
        f"{counts[b]} of {of[b]} on {style.budget_label(b, results.budget_unit)}"
        for b in results.budgets
        if b in counts
    ]
    texts[0] = texts[0].replace(" on ", " evaluations on ", 1)
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def short_schedule_note(results: Results) -> str:
    """Where the learning rate does not end near zero, because a rung has a few batches only; "" where it does.

    The rate of the last step, not that of the schedule's end, is what training ended with.
    """
    if not results.problem.is_built_in:  # whose schedule, if it has one, is its own
        return ""
    medians = results.finished().groupby("budget")["batches_here"].median()
    short = medians[medians < FEWEST_SCHEDULE_BATCHES]
    if short.empty:
        return ""
    texts = [f"{style.budget_label(float(str(b)), results.budget_unit)} (median {m:.0f})" for b, m in short.items()]
    return (
        f"Fewer than {FEWEST_SCHEDULE_BATCHES} batches: on {', '.join(texts)} the last steps are taken well above a "
        "learning rate of zero, and errors there are noisier than those of a schedule that has ended."
    )


def draw_throughput(results: Results, data: pd.DataFrame) -> Drawing:
    """Batches and overshoot per budget, and relative speed over the run."""
    figure, axes = style.new_figure(2.7, 1, 3)
    batches, overshoot, speed = axes[0]
    colours = style.budget_colours(results.budgets)
    labels = [style.budget_label(b, results.budget_unit) for b in results.budgets]
    if sum(map(len, labels)) > WIDEST_LABELS:
        labels = [label.replace(" ", "\n") for label in labels]
    _distributions(batches, results, data, "batches_here", 1.0)
    if (data["batches_here"] > 0).any():  # a problem of the user's own need not count any
        batches.set_yscale("log")
        style.plain_log_ticks(batches.yaxis, style.amount)
    batches.axhline(FEWEST_BATCHES, color=style.VERMILLION, lw=0.9, ls=":")
    batches.set_title("batches per evaluation", size=8.5)
    if data["overshoot"].notna().any():
        _distributions(overshoot, results, data, "overshoot", 100.0)
        overshoot.axhline(100 * MOST_OVERSHOOT, color=style.VERMILLION, lw=0.9, ls=":")
        overshoot.set_yscale("symlog", linthresh=1)
        overshoot.set_ylim(bottom=0)
        overshoot.yaxis.set_major_formatter("{x:g}")
    else:
        style.note(overshoot, "no budget in seconds:\nno overshoot")
    overshoot.set_title("overshoot of the budget (%)", size=8.5)
    for axis in (batches, overshoot):
        axis.set_xticks(range(len(results.budgets)), labels, size=7.5)
    return Drawing(figure, _draw_speeds(speed, data, colours))


def _distributions(axis: Any, results: Results, data: pd.DataFrame, column: str, factor: float) -> None:
    """A box per budget: quartiles, and whiskers from the 5% to the 95% quantile."""
    values = [factor * data.loc[data["budget"] == b, column].dropna().to_numpy() for b in results.budgets]
    boxes = axis.boxplot(
        [v if len(v) else [np.nan] for v in values], positions=range(len(values)), widths=0.55, whis=(5, 95),
        patch_artist=True, flierprops={"marker": ".", "ms": 2.5, "mec": "#666666"}, medianprops={"color": "black"},
    )  # fmt: skip
    for box, colour in zip(boxes["boxes"], style.budget_colours(results.budgets).values(), strict=True):
        box.set(facecolor=colour, alpha=0.55, lw=0.6)


def _draw_speeds(axis: Any, data: pd.DataFrame, colours: dict[float, Any]) -> list[Marks]:
    axis.set_title("images/s, of its median", size=8.5)
    known = data.dropna(subset=["relative_speed"])
    if known.empty:
        style.note(axis, "no configuration has\nfinished on two budgets")
        return []
    unit_s, unit = style.time_unit(float(data["time_s"].max()))
    for budget, colour in colours.items():
        here = known[known["budget"] == budget]
        places = here["time_s"] / unit_s, here["relative_speed"]
        axis.scatter(*places, s=6, color=[colour], lw=0, alpha=style.alpha_for(len(known)), rasterized=True)
    axis.axhline(1, color="#555555", lw=0.8)
    times, speeds = known["time_s"].to_numpy() / unit_s, known["relative_speed"].to_numpy()
    axis.set_yscale("log")
    # As far below 1 as above, and so far at least that a steady machine looks steady.
    reach = 1.1 * max(SHOWN_REACH, speeds.max(), 1 / speeds.min())
    axis.set_ylim(1 / reach, reach)
    style.plain_log_ticks(axis.yaxis)
    axis.set_xlabel(f"wall-clock time ({unit})", size=8)
    return [Marks(axis, EVALUATION, known.index.to_numpy(), times, speeds)]


def throughput_caption(results: Results, data: pd.DataFrame) -> str:
    """The medians, and what the panels are."""
    parts = []
    for budget, here in data.groupby("budget"):
        name = style.budget_label(float(str(budget)), results.budget_unit)
        if here["images_per_s"].isna().all():
            parts.append(f"{name}: {here['batches_here'].median():,.0f} batches")
            continue
        parts.append(
            f"{name}: {here['batches_here'].median():,.0f} batches, {here['images_per_s'].median():,.0f} images/s"
        )
    return (
        f"Of {len(data)} finished evaluations, medians: {'; '.join(parts)}. Boxes: quartiles; whiskers: 5% and 95% "
        f"quantiles; dotted: {FEWEST_BATCHES} batches, and {100 * MOST_OVERSHOOT:.0f}% of overshoot. Right: a "
        "configuration that trains on several budgets should do so at one speed; what leaves 1 is the machine."
    )
