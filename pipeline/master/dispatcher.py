"""Where workers register and deliver. The dispatcher decides nothing and keeps no state of the search; what arrives is
posted to the master's loop, which answers through futures.

It takes the place of hpbandster's Dispatcher, whose threads hold a lock while they call workers. Stock workers find it
under the same name in the same nameserver.
"""

from __future__ import annotations

import logging
from typing import Any

import Pyro4

from pipeline.master.connections import WorkerConnection
from pipeline.master.events import Delivered, Joined, Left, Unreachable
from pipeline.master.stock import StockWorkerConnection
from pipeline.master.threads import guarded
from pipeline.records import STOCK_DEVICE
from pipeline.rpc.client import CALL_ERRORS, explain
from pipeline.rpc.master_address import dispatcher_name, worker_prefix
from pipeline.rpc.messages import AttemptId, Outcome, Registration
from pipeline.rpc.network import PYRO, Network
from pipeline.rpc.server import NAMESERVER, AnnouncingNameServer
from pipeline.runtime import SYSTEM, Queue, Runtime

log = logging.getLogger("tandem.dispatch")

# The longest that a worker's call waits for the master's loop. A stalled file system is not an error: the worker, which
# waits a little longer than this, then delivers again.
ANSWER_S = 8.0


class Dispatcher:
    """The master's side of the network.

    Args:
        run_id: the run's id.
        address: host name or IP address to listen on.
        ports: range of ports, or None.
        inbox: where events go.
    """

    def __init__(
        self,
        run_id: str,
        address: str,
        ports: tuple[int, int] | None,
        inbox: Queue,
        runtime: Runtime = SYSTEM,
        network: Network = PYRO,
    ) -> None:
        self._runtime = runtime
        self._network = network
        self.run_id = run_id
        self.host = address
        self.inbox = inbox
        self.connections: dict[str, WorkerConnection] = {}
        self._incarnation_of: dict[Any, str] = {}
        self.pyro_id = dispatcher_name(run_id)
        self.server = network.serve(address, ports, self._connection_closed)
        self.nameserver = AnnouncingNameServer(self._name_registered)
        self.server.register(self.nameserver, NAMESERVER)
        uri = self.server.register(self, self.pyro_id)
        self.nameserver.storage[NAMESERVER] = (str(self.server.uriFor(NAMESERVER)), None)
        self.nameserver.storage[self.pyro_id] = (str(uri), None)

    def number_of_workers(self) -> int:
        """Workers that the master is connected to."""
        return len(self.connections)

    @property
    def problem(self) -> str:
        """What keeps workers from joining now, or ""."""
        return self.server.problem

    def start(self) -> None:
        """Serve in the background."""
        self.server.start(lambda target: guarded(self.inbox, "rpc", target))

    def shutdown(self) -> None:
        """Close every connection."""
        for connection in list(self.connections.values()):
            connection.close()
        self.server.shutdown()

    # Called by workers -------------------------------------------------------------------------------------------
    @Pyro4.expose  # type: ignore[untyped-decorator]
    def register_worker(self, registration: dict[str, Any]) -> dict[str, Any]:
        """A worker joins; the master dials back at once, so that a way that is blocked is found now."""
        try:
            worker = Registration.from_plain(registration)
        except (ValueError, TypeError, KeyError) as error:
            return {"accepted": False, "reason": f"this is no introduction of a Tandem worker ({error!r})"}
        lack = self.server.lacks()
        if lack:
            return {"accepted": False, "reason": f"the master cannot take this worker now: {lack}"}
        connection = WorkerConnection(
            worker.name, worker.uri, self.inbox.put, self.number_of_workers, self._runtime, self._network
        )
        try:
            connection.connect()
        except CALL_ERRORS as error:
            reason = (
                f"the master at {self.server.locationStr} cannot reach this worker at {worker.uri} ({explain(error)}): "
                f"the network must let connections into the nodes, too; `network.ports` keeps to a range of ports"
            )
            log.warning("%s: %s", worker.name, reason)
            self.inbox.put(Unreachable(worker.name, reason))
            return {"accepted": False, "reason": reason}
        try:
            connection.start()
        except RuntimeError as error:
            return {"accepted": False, "reason": f"the master has no thread for this worker now ({error})"}
        self._incarnation_of[self._network.caller()] = worker.incarnation
        self.connections[worker.incarnation] = connection
        return self._ask(lambda reply: Joined(worker, connection, reply))

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def deliver(self, incarnation: str, attempt: list[Any], outcome: dict[str, Any]) -> dict[str, Any]:
        """A worker delivers a result; answered once it is durable."""
        self._note_life(incarnation)
        parsed = Outcome.from_plain(outcome)
        return self._ask(lambda reply: Delivered(incarnation, AttemptId.from_plain(attempt), parsed, reply))

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def leave(self, incarnation: str, reason: str) -> dict[str, Any]:
        """A worker leaves."""
        return self._ask(lambda reply: Left(incarnation, str(reason), reply))

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def trigger_discover_worker(self) -> None:
        """What stock workers call before they register; the nameserver tells when they have."""

    def forget(self, incarnation: str) -> None:
        """A worker is no more."""
        self.connections.pop(incarnation, None)

    # Inside ------------------------------------------------------------------------------------------------------
    def _ask(self, event: Any) -> dict[str, Any]:
        reply = self._runtime.reply()
        self.inbox.put(event(reply))
        try:
            answer: dict[str, Any] = reply.result(ANSWER_S)
            return answer
        except TimeoutError:
            return {"accepted": False, "again": True, "reason": "the master is busy; deliver again"}

    def _note_life(self, incarnation: str) -> None:
        connection = self.connections.get(incarnation)
        if connection is not None:
            connection.note_life()
            self._incarnation_of[self._network.caller()] = incarnation

    def _connection_closed(self, closed: Any) -> None:
        incarnation = self._incarnation_of.pop(closed, None)
        connection = self.connections.get(incarnation) if incarnation else None
        if connection is not None:
            connection.check_now()

    def _name_registered(self, name: str, uri: str) -> None:
        """A stock hpbandster worker has registered with the nameserver."""
        if not name.startswith(worker_prefix(self.run_id)):
            return
        connection = StockWorkerConnection(
            name, uri, self.inbox.put, self.number_of_workers, self.server, self._runtime, self._network
        )
        incarnation = connection.incarnation = self._runtime.token()
        host = name.removeprefix(worker_prefix(self.run_id)).split(".")[0]
        registration = Registration(name, incarnation, host=host, uri=uri, device=STOCK_DEVICE, is_stock=True)

        def join() -> None:
            self.connections[incarnation] = connection
            self.inbox.put(Joined(registration, connection, self._runtime.reply()))

        connection.join_when_it_answers(join)
