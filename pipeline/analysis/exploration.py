"""Where the search looked: the space, its samples over time, and its best configurations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline.analysis import coverage, style
from pipeline.analysis.axes import Axis, label_coordinates, ordered, read_axes
from pipeline.analysis.footprint import footprint
from pipeline.analysis.items import Item, Section
from pipeline.analysis.marks import CONFIGURATION, Drawing, Marks
from pipeline.analysis.metric import objective
from pipeline.errors import RunError
from pipeline.settings.space import BY_NAME
from pipeline.storage.results import Results
from pipeline.storage.tables import incumbents

MAX_LINES, BEST_LINES = 500, 20
PANELS_PER_ROW = 4


def section(results: Results) -> Section:
    """The space, samples over time, parallel coordinates, footprint, coverage."""
    about = "Whether the search sampled the whole space, and where it went once its model had seen enough."
    return Section("exploration", "Exploration and exploitation", about, _items(results))


def _items(results: Results) -> list[Item]:
    try:
        axes = read_axes(results.configspace, ordered(results.hyperparameters))
    except RunError as error:
        return [Item("samples_over_time", "Samples over time", "", lacking=str(error))]
    if results.configurations.empty:
        return [Item("samples_over_time", "Samples over time", "", lacking="No configuration has been drawn yet.")]
    return [
        search_space(results, axes),
        samples_over_time(results, axes),
        parallel_coordinates(results, axes),
        footprint(results, axes),
        *coverage.items(results, axes),
    ]


# The search space -----------------------------------------------------------------------------------------------------
def search_space(results: Results, axes: list[Axis]) -> Item:
    """The search space as a table, as on the poster, with the incumbent's values beside it."""
    best = incumbents(results)
    chosen = None if best.empty else best.iloc[-1]
    beside = "" if chosen is None else f" The incumbent is {chosen['config_id']}."
    logs = sum(axis.log for axis in axes)
    caption = (
        f"The {len(axes)} hyperparameters that were searched together; {logs} of them are drawn on a logarithmic scale."
        f"{beside}"
    )
    return Item("search_space", "The search space", caption, table=space_table(axes, chosen))


def space_table(axes: list[Axis], incumbent: pd.Series | None) -> pd.DataFrame:
    """A row of texts per hyperparameter: range, scale, kind, and the incumbent's value."""
    rows = []
    for axis in axes:
        row = {"hyperparameter": axis.axis_label, "name": axis.name, "range": axis.range_text, "kind": axis.kind_text}
        row["part"] = BY_NAME[axis.name].part if axis.name in BY_NAME else style.MISSING
        if incumbent is not None:
            row["incumbent"] = axis.text(incumbent[axis.name])
        rows.append(row)
    return pd.DataFrame(rows)


# Samples over time ----------------------------------------------------------------------------------------------------
def samples_over_time(results: Results, axes: list[Axis]) -> Item:
    """Every draw's value against its number, model-based and random ones apart."""
    drawing, caption = draw_samples(results, axes), samples_caption(results)
    title, file = "Samples over time", "configurations.csv"
    return Item("samples_over_time", title, caption, drawing.figure, data_file=file, marks=drawing.marks)


def draw_samples(results: Results, axes: list[Axis]) -> Drawing:
    """A panel per hyperparameter: dots, or, where there are too many, the density of the model's proposals."""
    configurations = results.configurations
    rows = -(-(len(axes) + 1) // PANELS_PER_ROW)  # one panel is the legend
    figure, panels = style.new_figure(0.4 + 1.3 * rows, rows, PANELS_PER_ROW, sharex=True)
    best = incumbents(results)
    marks, number = [], np.arange(len(configurations))
    for panel, axis in zip(panels.flat, axes, strict=False):
        values = axis.encode(configurations[axis.name])
        marks.append(Marks(panel, CONFIGURATION, number, number + 1, values + axis.jitter(len(values))))
        _draw_sample_panel(panel, axis, values, configurations["model_based"].to_numpy(dtype=bool))
        if not best.empty:
            panel.axhline(values[int(best["configuration"].iloc[-1])], **_incumbent_line(len(values)))
        label_coordinates(axis, panel.yaxis)
        panel.set_ylim(-0.09, 1.09)
        panel.set_title(style.two_lines(axis.axis_label), size=7.5)
        panel.tick_params(labelsize=7)
    for panel in panels.flat[max(len(axes) - PANELS_PER_ROW, 0) : len(axes)]:  # the lowest ones that are not spare
        panel.tick_params(labelbottom=True)
    spare = list(panels.flat)[len(axes) :]
    for panel in spare:
        panel.set_axis_off()
    spare[0].legend(handles=_sample_legend(len(configurations)), loc="center", fontsize=7.5)
    figure.supxlabel("number of the draw", size=9)
    return Drawing(figure, marks)


def _draw_sample_panel(panel: Any, axis: Axis, values: np.ndarray, is_model: np.ndarray) -> None:
    number = np.arange(1, len(values) + 1)
    if len(values) > style.CROWD:
        _draw_density(panel, axis, number[is_model], values[is_model], len(values))
        return
    size = 5 if len(values) < style.CROWD / 3 else 3
    alpha = style.alpha_for(len(values))
    jittered = values + axis.jitter(len(values))
    for mask, colour in ((~is_model, style.RANDOM_COLOUR), (is_model, style.MODEL_COLOUR)):
        panel.scatter(number[mask], jittered[mask], s=size, color=colour, alpha=alpha, lw=0, rasterized=True)


def _draw_density(panel: Any, axis: Axis, number: np.ndarray, values: np.ndarray, count: int) -> None:
    """Where the model's proposals lay in each fortieth of the run, relative to the fullest place of that part."""
    places = np.array(axis.coordinates) if axis.is_discrete and len(axis.coordinates) <= 24 else None
    edges = np.linspace(-0.02, 1.02, 25) if places is None else style.edges(places)
    counts, x, y = np.histogram2d(number, values, bins=(np.linspace(0.5, count + 0.5, 41), edges))
    shares = counts / np.maximum(counts.max(axis=1, keepdims=True), 1)
    panel.pcolormesh(x, y, shares.T, cmap="Blues", vmin=0, vmax=1, rasterized=True)
    panel.grid(False)


def _incumbent_line(count: int) -> dict[str, Any]:
    """How the incumbent's value is drawn: on the darkest places of a density, too, it must be seen."""
    return {"color": style.VERMILLION if count > style.CROWD else "#333333", "ls": "--", "lw": 0.9}


def _sample_legend(count: int) -> list[Any]:
    dashed = Line2D([], [], label="incumbent", **_incumbent_line(count))
    if count > style.CROWD:
        return [Patch(color=style.BLUE, label="many proposals"), Patch(color="#DCE9F5", label="few"), dashed]
    return [
        Line2D([], [], color=style.RANDOM_COLOUR, marker="o", ls="none", ms=4, label="drawn at random"),
        Line2D([], [], color=style.MODEL_COLOUR, marker="o", ls="none", ms=4, label="proposed by the model"),
        dashed,
    ]


def samples_caption(results: Results) -> str:
    """How many were drawn, and what to see."""
    count, proposed = len(results.configurations), int(results.configurations["model_based"].sum())
    what = (
        f"Where the {proposed} proposals of the model lay among {count} configurations, in the order in which they "
        "were drawn (random draws, which fill the range, are left out)."
        if count > style.CROWD
        else f"The values of {count} configurations in the order in which they were drawn ({proposed} proposed by the "
        "model). Random draws fill the range; the model's gather where results are good. Whole numbers are shifted a "
        "little, so that dots do not hide each other."
    )
    return f"{what} Dashed: the incumbent on the largest budget."


# Parallel coordinates -------------------------------------------------------------------------------------------------
def parallel_coordinates(results: Results, axes: list[Axis]) -> Item:
    """All configurations in grey, the best ones on the largest budget in colour."""
    name, title = "parallel_coordinates", "Parallel coordinates"
    best = best_configurations(results)
    if best.empty:
        return Item(name, title, "", lacking="No evaluation has finished yet.")
    data = best[["config_id", "budget", "loss", *(axis.name for axis in axes)]]
    drawing, caption = draw_parallel(results, best, axes), parallel_caption(results, best)
    return Item(name, title, caption, drawing.figure, data=data, marks=drawing.marks)


def best_configurations(results: Results) -> pd.DataFrame:
    """The best on the largest budget with a result, best first: a quarter of those there, and `BEST_LINES` at most."""
    done = results.finished()
    here: pd.DataFrame = done[done["budget"] == done["budget"].max()]
    count = min(BEST_LINES, max(1, len(here) // 4)) if len(here) else 0
    return here.sort_values(["loss", "iteration", "stage", "index"], kind="stable").head(count)


def draw_parallel(results: Results, best: pd.DataFrame, axes: list[Axis]) -> Drawing:
    """A line per configuration; the best is the darkest and lies on top."""
    metric = objective(results)
    everything = results.configurations
    shown = everything if len(everything) <= MAX_LINES else everything.sample(MAX_LINES, random_state=0)
    figure, panels = style.new_figure(4.4)
    panel = panels[0, 0]
    panel.grid(axis="y", visible=False)
    places = np.arange(len(axes))
    grey = LineCollection(
        _lines(results, shown.index.to_numpy(), axes), colors="#9AA3AF", linewidths=0.4, alpha=0.35, rasterized=True
    )
    panel.add_collection(grey)
    shares = np.linspace(0, 1, len(best))
    colours = style.best_colours(shares)
    widths = np.linspace(2.0, 0.9, len(best))
    panel.add_collection(
        LineCollection(
            _lines(results, best["configuration"].to_numpy(), axes)[::-1], colors=colours[::-1], linewidths=widths[::-1]
        )
    )
    bar = figure.colorbar(
        ScalarMappable(Normalize(0.5, len(best) + 0.5), ListedColormap(colours)), ax=panel, pad=0.01, aspect=30
    )
    ticks = sorted({1, (len(best) + 1) // 2, len(best)})
    losses = metric.shown(best["loss"].to_numpy())
    bar.set_ticks(ticks, labels=[f"{losses[tick - 1]:.3g}" for tick in ticks])
    bar.ax.invert_yaxis()
    bar.set_label(
        metric.label_of(f"{metric.name} on {style.budget_label(best['budget'].iloc[0], results.budget_unit)}")
    )
    panel.set_xlim(-0.3, len(axes) - 0.7)
    panel.set_ylim(-0.15, 1.15)
    panel.set_xticks(places, [axis.axis_label for axis in axes], rotation=40, ha="right", size=7.5)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)
    for place, axis in zip(places, axes, strict=True):
        for text, height, side in zip(axis.end_texts, (-0.08, 1.08), ("top", "bottom"), strict=True):
            panel.text(place, height, text, ha="center", va=side, size=7, color="#444444")
    heights = np.array(_lines(results, np.arange(len(everything)), axes))[:, :, 1]
    return Drawing(figure, [Marks(panel, CONFIGURATION, np.arange(len(everything)), places, heights)])


def _lines(results: Results, rows: np.ndarray, axes: list[Axis]) -> list[np.ndarray]:
    """A line per row of the configurations, always the same for one; an inactive value leaves a gap."""
    table = results.configurations
    heights = np.column_stack([axis.encode(table[axis.name]) + axis.jitter(len(table)) for axis in axes])
    return [np.column_stack([np.arange(len(axes)), heights[row]]) for row in rows]


def parallel_caption(results: Results, best: pd.DataFrame) -> str:
    """How many are shown of how many."""
    done = results.finished()
    budget = best["budget"].iloc[0]
    on = f"{int((done['budget'] == budget).sum())} configurations on {style.budget_label(budget, results.budget_unit)}"
    count = len(results.configurations)
    return (
        f"In blue, the {len(best)} best of {on} (the best on top, the others paler); in grey, {min(count, MAX_LINES)} "
        f"of all {count} configurations drawn. Where the blue lines meet, good configurations agree. Whole numbers are "
        "shifted a little, so that lines do not hide each other."
    )
