"""Linear algebra on one thread of the process, whoever else is at it."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


class OneThread:
    """A context in which BLAS has one thread. Threads of the process may be in it together: the limit is the whole
    process's, so the first sets it, and the last to leave lifts it.
    """

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit = self._controller.limit(limits=1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limit.restore_original_limits()


@cache
def one_thread() -> OneThread:
    """The process's own."""
    return OneThread(ThreadpoolController())
