"""Compare runs: BOHB, Hyperband and random search (or any others) on the same axes, over their seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.analysis import style
from pipeline.analysis.items import Item, Section
from pipeline.analysis.page import write_page
from pipeline.analysis.summary import Card
from pipeline.analysis.trajectories import spent_seconds, start_time, trajectory
from pipeline.errors import RunError
from pipeline.storage.results import Results, load_results

# The method is named anyway; the others fit a run to its machine, and what is searched, and how, is the same.
NOT_NAMED = (
    "search.method",
    "data.root",
    "training.memory_gb",
    "training.validation_batch",
    "training.overhead_share",
    "training.checkpoint_interval_s",
)
# Settings that the other methods ignore: they tell BOHB's runs from each other only.
OF_BOHB = (
    "search.random_fraction",
    "search.top_n_percent",
    "search.num_samples",
    "search.bandwidth_factor",
    "search.min_bandwidth",
    "search.min_points_in_model",
)
METHOD_NAMES = {"bohb": "BOHB", "hyperband": "Hyperband", "random": "random search"}


@dataclass(frozen=True)
class ComparedRun:
    """What a comparison needs of one run.

    Attributes:
        group: runs of one group differ in their seed only.
        path: the incumbents on the largest budget (see `trajectories.trajectory`).
        evaluations, time_s, spent_s: where the run ends on each axis.
    """

    run_id: str
    group: str
    seed: int
    path: pd.DataFrame
    evaluations: float
    time_s: float
    spent_s: float


AXES: tuple[tuple[str, str], ...] = (
    ("time_s", "wall-clock time"),
    ("spent_s", "worker time spent"),
    ("evaluations", "finished evaluations, all budgets"),
)


def group_name(settings: Mapping[str, object], others: Sequence[Mapping[str, object]]) -> str:
    """What tells a run's settings from the other runs', seed and names apart: its method, and whatever else differs."""
    mine, flat = _flat(settings), [_flat(other) for other in others]
    absent = "default"  # of a setting that a run does not have: space.* where the space was not narrowed
    name = METHOD_NAMES.get(str(mine["search.method"]), str(mine["search.method"]))
    same_method = [f for f in flat if f["search.method"] == mine["search.method"]]
    differing = sorted(
        key for key in {key for f in flat for key in f}
        if key.startswith(("search.", "training.", "data.", "space.", "workers.count")) and key not in NOT_NAMED
        and any(f.get(key, absent) != mine.get(key, absent) for f in (same_method if key in OF_BOHB else flat))
    )  # fmt: skip
    return ", ".join([name, *(f"{key.rpartition('.')[2]}={mine.get(key, absent)}" for key in differing)])


def _flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_runs(paths: Sequence[Path]) -> tuple[list[ComparedRun], str, str]:
    """The runs in their results.h5 files, and the largest budget and the data set that they share.

    Raises:
        RunError: no run, or runs of different data sets or largest budgets, which no axis can hold.
    """
    loaded = [load_results(path) for path in paths]
    if not loaded:
        raise RunError("Nothing to compare: give the results.h5 of at least one run.")
    ids = [r.run_id for r in loaded]
    twice = sorted({run_id for run_id in ids if ids.count(run_id) > 1})
    if twice:
        raise RunError(f"Given more than once: {', '.join(twice)}. A run counts once; give each run a single time.")
    kinds = {(r.dataset, style.budget_label(max(r.budgets), r.budget_unit)) for r in loaded}
    if len(kinds) > 1:
        lines = "; ".join(f"{r.run_id}: {r.dataset}, {max(r.budgets):g} {r.budget_unit}" for r in loaded)
        raise RunError(f"Runs can be compared on one data set and one largest budget only, and these differ: {lines}")
    settings = [r.settings for r in loaded]
    runs = [_compared(r, group_name(r.settings, settings)) for r in loaded]
    dataset, budget = kinds.pop()
    return runs, dataset, budget


def _compared(results: Results, group: str) -> ComparedRun:
    done = results.finished()
    last = float(done["finished"].max()) if len(done) else float("nan")
    return ComparedRun(
        run_id=results.run_id,
        group=group,
        seed=int(results.settings["seed"]),
        path=trajectory(results, max(results.budgets)),
        evaluations=float(len(done)),
        time_s=last - start_time(results) if len(done) else 0.0,
        spent_s=float(spent_seconds(results, np.array([last]))[0]) if len(done) else 0.0,
    )


def mean_trajectory(runs: Sequence[ComparedRun], axis: str) -> pd.DataFrame:
    """The mean incumbent of one group's runs along an axis of `AXES`.

    A point counts where every run of the group has an incumbent and has not ended.

    Args:
        runs: at least one.

    Returns:
        A row at every improvement of any of the runs, and one at the end; none where some run has no incumbent before
        another ends. Columns: the axis, n, mean, standard_error (of the validation error; NaN for one run), test_mean.
    """
    begin = max((float(r.path[axis].iloc[0]) if len(r.path) else np.inf) for r in runs)
    end = min(float(getattr(r, axis)) for r in runs)
    if not begin <= end:
        return pd.DataFrame({axis: [], "n": [], "mean": [], "standard_error": [], "test_mean": []})
    steps = np.unique(np.concatenate([[end], *(r.path[axis].to_numpy(dtype=float) for r in runs)]))
    grid = steps[(steps >= begin) & (steps <= end)]
    places = [np.searchsorted(r.path[axis].to_numpy(), grid, side="right") - 1 for r in runs]
    errors, tests = (
        np.array([r.path[column].to_numpy()[place] for r, place in zip(runs, places, strict=True)])
        for column in ("validation_error", "test_error")
    )
    spread = errors.std(0, ddof=1) / np.sqrt(len(runs)) if len(runs) > 1 else np.full(len(grid), np.nan)
    columns = {axis: grid, "n": len(runs), "mean": errors.mean(0), "standard_error": spread, "test_mean": tests.mean(0)}
    return pd.DataFrame(columns)


def _groups(runs: Sequence[ComparedRun]) -> dict[str, list[ComparedRun]]:
    groups: dict[str, list[ComparedRun]] = {}
    for run in sorted(runs, key=lambda r: (r.group, r.seed, r.run_id)):
        groups.setdefault(run.group, []).append(run)
    return groups


def duplicate_seeds(groups: Mapping[str, Sequence[ComparedRun]]) -> tuple[str, ...]:
    """A warning per group with a seed that several of its runs share: they are no independent repetitions."""
    warnings = []
    for group, members in groups.items():
        seeds = [run.seed for run in members]
        shared = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if shared:
            text = ", ".join(map(str, shared))
            warnings.append(f"{group}: several runs have seed {text}; the standard error takes them for independent.")
    return tuple(warnings)


def comparison_figure(runs: Sequence[ComparedRun], budget: str) -> Item:
    """Mean and standard error of the incumbents over wall-clock time, worker time and evaluations."""
    title = f"Incumbents on {budget}"
    if all(run.path.empty for run in runs):
        return Item("comparison", title, "", lacking=f"No run has a result on {budget} yet.")
    groups = {group: [run for run in members if len(run.path)] for group, members in _groups(runs).items()}
    means = {(a, g): mean_trajectory(members, a) for a, _ in AXES for g, members in groups.items() if members}
    if all(mean.empty for mean in means.values()):
        lacking = f"In every group a run ended before another had its first result on {budget}: no mean can be taken."
        return Item("comparison", title, "", lacking=lacking)
    figure, axes = style.new_figure(3.6, 1, 3, sharey=True)
    parts = []
    for panel, (axis, label) in zip(axes[0], AXES, strict=True):
        longest = max(getattr(run, axis) for run in runs)
        scale, unit = style.time_unit(longest) if axis.endswith("_s") else (1.0, "")
        for (group, members), colour in zip(groups.items(), style.CYCLE * 9, strict=False):
            mean = means.get((axis, group), pd.DataFrame())
            if mean.empty:
                continue
            parts.append(mean.rename(columns={axis: "x"}).assign(axis=axis, group=group))
            x, y = mean[axis] / scale, 100 * mean["mean"]
            panel.step(x, y, where="post", color=colour, label=f"{group} (n = {len(members)})")
            band = 100 * mean["standard_error"]
            panel.fill_between(x, y - band, y + band, step="post", color=colour, alpha=0.22, lw=0)
        if not panel.lines:
            style.note(panel, f"{label}:\nno mean yet")
            continue
        panel.set_xlabel(f"{label} ({unit})" if unit else label)
        panel.set_xscale("log")
        style.plain_log_ticks(panel.xaxis)
        style.log_percent_axis(panel, "validation error (%)" if panel is axes[0, 0] else None)
    entries = {k: h for panel in axes[0] for h, k in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=2)
    caption = (
        f"Mean validation error of the incumbents on {budget} over the seeds of each group (n runs, {len(runs)} in "
        "all); bands: one standard error. A line runs from where each of its runs has an incumbent to where the first "
        f"ends.{_left_out(runs, budget)}"
    )
    return Item("comparison", title, caption, figure, data=pd.concat(parts))


def _left_out(runs: Sequence[ComparedRun], budget: str) -> str:
    without = [run.run_id for run in runs if run.path.empty]
    return f" Left out, without a result on {budget} yet: {', '.join(without)}." if without else ""


def comparison_table(runs: Sequence[ComparedRun], budget: str) -> Item:
    """The last incumbents of each group: mean and standard error of validation and test error."""
    rows = []
    for group, members in _groups(runs).items():
        ends = pd.DataFrame([r.path.iloc[-1] for r in members if len(r.path)])
        row = {"group": group, "runs": str(len(members)), "seeds": ", ".join(str(r.seed) for r in members)}
        for column, name in (("validation_error", "validation error (%)"), ("test_error", "test error (%)")):
            row[name] = _mean_and_error(ends[column].dropna().to_numpy(dtype=float)) if len(ends) else "–"
        row["worker time per run"] = style.duration_label(float(np.mean([r.spent_s for r in members])))
        row["evaluations per run"] = f"{np.mean([r.evaluations for r in members]):.0f}"
        rows.append(row)
    caption = (
        f"Incumbents on {budget} at the end of each run, mean ± standard error over seeds.{_left_out(runs, budget)}"
    )
    return Item("comparison_table", "At the end of the runs", caption, table=pd.DataFrame(rows))


def _mean_and_error(values: np.ndarray) -> str:
    if len(values) == 0:
        return "–"
    if len(values) == 1:
        return f"{100 * values[0]:.2f} (one run)"
    return f"{100 * values.mean():.2f} ± {100 * values.std(ddof=1) / np.sqrt(len(values)):.2f}"


def compare_runs(paths: Sequence[Path], folder: Path, progress: Callable[[str], None] = lambda _: None) -> Path:
    """Write comparison.html, with figures and tables beside it, into a folder.

    Args:
        paths: results.h5 files.

    Returns:
        The path of comparison.html.

    Raises:
        RunError: as `read_runs`.
    """
    runs, dataset, budget = read_runs(paths)
    groups = _groups(runs)
    about = "Every group of runs differs from the others in its method or in another setting; within it, in the seed."
    cards = [Card("runs", str(len(runs)), f"{len(groups)} groups"), Card("largest budget", budget, dataset)]
    warnings = duplicate_seeds(groups)
    facts = [(run.run_id, f"{run.group}, seed {run.seed}") for run in runs]

    def section() -> Section:
        items = [comparison_figure(runs, budget), comparison_table(runs, budget)]
        return Section("comparison-of-runs", "Comparison of runs", about, items)

    return write_page(
        folder / "comparison.html",
        title=f"Comparison of {len(runs)} runs on {dataset}",
        cards=cards,
        facts=facts,
        sections=[section],
        warnings=warnings,
        progress=progress,
    )
