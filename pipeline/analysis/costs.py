"""What a run cost: worker time by budget and by what it went into, utilisation, failures, devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline.analysis import style
from pipeline.analysis.items import Item, Section
from pipeline.analysis.trajectories import start_time
from pipeline.storage.results import Results

MAX_WORKERS = 48
# What an attempt's wall-clock time goes into, with the colours of the figure.
PARTS = {
    "training": style.BLUE,
    "training lost": style.VERMILLION,
    "start-up": style.ORANGE,
    "compiling": style.PURPLE,
    "validation": style.GREEN,
    "checkpoints": style.SKY,
    "other": "#C4CAD2",
}
FAILURES = ("lost", "handed_back", "broken")
FAILED: dict[str, Any] = {"hatch": "////", "edgecolor": style.VERMILLION, "lw": 0.6}


def section(results: Results) -> Section:
    """Everything about cost."""
    about = "Worker time is GPU time where workers have GPUs. Every attempt counts, also those that were lost."
    if results.attempts["started"].notna().sum() == 0:
        return Section("costs", "What it cost", about, [
            Item("cost_per_budget", "Worker time per budget", "", lacking="No attempt has begun yet.")
        ])  # fmt: skip
    items = [_per_budget(results), _summary(results), _gantt(results), _failures(results), _devices(results)]
    return Section("costs", "What it cost", about, items)


def time_parts(results: Results) -> pd.DataFrame:
    """Seconds of worker time of each attempt by what they went into: the columns are `PARTS`, and budget."""
    attempts = results.attempts
    trained = (attempts["training_s"] - attempts["inherited_training_s"]).clip(lower=0)
    trained = trained.fillna(attempts["lost_s"]).fillna(0)  # of an attempt without a file only the loss is known
    lost = attempts["lost_s"].fillna(0).clip(upper=trained)
    table = pd.DataFrame({"budget": attempts["budget"], "training": trained - lost, "training lost": lost})
    for name, column in (
        ("start-up", "startup_s"),
        ("compiling", "compile_s"),
        ("validation", "validation_s"),
        ("checkpoints", "checkpoint_s"),
    ):
        table[name] = attempts[column].fillna(0)
    table["other"] = (attempts["wall_s"].fillna(0) - table.drop(columns="budget").sum(axis=1)).clip(lower=0)
    return table


def _per_budget(results: Results) -> Item:
    parts = time_parts(results).groupby("budget").sum().reindex(list(results.budgets), fill_value=0.0)
    unit_s, unit = style.time_unit(float(parts.sum(axis=1).max()))
    figure, axes = style.new_figure(0.9 + 0.42 * len(parts))
    axis = axes[0, 0]
    left = np.zeros(len(parts))
    for name, colour in PARTS.items():
        axis.barh(range(len(parts)), parts[name] / unit_s, left=left, color=colour, height=0.65, label=name)
        left += parts[name].to_numpy() / unit_s
    attempts, evaluations = results.attempts.groupby("budget").size(), results.evaluations.groupby("budget").size()
    labels = [f"{style.budget_label(b, results.budget_unit)}, n = {evaluations.get(b, 0)}" for b in parts.index]
    axis.set_yticks(range(len(parts)), labels)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(f"worker time ({unit})")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=len(PARTS), fontsize=8)
    caption = (
        f"Worker time of {attempts.sum()} attempts at {evaluations.sum()} evaluations (n: per budget), by what it went "
        f"into; in all {style.duration_label(float(parts.to_numpy().sum()))}. Training lost was done after the last "
        "checkpoint of an attempt that did not return; other: waiting for the master, and what was not recorded."
    )
    data = (parts / 3600).add_suffix(" (h)").reset_index()
    return Item("cost_per_budget", "Worker time per budget", caption, figure, data=data)


def utilisation(results: Results) -> pd.DataFrame:
    """A row per worker: joined, left (s since 1970, UTC), busy_s, share (busy of the time between)."""
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
    return table.rename_axis("worker").reset_index()


def _summary(results: Results) -> Item:
    parts = time_parts(results)
    total = float(parts.drop(columns="budget").to_numpy().sum())
    workers = utilisation(results)
    present = float((workers["left"] - workers["joined"]).sum())
    retried = int((results.evaluations["attempts"] > 1).sum())
    begin, finish = start_time(results), float(results.attempts["ended"].max())
    rows = [
        ("wall-clock time", style.duration_label(finish - begin)),
        ("worker time in attempts", style.duration_label(total)),
        ("workers", str(len(workers))),
        ("utilisation (in attempts, of the time between joining and leaving)", _share(total, present)),
        ("evaluations retried", f"{retried} of {len(results.evaluations)}"),
    ]
    rows += [(name, _share(float(parts[name].sum()), total)) for name in PARTS]
    table = pd.DataFrame(rows, columns=["", "value"])
    return Item("cost_summary", "Where the time went", "Shares are of the worker time in attempts.", table=table)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}% ({style.duration_label(part)})" if whole > 0 else "–"


def _gantt(results: Results) -> Item:
    attempts = results.attempts.dropna(subset=["started", "ended"])
    begin = start_time(results)
    unit_s, unit = style.time_unit(float(attempts["ended"].max() - begin))
    workers = utilisation(results).sort_values(["joined", "worker"], kind="stable")
    shown = workers.head(MAX_WORKERS)
    row_of = {worker: row for row, worker in enumerate(shown["worker"])}
    figure, axes = style.new_figure(1.1 + min(0.22 * len(shown), 7))
    axis = axes[0, 0]
    colours = style.budget_colours(results.budgets)
    joined, left = (shown[name].to_numpy(dtype=float) for name in ("joined", "left"))
    _draw_spans(axis, (joined - begin) / unit_s, (left - joined) / unit_s, np.arange(len(shown)), color="#ECEEF1", lw=0)
    here = attempts[attempts["worker"].isin(row_of)]
    is_lost = here["outcome"].isin([*FAILURES, "unknown"])
    for budget, colour in colours.items():
        for failed, options in ((False, {"lw": 0}), (True, FAILED)):
            chosen = here[(here["budget"] == budget) & (is_lost == failed)]
            begins, ends = (chosen[name].to_numpy(dtype=float) for name in ("started", "ended"))
            rows = chosen["worker"].map(row_of).to_numpy(dtype=float)
            _draw_spans(axis, (begins - begin) / unit_s, (ends - begins) / unit_s, rows, facecolor=colour, **options)
    crashed = here[here["outcome"] == "crashed"]
    axis.plot(
        (crashed["ended"] - begin) / unit_s, crashed["worker"].map(row_of), "x", color=style.VERMILLION, ms=4, mew=1.2
    )
    axis.autoscale_view()
    axis.set_yticks(range(len(shown)), list(shown["worker"]), size=7 if len(shown) > 16 else 8)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(f"wall-clock time since the search began ({unit})")
    handles: list[Artist] = [
        Patch(color=c, label=style.budget_label(b, results.budget_unit)) for b, c in colours.items()
    ]
    handles.append(Patch(facecolor="white", edgecolor=style.VERMILLION, hatch="////", label="lost or handed back"))
    handles.append(Line2D([], [], color=style.VERMILLION, marker="x", ls="none", label="crashed"))
    handles.append(Patch(color="#ECEEF1", label="idle"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 7), fontsize=8)
    part = f"the first {len(shown)} of {len(workers)}" if len(shown) < len(workers) else str(len(workers))
    caption = (
        f"What {part} workers did: {len(here)} attempts, coloured by budget. Mean utilisation "
        f"{100 * workers['share'].mean():.0f}%, lowest {100 * workers['share'].min():.0f}%."
    )
    return Item("gantt", "Utilisation of the workers", caption, figure, data_file="attempts.csv")


def _draw_spans(axis: Any, lefts: np.ndarray, widths: np.ndarray, rows: np.ndarray, **options: Any) -> None:
    """Bars as one collection: thousands of single patches take seconds."""
    x0, x1, y0, y1 = lefts, lefts + widths, rows - 0.4, rows + 0.4
    corners = np.stack([x0, y0, x0, y1, x1, y1, x1, y0], axis=1).reshape(-1, 4, 2)
    axis.add_collection(PolyCollection(list(corners), rasterized=True, **options))


def _failures(results: Results) -> Item:
    crashed = results.evaluations[results.evaluations["status"] == "crashed"]
    lost = results.attempts[results.attempts["outcome"].isin(FAILURES)]
    spent = results.attempts[results.attempts["outcome"] == "crashed"].groupby("evaluation")["wall_s"].sum()
    crashed = crashed.assign(wall_s=spent.reindex(crashed.index).fillna(0.0))
    parts = [
        crashed.assign(kind="crashed: " + crashed["crash_kind"])[["kind", "budget", "wall_s"]],
        lost.assign(kind="attempt " + lost["outcome"].str.replace("_", " "))[["kind", "budget", "wall_s"]],
    ]
    both = pd.concat(parts)
    if both.empty:
        return Item("failures", "Failures by kind", "No evaluation crashed and no attempt was lost.")
    counts = pd.crosstab(both["kind"], both["budget"]).reindex(columns=list(results.budgets), fill_value=0)
    counts = counts.rename(columns={b: style.budget_label(b, results.budget_unit) for b in results.budgets})
    table = counts.assign(total=counts.sum(axis=1)).astype(str)
    table["worker time"] = both.groupby("kind")["wall_s"].sum().map(style.duration_label)
    table = table.rename_axis("kind").reset_index()
    caption = (
        f"Of {len(results.evaluations)} evaluations {len(crashed)} crashed (the configuration's fault: bad news for "
        f"the model). {len(lost)} attempts were lost or handed back (the machine's fault: tried again, hidden from the "
        "model)."
    )
    return Item("failures", "Failures by kind", caption, table=table)


def _devices(results: Results) -> Item:
    attempts = results.attempts[results.attempts["device"] != ""]
    if attempts.empty:
        return Item("devices", "Devices", "", lacking="No attempt has told its device yet.")
    speeds = results.learning_curves.groupby("evaluation")["images_per_s"].median()
    speed = speeds.groupby(results.evaluations["device"].reindex(speeds.index)).median()
    groups = attempts.groupby("device")
    table = pd.DataFrame(
        {
            "hosts": groups["host"].nunique().astype(str),
            "attempts": groups.size().astype(str),
            "worker time": [style.duration_label(v) for v in groups["wall_s"].sum()],
            "median images/s": [f"{speed.get(name, np.nan):,.0f}" for name in groups.groups],
        }
    ).rename_axis("device")
    warnings: tuple[str, ...] = ()
    if len(table) > 1 and results.budget_unit == "seconds":
        warnings = ("Devices are mixed: a budget in seconds buys more training on a faster one.",)
    caption = f"What {len(attempts)} attempts ran on."
    return Item("devices", "Devices", caption, table=table.reset_index(), warnings=warnings)
