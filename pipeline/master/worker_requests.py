"""When to ask for workers: at the start, and again when there is work for more than there are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from pipeline.errors import TandemError
from pipeline.master.run_files import RunFiles
from pipeline.records import StartedWorkers
from pipeline.runtime import SYSTEM, Runtime
from pipeline.settings import Settings

log = logging.getLogger("tandem.master")

# Workers of an earlier master return within seconds: wait for them before asking for others.
WORKERS_RETURN_S = 8.0
REQUEST_S = 20.0
# While requests bear no fruit (a full cluster), they become rarer.
MAX_REQUEST_S = 600.0


RequestWorkers = Callable[[int], StartedWorkers]


class WorkerRequester:
    """Calls `request_workers` in a thread of its own: submitting may take long, and may fail.

    Attributes:
        problem: why the last request failed or brings too few workers, or "".
        failing_nodes: nodes on which workers end before they join, with the reason.
    """

    def __init__(
        self,
        settings: Settings,
        request_workers: RequestWorkers | None,
        files: RunFiles,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._runtime = runtime
        self._count = settings.workers.count
        self._request = request_workers
        self._files = files
        self._next = 0.0
        self._pause_s = REQUEST_S
        self._busy = runtime.event()
        self.problem = ""
        self.failing_nodes: Mapping[str, str] = {}

    def wait_for_returning(self) -> None:
        """Workers of an earlier master may be alive: give them time."""
        self._next = self._runtime.monotonic() + WORKERS_RETURN_S

    def worker_joined(self) -> None:
        """Requests bear fruit: the next one need not wait for as long as the last one was told to."""
        self._pause_s = REQUEST_S
        self._next = min(self._next, self._runtime.monotonic() + REQUEST_S)

    def tick(self, present: int, useful: int) -> None:
        """Ask for workers if there are too few.

        Args:
            present: workers that need no replacement.
            useful: how many could work side by side.
        """
        missing = min(self._count, useful) - present
        now = self._runtime.monotonic()
        if missing <= 0:
            self.problem = ""  # whatever was in the way, nobody is lacking
        if self._request is None or missing <= 0 or now < self._next or self._busy.is_set():
            return
        self._next = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, MAX_REQUEST_S)
        self._files.note("workers_requested", count=missing)
        self._busy.set()
        request = self._request
        try:
            self._runtime.thread(lambda: self._ask(request, missing), "request workers").start()
        except RuntimeError as error:  # no thread can be had now
            self._fail(error)
            self._busy.clear()

    def _ask(self, request: RequestWorkers, count: int) -> None:
        try:
            started = request(count)
            self.problem, self.failing_nodes = started.problem, started.failing_nodes
            if started.jobs:
                log.info("asked for %d workers: %s", len(started.jobs), " ".join(started.jobs))
            if started.problem:
                log.warning("%s", started.problem)
        except Exception as error:  # a full queue, a partition that is down: the run goes on with what it has
            self._fail(error)
        finally:
            self._busy.clear()

    def _fail(self, error: Exception) -> None:
        self.problem = f"workers could not be requested: {error}"
        log.warning("%s", self.problem, exc_info=not isinstance(error, TandemError))
