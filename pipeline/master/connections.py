"""The master's connection to one worker: a thread of its own, so that a frozen worker holds up nobody else.

Every call has a timeout of the connection's own proxy. Whatever a connection learns it posts to the master's loop; it
decides nothing.
"""

from __future__ import annotations

import logging
import queue
import traceback
from collections.abc import Callable
from typing import Any

import Pyro4.errors

from pipeline.bounds import Seconds, checked
from pipeline.master.events import DispatchEnded, Event, Gone, ThreadDied
from pipeline.records import Evaluation
from pipeline.rpc.client import CALL_ERRORS, explain, is_gone
from pipeline.rpc.messages import AttemptId
from pipeline.rpc.network import PYRO, Network
from pipeline.runtime import SYSTEM, Queue, Runtime
from pipeline.settings.liveness import CALL_S, ping_interval_s

log = logging.getLogger("tandem.dispatch")

# When hundreds join at once, handshakes queue up.
JOIN_S = 8.0
Post = Callable[[Event], None]


class WorkerConnection:
    """Calls into one worker, one at a time.

    Args:
        post: takes events to the master's loop.
        count: how many workers there are.

    Attributes:
        heard: when the worker last gave a sign of life (monotonic).
        reported: the attempt that the worker said it was at, when last pinged.
        reported_at: when that ping was sent (monotonic); 0: never.
        quiet_s: for how long its training had begun no batch by then; 0 where that is not known.
    """

    def __init__(
        self,
        name: str,
        uri: str,
        post: Post,
        count: Callable[[], int],
        runtime: Runtime = SYSTEM,
        network: Network = PYRO,
    ) -> None:
        self._runtime = runtime
        self._network = network
        self.name = name
        self.uri = uri
        self.heard = self._runtime.monotonic()
        self.reported: AttemptId | None = None
        self.reported_at = 0.0
        self.quiet_s = 0.0
        self._post = post
        self._count = count
        self._commands: Queue = runtime.queue()
        self._hurry = False
        self._was_garbled = False
        self._not_before = 0.0
        self._proxy = self._make_proxy()

    def _make_proxy(self) -> Any:
        return self._network.proxy(self.uri, CALL_S)

    def connect(self) -> None:
        """Reach the worker for the first time; raises one of `CALL_ERRORS`."""
        self._proxy._pyroTimeout = JOIN_S
        self._ping()
        self._proxy._pyroTimeout = CALL_S

    def start(self) -> None:
        """Begin to ping; raises RuntimeError where no thread can be started now."""
        try:
            self._runtime.thread(self._run, f"connection {self.name}").start()
        except RuntimeError:
            self._proxy._pyroRelease()
            raise

    # Asked by the master's loop; each returns at once -------------------------------------------------------------
    def dispatch(self, evaluation: Evaluation) -> None:
        """Start an evaluation; ends in a `DispatchEnded`."""
        self._commands.put(lambda: self._dispatch(evaluation))

    def stop_attempt(self, attempt: AttemptId, reason: str) -> None:
        """Ask the worker to give up an attempt and stay."""
        self._commands.put(lambda: self._tell("stop_attempt", attempt.to_plain(), reason))

    def dismiss(self, reason: str) -> None:
        """Ask the worker to checkpoint, hand back and leave."""
        self._commands.put(lambda: self._tell("shutdown", reason))

    def check_now(self) -> None:
        """Ping without waiting for the interval: its connection has closed."""
        self._hurry = True
        self._commands.put(lambda: None)

    def close(self) -> None:
        """End the connection."""
        self._commands.put(None)

    def note_life(self) -> None:
        """The worker called: that counts as an answer."""
        self.heard = self._runtime.monotonic()

    # The connection's thread -------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            while True:
                try:
                    due = max(self.heard + ping_interval_s(self._count()), self._not_before)
                    command = self._commands.get(timeout=max(0.01, due - self._runtime.monotonic()))
                except queue.Empty:
                    command = self._ping_quietly
                if command is None:
                    break
                command()
                if self._hurry:
                    self._hurry = False
                    self._ping_quietly()
            self._proxy._pyroRelease()
        except Exception:
            self._post(ThreadDied(f"connection {self.name}", traceback.format_exc()))

    def _ping_quietly(self) -> None:
        try:
            try:
                self._ping()
            except Pyro4.errors.ConnectionClosedError:
                self._ping()  # the connection is dead; whether the worker is, a new one tells
        except CALL_ERRORS as error:
            if is_gone(error):
                self._post(Gone(self, explain(error)))
            self._not_before = self._runtime.monotonic() + 0.5
        except Exception as error:  # no answer that can be understood is none: it falls silent, and is given up
            if not self._was_garbled:
                log.warning("%s does not say what it is at: %s: %s", self.name, type(error).__name__, error)
            self._was_garbled = True
            self._not_before = self._runtime.monotonic() + 0.5

    def _ping(self) -> None:
        sent = self._runtime.monotonic()
        state = self._proxy.state()
        holds = state.get("holds")
        self.reported = None if holds is None else AttemptId.from_plain(holds)
        self.quiet_s = checked(Seconds, state.get("quiet_s", 0.0))  # workers of earlier versions do not say
        self.reported_at = sent
        self.heard = self._runtime.monotonic()

    def _dispatch(self, evaluation: Evaluation) -> None:
        attempt = AttemptId(evaluation.config_id, evaluation.budget, evaluation.attempt)
        try:
            answer = dict(self._start(evaluation))
        except CALL_ERRORS as error:
            result = "gone" if is_gone(error) else "unknown"
            self._post(DispatchEnded(self, attempt, result, explain(error)))
            return
        except Exception as error:
            self._post(DispatchEnded(self, attempt, "refused", f"{type(error).__name__}: {error}"))
            return
        self.heard = self._runtime.monotonic()
        result = "started" if answer.get("accepted") else "busy" if answer.get("busy") else "refused"
        reason, is_leaving = str(answer.get("reason", "")), bool(answer.get("leaving"))
        self._post(DispatchEnded(self, attempt, result, reason, is_leaving))

    def _start(self, evaluation: Evaluation) -> dict[str, Any]:
        answer: dict[str, Any] = self._proxy.start_computation(
            None, list(evaluation.config_id), evaluation=evaluation.to_plain()
        )
        return answer

    def _tell(self, method: str, *arguments: Any) -> None:
        try:
            getattr(self._proxy, method)(*arguments)
        except CALL_ERRORS as error:
            log.info("%s: %s did not get through (%s)", self.name, method, explain(error))
        except Exception as error:  # what the worker raised is its own affair
            log.warning("%s: %s failed there: %s: %s", self.name, method, type(error).__name__, error)
