"""Show a run on a terminal, drawn again and again, until it ends or a key is pressed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from rich.console import Console
from rich.live import Live

from pipeline.run.details import RunDetails
from pipeline.run.folder import RunFolder
from pipeline.run.status import RunStatus
from pipeline.run.status_view import SORTS, Screen, SlurmQueue, status_table
from pipeline.watching.details import run_details
from pipeline.watching.keys import Keys

# What takes a look at all of a run's files is made anew this often.
LOOK_S = 15.0
LOOK_SHARE = 20
LEAVE = "q"

Watch = Callable[[Callable[[float], None]], Iterable[RunStatus | None]]


class LiveScreen:
    """A run's status with its details, on a terminal.

    Args:
        watch: given a way to wait for so many seconds, the run's status again and again.
        queue: what Slurm's queue has of the run.
        forecast: when a status lets the run end, for a person, or "".
        can_leave: whether a key leaves the view; Ctrl-C raises KeyboardInterrupt in any case.
    """

    def __init__(
        self,
        folder: RunFolder,
        watch: Watch,
        queue: Callable[[], SlurmQueue | None],
        forecast: Callable[[RunStatus], str],
        can_leave: bool,
    ) -> None:
        self._folder = folder
        self._watch = watch
        self._queue = queue
        self._forecast = forecast
        by = ", ".join(f"{key} {name}" for key, name in SORTS.items())
        ends = f"{LEAVE} leaves, the run goes on" if can_leave else "Ctrl-C stops the search"
        self._footer = f"sort by: {by}; {ends}"
        self._can_leave = can_leave
        self._screen = Screen()
        self._has_left = False
        self._details, self._end, self._next_look = RunDetails(), "", 0.0

    def show(self) -> None:
        """Go on until the run has ended, its master is lost, or the person leaves."""
        console = Console()
        with Keys() as keys, Live(console=console, auto_refresh=False) as live:
            for status in self._watch(lambda seconds: self._press(keys.wait(seconds))):
                if self._has_left:
                    return
                self._look(status)
                footer = "" if status is None or status.has_ended else self._footer
                self._screen = replace(self._screen, lines=console.height, footer=footer)
                end = "" if status is None or status.has_ended else self._end
                table = status_table(self._folder, status, self._queue(), self._details, self._screen, end)
                live.update(table, refresh=True)

    def _press(self, key: str) -> None:
        if key in SORTS:
            self._screen = replace(self._screen, sort=SORTS[key])
        elif key == LEAVE and self._can_leave:
            self._has_left = True

    def _look(self, status: RunStatus | None) -> None:
        """Read the run's files, less often where that takes long; once more at the end."""
        began = time.monotonic()
        if status is None or (began < self._next_look and not status.has_ended):
            return
        self._end = self._forecast(status)
        self._details = run_details(self._folder, status)
        self._next_look = time.monotonic() + max(LOOK_S, LOOK_SHARE * (time.monotonic() - began))
