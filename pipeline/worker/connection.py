"""A worker's connection to the master: finds it, registers, delivers until it is acknowledged, finds the next."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from typing import Any

import Pyro4

from pipeline.cluster.addresses import interfaces
from pipeline.errors import RunError
from pipeline.files import is_there
from pipeline.rpc.client import CALL_ERRORS, explain
from pipeline.rpc.master_address import MasterAddress, read_master_address
from pipeline.rpc.messages import AttemptId, Outcome
from pipeline.rpc.network import PYRO, Network
from pipeline.rpc.undelivered import Undelivered, leave_result
from pipeline.run.folder import RunFolder
from pipeline.run.status import read_status
from pipeline.runtime import SYSTEM, Runtime

log = logging.getLogger("tandem.worker")

# The master pings every worker that it has not heard for a second or two. After LOOK_S of silence the run folder is
# asked for a new master, after SILENCE_S (a master that stalls is not dead) the worker registers anew in any case.
LOOK_S = 4.0
SILENCE_S = 20.0
# A living master that lost a connection makes another within this time.
MASTER_RETURNS_S = 1.0
# How long a worker waits for a run that has ended to be resumed.
ENDED_S = 20.0
# A master whose disk stalls answers late: the result is delivered again. A worker that must leave is killed by Slurm
# 30 s later, and has a checkpoint or the result to write before.
DELIVER_S = 10.0
REGISTER_S = 15.0
DEREGISTER_S = 5.0
# Pauses between tries, the first and the longest.
RETRY_S, MAX_RETRY_S = 0.1, 3.0

Introduce = Callable[[MasterAddress], dict[str, Any]]


class Refused(Exception):  # noqa: N818 (it is an answer)
    """The master will not have this worker; the text is the reason for leaving."""


class MasterConnection:
    """Keeps a worker registered with whichever master there is.

    Args:
        introduce: makes the introduction for a master at an address (the worker's own address depends on it).
        incarnation: of this process.

    Attributes:
        heard: when the master last gave a sign of life (monotonic).
    """

    def __init__(
        self,
        folder: RunFolder,
        incarnation: str,
        introduce: Introduce,
        runtime: Runtime = SYSTEM,
        network: Network = PYRO,
    ) -> None:
        self._runtime = runtime
        self._network = network
        self._folder = folder
        self._incarnation = incarnation
        self._introduce = introduce
        self._registered_with: MasterAddress | None = None
        self._held_open: Any = None  # that it closes tells the master that this process is gone
        self._delivery: Any = None
        self._closed = runtime.event()
        self._wake = runtime.event()
        self._closed_at = 0.0
        self._ended_at: float | None = None
        self.heard = self._runtime.monotonic()
        self.refusal: str | None = None
        self.problem = "no master has said where it listens"

    def note_life(self) -> None:
        """The master has called."""
        self.heard = self._runtime.monotonic()

    def silent_s(self) -> float:
        """How long the master has given no sign of life."""
        return self._runtime.monotonic() - self.heard

    @property
    def is_registered(self) -> bool:
        """Whether a master knows this worker and has been heard lately."""
        return self._registered_with is not None and self.silent_s() < SILENCE_S and self._closed_at <= self.heard

    def start(self) -> None:
        """Register, and again whenever the master is lost, in the background."""
        self._runtime.thread(self._keep, "connection").start()

    def connection_closed(self) -> None:
        """A connection from the master has closed: it may be gone."""
        self._closed_at = self._runtime.monotonic()
        self._wake.set()

    def _forget_master(self) -> None:
        """It does not answer, or does not know this worker: register anew."""
        self._registered_with = None
        self._wake.set()

    def _keep(self) -> None:
        pause_s = RETRY_S
        while not self._closed.is_set():
            if not self._must_register():
                pause_s = RETRY_S
                self._wake.wait(1.0)
                self._wake.clear()
                continue
            try:
                if self._register():
                    continue
            except Refused as refusal:
                self.refusal = str(refusal)
                return
            except Exception:
                log.exception("could not register")
            # Unevenly: a thousand workers must not knock at the same moment.
            self._closed.wait(pause_s * self._runtime.uniform(0.5, 1.5))
            pause_s = min(2 * pause_s, MAX_RETRY_S)

    def _must_register(self) -> bool:
        """Whether no master knows this worker, or the one that does may be gone."""
        if self._registered_with is None or self.silent_s() > SILENCE_S:
            return True
        if self._closed_at > self.heard:
            # Its connection has closed. If it lives, it has come back by now.
            return self._runtime.monotonic() - self._closed_at > MASTER_RETURNS_S
        if self.silent_s() > LOOK_S:
            address = read_master_address(self._folder)
            return address is not None and address != self._registered_with
        return False

    def _register(self) -> bool:
        address = read_master_address(self._folder) if is_there(self._folder.master_address) else None
        if address is None:
            return False
        registration: dict[str, Any] = {}
        try:
            registration = self._introduce(address)
            proxy = self._network.proxy(address.dispatcher_uri, REGISTER_S)
            answer = proxy.register_worker(registration)
        except CALL_ERRORS as error:
            self._note_problem(
                f"this worker on {self._own_address(address)} cannot reach the master at {address.location} "
                f"(term {address.term}): {explain(error)}"
            )
            self._leave_if_ended(address, registration)
            return False
        if answer.get("leave"):
            raise Refused(str(answer.get("reason", "refused")))
        if not answer.get("accepted"):
            self._note_problem(str(answer.get("reason", "refused")))
            return False
        if self._registered_with != address:
            log.info("joined the master at %s (term %d)", address.location, address.term)
        previous, self._held_open = self._held_open, proxy
        self._registered_with = address
        self.problem = ""
        self.heard = self._runtime.monotonic()
        if previous is not None:
            previous._pyroRelease()
        return True

    def _note_problem(self, problem: str) -> None:
        """Say what is in the way, once."""
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem

    def _leave_if_ended(self, address: MasterAddress, registration: dict[str, Any]) -> None:
        """Do not wait long for the next master of a run that has ended; what this worker holds may be wanted yet."""
        try:
            status = read_status(self._folder, wait_s=0) if is_there(self._folder.status) else None
        except RunError:
            return
        if status is None or not status.has_ended or status.term < address.term:
            self._ended_at = None
            return
        # Somebody may be resuming it at this moment.
        self._ended_at = self._ended_at or self._runtime.monotonic()
        is_over = self._runtime.monotonic() - self._ended_at > ENDED_S
        if is_over and (status.state == "finished" or registration.get("holds") is None):
            raise Refused("done" if status.state == "finished" else status.state)

    def _own_address(self, master: MasterAddress) -> str:
        try:
            return self._network.own_address(master.address)
        except OSError:
            others = [address for address in interfaces().values() if not address.startswith("127.")]
            return f"{platform.node()} ({', '.join(others)}; no route)"

    # Delivering --------------------------------------------------------------------------------------------------
    def deliver(self, attempt: AttemptId, outcome: Outcome, may_wait: Callable[[], bool]) -> bool:
        """Deliver a result until a master has acknowledged it as durable (or has one already).

        Args:
            may_wait: asked between tries; False: leave the result in the run folder for the next master instead.

        Returns:
            False: no master took it.
        """
        pause_s = RETRY_S
        while True:
            answer = self._try_to_deliver(attempt, outcome)
            if answer is not None and not answer.get("again") and not answer.get("unknown"):
                if not answer.get("accepted"):
                    log.info("the result was not needed: %s", answer.get("reason", ""))
                return True
            if answer is not None and answer.get("unknown"):
                self._forget_master()  # a new master at the old address: introduce ourselves first
            if not may_wait():
                return False
            self._runtime.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_RETRY_S)

    def _try_to_deliver(self, attempt: AttemptId, outcome: Outcome) -> dict[str, Any] | None:
        address = self._registered_with
        if address is None:
            return None
        try:
            if self._delivery is None or self._delivery[0] != address:
                self._delivery = address, self._network.proxy(address.dispatcher_uri, DELIVER_S)
            answer: dict[str, Any] = self._delivery[1].deliver(
                self._incarnation, attempt.to_plain(), outcome.to_plain()
            )
        except (Pyro4.errors.SerializeError, ValueError, TypeError) as error:
            if outcome.status == "crashed":
                raise
            unfit = f"the result cannot travel: {type(error).__name__}: {error}"
            return self._try_to_deliver(attempt, Outcome("crashed", kind="bad_result", reason=unfit))
        except CALL_ERRORS as error:
            self._note_problem(f"could not deliver to {address.location}: {explain(error)}")
            self._delivery = None
            self._forget_master()
            return None
        self.note_life()
        return answer

    def leave_behind(self, left: Undelivered) -> None:
        """Leave a result in the run folder: the next master takes it from there."""
        try:
            path = leave_result(self._folder, left)
        except OSError as error:
            where = self._folder.undelivered
            log.error("no master took the result, and it cannot be left in %s (%s): it is lost", where, error)
        else:
            log.warning("no master took the result; it is in %s for the next one", path)

    def announce_leaving(self, reason: str) -> None:
        """Tell the master that this worker leaves; not being heard does no harm."""
        self._closed.set()
        self._wake.set()
        address = self._registered_with
        if address is None:
            return
        try:
            with self._network.proxy(address.dispatcher_uri, DEREGISTER_S) as proxy:
                proxy.leave(self._incarnation, reason)
        except CALL_ERRORS as error:
            log.info("the master was not told that this worker leaves: %s", explain(error))

    def close(self) -> None:
        """Close the connections."""
        self._closed.set()
        self._wake.set()
        for proxy in (self._held_open, self._delivery[1] if self._delivery else None):
            if proxy is not None:
                proxy._pyroRelease()
