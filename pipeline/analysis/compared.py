"""Several runs on the same axes: means over seeds, every seed's own trace, ranks and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import wilcoxon

from pipeline.analysis import style
from pipeline.analysis.items import Item
from pipeline.analysis.metric import MISSING, TEST_ERROR, WrittenMetric
from pipeline.wording import sentence, value_text

# With fewer pairs not even the clearest outcome reaches a p-value of 0.05 (two-sided signed ranks: 2 / 2**n).
FEWEST_PAIRS = 6


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


def groups_of(runs: Sequence[ComparedRun]) -> dict[str, list[ComparedRun]]:
    """The runs by group, each group by seed."""
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


def mean_trajectory(runs: Sequence[ComparedRun], axis: str) -> pd.DataFrame:
    """The mean incumbent of one group's runs along an axis of `AXES`.

    A point counts where every run of the group has an incumbent and has not ended.

    Args:
        runs: at least one.

    Returns:
        A row at every improvement of any of the runs, and one at the end; none where some run has no incumbent before
        another ends. Columns: the axis, n, mean, standard_error (of the loss; NaN for one run), test_mean.
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
        for column in ("loss", "test_error")
    )
    spread = errors.std(0, ddof=1) / np.sqrt(len(runs)) if len(runs) > 1 else np.full(len(grid), np.nan)
    columns = {axis: grid, "n": len(runs), "mean": errors.mean(0), "standard_error": spread, "test_mean": tests.mean(0)}
    return pd.DataFrame(columns)


# The figure -----------------------------------------------------------------------------------------------------------
def comparison_figure(runs: Sequence[ComparedRun], budget: str, metric: WrittenMetric) -> Item:
    """Mean and standard error of the incumbents over wall-clock time, worker time and evaluations.

    Args:
        metric: what the runs' searches measure.
    """
    title = f"Incumbents on {budget}"
    if all(run.path.empty for run in runs):
        return Item("comparison", title, "", lacking=f"No run has a result on {budget} yet.")
    data = comparison_data(runs)
    if data.empty:
        lacking = f"In every group a run ended before another had its first result on {budget}: no mean can be taken."
        return Item("comparison", title, "", lacking=lacking)
    caption, figure = comparison_caption(runs, budget, metric), draw_comparison(runs, data, metric)
    return Item("comparison", title, caption, figure, data=data)


def _with_results(runs: Sequence[ComparedRun]) -> dict[str, list[ComparedRun]]:
    found = {group: [run for run in members if len(run.path)] for group, members in groups_of(runs).items()}
    return {group: members for group, members in found.items() if members}


def comparison_data(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    """The mean trajectory of each group along each axis of `AXES`: columns axis, group, x, and `mean_trajectory`'s."""
    parts = [
        mean_trajectory(members, axis).rename(columns={axis: "x"}).assign(axis=axis, group=group)
        for axis, _ in AXES
        for group, members in _with_results(runs).items()
    ]
    return pd.concat([part for part in parts if len(part)] or [pd.DataFrame()])


def draw_comparison(runs: Sequence[ComparedRun], data: pd.DataFrame, metric: WrittenMetric) -> Figure:
    """A panel per axis: thin, every run; thick, the mean of its group with one standard error."""
    figure, axes = style.new_figure(3.6, 1, 3, sharey=True)
    groups = _with_results(runs)
    for panel, (axis, label) in zip(axes[0], AXES, strict=True):
        scale, unit = style.time_unit(max(getattr(r, axis) for r in runs)) if axis.endswith("_s") else (1.0, "")
        for (group, members), colour in zip(groups.items(), style.CYCLE * 9, strict=False):
            for run in members:
                _draw_trace(panel, run, axis, scale, colour, metric)
            mean = data[(data["axis"] == axis) & (data["group"] == group)]
            x, y, error = (mean[name].to_numpy(dtype=float) for name in ("x", "mean", "standard_error"))
            label_of_group = f"{group} (n = {len(members)})"
            panel.step(x / scale, metric.shown(y), where="post", color=colour, lw=1.8, label=label_of_group)
            band = metric.shown(y - error), metric.shown(y + error)
            panel.fill_between(x / scale, *band, step="post", color=colour, alpha=0.22, lw=0)
        panel.set_xlabel(f"{label} ({unit})" if unit else label, size=8)
        panel.set_xscale("log")
        style.plain_log_ticks(panel.xaxis)
        style.metric_axis(panel, metric, metric.label if panel is axes[0, 0] else None)
    entries = {k: h for panel in axes[0] for h, k in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=2)
    return figure


def _draw_trace(panel: Any, run: ComparedRun, axis: str, scale: float, colour: str, metric: WrittenMetric) -> None:
    places = np.append(run.path[axis].to_numpy(dtype=float), getattr(run, axis)) / scale
    losses = np.append(run.path["loss"].to_numpy(), run.path["loss"].iloc[-1])
    panel.step(places, metric.shown(losses), where="post", color=colour, lw=0.6, alpha=0.55)


def comparison_caption(runs: Sequence[ComparedRun], budget: str, metric: WrittenMetric) -> str:
    """What thick and thin lines are, and who is left out."""
    return (
        f"{sentence(metric.name)} of the incumbents on {budget}; {metric.better} is better. Thin: each of "
        f"{len(runs)} runs; thick: the mean over the seeds of a group (n runs), with one standard error as a band. A "
        "mean runs from where each of its runs has an incumbent to where the first ends."
        f"{_left_out(runs, budget)}"
    )


def _left_out(runs: Sequence[ComparedRun], budget: str) -> str:
    without = [run.run_id for run in runs if run.path.empty]
    return f" Left out, without a result on {budget} yet: {', '.join(without)}." if without else ""


# Tables ---------------------------------------------------------------------------------------------------------------
def comparison_table(runs: Sequence[ComparedRun], budget: str, metric: WrittenMetric) -> Item:
    """The last incumbents of each group, and the mean rank."""
    title, caption = "At the end of the runs", ends_caption(runs, budget)
    return Item("comparison_table", title, caption, table=ends_table(runs, metric), data=ends_data(runs))


def ends_data(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    """Columns run, group, seed, loss and test_error of the last incumbent (NaN: none), spent_s, evaluations."""
    rows = []
    for members in groups_of(runs).values():
        for run in members:
            last = run.path.iloc[-1] if len(run.path) else {"loss": np.nan, "test_error": np.nan}
            ends = (float(last["loss"]), float(last["test_error"]))
            rows.append((run.run_id, run.group, run.seed, *ends, run.spent_s, run.evaluations))
    return pd.DataFrame(rows, columns=["run", "group", "seed", "loss", "test_error", "spent_s", "evaluations"])


def ends_table(runs: Sequence[ComparedRun], metric: WrittenMetric) -> pd.DataFrame:
    """A row of texts per group: mean and standard error of what it reached, its mean rank, and what it took."""
    ranked, data, rows = mean_ranks(runs), ends_data(runs), []
    for group, members in data.groupby("group", sort=False):
        row = {"group": str(group), "runs": str(len(members)), "seeds": ", ".join(map(str, members["seed"]))}
        row[metric.label] = metric.mean_text(members["loss"].dropna().to_numpy())
        if data["test_error"].notna().any():
            row[TEST_ERROR.label] = TEST_ERROR.mean_text(members["test_error"].dropna().to_numpy())
        row["mean rank"] = f"{ranked[str(group)]:.2f}" if group in ranked else MISSING
        row["worker time per run"] = style.duration_label(float(members["spent_s"].mean()))
        row["evaluations per run"] = f"{members['evaluations'].mean():.0f}"
        rows.append(row)
    return pd.DataFrame(rows)


def ends_caption(runs: Sequence[ComparedRun], budget: str) -> str:
    """Over what the means are."""
    return (
        f"Incumbents on {budget} at the end of each run, mean ± standard error over seeds; mean rank (1: best) over "
        f"the {len(shared_ends(runs))} seeds that every group has.{_left_out(runs, budget)}"
    )


def ends_by_seed(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    """A row per seed, a column per group: the last incumbent's loss (of several runs their mean)."""
    rows = [(run.seed, run.group, run.path["loss"].iloc[-1]) for run in runs if len(run.path)]
    table = pd.DataFrame(rows, columns=["seed", "group", "loss"])
    return table.pivot_table(index="seed", columns="group", values="loss", aggfunc="mean")


def shared_ends(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    """`ends_by_seed` of the seeds that every group has; empty where there is one group only."""
    table = ends_by_seed(runs)
    return table.dropna() if table.shape[1] > 1 else table.iloc[:0]


def mean_ranks(runs: Sequence[ComparedRun]) -> dict[str, float]:
    """The mean rank of each group over the shared seeds (1: best, ties share theirs); none without shared seeds."""
    table = shared_ends(runs)
    return {} if table.empty else {str(g): float(r) for g, r in table.rank(axis=1).mean().items()}


def paired_tests(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    """Every pair of groups over the seeds that both have.

    Returns:
        Columns: one, two, n (seeds), difference (mean of one minus two; negative: one is better), wins (seeds where
        one is better), ties, p (Wilcoxon's signed-rank test, two-sided; NaN below `FEWEST_PAIRS` or without a
        difference).
    """
    table = ends_by_seed(runs)
    rows = []
    for one, two in combinations(table.columns, 2):
        both = table[[one, two]].dropna()
        difference = (both[one] - both[two]).to_numpy()
        is_testable = len(both) >= FEWEST_PAIRS and bool(np.any(difference != 0))
        p = float(wilcoxon(difference).pvalue) if is_testable else np.nan
        mean = float(difference.mean()) if len(both) else np.nan
        rows.append((one, two, len(both), mean, int((difference < 0).sum()), int((difference == 0).sum()), p))
    return pd.DataFrame(rows, columns=["one", "two", "n", "difference", "wins", "ties", "p"])


def paired_table(runs: Sequence[ComparedRun], budget: str, metric: WrittenMetric) -> Item:
    """The paired tests as a table."""
    name, title, data = "paired_tests", "Differences seed by seed", paired_tests(runs)
    if data.empty:
        return Item(name, title, "", lacking="There is one group only: nothing to test.")
    if not data["n"].any():
        return Item(name, title, "", lacking="No seed was run in two groups: nothing can be paired.")
    return Item(name, title, paired_caption(budget, metric), table=paired_texts(data, metric), data=data)


def paired_texts(data: pd.DataFrame, metric: WrittenMetric) -> pd.DataFrame:
    """The paired tests as texts."""
    return pd.DataFrame(
        {
            "groups": [f"{r.one} against {r.two}" for r in data.itertuples()],
            "seeds in both": data["n"].astype(str),
            metric.label_of("mean difference"): [metric.number(v) for v in data["difference"]],
            "first is better": [f"{r.wins} of {r.n}" for r in data.itertuples()],
            "ties": data["ties"].astype(str),
            "p": [MISSING if np.isnan(p) else value_text(float(p), 2) for p in data["p"]],
        }
    )


def paired_caption(budget: str, metric: WrittenMetric) -> str:
    """What a difference is, and the test."""
    sign = "positive" if metric.is_maximised else "negative"
    return (
        f"The {metric.name} of the last incumbents on {budget}, compared within each seed; a {sign} difference: the "
        f"first group is better. p: Wilcoxon's signed-rank test, two-sided, from {FEWEST_PAIRS} seeds on (with fewer "
        "it cannot reach 0.05), not corrected for the number of comparisons."
    )
