"""Which checkpoints an evaluation may go on from, in which order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.files import is_there
from pipeline.records import Evaluation, budget_name
from pipeline.run.folder import RunFolder

# The lower rung's checkpoint is on disk before its result counts; other hosts may see it later.
VISIBLE_S = 10.0


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that may be there.

    Attributes:
        origin: for the curve's header: "attempt 2" or "rung 3 attempt 1".
        budget, attempt: whose it is.
    """

    origin: str
    path: Path
    budget: float
    attempt: int


def previous_path(path: Path) -> Path:
    """Where the checkpoint before `path` is kept."""
    return path.with_name(path.name + ".previous")


def candidates(folder: RunFolder, evaluation: Evaluation) -> Iterator[Candidate]:
    """Earlier attempts at the same evaluation, the latest first, then the accepted attempt of the lower rung that it
    continues, then other attempts there; of each attempt the last checkpoint, then the previous one.
    """
    for attempt in range(evaluation.attempt - 1, 0, -1):
        path = folder.checkpoint(evaluation.config_id, evaluation.budget, attempt)
        for each in (path, previous_path(path)):
            yield Candidate(f"attempt {attempt}", each, evaluation.budget, attempt)
    lower = evaluation.continues
    if lower is None:
        return
    accepted = folder.checkpoint(evaluation.config_id, lower.budget, lower.attempt)
    others = sorted(accepted.parent.glob(f"b{budget_name(lower.budget)}-a*.pt"), reverse=True)
    for path in (accepted, *(other for other in others if other != accepted)):
        number = path.stem.rpartition("-a")[2]
        for each in (path, previous_path(path)):
            yield Candidate(f"rung {budget_name(lower.budget)} attempt {number}", each, lower.budget, int(number))


def await_lower_rung(folder: RunFolder, evaluation: Evaluation) -> None:
    """Wait a bounded time for a checkpoint that should exist, but was written on another host a moment ago."""
    lower = evaluation.continues
    if lower is None or evaluation.attempt > 1 or not lower.has_checkpoint:
        return
    path = folder.checkpoint(evaluation.config_id, lower.budget, lower.attempt)
    deadline = time.monotonic() + VISIBLE_S
    while not is_there(path) and time.monotonic() < deadline:
        time.sleep(0.1)
