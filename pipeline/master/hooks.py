"""Commands of the user's that are told of a run's end, its break and its incumbents, beside the master's loop.

A command gets the run's status as JSON on its input. It runs in a thread of its own, one at a time, for a limited time:
neither a command that hangs nor one that fails holds the search up.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile

from pipeline.bounds import plain
from pipeline.run.folder import RunFolder
from pipeline.run.status import IncumbentStatus, RunStatus
from pipeline.runtime import SYSTEM, Queue, Runtime
from pipeline.settings import HookSettings

log = logging.getLogger("tandem.master")

END, BREAK, INCUMBENT = "end", "break", "incumbent"
# What a master that leaves, to go on elsewhere, waits for its commands: its allocation is about to end.
LEAVE_S = 5.0
POLL_S = 0.05
# Of what a failed command wrote, the last line is shown.
SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class _HookCall:
    event: str
    command: str
    status: RunStatus


class Hooks:
    """Runs the commands that the settings name; without any, it does nothing and has no thread.

    Attributes:
        problem: what went wrong with the last command, or "".
        is_at_work: whether a command runs.
    """

    def __init__(self, settings: HookSettings, folder: RunFolder, runtime: Runtime = SYSTEM) -> None:
        self.problem = ""
        self.is_at_work = False
        self._settings = settings
        self._folder = folder
        self._incumbent: IncumbentStatus | None = None
        self._is_first_look = True
        self._newest: _HookCall | None = None
        self._leave_by = math.inf
        self._calls: Queue = runtime.queue()
        self._thread = runtime.thread(self._run, "hooks") if settings.are_any else None
        if self._thread is not None:
            self._thread.start()

    def look(self, status: RunStatus) -> None:
        """Notice a new incumbent on the largest budget that has one; one that an earlier master knew is not new."""
        incumbent = status.incumbents[-1] if status.incumbents else None
        is_new = incumbent is not None and incumbent != self._incumbent and not self._is_first_look
        self._incumbent, self._is_first_look = incumbent, False
        if is_new and self._settings.on_incumbent:
            self._newest = _HookCall(INCUMBENT, self._settings.on_incumbent, status)
            self._calls.put(self._newest)

    def end(self, status: RunStatus) -> None:
        """Tell of the end of the run, and wait until all has been told or its time is up.

        A master that leaves, to go on elsewhere, is no end, and waits for `LEAVE_S` at most.
        """
        if self._thread is None:
            return
        if status.state == "left":
            self._leave_by = time.monotonic() + LEAVE_S
        event, command = {
            "broken": (BREAK, self._settings.on_break),
            "finished": (END, self._settings.on_end),
            "stopped": (END, self._settings.on_end),
        }.get(status.state, (END, None))
        if command:
            self._calls.put(_HookCall(event, command, status))
        self._calls.put(None)
        self._thread.join()
        self._thread = None

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            if call.event == INCUMBENT and call is not self._newest:
                continue  # of several that waited, the last one alone is news
            if time.monotonic() > self._leave_by:
                log.warning("hooks.on_%s is not told: this master leaves", call.event)
                continue
            self.is_at_work = True
            try:
                self.problem = self._call(call)
            except OSError as error:
                self.problem = f"hooks.on_{call.event} cannot be run: {error.strerror}"
            if self.problem:
                log.warning("%s", self.problem)
            self.is_at_work = False

    def _call(self, call: _HookCall) -> str:
        """Run a command to its end or its time limit; what went wrong, or ""."""
        name = f"hooks.on_{call.event}"
        told = {"event": call.event, "run_folder": str(self._folder.path), **plain(call.status)}
        log.info("%s: %s", name, call.command)
        # Files, not pipes: a process that the command leaves behind keeps a pipe open.
        with TemporaryFile("w+") as told_file, TemporaryFile("w+", errors="replace") as said_file:
            json.dump(told, told_file)
            told_file.seek(0)
            process = subprocess.Popen(
                ["/bin/sh", "-c", call.command], stdin=told_file, stdout=said_file, stderr=said_file,
                start_new_session=True, cwd=self._folder.path,
                env={**os.environ, "TANDEM_EVENT": call.event, "TANDEM_RUN": str(self._folder.path)},
            )  # fmt: skip
            status = self._wait(process)
            if status is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                is_due = time.monotonic() > self._leave_by
                why = "this master leaves" if is_due else f"it took more than {self._settings.timeout_s:g} s"
                return f"{name} was ended: {why}"
            if status == 0:
                return ""
            said_file.seek(0)
            last = (said_file.read().strip().splitlines() or ["without a word"])[-1][:SHOWN_CHARACTERS]
        return f"{name} failed with status {status}: {last}"

    def _wait(self, process: subprocess.Popen[bytes]) -> int | None:
        """How a command ended; None: its time is up."""
        deadline = time.monotonic() + self._settings.timeout_s
        while (status := process.poll()) is None and time.monotonic() < min(deadline, self._leave_by):
            time.sleep(POLL_S)
        return status
