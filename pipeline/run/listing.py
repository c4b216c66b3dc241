"""All runs of a folder, a line each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RunError
from pipeline.records import budget_text
from pipeline.run.folder import LATEST, RunFolder
from pipeline.run.status import RunStatus, read_status
from pipeline.run.status_view import duration


@dataclass(frozen=True)
class ListedRun:
    """What is said of a run among others.

    Attributes:
        state: as its status says; "silent" when its master has said nothing for a while, "unreadable" when its status
            is damaged, "not started" when it has none.
        ended: evaluations with a result; planned: all of them.
        best: value, for a person, of the incumbent on the largest budget that has one; "": there is none.
        best_budget: that budget; budget_unit: its unit, "" in a run of an earlier version.
        trained_s: training seconds of accepted results.
        is_latest: whether commands mean this run when none is named.
    """

    run_id: str
    state: str
    ended: int = 0
    planned: int = 0
    best: str = ""
    best_budget: float | None = None
    trained_s: float = 0.0
    is_latest: bool = False
    budget_unit: str = ""


def list_runs(results: Path) -> list[ListedRun]:
    """Every run under `results`, by name."""
    latest = (results / LATEST).resolve()
    paths = sorted(p.parent for p in results.glob("*/settings.yaml") if p.parent.name != LATEST)
    return [_listed(RunFolder(path), path.resolve() == latest) for path in paths]


def _listed(folder: RunFolder, is_latest: bool) -> ListedRun:
    try:
        status = read_status(folder, wait_s=0)
    except RunError:
        return ListedRun(folder.run_id, "unreadable", is_latest=is_latest)
    if status is None:
        return ListedRun(folder.run_id, "not started", is_latest=is_latest)
    best = status.incumbents[-1] if status.incumbents else None
    return ListedRun(
        folder.run_id,
        _state(status),
        status.finished + status.crashed,
        status.planned,
        "" if best is None else best.shown,
        None if best is None else best.budget,
        status.trained_s,
        is_latest,
        status.budget_unit,
    )


def _state(status: RunStatus) -> str:
    return "silent" if status.is_stale() and status.state != "left" else status.state


def listing_lines(runs: list[ListedRun]) -> list[str]:
    """The runs as lines of aligned columns; `*` marks the latest."""
    rows = [("", "run", "state", "evaluations", "best", "trained")]
    for run in runs:
        best = "" if run.best_budget is None else f"{run.best} on {budget_text(run.best_budget, run.budget_unit)}"
        rows.append((
            "*" if run.is_latest else "", run.run_id, run.state, f"{run.ended}/{run.planned}", best,
            duration(run.trained_s),
        ))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
