"""What a collected evaluation is, given its result and its attempts: a table of cases, free of files.

An evaluation has a result that finished, a result that crashed, or none yet; its attempts may have ended, be damaged,
or be missing. `situation` finds the row, `CASES` is the table, `decide` reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class ResultKind(Enum):
    """What results.json says of an evaluation."""

    NONE = "none"
    CRASHED = "crashed"
    FINISHED = "finished"


@dataclass(frozen=True)
class Tried:
    """What the decision needs to know of one attempt.

    Attributes:
        outcome: the master's word, else the file's; "unknown": neither has one.
        has_curve: its file was read.
        is_damaged: its file is there, and could not be read; a warning names it already.
    """

    number: int
    outcome: str
    has_curve: bool = True
    is_damaged: bool = False


class Which(Enum):
    """An attempt of an evaluation, by its part in it."""

    NOBODY = "none of them"
    LAST = "the last one"
    LAST_CRASHED = "the last one that crashed"
    NAMED = "the one that the result names"


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        status: of the evaluation, one of `schema.EVALUATION_STATUSES`.
        accepted: the attempt that the result stands on.
        curve: the attempt whose rows are the evaluation's learning curve.
        is_running: the last attempt is at work.
        lacks_curve: a warning must say that the curve is missing.
    """

    status: str
    accepted: Which
    curve: Which
    is_running: bool = False
    lacks_curve: bool = False


class Situation(Enum):
    """The cases that differ."""

    RUN_HAS_ENDED = "no result, and the run's last master has ended"
    AT_WORK = "no result, and nobody says that the last attempt ended"
    IN_THE_QUEUE = "no result, and the last attempt ended"
    CRASH_IS_KNOWN = "crashed, and an attempt says so"
    CRASH_IS_UNKNOWN = "crashed, and no attempt says so (its worker died before it could)"
    CURVE_IS_THERE = "finished, and its attempt's file was read"
    CURVE_IS_DAMAGED = "finished, and its attempt's file could not be read"
    CURVE_IS_MISSING = "finished, and its attempt has no file, or none is known"


CASES: dict[Situation, Case] = {
    Situation.RUN_HAS_ENDED: Case("stopped", Which.NOBODY, Which.LAST),
    Situation.AT_WORK: Case("running", Which.NOBODY, Which.LAST, is_running=True),
    Situation.IN_THE_QUEUE: Case("waiting", Which.NOBODY, Which.LAST),
    Situation.CRASH_IS_KNOWN: Case("crashed", Which.LAST_CRASHED, Which.LAST_CRASHED),
    Situation.CRASH_IS_UNKNOWN: Case("crashed", Which.LAST, Which.LAST),
    Situation.CURVE_IS_THERE: Case("finished", Which.NAMED, Which.NAMED),
    Situation.CURVE_IS_DAMAGED: Case("finished", Which.NAMED, Which.NAMED),
    Situation.CURVE_IS_MISSING: Case("finished", Which.NAMED, Which.NAMED, lacks_curve=True),
}


@dataclass(frozen=True)
class Conclusion:
    """What an evaluation is. `accepted` and `curve` are numbers of attempts; None: no attempt."""

    status: str
    accepted: int | None
    curve: int | None
    is_running: bool
    lacks_curve: bool


def decide(result: ResultKind, named: int | None, tried: Sequence[Tried], run_has_ended: bool) -> Conclusion:
    """Status, accepted attempt, curve and warning of one evaluation.

    Args:
        named: the attempt that a finished result names; None: it names none.
        tried: the attempts that are known, ordered by number.
        run_has_ended: the run's last master has ended, so nothing of it is running.
    """
    case = CASES[situation(result, named, tried, run_has_ended)]
    accepted, curve = (_number(which, named, tried) for which in (case.accepted, case.curve))
    return Conclusion(case.status, accepted, curve, case.is_running, case.lacks_curve)


def situation(result: ResultKind, named: int | None, tried: Sequence[Tried], run_has_ended: bool) -> Situation:
    """The row of the table for an evaluation; arguments as in `decide`."""
    if result is ResultKind.CRASHED:
        is_known = any(attempt.outcome == "crashed" for attempt in tried)
        return Situation.CRASH_IS_KNOWN if is_known else Situation.CRASH_IS_UNKNOWN
    if result is ResultKind.FINISHED:
        accepted = next((attempt for attempt in tried if attempt.number == named), None)
        if accepted is None or not (accepted.has_curve or accepted.is_damaged):
            return Situation.CURVE_IS_MISSING
        return Situation.CURVE_IS_THERE if accepted.has_curve else Situation.CURVE_IS_DAMAGED
    if run_has_ended:
        return Situation.RUN_HAS_ENDED
    is_at_work = bool(tried) and tried[-1].outcome == "unknown"
    return Situation.AT_WORK if is_at_work else Situation.IN_THE_QUEUE


def _number(which: Which, named: int | None, tried: Sequence[Tried]) -> int | None:
    """The number of that attempt; None: there is no such attempt."""
    numbers = {
        Which.NOBODY: [],
        Which.LAST: [attempt.number for attempt in tried],
        Which.LAST_CRASHED: [attempt.number for attempt in tried if attempt.outcome == "crashed"],
        Which.NAMED: [attempt.number for attempt in tried if attempt.number == named],
    }[which]
    return numbers[-1] if numbers else None
