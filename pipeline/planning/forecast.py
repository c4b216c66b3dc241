"""When a run will end, from what its evaluations have taken so far."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.planning.simulation import NoProposer, Simulation, Site
from pipeline.records import ConfigId, EvaluationKey
from pipeline.run.folder import RunFolder
from pipeline.run.history import History, Result, read_history, read_journal
from pipeline.run.status import RunStatus
from pipeline.run.status_view import duration
from pipeline.search.replay import rebuild
from pipeline.settings import Settings
from pipeline.wording import counted

# Fewer results say too little about how long an evaluation takes.
FEWEST_RESULTS = 10
# Ends that are drawn; the range leaves out a tenth of them on either side.
DRAWS = 11


@dataclass(frozen=True)
class Forecast:
    """When a run will end, in seconds from now, if it keeps its workers.

    Attributes:
        workers: that it has.
        earliest_s, likely_s, latest_s: of ten ends, one is before the first of these, five before the second, and one
            after the third.
    """

    workers: int
    earliest_s: float
    likely_s: float
    latest_s: float

    def __str__(self) -> str:
        return (
            f"End: in about {duration(self.likely_s)} ({duration(self.earliest_s)} to {duration(self.latest_s)}), "
            f"with {counted(self.workers, 'worker')} as now"
        )


def forecast(folder: RunFolder, settings: Settings, status: RunStatus, now: float | None = None) -> Forecast | None:
    """When a run will end: the rest of the search on a virtual clock, with durations drawn from those seen so far.

    Returns:
        None: it has ended, has no workers, or has too few results to tell.

    Raises:
        RunError: the run's files are damaged.
    """
    now = time.time() if now is None else now
    workers = sum(w.state in ("idle", "training") for w in status.workers)
    if status.has_ended or not workers:
        return None
    history = read_history(folder)
    if len(history.results) < FEWEST_RESULTS:
        return None
    taken = _taken(history, settings)
    elapsed = _elapsed(folder, now)
    ends = sorted(_end(settings, history, workers, taken, elapsed, seed) for seed in range(DRAWS))
    return Forecast(workers, ends[DRAWS // 10], ends[DRAWS // 2], ends[-1 - DRAWS // 10])


def _taken(history: History, settings: Settings) -> dict[float, list[tuple[float, float]]]:
    """By budget, (seconds, training) of each evaluation that ended; crashed ones count as they came."""
    taken = defaultdict(list)
    accepted: dict[ConfigId, float] = {}
    for result in history.results:
        lower = accepted.get(result.config_id, 0.0) if settings.search.promotion == "continue" else 0.0
        taken[result.budget].append((_seconds(result), result.budget - lower))
        accepted[result.config_id] = result.budget
    return dict(taken)


def _seconds(result: Result) -> float:
    return max(0.0, result.finished - result.started)


def _elapsed(folder: RunFolder, now: float) -> dict[EvaluationKey, float]:
    """Seconds since the last dispatch of each evaluation that has not come back."""
    dispatched: dict[EvaluationKey, float] = {}
    for event in read_journal(folder):
        if event["event"] in ("dispatched", "returned"):
            key = (tuple(event["config_id"]), float(event["budget"]))
            if event["event"] == "dispatched":
                dispatched[key] = event["time"]
            else:
                dispatched.pop(key, None)
    return {key: max(0.0, now - began) for key, began in dispatched.items()}


def _end(
    settings: Settings,
    history: History,
    workers: int,
    taken: Mapping[float, Sequence[tuple[float, float]]],
    elapsed: Mapping[EvaluationKey, float],
    seed: int,
) -> float:
    """One way in which the run may go on: seconds until its last result."""
    chance = random.Random(seed)
    # Budgets that nothing has ended on yet take as much per training as the largest one that something has.
    largest = max(taken)

    def seconds(budget: float, training: float) -> float:
        took, trained = chance.choice(taken.get(budget, taken[largest]))
        return took * training / trained if trained else took

    search = rebuild(settings, history, NoProposer())
    return Simulation(search, Site(workers), seconds, elapsed).run().wall
