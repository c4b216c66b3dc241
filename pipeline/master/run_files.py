"""The master writes results, draws and the journal, each durable before it counts, while it holds the lease only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pipeline.master.lease import Lease
from pipeline.run.folder import RunFolder
from pipeline.run.history import JOURNAL_EVENTS, Draw, Result, draw_line, event_line, result_line
from pipeline.run.json_lines import JsonLinesWriter
from pipeline.runtime import SYSTEM, Clock

log = logging.getLogger("tandem.master")


class RunFiles:
    """Appends to configs.json, results.json and journal.jsonl; one fsync covers a batch.

    Opening cuts torn last lines. Every method raises LeaseLostError once another master has taken over, OSError when
    the disk is full or gone (what was written of the batch is cut again), RunError when another has written meanwhile.
    """

    def __init__(self, folder: RunFolder, lease: Lease, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._lease = lease
        self._configs, self._results, self._journal = (
            JsonLinesWriter(path) for path in (folder.configs, folder.results, folder.journal)
        )
        self._noted: list[dict[str, Any]] = []
        for writer in (self._configs, self._results, self._journal):
            if writer.torn_bytes:
                log.warning("%s: cut a torn last line of %d bytes", writer.path.name, writer.torn_bytes)

    @property
    def term(self) -> int:
        """The master's."""
        return self._lease.term

    def check_lease(self) -> None:
        """Make sure that the run is still this master's to write; raises LeaseLostError."""
        self._lease.check()

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
            ValueError: the event has other fields (see `JOURNAL_EVENTS`), or one of them is out of bounds.
        """
        if set(fields) != set(JOURNAL_EVENTS[event]):
            raise ValueError(f"journal event {event} has the fields {JOURNAL_EVENTS[event]}, not {tuple(fields)}")
        self._noted.append(event_line({"time": self._clock.time(), "event": event, **fields}))

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
