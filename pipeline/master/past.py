"""What a run's files say when a master begins: read and rebuilt once, before anything of the run is touched."""

from __future__ import annotations

import contextlib
import gc
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import is_absent, read_fresh
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
        fingerprints: of the files that were read.
    """

    history: History
    journal: Sequence[dict[str, Any]]
    search: Search
    fingerprints: Sequence[bytes]

    def is_current(self, folder: RunFolder) -> bool:
        """Whether the files are what they were: reading them all again would take a second or two of a long run."""
        return list(self.fingerprints) == _fingerprints(folder)


def read_past(folder: RunFolder, settings: Settings) -> Past:
    """Read a run's files and rebuild its search.

    Raises:
        RunError: they are damaged, or do not fit together or not to the settings.
        OSError: they cannot be read.
    """
    fingerprints = _fingerprints(folder)  # first: what is written meanwhile makes a difference
    with _without_collection():
        history = read_history(folder)
        journal = read_journal(folder)
        return Past(history, journal, rebuild(settings, history), fingerprints)


def _fingerprints(folder: RunFolder) -> list[bytes]:
    return [_fingerprint(path) for path in (folder.results, folder.configs, folder.earlier, folder.journal)]


def _fingerprint(path: Path) -> bytes:
    content = b"" if read_fresh(path, is_absent) else read_fresh(path, Path.read_bytes)
    return hashlib.sha256(content).digest()


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
