"""A stock hpbandster worker as a guest: it gets only what hpbandster sends, and is understood without numbers.

Its `start_computation` is oneway and its `register_result` carries no attempt. So each attempt has a callback object
of its own, and whether a oneway call arrived is seen from `is_busy`. A result that its serialiser refuses is never
sent, and no word of that: it is known by a worker that answers, is free, and has said nothing of its attempt for long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import Pyro4

from pipeline.master.connections import Post, WorkerConnection
from pipeline.master.events import Delivered
from pipeline.records import Evaluation
from pipeline.rpc.client import CALL_ERRORS, explain
from pipeline.rpc.messages import AttemptId, Outcome
from pipeline.rpc.network import PYRO, Network
from pipeline.runtime import SYSTEM, Runtime
from pipeline.settings.liveness import CALL_S

log = logging.getLogger("tandem.dispatch")

# A worker registers before it listens: how long it may take to answer.
JOIN_S = 30.0
ANSWER_S = 60.0
# A worker is free a moment before its result arrives, which may have a connection to make first.
UNDER_WAY_S = 5.0
UNSENT = (
    "the worker has ended it and sent no result: what compute returned cannot be sent (return a plain float as loss, "
    "and in info numbers, texts, lists and dicts of Python's own instead of numpy's or torch's); its log has the error"
)


class StockWorkerConnection(WorkerConnection):
    """The connection to a stock hpbandster worker."""

    def __init__(
        self,
        name: str,
        uri: str,
        post: Post,
        count: Callable[[], int],
        server: Any,
        runtime: Runtime = SYSTEM,
        network: Network = PYRO,
    ) -> None:
        super().__init__(name, uri, post, count, runtime, network)
        self._server = server
        self._attempt: AttemptId | None = None
        self._callback: _AttemptCallback | None = None
        self._free_since: float | None = None  # without a result of its attempt
        # Since it was given its attempt: then it is the network that may have lost the call or the result.
        self._was_away = False
        self.incarnation = ""

    def _make_proxy(self) -> Any:
        return self._network.proxy(self.uri, CALL_S, serializer="serpent")

    def join_when_it_answers(self, join: Callable[[], None]) -> None:
        """Call `join` from another thread once the worker listens."""

        def wait() -> None:
            deadline = self._runtime.monotonic() + JOIN_S
            while (problem := self._server.lacks() or self._reach()) and self._runtime.monotonic() < deadline:
                self._runtime.sleep(0.05)
            if problem:
                log.warning("%s does not join: %s", self.name, problem)
            else:
                join()

        self._runtime.thread(wait, f"join {self.name}").start()

    def _reach(self) -> str:
        """Connect and begin to ping; why that cannot be, or ""."""
        try:
            self.connect()
            self.start()
        except Exception as error:  # it does not listen yet, is of another kind, or there is no thread for it
            return explain(error)
        return ""

    def _ping(self) -> None:
        sent = self._runtime.monotonic()
        try:
            busy = self._proxy.is_busy()
        except CALL_ERRORS:
            self._was_away = True
            raise
        if busy:
            self._free_since = None
        self.reported = self._attempt if busy or self._may_deliver() else None
        self.reported_at = sent
        self.heard = self._runtime.monotonic()

    def _may_deliver(self) -> bool:
        """Whether the result of its attempt may be on its way though it is free; if none will come, that is told."""
        callback = self._callback
        if callback is None or callback.has_ended:
            return False
        if self._was_away or callback.is_delivering:
            return callback.is_delivering
        now = self._runtime.monotonic()
        self._free_since = now if self._free_since is None else self._free_since
        if now - self._free_since > UNDER_WAY_S:
            callback.give_up(UNSENT)
        return not callback.has_ended

    def _start(self, evaluation: Evaluation) -> dict[str, Any]:
        if self._proxy.is_busy():
            return {"accepted": False, "busy": True, "reason": "it is busy"}
        self._retire_callback()
        self._attempt = AttemptId(evaluation.config_id, evaluation.budget, evaluation.attempt)
        self._callback = _AttemptCallback(self, self._attempt, self._post, self._runtime)
        self._free_since, self._was_away = None, True
        self._server.register(self._callback)
        self._proxy.start_computation(
            self._callback,
            evaluation.config_id,
            config=dict(evaluation.configuration),
            budget=evaluation.budget,
            working_directory=".",
        )
        # The oneway call is on its way on a connection that has just answered. Once that connection has answered again,
        # the call has arrived, whether the worker is still at it or not.
        connection = self._proxy._pyroConnection
        self._proxy.is_busy()
        self._was_away = self._proxy._pyroConnection is not connection
        if self._was_away:
            return {"accepted": False, "reason": "the oneway call did not arrive"}
        return {"accepted": True}

    def _tell(self, method: str, *arguments: Any) -> None:
        if method == "shutdown":  # a stock worker knows no other request, and takes no reason
            super()._tell("shutdown")

    def close(self) -> None:
        """End the connection."""
        self._retire_callback()
        super().close()

    def _retire_callback(self) -> None:
        if self._callback is not None:
            self._server.unregister(self._callback)
            self._callback = None


class _AttemptCallback:
    """What a stock worker delivers one attempt's result to."""

    def __init__(self, connection: StockWorkerConnection, attempt: AttemptId, post: Post, runtime: Runtime) -> None:
        self._runtime = runtime
        self._connection = connection
        self._attempt = attempt
        self._post = post
        self.is_delivering = False
        self.has_ended = False

    def give_up(self, reason: str) -> None:
        """No result will come. The network may have lost it, too: with the next attempt it tells."""
        self.has_ended = True
        outcome = Outcome("lost", kind="bad_result", reason=reason)
        self._post(Delivered(self._connection.incarnation, self._attempt, outcome, self._runtime.reply()))

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def register_result(self, id: Any = None, result: Any = None) -> None:
        """Hpbandster's call; returns once the result is durable."""
        self.is_delivering = True
        reply = self._runtime.reply()
        self._connection.note_life()
        self._post(Delivered(self._connection.incarnation, self._attempt, _outcome(result), reply))
        try:
            reply.result(ANSWER_S)
        finally:
            self.has_ended, self.is_delivering = True, False


def _outcome(result: Any) -> Outcome:
    """What a stock worker sends, {"result": {"loss", "info"} or None, "exception": text or None}, as an outcome."""
    try:
        value, exception = result["result"], result["exception"]
    except (TypeError, KeyError):
        return Outcome("crashed", kind="bad_result", reason=f"the worker sent {type(result).__name__}, no result")
    if value is None:
        # The last line of a traceback says what happened.
        lines = str(exception or "").strip().splitlines() or ["no result and no reason"]
        return Outcome("crashed", kind="error", reason=lines[-1])
    if not isinstance(value, dict) or "loss" not in value:
        return Outcome("crashed", kind="bad_result", reason=f"compute returned {value!r:.100}, not a dict with a loss")
    loss = value["loss"]
    if isinstance(loss, float) and (loss != loss or loss in (float("inf"), float("-inf"))):
        return Outcome("crashed", kind="not_finite", reason=f"the loss is {loss}")
    info = value.get("info") or {}
    if not isinstance(info, dict):
        info = {"info": info}
    return Outcome.from_plain({"status": "finished", "loss": loss, "info": info})
