"""Threads of the master: one that dies ends the run with its traceback, instead of leaving a search that hangs."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from pipeline.master.events import ThreadDied
from pipeline.runtime import Queue


def guarded(inbox: Queue, name: str, target: Callable[[], None]) -> Callable[[], None]:
    """A thread's target whose exception ends the run, with its traceback, instead of the thread alone."""

    def run() -> None:
        try:
            target()
        except BaseException:
            inbox.put(ThreadDied(name, traceback.format_exc()))

    return run
