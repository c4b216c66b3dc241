"""A stock hpbandster worker as a guest: it gets only what hpbandster sends, and is understood without numbers.

Its `start_computation` is oneway and its `register_result` carries no attempt. So each attempt has a callback object
of its own, and whether a oneway call arrived is seen from `is_busy`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import Pyro4

from pipeline.master.connections import Post, WorkerConnection
from pipeline.master.events import Delivered
from pipeline.records import Evaluation
from pipeline.rpc.client import CALL_ERRORS
from pipeline.rpc.messages import AttemptId, Outcome
from pipeline.rpc.network import PYRO, Network
from pipeline.runtime import SYSTEM, Runtime
from pipeline.settings.liveness import CALL_S

# A worker registers before it listens: how long it may take to answer.
JOIN_S = 30.0
ANSWER_S = 60.0


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
        self.incarnation = ""

    def _make_proxy(self) -> Any:
        return self._network.proxy(self.uri, CALL_S, serializer="serpent")

    def join_when_it_answers(self, join: Callable[[], None]) -> None:
        """Call `join` from another thread once the worker listens."""

        def wait() -> None:
            deadline = self._runtime.monotonic() + JOIN_S
            while self._runtime.monotonic() < deadline:
                try:
                    self.connect()
                except CALL_ERRORS:
                    self._runtime.sleep(0.05)
                else:
                    join()
                    return

        self._runtime.thread(wait, f"join {self.name}").start()

    def _ping(self) -> None:
        sent = self._runtime.monotonic()
        busy = self._proxy.is_busy()
        # A result may be on its way while the worker is free again: it counts as held until its callback has ended.
        delivering = self._callback is not None and self._callback.is_delivering
        self.reported = self._attempt if busy or delivering else None
        self.reported_at = sent
        self.heard = self._runtime.monotonic()

    def _start(self, evaluation: Evaluation) -> dict[str, Any]:
        if self._proxy.is_busy():
            return {"accepted": False, "reason": "it is busy"}
        self._retire_callback()
        self._attempt = AttemptId(evaluation.config_id, evaluation.budget, evaluation.attempt)
        self._callback = _AttemptCallback(self, self._attempt, self._post, self._runtime)
        self._server.register(self._callback)
        self._proxy.start_computation(
            self._callback,
            evaluation.config_id,
            config=dict(evaluation.configuration),
            budget=evaluation.budget,
            working_directory=".",
        )
        # The oneway call is on its way on a connection that has just answered; see that it arrives.
        deadline = self._runtime.monotonic() + CALL_S
        while self._runtime.monotonic() < deadline:
            if self._callback.has_ended or self._callback.is_delivering or self._proxy.is_busy():
                return {"accepted": True}
            self._runtime.sleep(0.002)
        return {"accepted": False, "reason": "the oneway call did not arrive"}

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
