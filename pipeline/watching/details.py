"""Gather the details of a run from its files."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import RunError, TandemError
from pipeline.problems.description import describe
from pipeline.records import ConfigId, parse_config_name
from pipeline.run.creation import read_settings
from pipeline.run.details import IncumbentDetails, RunDetails, WorkerSpeed
from pipeline.run.folder import RunFolder
from pipeline.run.history import History, Result, devices_joined, read_history, read_journal
from pipeline.run.status import RunStatus
from pipeline.storage.curves import read_attempt
from pipeline.wording import value_text

# A worker is slow when it trains at less than this share of the others' speed, in the median of so many evaluations.
SLOW, FEWEST_COMPARED, RECENT = 0.6, 3, 10
# Others' evaluations at networks of about the same cost that one is compared with.
NEIGHBOURS = 9
_AT = re.compile(r"(\S+) on (\S+), attempt (\d+)")


def run_details(folder: RunFolder, status: RunStatus) -> RunDetails:
    """What the files say; what cannot be read is left out: a status is worth showing without it."""
    try:
        history = read_history(folder)
        return RunDetails(_incumbent(folder, history, status), worker_speeds(folder, history, status))
    except TandemError:
        return RunDetails()


def _incumbent(folder: RunFolder, history: History, status: RunStatus) -> IncumbentDetails | None:
    if not status.incumbents:
        return None
    best = status.incumbents[-1]
    config_id = parse_config_name(best.config_id)
    draw = next((d for d in history.draws if d.config_id == config_id), None)
    if draw is None:
        return None
    values = {n: value_text(v, 4) for n, v in draw.configuration.items()}
    result = next((r for r in history.results if (r.config_id, r.budget) == (config_id, best.budget)), None)
    metric = describe(read_settings(folder), devices_joined(read_journal(folder))).metric
    curve = () if result is None else _curve(folder, result, metric.name)
    ends = (metric.text(curve[0]), metric.text(curve[-1])) if curve else ("", "")
    return IncumbentDetails(best.config_id, best.budget, values, curve, *ends)


def _curve(folder: RunFolder, result: Result, column: str) -> tuple[float, ...]:
    attempt = result.info.get("attempt")
    if not isinstance(attempt, int):
        return ()
    try:
        _, rows, _ = read_attempt(folder.attempt(result.config_id, result.budget, attempt))
    except (OSError, RunError):
        return ()
    return tuple(float(value) for value in rows.get(column, ()) if not math.isnan(value))


# Speeds --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Training:
    """What a worker trained: how fast, and what an image costs."""

    worker: str
    images_per_s: float
    flops_per_image: float


def worker_speeds(folder: RunFolder, history: History, status: RunStatus) -> dict[str, WorkerSpeed]:
    """The speed of every worker of the status that has trained images.

    Speeds at networks of different cost cannot be compared: a GPU does more arithmetic in a second on large ones. So
    each training is compared with those of other workers whose networks cost about the same.
    """
    trained = [*_ended(history), *_going_on(folder, status)]
    ratios = _ratios(trained)
    found = {}
    for worker in {w.name for w in status.workers}:
        own = [number for number, t in enumerate(trained) if t.worker == worker][-RECENT:]
        if not own:
            continue
        known = [ratios[n] for n in own if not math.isnan(ratios[n])]
        relative = float(np.median(known)) if len(known) >= FEWEST_COMPARED else None
        is_slow = relative is not None and relative < SLOW
        found[worker] = WorkerSpeed(trained[own[-1]].images_per_s, relative, is_slow)
    return found


def _ended(history: History) -> list[_Training]:
    """From results, in their order: what was trained on each budget alone."""
    configurations = {draw.config_id: draw.configuration for draw in history.draws}
    before: dict[ConfigId, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    found = []
    for result in history.results:
        batch = configurations[result.config_id].get("batch_size")
        info = result.info
        reached = (_number(info.get("batches")), _number(info.get("training_s")))
        continued = str(info.get("continued_from", "")).startswith("rung")
        batches, seconds = (
            (a - b for a, b in zip(reached, before[result.config_id], strict=True)) if continued else reached
        )
        before[result.config_id] = reached
        flops = _number(info.get("flops_per_image"))
        if isinstance(batch, int) and seconds > 0 and batches > 0 and flops > 0:
            found.append(_Training(str(info.get("worker", "")), batches * batch / seconds, flops))
    return found


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _going_on(folder: RunFolder, status: RunStatus) -> list[_Training]:
    """From the files of the attempts that workers are at."""
    found = []
    for worker in status.workers:
        if (at := _AT.fullmatch(worker.evaluation)) is None:
            continue
        try:
            path = folder.attempt(parse_config_name(at[1]), float(at[2]), int(at[3]))
            header, rows, _ = read_attempt(path)
        except (OSError, ValueError, RunError):
            continue
        speeds = rows.get("images_per_s", np.empty(0))
        own = speeds[(rows["attempt"] == int(at[3])) & (rows["rung"] == float(at[2]))] if len(speeds) else speeds
        known = own[~np.isnan(own)]
        if len(known) and header.flops_per_image > 0:
            found.append(_Training(worker.name, float(known[-1]), header.flops_per_image))
    return found


def _ratios(trained: Sequence[_Training]) -> list[float]:
    """Of each training: its arithmetic per second over the median of others' at the nearest costs; NaN: too few."""
    costs = np.log([t.flops_per_image for t in trained])
    speeds = np.array([t.images_per_s * t.flops_per_image for t in trained])
    workers = np.array([t.worker for t in trained])
    ratios = []
    for number in range(len(trained)):
        others = np.flatnonzero(workers != workers[number])
        if len(others) < FEWEST_COMPARED:
            ratios.append(math.nan)
            continue
        nearest = others[np.argsort(np.abs(costs[others] - costs[number]))[:NEIGHBOURS]]
        ratios.append(float(speeds[number] / np.median(speeds[nearest])))
    return ratios
