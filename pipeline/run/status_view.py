"""A run's status as a person reads it: live tables on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from pipeline.records import budget_text
from pipeline.run.details import IncumbentDetails, RunDetails, WorkerSpeed
from pipeline.run.folder import RunFolder
from pipeline.run.status import BracketStatus, FrontStatus, RungStatus, RunStatus, WorkerStatus
from pipeline.wording import counted

# More than this many workers are counted by host instead of listed.
LISTED_WORKERS = 40
LISTED_BRACKETS = 6
# With nine workers, all of a status is to be seen on a terminal of 100 x 30.
BRACKETS_ON_SCREEN = 4
REMARKS_ON_SCREEN = 2


def duration(seconds: float) -> str:
    """Seconds as a person says them: `42 s`, `7 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


class SlurmQueue(Protocol):
    """What Slurm's queue has of a run (`pipeline.launch.backend.QueueState`); as text for a person."""

    @property
    def master_waits(self) -> bool:
        """Whether a master that is a job is to start yet."""


def status_lines(
    folder: RunFolder,
    status: RunStatus | None,
    queue: SlurmQueue | None = None,
    now: float | None = None,
    details: RunDetails | None = None,
) -> list[str]:
    """The status as plain lines.

    Args:
        queue: None without Slurm.
    """
    now = clock_of(status, time.time() if now is None else now)
    details = details or RunDetails()
    if status is None:
        unheard = f"Run {folder.run_id}: no master has published its status yet. Its log: {folder.master_log}"
        return [unheard] if queue is None else [unheard, f"Slurm: {queue}"]
    lines, unit = [_headline(status, queue, now)], status.budget_unit
    if status.message:
        lines.append(f"  {status.message}")
    master = f"{_master_line(status, now)}, log {folder.master_log}"
    lines += [master, _evaluations_line(status), _costs_line(status)]
    if queue is not None:
        lines.append(f"Slurm: {queue}")
    lines += [_worker_line(w, now, details.speeds.get(w.name)) for w in status.workers[:LISTED_WORKERS]]
    if len(status.workers) > LISTED_WORKERS:
        lines.append(f"  ... and {_by_state(status.workers[LISTED_WORKERS:])}")
    lines += [_bracket_line(b, unit) for b in _open_brackets(status)]
    for incumbent in status.incumbents:
        lines.append(f"Incumbent on {budget_text(incumbent.budget, unit)}: {incumbent.config_id}, {incumbent.shown}")
    if details.incumbent is not None:
        lines += [_curve_line(details.incumbent, unit), f"  {_values_line(details.incumbent)}"]
    if status.front is not None:
        lines.append(_front_line(status.front, status.budget_unit))
    lines += [f"Node {node} is left out: {reason}" for node, reason in status.suspected_nodes.items()]
    return lines + list(status.remarks)


def clock_of(status: RunStatus | None, now: float) -> float:
    """The time that durations count to: of a run that has ended, its end."""
    return status.updated if status is not None and status.has_ended else now


@dataclass(frozen=True)
class Screen:
    """How a status is drawn on a terminal.

    Attributes:
        lines: height of the terminal.
        sort: what the workers are sorted by, one of `SORTS`.
        footer: below it all.
    """

    lines: int = 30
    sort: str = "name"
    footer: str = ""


def status_table(
    folder: RunFolder,
    status: RunStatus | None,
    queue: SlurmQueue | None = None,
    details: RunDetails | None = None,
    screen: Screen | None = None,
    end: str = "",
) -> RenderableType:
    """The status for a terminal, to be drawn again and again.

    Args:
        end: when the run will end, for a person.
    """
    details, screen = details or RunDetails(), screen or Screen()
    if status is None:
        return Text("\n".join(status_lines(folder, None, queue)))
    now = clock_of(status, time.time())
    parts: list[RenderableType] = [Text(_headline(status, queue, now), style="bold")]
    if status.message:
        parts.append(Text(status.message, style="yellow"))
    parts += [_progress(status), Text(_counts_line(status)), Text(_costs_line(status))]
    if end:
        parts.append(Text(end, style="bold"))
    parts.append(Text(_master_line(status, now), style="dim", no_wrap=True, overflow="ellipsis"))
    if queue is not None:
        parts.append(Text(f"Slurm: {queue}"))
    if status.workers:
        parts.append(_workers_table(status.workers, now, details.speeds, screen.sort))
    if status.brackets:
        parts.append(_brackets_table(_open_brackets(status)[:BRACKETS_ON_SCREEN], status.budget_unit))
    if status.incumbents:
        parts.append(Text(_incumbents_line(status)))
    if status.front is not None:
        parts.append(Text(_front_line(status.front, status.budget_unit)))
    parts += [Text(f"Node {n} is left out: {why}", style="red") for n, why in status.suspected_nodes.items()]
    parts += [Text(remark, style="yellow") for remark in status.remarks[:REMARKS_ON_SCREEN]]
    if details.incumbent is not None:
        parts.append(Text(_curve_line(details.incumbent, status.budget_unit), no_wrap=True, overflow="ellipsis"))
    values = "" if details.incumbent is None else _values_line(details.incumbent)
    return _Filled(parts, values, screen)


def progress_line(status: RunStatus) -> str:
    """The search in one line, for logs and progress bars."""
    best = status.incumbents[-1] if status.incumbents else None
    text = f"{status.finished + status.crashed}/{status.planned} evaluations"
    text += f", {status.model_based} of {status.draws} configurations from the model"
    if best is not None:
        text += f", best on {budget_text(best.budget, status.budget_unit)}: {best.shown}"
    return text


def _headline(status: RunStatus, queue: SlurmQueue | None, now: float) -> str:
    state = status.state
    if status.is_stale(now):
        silent = duration(now - status.updated)
        gone = "the master has left" if state == "left" else f"the master has been silent for {silent}"
        if queue is not None and queue.master_waits:
            state = f"{gone}, and goes on once Slurm starts its job"
        elif state == "left":
            state = f"{gone}; `tandem resume-search` goes on"
        else:
            state = f"{gone} (dead, or its host is cut off); `tandem resume-search` starts it again"
    return f"Run {status.run_id}: {state}"


def _master_line(status: RunStatus, now: float) -> str:
    return (
        f"Master: term {status.term} on {status.host} (pid {status.pid}), nameserver {status.address}, "
        f"since {duration(now - status.started)}"
    )


def _evaluations_line(status: RunStatus) -> str:
    return (
        f"Evaluations: {status.finished} finished, {status.crashed} crashed, {status.queued} queued of "
        f"{status.planned} planned; {counted(status.lost, 'attempt')} lost, {status.retried} retried; "
        f"{status.model_based} of {status.draws} configurations drawn from the model"
    )


def _costs_line(status: RunStatus) -> str:
    return (
        f"Spent: {duration(status.trained_s + status.lost_s)} of training, {duration(status.lost_s)} of it lost; "
        f"checkpoints: {status.checkpoint_mb:.0f} MB (bound {status.checkpoint_bound_mb:.0f} MB)"
    )


def _worker_line(worker: WorkerStatus, now: float, speed: WorkerSpeed | None) -> str:
    pace = "" if speed is None else f"{speed.images_per_s:,.0f} images/s" + (" (slow)" if speed.is_slow else "")
    return "  worker " + ", ".join(text for text in (*_worker_cells(worker, now), pace) if text)


def _pace(speed: WorkerSpeed | None) -> str:
    """Images per second, and whether others train much faster at networks of the same cost."""
    if speed is None:
        return ""
    return f"{speed.images_per_s:,.0f}" + (" slow" if speed.is_slow else "")


def _curve_line(incumbent: IncumbentDetails, unit: str) -> str:
    name = f"Best: {incumbent.config_id} on {budget_text(incumbent.budget, unit)}"
    if not incumbent.curve:
        return name
    return f"{name}, its curve: {incumbent.first} {sparkline(incumbent.curve)} {incumbent.last}"


def _front_line(front: FrontStatus, unit: str) -> str:
    return f"Front on {budget_text(front.budget, unit)}: {front}"


def _values_line(incumbent: IncumbentDetails) -> str:
    return ", ".join(f"{name} {value}" for name, value in incumbent.values.items())


BARS = "▁▂▃▄▅▆▇█"
SPARKS = 40


def sparkline(values: Sequence[float]) -> str:
    """At most `SPARKS` bars, each as high as its value lies between the smallest and the largest."""
    shown = [values[i * len(values) // min(len(values), SPARKS)] for i in range(min(len(values), SPARKS))]
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((v - low) * scale)] for v in shown)


class _Filled:
    """Parts that are shown whole, a text that gets the lines that they leave of a screen, and a footer."""

    def __init__(self, parts: Sequence[RenderableType], text: str, screen: Screen) -> None:
        self._parts = Group(*parts)
        self._text = text
        self._screen = screen

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As rich asks for it."""
        yield self._parts
        if self._text:
            taken = len(console.render_lines(self._parts, options.update(height=None), pad=False))
            room = max(1, self._screen.lines - taken - bool(self._screen.footer))
            lines = Text(self._text).wrap(console, options.max_width)
            if len(lines) > room:
                lines[room - 1] = Text(f"{lines[room - 1].plain.rstrip()} {lines[room].plain}")
                lines[room - 1].truncate(options.max_width, overflow="ellipsis")
            yield from lines[:room]
        if self._screen.footer:
            yield Text(self._screen.footer, style="dim", no_wrap=True, overflow="ellipsis")


def _worker_cells(worker: WorkerStatus, now: float) -> tuple[str, ...]:
    left = "" if worker.allocation_end is None else f"{duration(worker.allocation_end - now)} left"
    return (
        worker.name,
        worker.host,
        f"task {worker.slurm_job_id}" if worker.slurm_job_id else "",
        worker.device,
        f"{worker.state} {duration(now - worker.since)}",
        worker.evaluation,
        left,
    )


def _by_state(workers: Sequence[WorkerStatus]) -> str:
    return ", ".join(f"{n} {state}" for state, n in Counter(w.state for w in workers).most_common())


def _open_brackets(status: RunStatus) -> list[BracketStatus]:
    still_open = [b for b in status.brackets if not b.is_finished]
    return (still_open or list(status.brackets[-1:]))[:LISTED_BRACKETS]


def _bracket_line(bracket: BracketStatus, unit: str) -> str:
    rungs = "; ".join(
        f"{budget_text(r.budget, unit)}: {r.finished + r.crashed}/{r.planned}"
        + (f" ({r.running} running)" if r.running else "")
        for r in bracket.rungs
    )
    return f"Bracket {bracket.iteration}: {rungs}"


def _progress(status: RunStatus) -> RenderableType:
    from rich.progress_bar import ProgressBar

    done = status.finished + status.crashed
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=max(status.planned, 1), completed=done, width=60)
    grid.add_row(bar, Text(f"{done}/{status.planned} evaluations"))
    return grid


def _counts_line(status: RunStatus) -> str:
    """What the bar does not show, in less than a line."""
    share = f"{status.model_based} of {status.draws}"
    return (
        f"{status.finished} finished, {status.crashed} crashed, {status.queued} queued; {status.lost} lost, "
        f"{status.retried} retried; {share} configurations from the model"
    )


# Keys of the live view, and what each sorts by.
SORTS = {"n": "name", "s": "state", "i": "images/s", "t": "time left"}


def _sorted(workers: Sequence[WorkerStatus], speeds: Mapping[str, WorkerSpeed], by: str) -> list[WorkerStatus]:
    """The slowest, the first to leave or the silent come first."""

    def key(worker: WorkerStatus) -> tuple[object, ...]:
        speed = speeds.get(worker.name)
        pace = math.inf if speed is None else speed.relative or speed.images_per_s
        left = math.inf if worker.allocation_end is None else worker.allocation_end
        chosen: dict[str, object] = {
            "state": (worker.state != "suspect", worker.state, worker.since), "images/s": pace, "time left": left,
        }  # fmt: skip
        return (chosen.get(by, 0), worker.name)

    return sorted(workers, key=key)


def _workers_table(workers: Sequence[WorkerStatus], now: float, speeds: Mapping[str, WorkerSpeed], sort: str) -> Table:
    table = Table(
        title=f"{len(workers)} workers: {_by_state(workers)}", title_justify="left", box=None, padding=(0, 1, 0, 0)
    )
    headings = ["worker", "device", "state", "evaluation", "time left", *(["images/s"] if speeds else [])]
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading == "images/s" else "left"
        table.add_column(heading, no_wrap=True, justify=justify, max_width=12 if heading == "device" else None)
    for worker in _sorted(workers, speeds, sort)[:LISTED_WORKERS]:
        _, host, task, device, _, evaluation, left = _worker_cells(worker, now)
        # A worker of the program's own has its host and its task in its name.
        named = [what for what in (host, task) if what.removeprefix("task ") not in worker.name]
        speed = speeds.get(worker.name)
        state = f"{worker.state} {_coarse(now - worker.since)}"
        cells = [", ".join([worker.name, *named]), device, state, _briefly(evaluation), " ".join(left.split()[:2])]
        is_marked = worker.state == "suspect" or (speed is not None and speed.is_slow)
        table.add_row(*cells, *([_pace(speed)] if speeds else []), style="red" if is_marked else None)
    return table


def _coarse(seconds: float) -> str:
    """A duration in its largest unit."""
    return " ".join(duration(seconds).split()[:2])


def _briefly(evaluation: str) -> str:
    return evaluation.removesuffix(", attempt 1").replace(", attempt ", ", try ")


RUNG_BAR = 6


def _brackets_table(brackets: Sequence[BracketStatus], unit: str) -> Table:
    """A row per bracket: how full each of its rungs is."""
    budgets = sorted({r.budget for b in brackets for r in b.rungs})
    table = Table(box=None, padding=(0, 1))
    table.add_column("bracket", no_wrap=True)
    for budget in budgets:
        table.add_column(f"rung {budget_text(budget, unit)}", justify="right")
    for bracket in brackets:
        cells = {r.budget: _rung(r) for r in bracket.rungs}
        table.add_row(str(bracket.iteration), *(cells.get(b, "") for b in budgets))
    return table


def _rung(rung: RungStatus) -> str:
    done = rung.finished + rung.crashed
    filled = RUNG_BAR * done // max(rung.planned, 1)
    running = f" ({rung.running})" if rung.running else ""
    return f"{'█' * filled}{'░' * (RUNG_BAR - filled)} {done}/{rung.planned}{running}"


def _incumbents_line(status: RunStatus) -> str:
    best = (f"{i.shown} on {budget_text(i.budget, status.budget_unit)}" for i in status.incumbents)
    return f"Incumbents ({status.metric}): {', '.join(best)}"
