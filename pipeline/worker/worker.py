"""A worker: finds the master of a run, evaluates what it is given, delivers, and leaves when it is not needed.

The evaluation runs in the caller's thread (signals and torch want the main one); the master's calls are answered by
others meanwhile. A worker outlives its master: it keeps training, finds the next one and delivers what it has.
"""

from __future__ import annotations

import contextlib
import logging
import os
import zlib
from collections.abc import Callable
from typing import Any

import Pyro4
from hpbandster.core.worker import Worker

from pipeline.cluster.allocation import ALLOCATION_END
from pipeline.cluster.gpus import gpu_memory_mb
from pipeline.errors import RunError, SiteError
from pipeline.records import Evaluation, WorkerIdentity
from pipeline.rpc.master_address import MasterAddress, rpc_run_id
from pipeline.rpc.messages import AttemptId, Outcome
from pipeline.rpc.network import PYRO, Network, Server
from pipeline.rpc.undelivered import Undelivered
from pipeline.run.folder import RunFolder
from pipeline.runtime import SYSTEM, Runtime
from pipeline.settings import Settings
from pipeline.worker.connection import MasterConnection
from pipeline.worker.evaluate import Evaluate, ShouldStop, TrainingEvaluator, is_device_lost, run_attempt
from pipeline.worker.own_objective import OwnEvaluator

log = logging.getLogger("tandem.worker")

WAIT_S = 0.5
# Why a worker leaves, besides what `should_stop` and the master say ("done", "stopped", "broken", "not_needed",
# "excluded"):
IDLE = "idle"
NO_MASTER = "no_master"
DEVICE_LOST = "device_lost"


def run_worker(
    folder: RunFolder,
    identity: WorkerIdentity,
    settings: Settings,
    *,
    should_stop: ShouldStop = lambda: None,
    allocation_end: float | None = None,
    evaluate: Evaluate | None = None,
    device: str | None = None,
    before_farewell: Callable[[str], None] = lambda reason: None,
    memory_mb: float | None = None,
    runtime: Runtime = SYSTEM,
    network: Network = PYRO,
) -> str:
    """Be a worker until the run needs it no more.

    Args:
        identity: its name must be unique among the run's living workers.
        should_stop: asked often, from several threads; a reason (a signal came) makes the worker checkpoint, hand its
            evaluation back and leave.
        allocation_end: when this process's allocation ends, s since 1970 (UTC); `workers.handback_margin_s` before it
            the worker hands back and leaves.
        evaluate: what an evaluation is; default: as the run's problem says. Raises CrashedError, BrokenError or
            anything else.
        device: as status shows it; default: from CUDA_VISIBLE_DEVICES.
        before_farewell: called with the reason once nothing is held any more, before the master hears of the leaving.
        memory_mb: of the device; default: the GPU's, as nvidia-smi says it; 0: unknown.

    Returns:
        Why it left: "done" (the search has ended), "stopped", "broken" (so has the run), "not_needed" (fewer workers
        are of use from now on), "excluded" (its node is left out), "idle" (no work for `workers.idle_timeout_min`),
        "no_master" (none for as long), "allocation_end", "device_lost" (its GPU answers no more), or what `should_stop`
        said.

    Raises:
        RunError: the run's certificates cannot be used.
        SiteError: it cannot listen on this machine's address.
    """
    worker = TandemWorker(folder, identity, settings, should_stop, allocation_end, device, memory_mb, runtime, network)
    if evaluate is not None:
        return worker.work(evaluate, before_farewell)
    if settings.problem.is_built_in:
        return worker.work(TrainingEvaluator(folder, settings, identity), before_farewell)
    with contextlib.closing(OwnEvaluator(folder, settings, identity)) as own:
        return worker.work(own, before_farewell)


class TandemWorker(Worker):  # type: ignore[misc]
    """hpbandster's worker, whose calls are confirmed and whose results are delivered until they are durable."""

    def __init__(
        self,
        folder: RunFolder,
        identity: WorkerIdentity,
        settings: Settings,
        should_stop: ShouldStop,
        allocation_end: float | None,
        device: str | None,
        memory_mb: float | None = None,
        runtime: Runtime = SYSTEM,
        network: Network = PYRO,
    ) -> None:
        super().__init__(rpc_run_id(folder.run_id), logger=log, host=identity.host, id=identity.name)
        self.runtime = runtime
        self.network = network
        self.thread_cond = runtime.condition()
        self.folder = folder
        self.identity = identity
        self.settings = settings
        self.incarnation = runtime.token()
        self.connection = MasterConnection(folder, self.incarnation, self._introduction, runtime, network)
        self._should_stop = should_stop
        self._allocation_end = allocation_end
        self._device = _visible_device() if device is None else device
        self._memory_mb = gpu_memory_mb() if memory_mb is None else memory_mb
        self._server: Server | None = None
        self._given: Evaluation | None = None  # accepted, not begun
        self._current: AttemptId | None = None  # begun, not acknowledged
        self._abandon: dict[AttemptId, str] = {}
        self._dismissal: str | None = None
        self._is_leaving = False
        self._idle_since = self.runtime.monotonic()
        self._asked_at = self.runtime.monotonic()  # when training last asked whether to stop: before each batch
        self._failure: Exception | None = None  # why it can never join

    # Called by the master -----------------------------------------------------------------------------------------
    @Pyro4.expose  # type: ignore[untyped-decorator]
    def state(self) -> dict[str, Any]:
        """What this worker is at, and for how long that has begun no batch; the master's ping."""
        self.connection.note_life()
        with self.thread_cond:
            held = self._held()
            quiet_s = 0.0 if self._current is None else self.runtime.monotonic() - self._asked_at
        return {"holds": None if held is None else held.to_plain(), "quiet_s": quiet_s}

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def is_busy(self) -> bool:
        """Hpbandster's ping."""
        return self._held() is not None

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def start_computation(self, callback: Any, id: Any, evaluation: dict[str, Any]) -> dict[str, Any]:
        """Take an evaluation; unlike hpbandster's it is confirmed."""
        self.connection.note_life()
        with self.thread_cond:
            if self._is_leaving or self._reason_to_leave() is not None:
                return {"accepted": False, "leaving": True, "reason": "this worker is leaving"}
            if self._given is not None:
                return {"accepted": False, "reason": "this worker has an evaluation already"}
            self._given = Evaluation.from_plain(evaluation)
            self.thread_cond.notify_all()
        return {"accepted": True}

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def stop_attempt(self, attempt: list[Any], reason: str) -> None:
        """Give up an attempt that is not needed any more, and stay."""
        self.connection.note_life()
        self._abandon[AttemptId.from_plain(attempt)] = reason

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def shutdown(self, reason: str = "done") -> None:
        """Checkpoint, hand back and leave."""
        self.connection.note_life()
        with self.thread_cond:
            self._dismissal = self._dismissal or reason
            self.thread_cond.notify_all()

    # The worker's own thread --------------------------------------------------------------------------------------
    def work(self, evaluate: Evaluate, before_farewell: Callable[[str], None] = lambda reason: None) -> str:
        """See `run_worker`."""
        self.connection.start()
        try:
            return self._work(evaluate, before_farewell)
        finally:
            self.connection.close()
            if self._server is not None:
                self._server.shutdown()

    def _work(self, evaluate: Evaluate, before_farewell: Callable[[str], None]) -> str:
        while True:
            evaluation = self._next()
            if isinstance(evaluation, str):
                log.info("leaving: %s", evaluation)
                before_farewell(evaluation)
                self.connection.announce_leaving(evaluation)
                return evaluation
            attempt = AttemptId(evaluation.config_id, evaluation.budget, evaluation.attempt)
            log.info("evaluation %s on %g, attempt %d", evaluation.config_id, evaluation.budget, evaluation.attempt)
            outcome = run_attempt(evaluate, evaluation, lambda a=attempt: self._reason_to_stop(a))  # type: ignore[misc]
            if is_device_lost(outcome):
                # Nothing more can be done in this process. Whether the configuration killed the GPU, others will tell.
                outcome = Outcome("lost", reason=f"{DEVICE_LOST}: {outcome.reason}")
                self._dismissal = DEVICE_LOST
            self._finish(attempt, outcome)

    def _finish(self, attempt: AttemptId, outcome: Outcome) -> None:
        outcome = _leaving(outcome) if self._reason_to_leave() is not None else outcome
        log.info("%s%s", outcome.status, f": {outcome.reason}" if outcome.reason else "")
        if not self.connection.deliver(attempt, outcome, self._may_wait_for_master):
            if outcome.status in ("finished", "crashed"):
                left = Undelivered(attempt, outcome, self.identity.name, self.identity.host, self._memory_mb)
                self.connection.leave_behind(left)
            # Why it may not wait for a master counts more: a task whose time is up is requeued.
            self._dismissal = self._reason_to_leave() or NO_MASTER
        self._abandon.pop(attempt, None)
        with self.thread_cond:
            self._current = None
            self._idle_since = self.runtime.monotonic()

    def _next(self) -> Evaluation | str:
        """The next evaluation, or why to leave."""
        while True:
            with self.thread_cond:
                if self._given is not None:
                    evaluation, self._given = self._given, None
                    self._current = AttemptId(evaluation.config_id, evaluation.budget, evaluation.attempt)
                    self._asked_at = self.runtime.monotonic()
                    return evaluation
                reason = self._reason_to_leave() or self._reason_of_idleness()
                # Nothing may be accepted between this and the end.
                self._is_leaving = reason is not None or self._failure is not None
                if reason is not None:
                    return reason
                if self._failure is not None:
                    raise self._failure
                self.thread_cond.wait(WAIT_S)

    def _reason_to_leave(self) -> str | None:
        reason = self._dismissal or self.connection.refusal or self._should_stop()
        if reason is None and self._allocation_end is not None:
            left_s = self._allocation_end - self.runtime.time()
            reason = ALLOCATION_END if left_s < self.settings.workers.handback_margin_s else None
        return reason

    def _reason_of_idleness(self) -> str | None:
        limit_s = self.settings.workers.idle_timeout_min * 60
        if self.runtime.monotonic() - self._idle_since <= limit_s:
            return None
        if self.connection.is_registered:
            return IDLE
        log.error("no master for %.0f s: %s", limit_s, self.connection.problem)
        return NO_MASTER

    def _reason_to_stop(self, attempt: AttemptId) -> str | None:
        self._asked_at = self.runtime.monotonic()
        return self._abandon.get(attempt) or self._reason_to_leave()

    def _may_wait_for_master(self) -> bool:
        stopped = self._should_stop() is not None or self.connection.refusal is not None
        ends = self._allocation_end is not None and self._allocation_end - self.runtime.time() < 10.0
        return not stopped and not ends and self.connection.silent_s() < self.settings.workers.idle_timeout_min * 60

    def _held(self) -> AttemptId | None:
        if self._given is not None:
            return AttemptId(self._given.config_id, self._given.budget, self._given.attempt)
        return self._current

    # Introducing itself -------------------------------------------------------------------------------------------
    def _introduction(self, master: MasterAddress) -> dict[str, Any]:
        own = self.network.own_address(master.address)
        try:
            self.network.take_credentials(self.folder.tls, f"worker-{self.identity.name}", [own])
            if self._server is None or self._server.host != own:
                self._listen(own)
        except (RunError, SiteError) as error:  # others pass: an NFS server that restarts, a full table of files
            self._failure = error
            raise
        self._failure = None
        with self.thread_cond:
            held = self._held()
        return {
            "name": self.identity.name,
            "incarnation": self.incarnation,
            "host": self.identity.host,
            "uri": str(self._server.uriFor(self)),  # type: ignore[union-attr]
            "slurm_job_id": self.identity.slurm_job_id,
            "device": self._device,
            "pid": os.getpid(),
            "holds": None if held is None else held.to_plain(),
            "allocation_end": self._allocation_end,
            "memory_mb": self._memory_mb,
        }

    def _listen(self, address: str) -> None:
        if self._server is not None:
            before, self._server = self._server, None
            before.unregister(self)
            before.shutdown()
        spread = zlib.crc32(self.identity.name.encode())
        server = self.network.serve(
            address, self.settings.network.ports, lambda _: self.connection.connection_closed(), spread
        )
        server.register(self, self.worker_id)
        server.start()
        self._server = server


def _leaving(outcome: Outcome) -> Outcome:
    plain = outcome.to_plain()
    return Outcome(**{**plain, "is_leaving": True})


def _visible_device() -> str:
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return f"cuda {devices}" if devices else "cpu"
