"""Compare runs: BOHB, Hyperband and random search (or any others), grouped by what differs in their settings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.analysis import style
from pipeline.analysis.compared import (
    ComparedRun,
    comparison_figure,
    comparison_table,
    duplicate_seeds,
    groups_of,
    paired_table,
)
from pipeline.analysis.items import Item, Section
from pipeline.analysis.metric import WrittenMetric, objective
from pipeline.analysis.page import TABLES, write_page
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
# Settings that the other methods ignore: they tell runs of one method from each other only.
OF_ONE_METHOD = (
    "search.random_fraction",
    "search.top_n_percent",
    "search.num_samples",
    "search.bandwidth_factor",
    "search.min_bandwidth",
    "search.min_points_in_model",
    "search.gp_random_fraction",
    "search.promote_by",
    "search.freeze_below",
    "search.acquisition",
)
RUNS_TABLE = "compared_runs"
METHOD_NAMES = {"bohb": "BOHB", "gp": "Gaussian process", "hyperband": "Hyperband", "random": "random search"}


def group_name(settings: Mapping[str, object], others: Sequence[Mapping[str, object]]) -> str:
    """What tells a run's settings from the other runs', seed and names apart: its method, and whatever else differs."""
    mine, flat = _flat(settings), [_flat(other) for other in others]
    absent = "default"  # of a setting that a run does not have: space.* where the space was not narrowed
    name = METHOD_NAMES.get(str(mine["search.method"]), str(mine["search.method"]))
    same_method = [f for f in flat if f["search.method"] == mine["search.method"]]
    differing = sorted(
        key for key in {key for f in flat for key in f}
        if key.startswith(("search.", "training.", "data.", "space.", "workers.count")) and key not in NOT_NAMED
        and any(f.get(key, absent) != mine.get(key, absent) for f in (same_method if key in OF_ONE_METHOD else flat))
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


@dataclass(frozen=True)
class Comparable:
    """Runs that one axis can hold.

    Attributes:
        dataset, budget, metric: what they share: the data set, the largest budget, what is measured.
    """

    runs: list[ComparedRun]
    dataset: str
    budget: str
    metric: WrittenMetric


def read_runs(paths: Sequence[Path]) -> Comparable:
    """The runs in their results.h5 files.

    Raises:
        RunError: no run, or runs of different data sets, largest budgets or metrics, which no axis can hold.
    """
    loaded = [load_results(path) for path in paths]
    if not loaded:
        raise RunError("Nothing to compare: give the results.h5 of at least one run.")
    ids = [r.run_id for r in loaded]
    twice = sorted({run_id for run_id in ids if ids.count(run_id) > 1})
    if twice:
        raise RunError(f"Given more than once: {', '.join(twice)}. A run counts once; give each run a single time.")
    kinds = {(r.dataset, style.budget_label(max(r.budgets), r.budget_unit), objective(r)) for r in loaded}
    if len(kinds) > 1:
        lines = "; ".join(
            f"{r.run_id}: {r.dataset}, {max(r.budgets):g} {r.budget_unit}, {objective(r).label}" for r in loaded
        )
        raise RunError(
            f"Runs can be compared on one data set, one largest budget and one metric only, and these differ: {lines}"
        )
    settings = [r.settings for r in loaded]
    runs = [_compared(r, group_name(r.settings, settings)) for r in loaded]
    return Comparable(runs, *kinds.pop())


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


def compare_runs(paths: Sequence[Path], folder: Path, progress: Callable[[str], None] = lambda _: None) -> Path:
    """Write comparison.html, with figures and tables beside it, into a folder.

    Args:
        paths: results.h5 files.
        folder: must not hold the comparison of other runs.

    Returns:
        The path of comparison.html.

    Raises:
        RunError: as `read_runs`; or the folder holds a comparison of other runs.
    """
    found = read_runs(paths)
    runs, dataset, budget, metric = found.runs, found.dataset, found.budget, found.metric
    _require_own(folder, runs)
    groups = groups_of(runs)
    about = "Every group of runs differs from the others in its method or in another setting; within it, in the seed."
    cards = [Card("runs", str(len(runs)), f"{len(groups)} groups"), Card("largest budget", budget, dataset)]

    def section() -> Section:
        shown = [make(runs, budget, metric) for make in (comparison_figure, comparison_table, paired_table)]
        return Section("comparison-of-runs", "Comparison of runs", about, [*shown, _compared_table(runs)])

    return write_page(
        folder / "comparison.html",
        title=f"Comparison of {len(runs)} runs on {dataset}",
        cards=cards,
        facts=[],
        sections=[section],
        warnings=duplicate_seeds(groups),
        progress=progress,
    )


def comparison_name(run_ids: Iterable[str]) -> str:
    """A folder's name for the comparison of these runs, whatever their order; other runs have another one."""
    return f"comparison-{hashlib.sha256(chr(10).join(sorted(run_ids)).encode()).hexdigest()[:8]}"


def _require_own(folder: Path, runs: Sequence[ComparedRun]) -> None:
    """Refuse to write over the comparison of other runs."""
    listed = folder / TABLES / f"{RUNS_TABLE}.csv"
    if not (folder / "comparison.html").exists():
        return
    before = set(pd.read_csv(listed, dtype=str)["run"]) if listed.exists() else set()
    if before != {run.run_id for run in runs}:
        names = ", ".join(sorted(before)) or "other runs"
        raise RunError(
            f"{folder} holds the comparison of {names}. Give another folder: tandem compare ... --output NEW"
        )


def _compared_table(runs: Sequence[ComparedRun]) -> Item:
    rows = [
        (run.run_id, run.group, str(run.seed), f"{run.evaluations:.0f}", style.duration_label(run.spent_s))
        for run in runs
    ]
    table = pd.DataFrame(rows, columns=["run", "group", "seed", "evaluations", "worker time"])
    return Item(RUNS_TABLE, "The runs", f"The {len(runs)} runs that are compared.", table=table)
