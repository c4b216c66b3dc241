"""What a person should know of evaluations: why they crashed, and what their objective does that it should not."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipeline.records import NOTES_KEY
from pipeline.run.history import Result
from pipeline.wording import counted

# Lines that a status and a report have room for.
MOST_LINES = 8
LONGEST = 400


class Remarks:
    """Remarks on evaluations, those that differ by numbers alone counted together."""

    def __init__(self, results: Iterable[Result] = (), with_crashes: bool = True) -> None:
        self._with_crashes = with_crashes
        self._found: dict[str, tuple[str, int]] = {}
        for result in results:
            self.take(result)

    def take(self, result: Result) -> None:
        """Take in a result."""
        notes = result.info.get(NOTES_KEY)
        texts = [str(note) for note in notes] if isinstance(notes, list | tuple) else []
        if self._with_crashes and result.loss is None:
            texts.append(f"crashed, {result.exception or 'with no reason given'}")
        kinds: dict[str, str] = {}
        for text in texts:
            kinds.setdefault(without_numbers(text), text)
        for kind, first in kinds.items():
            known, count = self._found.get(kind, (first, 0))
            self._found[kind] = known, count + 1

    def lines(self) -> list[str]:
        """A line for each kind, the most frequent first."""
        ordered = sorted(self._found.values(), key=lambda found: -found[1])
        lines = [f"{counted(count, 'evaluation')}: {' '.join(text.split())[:LONGEST]}" for text, count in ordered]
        more = len(lines) - MOST_LINES
        return lines if more <= 0 else [*lines[:MOST_LINES], f"... and {more} more kinds, in results.json"]


def without_numbers(reason: str) -> str:
    """The beginning of a reason, without its numbers: what makes two alike."""
    return re.sub(r"\d+", "#", reason)[:120]
