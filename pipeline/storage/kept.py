"""What results.h5 holds of a run whose files were removed since: collecting anew keeps it.

A curve stands in its attempt's file until that is removed to save space, and from then on in results.h5 alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.errors import RunError
from pipeline.files import is_there
from pipeline.records import EvaluationKey
from pipeline.run.folder import RunFolder
from pipeline.storage.gather import FoundAttempt
from pipeline.storage.results import Results, load_results

Row = dict[str, Any]
# Of an attempt, these are told by the files that are there, by the journal and by the results.
_TOLD_ANEW = ("evaluation", "accepted", "outcome", "reason", "problem")


def read_kept(folder: RunFolder) -> Kept:
    """What a run's results.h5 holds; nothing, where there is none or it cannot be read."""
    if not is_there(folder.collected):
        return Kept()
    try:
        return Kept(load_results(folder.collected))
    except RunError:
        return Kept(is_unreadable=True)


class Kept:
    """Rows of the results.h5 that is there, by evaluation and attempt.

    Attributes:
        is_unreadable: there is one, damaged or another version's.
    """

    def __init__(self, results: Results | None = None, is_unreadable: bool = False) -> None:
        self._results = results
        self.is_unreadable = is_unreadable

    def text(self, name: str) -> str:
        """A text of /run, as JSON; "": it holds none."""
        value = None if self._results is None else getattr(self._results, name)
        return json.dumps(value) if value else ""

    def with_earlier_events(self, journal: list[Row]) -> list[Row]:
        """The journal, preceded by the events that are older than its first."""
        if self._results is None:
            return journal
        first = journal[0]["time"] if journal else float("inf")
        rows = self._results.journal
        return [*(_known(row) for row in rows[rows["time"] < first].to_dict("records")), *journal]

    def add_unknown(self, found: dict[EvaluationKey, list[FoundAttempt]]) -> None:
        """Add the attempts that neither a file nor the journal tells of any more."""
        for (key, number), row in self._attempts.items():
            attempts = found.setdefault(key, [])
            if all(attempt.attempt != number for attempt in attempts):
                told = {name: row.get(name, "") for name in ("outcome", "reason", "worker")}
                attempts.append(FoundAttempt(*key, number, **told))
                attempts.sort(key=lambda attempt: attempt.attempt)

    def lacking(self, attempts: Iterable[FoundAttempt]) -> int:
        """How many of these attempts had a file that is gone, or cannot be read any more."""
        return sum(a.header is None and "file" in self._attempts.get(_id(a), {}) for a in attempts)

    def evaluation(self, curve: FoundAttempt | None) -> int | None:
        """The row of an evaluation whose curve is that attempt's, if the curve stands here alone."""
        if curve is None or curve.header is not None:
            return None
        number = self._evaluations.get((curve.config_id, curve.budget))
        if number is None or self._results is None:
            return None
        row = self._results.evaluations.iloc[number]
        return number if row["attempt"] == curve.attempt and row["curve_length"] else None

    def curve(self, number: int) -> np.ndarray:
        """The curve of an evaluation, by its row."""
        assert self._results is not None  # whoever has a row has it from `evaluation`
        return self._results.curve(number).drop(columns="evaluation").to_records(index=False)

    def completed_evaluation(self, row: Row, number: int) -> Row:
        """What is known of an evaluation now, and for the rest what was; its metrics likewise."""
        assert self._results is not None
        before = _known(self._results.evaluations.iloc[number].to_dict())
        metrics = _known(self._results.metrics.iloc[number].to_dict())
        return {**before, **_known(row), "metrics": {**metrics, **_known(row["metrics"])}}

    def completed_attempt(self, row: Row, attempt: FoundAttempt, *, lacks_files: bool) -> Row:
        """A row of /attempts with what its file said, where that is gone.

        Args:
            lacks_files: of its evaluation, so that what was lost cannot be told anew.
        """
        before = self._attempts.get(_id(attempt), {})
        if attempt.header is None:
            return {**row, **before, **{name: row[name] for name in _TOLD_ANEW}}
        return {**row, "lost_s": before.get("lost_s", row["lost_s"])} if lacks_files else row

    @cached_property
    def _attempts(self) -> dict[tuple[EvaluationKey, int], Row]:
        rows = [] if self._results is None else self._results.attempts.to_dict("records")
        return {(_key(row), int(row["attempt"])): _known(row) for row in rows}

    @cached_property
    def _evaluations(self) -> dict[EvaluationKey, int]:
        rows = [] if self._results is None else self._results.evaluations.to_dict("records")
        return {_key(row): number for number, row in enumerate(rows)}


def _id(attempt: FoundAttempt) -> tuple[EvaluationKey, int]:
    return (attempt.config_id, attempt.budget), attempt.attempt


def _key(row: Mapping[Any, Any]) -> EvaluationKey:
    return (int(row["iteration"]), int(row["stage"]), int(row["index"])), float(row["budget"])


def _known(row: Mapping[Any, Any]) -> Row:
    """A row without what a stored table has for a value that is not known."""
    return {name: value for name, value in row.items() if value is not None and value != "" and value == value}
