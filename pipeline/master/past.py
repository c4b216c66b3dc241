"""What a run's files say when a master begins: read and rebuilt once, before anything else of the run is touched."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.run.folder import RunFolder
from pipeline.run.history import History, read_history, read_journal
from pipeline.search.replay import rebuild
from pipeline.search.search import Search
from pipeline.settings import Settings


@dataclass(frozen=True)
class Past:
    """A run as its files say it stood.

    Attributes:
        journal: its events, oldest first.
        search: rebuilt from the history.
    """

    history: History
    journal: Sequence[dict[str, Any]]
    search: Search


def read_past(folder: RunFolder, settings: Settings) -> Past:
    """Read a run's files and rebuild its search.

    Raises:
        RunError: they are damaged, or do not fit together or not to the settings.
        OSError: they cannot be read.
    """
    with _without_collection():
        history = read_history(folder)
        journal = read_journal(folder)
        return Past(history, journal, rebuild(settings, history))


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Without garbage collection: what is made here stays, and looking through it again and again is a third of the
    time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
