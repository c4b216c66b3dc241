"""What workers did when: a bar per attempt, or, where there are too many, shares of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline.analysis import style
from pipeline.analysis.items import Item
from pipeline.analysis.marks import EVALUATION, Drawing, Marks
from pipeline.analysis.trajectories import start_time
from pipeline.storage.results import Results

# More workers or attempts are drawn as shares of time, in so many pieces of the run.
MAX_WORKERS, MAX_BARS, PIECES = 48, 1500, 120
FAILURES = ("lost", "handed_back", "broken")
IDLE, IDLE_COLOUR = "idle", "#ECEEF1"
NO_RESULT = "lost, handed back or crashed"
FAILED: dict[str, Any] = {"hatch": "////", "edgecolor": style.VERMILLION, "lw": 0.6}


def utilisation(results: Results) -> pd.DataFrame:
    """A row per worker, as they joined: joined, left (s since 1970, UTC), busy_s, share (busy of the time between)."""
    journal, attempts = results.journal, results.attempts.dropna(subset=["started", "ended"])
    last = max([*journal["time"], *attempts["ended"]], default=np.nan)
    joined = journal[journal["event"] == "worker_joined"].groupby("worker")["time"].min()
    left = journal[journal["event"] == "worker_left"].groupby("worker")["time"].max()
    busy = attempts.groupby("worker")
    table = pd.DataFrame({"joined": joined}).join(left.rename("left"), how="outer")
    table = table.join(busy["wall_s"].sum().rename("busy_s"), how="outer")
    table["joined"] = table["joined"].fillna(busy["started"].min())
    table["left"] = np.maximum(table["left"].fillna(last), busy["ended"].max().reindex(table.index).fillna(0))
    table["busy_s"] = table["busy_s"].fillna(0.0)
    table["share"] = (table["busy_s"] / (table["left"] - table["joined"])).clip(0, 1)
    table = table.rename_axis("worker").reset_index()
    table = table.iloc[np.argsort(_places(table["worker"]), kind="stable")]
    return table.sort_values("joined", kind="stable").reset_index(drop=True)


def _places(names: pd.Series) -> np.ndarray:
    """Of each name, its place in the order of people: w2 before w10."""
    order = {name: place for place, name in enumerate(sorted(names, key=style.natural))}
    return names.map(order).to_numpy()


def gantt(results: Results) -> Item:
    """What each worker did when."""
    workers, spans = utilisation(results), attempt_spans(results)
    if len(spans) > MAX_BARS or len(workers) > MAX_WORKERS:
        drawing, caption = Drawing(draw_shares(results, workers, spans)), shares_caption(workers, spans)
    else:
        drawing, caption = draw_gantt(results, workers, spans), gantt_caption(workers, spans)
    title, file = "Utilisation of the workers", "attempts.csv"
    return Item("gantt", title, caption, drawing.figure, data_file=file, marks=drawing.marks)


def attempt_spans(results: Results) -> pd.DataFrame:
    """Columns evaluation, worker, budget, outcome, begin_s, end_s (since the search began) of each begun attempt."""
    attempts = results.attempts.dropna(subset=["started", "ended"])
    begin = start_time(results)
    times = {"begin_s": attempts["started"] - begin, "end_s": attempts["ended"] - begin}
    return attempts[["evaluation", "worker", "budget", "outcome"]].assign(**times)


def draw_gantt(results: Results, workers: pd.DataFrame, spans: pd.DataFrame) -> Drawing:
    """A row per worker."""
    begin = start_time(results)
    unit_s, unit = style.time_unit(float(spans["end_s"].max()))
    rows = {worker: row for row, worker in enumerate(workers["worker"])}
    figure, axes = style.new_figure(1.1 + (0.22 if len(workers) <= 16 else 0.155) * len(workers))
    axis = axes[0, 0]
    colours = style.budget_colours(results.budgets)
    joined, left = (workers[name].to_numpy(dtype=float) - begin for name in ("joined", "left"))
    _draw_spans(axis, joined / unit_s, left / unit_s, np.arange(len(workers)), color=IDLE_COLOUR, lw=0)
    _draw_bars(axis, spans, rows, colours, unit_s)
    axis.autoscale_view()
    axis.set_yticks(range(len(workers)), list(workers["worker"]), size=7 if len(workers) > 16 else 8)
    axis.set_ylim(len(workers) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(f"wall-clock time since the search began ({unit})")
    handles = _legend(results, colours)
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 7), fontsize=8)
    ends = spans[["begin_s", "end_s"]].to_numpy() / unit_s
    places = np.repeat(spans["worker"].map(rows).to_numpy(dtype=float)[:, None], 2, axis=1)
    return Drawing(figure, [Marks(axis, EVALUATION, spans["evaluation"].to_numpy(), ends, places)])


def _draw_bars(axis: Any, spans: pd.DataFrame, rows: dict[str, int], colours: dict[float, Any], unit_s: float) -> None:
    is_lost = spans["outcome"].isin([*FAILURES, "unknown"])
    for budget, colour in colours.items():
        for failed, options in ((False, {"lw": 0}), (True, FAILED)):
            here = spans[(spans["budget"] == budget) & (is_lost == failed)]
            begins, ends = (here[name].to_numpy(dtype=float) / unit_s for name in ("begin_s", "end_s"))
            _draw_spans(axis, begins, ends, here["worker"].map(rows).to_numpy(float), facecolor=colour, **options)
    crashed = spans[spans["outcome"] == "crashed"]
    places = crashed["end_s"] / unit_s, crashed["worker"].map(rows)
    axis.plot(*places, "x", color="white", ms=5, mew=2.8)  # around the mark: on the largest budget it would not show
    axis.plot(*places, "x", color=style.CRASH_COLOUR, ms=4, mew=1.2)


def _draw_spans(axis: Any, begins: np.ndarray, ends: np.ndarray, rows: np.ndarray, **options: Any) -> None:
    """Bars as one collection: thousands of single patches take seconds."""
    y0, y1 = rows - 0.4, rows + 0.4
    corners = np.stack([begins, y0, begins, y1, ends, y1, ends, y0], axis=1).reshape(-1, 4, 2)
    axis.add_collection(PolyCollection(list(corners), rasterized=True, **options))


def busy_seconds(begins: np.ndarray, ends: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Seconds of spans inside each interval between edges."""
    return np.asarray(np.diff(np.clip(edges[:, None], begins, ends).sum(axis=1)))


def _legend(results: Results, colours: dict[float, Any]) -> list[Artist]:
    handles: list[Artist] = [
        Patch(color=c, label=style.budget_label(b, results.budget_unit)) for b, c in colours.items()
    ]
    handles.append(Patch(facecolor="white", edgecolor=style.VERMILLION, hatch="////", label="lost or handed back"))
    handles.append(Line2D([], [], color=style.CRASH_COLOUR, marker="x", ls="none", label="crashed"))
    return [*handles, Patch(color=IDLE_COLOUR, label=IDLE)]


def gantt_caption(workers: pd.DataFrame, spans: pd.DataFrame) -> str:
    """How many workers and attempts, and how busy they were."""
    return f"What {len(workers)} workers did: {len(spans)} attempts, coloured by budget. {_busy_text(workers)}"


def _busy_text(workers: pd.DataFrame) -> str:
    return (
        f"Mean utilisation {100 * workers['share'].mean():.0f}%, lowest {100 * workers['share'].min():.0f}% "
        f"({workers['worker'].iloc[int(workers['share'].argmin())]})."
    )


# Shares of time -------------------------------------------------------------------------------------------------------
def busy_kinds(results: Results, spans: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The attempts by what they were: on a budget, or without a result."""
    is_lost = spans["outcome"].isin([*FAILURES, "unknown", "crashed"])
    kinds = {
        style.budget_label(budget, results.budget_unit): spans[spans["budget"].eq(budget) & ~is_lost]
        for budget in results.budgets
    }
    return {**kinds, NO_RESULT: spans[is_lost]}


def draw_shares(results: Results, workers: pd.DataFrame, spans: pd.DataFrame) -> Figure:
    """Above, how many workers were busy with what over the run; below, each worker's shares of its time."""
    kinds = busy_kinds(results, spans)
    colours = [*style.budget_colours(results.budgets).values(), style.VERMILLION]
    figure, axes = style.new_figure(4.6, 2, 1, height_ratios=[3, 2])
    _draw_busy(axes[0, 0], results, workers, kinds, colours)
    _draw_each(axes[1, 0], workers, kinds, colours)
    handles = [Patch(color=c, label=name) for name, c in zip([*kinds, IDLE], [*colours, IDLE_COLOUR], strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 7), fontsize=8)
    return figure


def _draw_busy(
    axis: Any, results: Results, workers: pd.DataFrame, kinds: dict[str, pd.DataFrame], colours: list[Any]
) -> None:
    begins, ends = (workers[name].to_numpy(dtype=float) - start_time(results) for name in ("joined", "left"))
    edges = np.linspace(0, float(ends.max()), PIECES + 1)
    unit_s, unit = style.time_unit(edges[-1])
    present = busy_seconds(begins, ends, edges) / np.diff(edges)
    busy = [
        busy_seconds(s["begin_s"].to_numpy(), s["end_s"].to_numpy(), edges) / np.diff(edges) for s in kinds.values()
    ]
    axis.stairs(present, edges / unit_s, color=IDLE_COLOUR, fill=True)
    floor = np.zeros(PIECES)
    for workers_busy, colour in zip(busy, colours, strict=True):
        axis.stairs(floor + workers_busy, edges / unit_s, baseline=floor, color=colour, fill=True)
        floor = floor + workers_busy
    axis.set_ylim(bottom=0)
    axis.set_xlim(0, edges[-1] / unit_s)
    axis.set_ylabel("workers")
    axis.set_xlabel(f"wall-clock time since the search began ({unit})")


def _draw_each(axis: Any, workers: pd.DataFrame, kinds: dict[str, pd.DataFrame], colours: list[Any]) -> None:
    names, present = workers["worker"], (workers["left"] - workers["joined"]).to_numpy(dtype=float)
    edges, floor = np.arange(len(workers) + 1) - 0.5, np.zeros(len(workers))
    axis.stairs(np.full(len(workers), 100.0), edges, color=IDLE_COLOUR, fill=True)
    for spans, colour in zip(kinds.values(), colours, strict=True):
        spent = (spans["end_s"] - spans["begin_s"]).groupby(spans["worker"]).sum().reindex(names, fill_value=0.0)
        ceiling = floor + 100 * spent.to_numpy() / np.maximum(present, 1e-9)
        axis.stairs(ceiling, edges, baseline=floor, color=colour, fill=True)
        floor = ceiling
    step = -(-len(workers) // MAX_WORKERS)
    axis.set_xticks(range(0, len(workers), step), names.iloc[::step], rotation=90, size=7)
    axis.set_xlim(edges[0], edges[-1])
    axis.set_ylim(0, 100)
    axis.grid(axis="x", visible=False)
    axis.set_ylabel("share of its time (%)")


def shares_caption(workers: pd.DataFrame, spans: pd.DataFrame) -> str:
    """How many workers and attempts, and how busy they were."""
    return (
        f"What {len(workers)} workers did in {len(spans)} attempts. Above: how many of them were busy with what over "
        f"the run; below: how each spent its time. {_busy_text(workers)}"
    )
