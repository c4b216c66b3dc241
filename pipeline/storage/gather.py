"""Find every attempt of a run: its file, what the journal says of it, and whether a result accepted it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import RunError
from pipeline.records import AttemptEnd, AttemptHeader, ConfigId, EvaluationKey, parse_config_name
from pipeline.run.folder import RunFolder
from pipeline.storage.cases import Conclusion, Tried
from pipeline.storage.curves import ROW_DTYPE, read_attempt_table, widened

NO_ROWS = np.empty(0, dtype=ROW_DTYPE)


@dataclass
class FoundAttempt:
    """What is known of one attempt.

    Attributes:
        path: its file; None: it wrote none (lost before training began).
        problem: why the file could not be read; "" when it could.
        outcome: the master's word (the journal's), else the file's own, else "unknown"; "running" once its
            evaluation was decided (see `cases`).
        dispatched, returned: s since 1970 (UTC); None: not in the journal.
        journal_lost_s: training seconds that the master counts as lost; None: it does not say.
    """

    config_id: ConfigId
    budget: float
    attempt: int
    path: Path | None = None
    header: AttemptHeader | None = None
    rows: np.ndarray = field(default_factory=lambda: NO_ROWS)
    end: AttemptEnd | None = None
    problem: str = ""
    outcome: str = ""
    reason: str = ""
    worker: str = ""
    dispatched: float | None = None
    returned: float | None = None
    journal_lost_s: float | None = None
    accepted: bool = False

    @property
    def inherited_s(self) -> float:
        """Budget clock at its start, in seconds."""
        return self.header.inherited_training_s if self.header else 0.0

    @property
    def training_s(self) -> float:
        """Budget clock at its last sign of life, in seconds."""
        last = float(self.rows["training_s"][-1]) if len(self.rows) else self.inherited_s
        return max(last, self.end.training_s) if self.end else last

    def own_last_row(self) -> Any | None:
        """The last row that this attempt itself trained, or None."""
        if len(self.rows) and self.rows["attempt"][-1] == self.attempt and self.rows["rung"][-1] == self.budget:
            return self.rows[-1]
        return None


def find_attempts(
    folder: RunFolder, journal: Sequence[Mapping[str, Any]]
) -> tuple[dict[EvaluationKey, list[FoundAttempt]], list[str]]:
    """Every attempt by evaluation, ordered by number; and warnings, each naming a file that could not be read."""
    found: dict[EvaluationKey, dict[int, FoundAttempt]] = defaultdict(dict)
    warnings = []
    for attempt in _attempts_on_disk(folder):
        found[attempt.config_id, attempt.budget][attempt.attempt] = attempt
        if attempt.problem:
            warnings.append(attempt.problem)
    for event in journal:
        if event.get("event") in ("dispatched", "returned"):
            _note(found, event)
    for by_number in found.values():
        for attempt in by_number.values():
            _complete_from_file(attempt)
    return {key: [by_number[n] for n in sorted(by_number)] for key, by_number in found.items()}, warnings


def _attempts_on_disk(folder: RunFolder) -> Iterator[FoundAttempt]:
    for path in sorted(folder.attempts.glob("*/b*-a*.h5")):
        try:
            config_id, budget, number = folder.parse_attempt(path)
        except RunError as error:
            yield FoundAttempt((-1, -1, -1), 0.0, 0, path, problem=str(error))
            continue
        attempt = FoundAttempt(config_id, budget, number, path)
        try:
            attempt.header, rows, attempt.end = read_attempt_table(path)
            attempt.rows = widened(rows)
        except FileNotFoundError:  # a run may be tidied while it is collected
            attempt.problem = f"{path} vanished while it was collected"
        except RunError as error:
            attempt.problem = str(error)
        yield attempt


def _note(found: dict[EvaluationKey, dict[int, FoundAttempt]], event: Mapping[str, Any]) -> None:
    config_id = event_config_id(event)
    if config_id is None:
        return
    budget, number = float(event["budget"]), int(event["attempt"])
    attempt = found[config_id, budget].setdefault(number, FoundAttempt(config_id, budget, number))
    attempt.worker = str(event.get("worker") or attempt.worker)
    if event["event"] == "dispatched":
        attempt.dispatched = float(event["time"])
        # Given out again (a master that was restarted): what it returned before is not its end.
        attempt.outcome, attempt.reason = "", ""
    else:
        attempt.returned = float(event["time"])
        attempt.outcome, attempt.reason = str(event["outcome"]), str(event.get("reason") or "")
        attempt.journal_lost_s = event.get("lost_s")


def _complete_from_file(attempt: FoundAttempt) -> None:
    """Where the journal does not say how an attempt ended, its own file may."""
    if not attempt.outcome:
        attempt.outcome = attempt.end.status if attempt.end else "unknown"
    if not attempt.reason and attempt.end:
        attempt.reason = attempt.end.reason


def event_config_id(event: Mapping[str, Any]) -> ConfigId | None:
    """The configuration that a journal event is about, as (iteration, stage, index); None: about none."""
    value = event.get("config_id")
    if value is None:
        return None
    if isinstance(value, str):
        return parse_config_name(value)
    iteration, stage, index = value
    return int(iteration), int(stage), int(index)


def facts(attempt: FoundAttempt) -> Tried:
    """What deciding about its evaluation needs to know of an attempt."""
    has_curve = attempt.header is not None
    return Tried(attempt.attempt, attempt.outcome, has_curve, is_damaged=bool(attempt.problem) and not has_curve)


def mark(attempts: Sequence[FoundAttempt], conclusion: Conclusion) -> None:
    """Note in an evaluation's attempts, ordered by number, which one was accepted and whether the last is at work."""
    for attempt in attempts:
        attempt.accepted = attempt.attempt == conclusion.accepted
    if attempts and conclusion.is_running:
        attempts[-1].outcome = "running"


def lost_seconds(attempt: FoundAttempt, siblings: Sequence[FoundAttempt], has_result: bool) -> float:
    """Training of one attempt that counts for nothing: done after the checkpoint that a later attempt went on from.

    Returns:
        Seconds; NaN while nobody can know (no result yet, and no later attempt).
    """
    if attempt.header is None and attempt.journal_lost_s is not None:  # its file is gone: the master's word counts
        return float(attempt.journal_lost_s)
    if attempt.accepted or attempt.outcome in ("running", "handed_back", "finished"):
        resumed = [s.inherited_s for s in siblings if _continues(s, attempt)]
        if attempt.accepted or attempt.outcome == "running" or not resumed:
            # A finished attempt whose result came too late was trained for nothing.
            is_late = attempt.outcome == "finished" and has_result and not attempt.accepted
            return max(0.0, attempt.training_s - attempt.inherited_s) if is_late else 0.0
        return max(0.0, attempt.training_s - max(resumed))
    later = [s for s in siblings if s.attempt > attempt.attempt and s.header is not None]
    if not later and not has_result:
        return float("nan")
    kept = max((s.inherited_s for s in later if _continues(s, attempt)), default=attempt.inherited_s)
    return max(0.0, attempt.training_s - max(kept, attempt.inherited_s))


def _continues(later: FoundAttempt, earlier: FoundAttempt) -> bool:
    return later.header is not None and later.header.continued_from == f"attempt {earlier.attempt}"
