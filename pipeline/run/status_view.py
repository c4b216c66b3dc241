"""A run's status as a person reads it: live tables on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.records import budget_name
from pipeline.run.folder import RunFolder
from pipeline.run.status import BracketStatus, RunStatus, WorkerStatus
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
    folder: RunFolder, status: RunStatus | None, queue: SlurmQueue | None = None, now: float | None = None
) -> list[str]:
    """The status as plain lines.

    Args:
        queue: None without Slurm.
    """
    now = time.time() if now is None else now
    if status is None:
        unheard = f"Run {folder.run_id}: no master has published its status yet. Its log: {folder.master_log}"
        return [unheard] if queue is None else [unheard, f"Slurm: {queue}"]
    lines = [_headline(status, queue, now)]
    if status.message:
        lines.append(f"  {status.message}")
    master = f"{_master_line(status, now)}, log {folder.master_log}"
    lines += [master, _evaluations_line(status), _costs_line(status)]
    if queue is not None:
        lines.append(f"Slurm: {queue}")
    lines += [_worker_line(w, now) for w in status.workers[:LISTED_WORKERS]]
    if len(status.workers) > LISTED_WORKERS:
        lines.append(f"  ... and {_by_state(status.workers[LISTED_WORKERS:])}")
    lines += [_bracket_line(b) for b in _open_brackets(status)]
    for incumbent in status.incumbents:
        lines.append(f"Incumbent on {budget_name(incumbent.budget)}: {incumbent.config_id}, {incumbent.shown}")
    lines += [f"Node {node} is left out: {reason}" for node, reason in status.suspected_nodes.items()]
    return lines + list(status.remarks)


def status_table(folder: RunFolder, status: RunStatus | None, queue: SlurmQueue | None = None) -> RenderableType:
    """The status for a terminal, to be drawn again and again."""
    now = time.time()
    if status is None:
        return Text("\n".join(status_lines(folder, None, queue)))
    parts: list[RenderableType] = [Text(_headline(status, queue, now), style="bold")]
    if status.message:
        parts.append(Text(status.message, style="yellow"))
    parts += [_progress(status), Text(_master_line(status, now), style="dim"), Text(_costs_line(status))]
    if queue is not None:
        parts.append(Text(f"Slurm: {queue}"))
    if status.workers:
        parts.append(_workers_table(status.workers, now))
    if status.brackets:
        parts.append(_brackets_table(_open_brackets(status)[:BRACKETS_ON_SCREEN]))
    if status.incumbents:
        parts.append(Text(_incumbents_line(status)))
    parts += [Text(f"Node {n} is left out: {why}", style="red") for n, why in status.suspected_nodes.items()]
    parts += [Text(remark, style="yellow") for remark in status.remarks[:REMARKS_ON_SCREEN]]
    return Group(*parts)


def progress_line(status: RunStatus) -> str:
    """The search in one line, for logs and progress bars."""
    best = status.incumbents[-1] if status.incumbents else None
    text = f"{status.finished + status.crashed}/{status.planned} evaluations"
    text += f", {status.model_based} of {status.draws} configurations from the model"
    if best is not None:
        text += f", best on {budget_name(best.budget)}: {best.shown}"
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
        f"Trained: {duration(status.trained_s)}, lost: {duration(status.lost_s)}; "
        f"checkpoints: {status.checkpoint_mb:.0f} MB (bound {status.checkpoint_bound_mb:.0f} MB)"
    )


def _worker_line(worker: WorkerStatus, now: float) -> str:
    return "  worker " + ", ".join(text for text in _worker_cells(worker, now) if text)


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


def _bracket_line(bracket: BracketStatus) -> str:
    rungs = "; ".join(
        f"{budget_name(r.budget)}: {r.finished + r.crashed}/{r.planned}"
        + (f" ({r.running} running)" if r.running else "")
        for r in bracket.rungs
    )
    return f"Bracket {bracket.iteration}: {rungs}"


def _progress(status: RunStatus) -> RenderableType:
    from rich.progress_bar import ProgressBar

    done = status.finished + status.crashed
    grid = Table.grid()
    grid.add_row(ProgressBar(total=max(status.planned, 1), completed=done, width=60))
    grid.add_row(Text(_evaluations_line(status)))
    return grid


def _workers_table(workers: Sequence[WorkerStatus], now: float) -> Table:
    table = Table(title=f"{len(workers)} workers: {_by_state(workers)}", title_justify="left", box=None, padding=(0, 1))
    for heading in ("worker", "device", "state", "evaluation", "allocation"):
        table.add_column(heading, no_wrap=True)
    for worker in workers[:LISTED_WORKERS]:
        _, host, task, *others = _worker_cells(worker, now)
        # A worker of the program's own has its host and its task in its name.
        named = [what for what in (host, task) if what.removeprefix("task ") not in worker.name]
        table.add_row(", ".join([worker.name, *named]), *others, style="red" if worker.state == "suspect" else None)
    return table


def _brackets_table(brackets: Sequence[BracketStatus]) -> Table:
    budgets = sorted({r.budget for b in brackets for r in b.rungs})
    table = Table(title="Open brackets: done/planned (running)", title_justify="left", box=None, padding=(0, 1))
    table.add_column("bracket")
    for budget in budgets:
        table.add_column(f"rung {budget_name(budget)}", justify="right")
    for bracket in brackets:
        cells = {r.budget: f"{r.finished + r.crashed}/{r.planned} ({r.running})" for r in bracket.rungs}
        table.add_row(str(bracket.iteration), *(cells.get(b, "") for b in budgets))
    return table


def _incumbents_line(status: RunStatus) -> str:
    best = (f"{i.shown} on {budget_name(i.budget)} ({i.config_id})" for i in status.incumbents)
    return f"Incumbents ({status.metric}): {', '.join(best)}"
