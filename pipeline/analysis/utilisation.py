"""What each worker did when: a bar per attempt, or, where there are too many, shares of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline.analysis import style
from pipeline.analysis.items import Item
from pipeline.analysis.marks import EVALUATION, Drawing, Marks
from pipeline.analysis.trajectories import start_time
from pipeline.storage.results import Results

MAX_WORKERS = 48
# More attempts are drawn as shares of time, in so many pieces of the run.
MAX_BARS, PIECES = 1500, 240
FAILURES = ("lost", "handed_back", "broken")
IDLE_COLOUR = "#ECEEF1"
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
    shown = workers.head(MAX_WORKERS)
    caption = gantt_caption(workers, shown, spans)
    drawing = draw_gantt(results, shown, spans[spans["worker"].isin(shown["worker"])])
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
    figure, axes = style.new_figure(1.1 + min(0.22 * len(workers), 7))
    axis = axes[0, 0]
    colours = style.budget_colours(results.budgets)
    joined, left = (workers[name].to_numpy(dtype=float) - begin for name in ("joined", "left"))
    _draw_spans(axis, joined / unit_s, left / unit_s, np.arange(len(workers)), color=IDLE_COLOUR, lw=0)
    if len(spans) <= MAX_BARS:
        _draw_bars(axis, spans, rows, colours, unit_s)
    else:
        end_s = float(max(spans["end_s"].max(), left.max()))
        image = busy_image(spans, rows, colours, end_s)
        extent = (0, end_s / unit_s, len(rows) - 0.5, -0.5)
        axis.imshow(image, extent=extent, aspect="auto", interpolation="nearest", zorder=2)
    axis.autoscale_view()
    axis.set_yticks(range(len(workers)), list(workers["worker"]), size=7 if len(workers) > 16 else 8)
    axis.set_ylim(len(workers) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(f"wall-clock time since the search began ({unit})")
    handles = _legend(results, colours, is_image=len(spans) > MAX_BARS)
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
    axis.plot(*places, "x", color=style.CRASH_COLOUR, ms=4, mew=1.2)


def _draw_spans(axis: Any, begins: np.ndarray, ends: np.ndarray, rows: np.ndarray, **options: Any) -> None:
    """Bars as one collection: thousands of single patches take seconds."""
    y0, y1 = rows - 0.4, rows + 0.4
    corners = np.stack([begins, y0, begins, y1, ends, y1, ends, y0], axis=1).reshape(-1, 4, 2)
    axis.add_collection(PolyCollection(list(corners), rasterized=True, **options))


def busy_image(
    spans: pd.DataFrame, rows: dict[str, int], colours: dict[float, Any], end_s: float, pieces: int = PIECES
) -> np.ndarray:
    """[workers, pieces, 3]: the colours of what a worker did in each piece of the run, mixed by shares of time."""
    image = np.empty((len(rows), pieces, 3))
    image[:] = to_rgb(IDLE_COLOUR)
    edges = np.linspace(0, end_s, pieces + 1)
    is_lost = spans["outcome"].isin([*FAILURES, "unknown", "crashed"])
    kinds = [(spans["budget"].eq(budget) & ~is_lost, to_rgb(colour)) for budget, colour in colours.items()]
    kinds.append((is_lost, to_rgb(style.VERMILLION)))
    for mask, colour in kinds:
        for worker, here in spans[mask].groupby("worker"):
            if worker in rows:
                shares = busy_seconds(here["begin_s"].to_numpy(), here["end_s"].to_numpy(), edges) / np.diff(edges)
                image[rows[str(worker)]] += shares[:, None] * (np.array(colour) - to_rgb(IDLE_COLOUR))
    return np.clip(image, 0, 1)


def busy_seconds(begins: np.ndarray, ends: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Seconds of spans inside each interval between edges."""
    return np.asarray(np.diff(np.clip(edges[:, None], begins, ends).sum(axis=1)))


def _legend(results: Results, colours: dict[float, Any], is_image: bool) -> list[Artist]:
    handles: list[Artist] = [
        Patch(color=c, label=style.budget_label(b, results.budget_unit)) for b, c in colours.items()
    ]
    if is_image:
        handles.append(Patch(color=style.VERMILLION, label="lost, handed back or crashed"))
    else:
        handles.append(Patch(facecolor="white", edgecolor=style.VERMILLION, hatch="////", label="lost or handed back"))
        handles.append(Line2D([], [], color=style.CRASH_COLOUR, marker="x", ls="none", label="crashed"))
    return [*handles, Patch(color=IDLE_COLOUR, label="idle")]


def gantt_caption(workers: pd.DataFrame, shown: pd.DataFrame, spans: pd.DataFrame) -> str:
    """How many workers and attempts, and how busy they were."""
    part = f"the first {len(shown)} of {len(workers)}" if len(shown) < len(workers) else str(len(workers))
    how = "coloured by budget" if len(spans) <= MAX_BARS else "the colours of their budgets mixed by shares of time"
    count = int(spans["worker"].isin(shown["worker"]).sum())
    return (
        f"What {part} workers did: {count} attempts, {how}. Mean utilisation {100 * workers['share'].mean():.0f}%, "
        f"lowest {100 * workers['share'].min():.0f}%."
    )
