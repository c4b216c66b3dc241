"""The master's pen: results, draws and the journal, each durable before it counts, written under the lease only."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from pipeline.history import JOURNAL_EVENTS, Draw, Result, draw_line, result_line
from pipeline.json_lines import JsonLinesWriter
from pipeline.run_folder import RunFolder
from pipeline.search.lease import Lease
from pipeline.search.messages import Attempt, Outcome

log = logging.getLogger("tandem.master")


class RunFiles:
    """Appends to configs.json, results.json and journal.jsonl; one fsync covers a batch.

    Opening cuts torn last lines. Every method raises LeaseLostError once another master has taken over, and OSError
    when the disk is full or gone (what was written of the batch is cut again).
    """

    def __init__(self, folder: RunFolder, lease: Lease) -> None:
        self._lease = lease
        self._configs, self._results, self._journal = (
            JsonLinesWriter(path) for path in (folder.configs, folder.results, folder.journal)
        )
        self._noted: list[dict[str, Any]] = []
        for writer in (self._configs, self._results, self._journal):
            if writer.torn_bytes:
                log.warning("%s: cut a torn last line of %d bytes", writer.path.name, writer.torn_bytes)

    def write_results(self, results: Sequence[Result]) -> None:
        """Make results durable: after this they may be acknowledged."""
        self._lease.check()
        self._results.append(result_line(r) for r in results)

    def write_draws(self, draws: Sequence[Draw]) -> None:
        """Make draws durable: after this they may be dispatched."""
        self._lease.check()
        self._configs.append(draw_line(d) for d in draws)

    def note(self, event: str, **fields: Any) -> None:
        """Add an event to the journal; it waits for `write_journal`.

        Raises:
            ValueError: the event has other fields (see `JOURNAL_EVENTS`).
        """
        if set(fields) != set(JOURNAL_EVENTS[event]):
            raise ValueError(f"journal event {event} has the fields {JOURNAL_EVENTS[event]}, not {tuple(fields)}")
        self._noted.append({"time": time.time(), "event": event, **fields})

    def write_journal(self, durable: bool) -> None:
        """Write the noted events; `durable`: before this returns."""
        if not self._noted and not durable:
            return
        self._lease.check()
        self._journal.append(self._noted, durable)
        self._noted = []

    def close(self) -> None:
        """Close the files."""
        for writer in (self._configs, self._results, self._journal):
            writer.close()


def read_undelivered(folder: RunFolder) -> list[tuple[Attempt, str, str, Outcome]]:
    """Results that workers left in the run folder because no master took them: (attempt, worker, host, outcome).

    A damaged file is left where it is, and said so: its evaluation is run again.
    """
    found = []
    for path in sorted(folder.undelivered.glob("*.json")) if folder.undelivered.is_dir() else []:
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            attempt = Attempt.from_plain(plain["attempt"])
            outcome = Outcome.from_plain(plain["outcome"])
            found.append((attempt, str(plain["worker"]), str(plain["host"]), outcome))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged (%s); its evaluation is run again", path, error)
    return found


def undelivered_path(folder: RunFolder, attempt: Attempt) -> Any:
    """Where a worker leaves the result of an attempt when no master takes it."""
    return folder.undelivered / folder.attempt(*attempt.key, attempt.number).with_suffix(".json").relative_to(
        folder.attempts
    ).as_posix().replace("/", "-")
