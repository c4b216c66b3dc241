"""A plan as a person reads it, and as plain data for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.planning.advice import WORTHWHILE, Advice
from pipeline.planning.disk import DiskNeed
from pipeline.records import budget_name, budget_text
from pipeline.run.status_view import duration
from pipeline.wording import counted

BARRIER_FREE = (
    "Promotions have no barriers (ASHA): how many there are depends on the results and the workers. Simulated with one:"
)


def plan_lines(advice: Advice) -> list[str]:
    """The plan of one search."""
    cost, search, unit = advice.cost, advice.settings.search, advice.settings.search.budget_unit
    return [
        f"Method {search.method}, eta {search.eta:g}, {counted(search.iterations, 'bracket')}, "
        f"search.promotion={search.promotion}.",
        "",
        *(_table(*_bracket_rows(advice)) if cost.brackets else [BARRIER_FREE]),
        "",
        f"{counted(cost.planned, 'evaluation')} of {counted(cost.configurations, 'configuration')}: "
        + ", ".join(f"{n} on {budget_text(b, unit)}" for b, n in cost.evaluations.items())
        + ".",
        f"Training: {spent(cost.training_continued, unit)} when promotions continue, "
        f"{spent(cost.training, unit)} when they restart.",
        _model_line(advice),
        "",
        *_table(
            ("workers", "until the last result", "at evaluations"),
            _staffing_rows(advice),
        ),
        "",
        f"Worth having: up to {counted(advice.worthwhile, 'worker')}; with more, less than {WORTHWHILE:.0%} of their "
        "time goes into evaluations.",
        _disk_line(advice),
        _assumptions(advice),
    ]


def comparison_lines(plans: Sequence[tuple[str, Advice]]) -> list[str]:
    """Several plans side by side."""
    rows: list[tuple[str, list[str]]] = [
        ("method", [a.settings.search.method for _, a in plans]),
        ("budgets", [" ".join(budget_name(b) for b in a.cost.ladder) for _, a in plans]),
        ("brackets", [str(a.settings.search.iterations) for _, a in plans]),
        ("configurations", [str(a.cost.configurations) for _, a in plans]),
        ("evaluations", [str(a.cost.planned) for _, a in plans]),
        ("on the largest budget", [str(a.cost.evaluations[a.cost.ladder[-1]]) for _, a in plans]),
        ("training", [spent(a.cost.training_as_set, a.settings.search.budget_unit) for _, a in plans]),
        ("model from evaluation", ["never" if a.model_from is None else str(a.model_from) for _, a in plans]),
        ("workers", [str(a.site.workers) for _, a in plans]),
        ("until the last result", [_wall(a.timeline.wall, a.settings.search.budget_unit) for _, a in plans]),
        ("worth having, workers", [str(a.worthwhile) for _, a in plans]),
        ("checkpoints, at most", [_checkpoints(a.disk) for _, a in plans]),
    ]
    return _table(["", *(name for name, _ in plans)], [(label, *values) for label, values in rows])


def plan_data(advice: Advice) -> dict[str, Any]:
    """The plan as JSON; times in budget units."""
    search, cost = advice.settings.search, advice.cost
    return {
        "method": search.method,
        "budget_unit": search.budget_unit,
        "ladder": list(cost.ladder),
        "iterations": search.iterations,
        "promotion": search.promotion,
        "brackets": [{"first": b.first, "times": b.times, "rungs": [list(r) for r in b.rungs]} for b in cost.brackets],
        "configurations": cost.configurations,
        "evaluations": [{"budget": b, "count": n} for b, n in cost.evaluations.items()],
        "training": {"continue": cost.training_continued, "restart": cost.training},
        "model": {"observations": advice.observations, "from_evaluation": advice.model_from},
        "workers": advice.site.workers,
        "handed_back": advice.timeline.handed_back,
        "staffing": [
            {"workers": s.workers, "wall": s.wall, "utilisation": round(s.utilisation, 4)} for s in advice.staffing
        ],
        "worthwhile_workers": advice.worthwhile,
        "disk": {
            "checkpoints": advice.disk.checkpoints,
            "checkpoint_mb": advice.disk.checkpoint_mb,
            "large_checkpoint_mb": advice.disk.large_checkpoint_mb,
            "curves_mb": round(advice.disk.curves_mb, 3),
        },
    }


def spent(training: float, unit: str) -> str:
    """Training of a whole search: GPU-hours, or budget units."""
    if unit != "seconds":
        return f"{training:,.0f} {unit}"
    return f"{training / 3600:,.1f} GPU-hours" if training >= 3600 else f"{training / 60:,.1f} GPU-minutes"


def _wall(wall: float, unit: str) -> str:
    return duration(wall) if unit == "seconds" else f"{wall:,.0f} {unit}"


def _bracket_rows(advice: Advice) -> tuple[Sequence[str], list[Sequence[str]]]:
    cost, unit = advice.cost, advice.settings.search.budget_unit
    head = ("brackets", *(f"on {budget_text(b, unit)}" for b in cost.ladder), "each, continuing", "each, restarting")
    rows: list[Sequence[str]] = []
    for bracket in cost.brackets:
        counts = dict(bracket.rungs)
        rows.append((
            f"{bracket.times} x",
            *(str(counts.get(b, "")) for b in cost.ladder),
            spent(bracket.training_continued, unit),
            spent(bracket.training, unit),
        ))  # fmt: skip
    return head, rows


def _model_line(advice: Advice) -> str:
    if advice.observations is None:
        return f"Model: {advice.settings.search.method} has none; every configuration is drawn at random."
    needs = f"Model: it needs {counted(advice.observations, 'result')} on one budget"
    if advice.model_from is None:
        return f"{needs}, which this search does not reach: every configuration is drawn at random."
    return (
        f"{needs}, and can propose once {counted(advice.model_from, 'evaluation')} of {advice.cost.planned} have ended."
    )


def _disk_line(advice: Advice) -> str:
    disk = advice.disk
    curves = f"curves take at most {_megabytes(disk.curves_mb)}."
    most = f"Disk: at most {counted(disk.checkpoints, 'checkpoint')} at once"
    if disk.checkpoint_mb is None or disk.large_checkpoint_mb is None:
        return f"{most}, as large as the objective's own; {curves}"
    return (
        f"{most}, {_checkpoints(disk)} at {_megabytes(disk.checkpoint_mb)} each (one in ten has more than "
        f"{_megabytes(disk.large_checkpoint_mb)}); {curves}"
    )


def _checkpoints(disk: DiskNeed) -> str:
    return str(disk.checkpoints) if disk.checkpoints_gb is None else _megabytes(1000 * disk.checkpoints_gb)


def _megabytes(megabytes: float) -> str:
    return f"{megabytes / 1000:,.1f} GB" if megabytes >= 1000 else f"{megabytes:,.1f} MB"


def _staffing_rows(advice: Advice) -> list[Sequence[str]]:
    unit = advice.settings.search.budget_unit
    return [
        (str(s.workers) + " (as set)" * (s.workers == advice.site.workers), _wall(s.wall, unit), f"{s.utilisation:.0%}")
        for s in advice.staffing
    ]


def _assumptions(advice: Advice) -> str:
    site, unit = advice.site, advice.settings.search.budget_unit
    text = (
        f"Simulated with the search's own scheduling and {budget_text(site.overhead, unit)} of overhead per evaluation"
    )
    if advice.timeline.handed_back:
        text += (
            f", jobs of {duration(site.allocation)} that are back {duration(site.absence)} after their end "
            f"(evaluations were handed on {advice.timeline.handed_back} times)"
        )
    return f"{text}; without crashes, lost workers and the wait in the queue."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    aligned = (
        [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in (head, *rows)
    )
    return ["  ".join(cells).rstrip() for cells in aligned]
