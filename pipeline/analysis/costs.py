"""What a run cost: worker time by budget and by what it went into, utilisation, failures, devices."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.analysis import style
from pipeline.analysis.items import Item, Section
from pipeline.analysis.throughput import throughput
from pipeline.analysis.trajectories import start_time
from pipeline.analysis.utilisation import FAILURES, gantt, utilisation
from pipeline.storage.results import Results

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


def section(results: Results) -> Section:
    """Everything about cost."""
    about = "Worker time is GPU time where workers have GPUs. Every attempt counts, also those that were lost."
    if results.attempts["started"].notna().sum() == 0:
        return Section("costs", "Budgets and cost", about, [
            Item("cost_per_budget", "Worker time per budget", "", lacking="No attempt has begun yet.")
        ])  # fmt: skip
    items = [
        throughput(results),
        _per_budget(results),
        _summary(results),
        gantt(results),
        _failures(results),
        _devices(results),
    ]
    return Section("costs", "Budgets and cost", about, items)


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
    data = (parts / 3600).add_suffix(" (h)").reset_index()
    caption = per_budget_caption(results, parts)
    return Item("cost_per_budget", "Worker time per budget", caption, draw_per_budget(results, parts), data=data)


def draw_per_budget(results: Results, parts: pd.DataFrame) -> Figure:
    """A bar per budget, in the pieces of `PARTS`."""
    unit_s, unit = style.time_unit(float(parts.sum(axis=1).max()))
    figure, axes = style.new_figure(0.9 + 0.42 * len(parts))
    axis = axes[0, 0]
    left = np.zeros(len(parts))
    for name, colour in PARTS.items():
        axis.barh(range(len(parts)), parts[name] / unit_s, left=left, color=colour, height=0.65, label=name)
        left += parts[name].to_numpy() / unit_s
    evaluations = results.evaluations.groupby("budget").size()
    labels = [f"{style.budget_label(b, results.budget_unit)}, n = {evaluations.get(b, 0)}" for b in parts.index]
    axis.set_yticks(range(len(parts)), labels)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(f"worker time ({unit})")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=len(PARTS), fontsize=8)
    return figure


def per_budget_caption(results: Results, parts: pd.DataFrame) -> str:
    """How many attempts, how much time, and what the pieces are."""
    return (
        f"Worker time of {len(results.attempts)} attempts at {len(results.evaluations)} evaluations (n: per budget) "
        f"and what it went into; in all {style.duration_label(float(parts.to_numpy().sum()))}. Training lost was done "
        "after the last checkpoint of an attempt that did not return; other: waiting for the master, and what was not "
        "recorded."
    )


# Tables ---------------------------------------------------------------------------------------------------------------
def _summary(results: Results) -> Item:
    caption = "Shares are of the worker time in attempts."
    return Item("cost_summary", "Where the time went", caption, table=summary_table(results))


def summary_table(results: Results) -> pd.DataFrame:
    """Texts: times, utilisation, retries, and what attempts spent their time on."""
    parts, workers = time_parts(results), utilisation(results)
    total = float(parts.drop(columns="budget").to_numpy().sum())
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
    return pd.DataFrame(rows, columns=["", "value"])


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}% ({style.duration_label(part)})" if whole > 0 else "–"


def _failures(results: Results) -> Item:
    name, title, data = "failures", "Failures by kind", failures(results)
    if data.empty:
        return Item(name, title, "No evaluation crashed and no attempt was lost.")
    return Item(name, title, failures_caption(results, data), table=failures_table(results, data), data=data)


def failures(results: Results) -> pd.DataFrame:
    """Columns kind, budget, wall_s of every evaluation that crashed and every attempt that was lost."""
    crashed = results.evaluations[results.evaluations["status"] == "crashed"]
    lost = results.attempts[results.attempts["outcome"].isin(FAILURES)]
    spent = results.attempts[results.attempts["outcome"] == "crashed"].groupby("evaluation")["wall_s"].sum()
    crashed = crashed.assign(wall_s=spent.reindex(crashed.index).fillna(0.0), kind="crashed: " + crashed["crash_kind"])
    lost = lost.assign(kind="attempt " + lost["outcome"].str.replace("_", " "))
    columns = ["kind", "budget", "wall_s"]
    return pd.concat([crashed[columns], lost[columns]], ignore_index=True)


def failures_table(results: Results, data: pd.DataFrame) -> pd.DataFrame:
    """A row of texts per kind: counts by budget, and the worker time."""
    counts = pd.crosstab(data["kind"], data["budget"]).reindex(columns=list(results.budgets), fill_value=0)
    counts = counts.rename(columns={b: style.budget_label(b, results.budget_unit) for b in results.budgets})
    table = counts.assign(total=counts.sum(axis=1)).astype(str)
    table["worker time"] = data.groupby("kind")["wall_s"].sum().map(style.duration_label)
    return table.rename_axis("kind").reset_index()


def failures_caption(results: Results, data: pd.DataFrame) -> str:
    """Whose fault they were, and how many."""
    crashed = int(data["kind"].str.startswith("crashed").sum())
    return (
        f"Of {len(results.evaluations)} evaluations {crashed} crashed (the configuration's fault: bad news for the "
        f"model). {len(data) - crashed} attempts were lost or handed back (the machine's fault: tried again, hidden "
        "from the model)."
    )


def _devices(results: Results) -> Item:
    name, title, data = "devices", "Devices", devices(results)
    if data.empty:
        return Item(name, title, "", lacking="No attempt has told its device yet.")
    warnings: tuple[str, ...] = ()
    if len(data) > 1 and results.budget_unit == "seconds":
        warnings = ("Devices are mixed: a budget in seconds buys more training on a faster one.",)
    caption = f"What {data['attempts'].sum()} attempts ran on."
    return Item(name, title, caption, table=devices_table(data), data=data, warnings=warnings)


def devices(results: Results) -> pd.DataFrame:
    """A row per device: device, hosts, attempts, wall_s, images_per_s (median over evaluations; NaN: not told)."""
    attempts = results.attempts[results.attempts["device"] != ""]
    speeds = results.learning_curves.groupby("evaluation")["images_per_s"].median()
    speed = speeds.groupby(results.evaluations["device"].reindex(speeds.index)).median()
    groups = attempts.groupby("device")
    columns = {"hosts": groups["host"].nunique(), "attempts": groups.size(), "wall_s": groups["wall_s"].sum()}
    table = pd.DataFrame(columns).rename_axis("device")
    return table.assign(images_per_s=speed.reindex(table.index)).reset_index()


def devices_table(data: pd.DataFrame) -> pd.DataFrame:
    """The devices as texts; images per second only where a problem has some."""
    table = pd.DataFrame(
        {
            "device": data["device"],
            "hosts": data["hosts"].astype(str),
            "attempts": data["attempts"].astype(str),
            "worker time": [style.duration_label(v) for v in data["wall_s"]],
        }
    )
    if data["images_per_s"].notna().any():
        table["median images/s"] = [style.MISSING if np.isnan(v) else f"{v:,.0f}" for v in data["images_per_s"]]
    return table
