"""A page that shows a run as it goes on: written again and again from the run folder, and reloaded by itself."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.analysis.markup import asset, content_policy, template
from pipeline.errors import RunError
from pipeline.files import is_there, publish_text
from pipeline.problems.description import VALIDATION_ERROR
from pipeline.records import budget_name
from pipeline.run.folder import RunFolder
from pipeline.run.history import Result, read_history
from pipeline.run.status import BracketStatus, RungStatus, RunStatus
from pipeline.run.status_view import duration
from tandem_trial.problem import Metric

# How often the page is written, and how often it reloads itself.
RENEWED_S = 5.0
SHOWN_BRACKETS, SHOWN_WORKERS = 12, 60
# In the units of the drawing that a bar or the curve is.
BAR_WIDTH, CURVE_WIDTH, CURVE_HEIGHT = 160.0, 640.0, 150.0


@dataclass(frozen=True)
class Bar:
    """A rung as a bar: pieces as (class of the style sheet, left, width), and what stands beside it."""

    pieces: tuple[tuple[str, float, float], ...]
    text: str


@dataclass(frozen=True)
class Curve:
    """The best so far as a step line: points of an SVG path, and the texts at the ends of its axes."""

    path: str
    highest: str
    lowest: str
    begin: str
    end: str
    budget: str


def write_live_page(
    folder: RunFolder, status: RunStatus | None, end: str = "", metric: Metric = VALIDATION_ERROR, now: float = 0.0
) -> None:
    """Write the run's live.html.

    Args:
        end: when the run will end, as a sentence; "": that cannot be told (yet).
        metric: what the search measures.
        now: s since 1970 (UTC); 0: the present.
    """
    now = now or time.time()
    css = asset("report.css") + asset("live.css")
    page = template("live.html.j2").render(
        run_id=folder.run_id,
        policy=content_policy(css),
        style=css,
        renewed=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)),
        reload_s=None if status is not None and status.has_ended else round(RENEWED_S),
        status=status,
        is_stale=status is not None and status.is_stale(now),
        silent="" if status is None else duration(now - status.updated),
        end=end,
        has_report=is_there(folder.report),
        **({} if status is None else _parts(folder, status, metric, now)),
    )
    publish_text(folder.live_page, page, inside=folder.path)


def _parts(folder: RunFolder, status: RunStatus, metric: Metric, now: float) -> dict[str, object]:
    budgets = sorted({rung.budget for bracket in status.brackets for rung in bracket.rungs})
    shown = shown_brackets(status.brackets)
    return {
        "budgets": [budget_name(b) for b in budgets],
        "totals": [bar(rungs) for rungs in by_budget(status.brackets, budgets)],
        "brackets": [(b.iteration, [bar(rungs) for rungs in by_budget([b], budgets)]) for b in shown],
        "left_out": len(status.brackets) - len(shown),
        "done": status.finished + status.crashed,
        "progress": bar([RungStatus(0.0, max(status.planned, 1), status.finished, status.crashed, 0, status.queued)]),
        "trained": duration(status.trained_s),
        "lost": duration(status.lost_s),
        "running_for": duration((status.updated if status.has_ended else now) - status.started),
        "workers": [(w, duration(now - w.since), _left(w.allocation_end, now)) for w in status.workers[:SHOWN_WORKERS]],
        "more_workers": ", ".join(
            f"{n} {state}" for state, n in Counter(w.state for w in status.workers[SHOWN_WORKERS:]).most_common()
        ),
        "incumbents": [(budget_name(i.budget), i.config_id, i.shown) for i in status.incumbents],
        "curve": best_curve(results_of(folder), metric),
    }


def _left(allocation_end: float | None, now: float) -> str:
    return "" if allocation_end is None else duration(allocation_end - now)


def shown_brackets(brackets: Sequence[BracketStatus]) -> list[BracketStatus]:
    """The open ones, then the last that ended, as many as a page shows."""
    still_open = [b for b in brackets if not b.is_finished]
    ended = [b for b in brackets if b.is_finished][::-1]
    return sorted([*still_open, *ended][:SHOWN_BRACKETS], key=lambda b: b.iteration)


def by_budget(brackets: Sequence[BracketStatus], budgets: Sequence[float]) -> list[list[RungStatus]]:
    """The rungs of some brackets on each budget."""
    return [[r for bracket in brackets for r in bracket.rungs if r.budget == budget] for budget in budgets]


def bar(rungs: Sequence[RungStatus]) -> Bar | None:
    """Rungs of one budget as one bar; None: there are none."""
    planned = sum(r.planned for r in rungs)
    if not planned:
        return None
    counts = [(name, sum(getattr(r, name) for r in rungs)) for name in ("finished", "crashed", "running", "queued")]
    pieces, left = [], 0.0
    for name, count in counts:
        width = min(BAR_WIDTH * count / planned, BAR_WIDTH - left)
        if width > 0:
            pieces.append((name, round(left, 2), round(width, 2)))
        left += width
    done = counts[0][1] + counts[1][1]
    running = f", {counts[2][1]} running" if counts[2][1] else ""
    return Bar(tuple(pieces), f"{done} of {planned}{running}")


def results_of(folder: RunFolder) -> list[Result]:
    """The results that have a loss so far; none while a file is being replaced or is damaged (collecting tells)."""
    try:
        return [r for r in read_history(folder).results if r.loss is not None]
    except (RunError, OSError):
        return []


def best_curve(results: Sequence[Result], metric: Metric) -> Curve | None:
    """The best on the largest budget that has results, over time; None: there is no result yet."""
    if not results:
        return None
    budget = max(r.budget for r in results)
    begin, end = min(r.submitted for r in results), max(r.finished for r in results)
    steps: list[tuple[float, float]] = []
    for result in sorted((r for r in results if r.budget == budget), key=lambda r: r.finished):
        if result.loss is not None and (not steps or result.loss < steps[-1][1]):
            steps.append((result.finished, result.loss))
    values = [metric.of_loss(loss) for _, loss in steps]
    heights = [math.log(v) if metric.scale == "log" and min(values) > 0 else v for v in values]
    low, high = min(heights), max(heights)
    x = [CURVE_WIDTH * (t - begin) / max(end - begin, 1e-9) for t, _ in steps]
    y = [CURVE_HEIGHT * ((high - h) / (high - low) if high > low else 0.5) for h in heights]
    moves = "".join(f"H{across:.1f}V{down:.1f}" for across, down in zip(x[1:], y[1:], strict=True))
    return Curve(
        path=f"M{x[0]:.1f} {y[0]:.1f}{moves}H{CURVE_WIDTH:g}",
        highest=metric.text(max(values)),
        lowest=metric.text(min(values)),
        begin="begin",
        end=duration(end - begin),
        budget=budget_name(budget),
    )
