"""A virtual network: calls that are delayed, lost or doubled, connections that close, ways that are blocked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import Pyro4.errors

from tests.simulation.world import Killed, Process, VirtualReply, World, getcurrent


class Connection:
    """A client's open connection to a server."""

    def __init__(self, client: Process, server: Server) -> None:
        self.client = client
        self.server = server
        self.is_open = True
        self.waiting: list[VirtualReply] = []

    def close(self, is_noticed: bool = True) -> None:
        """Close it; the other end notices unless the host is gone."""
        if not self.is_open:
            return
        self.is_open = False
        self.server.connections.pop(self, None)
        self.client_side.pop(self, None)
        if not is_noticed:
            return
        for reply in self.waiting:
            if not reply.done():
                reply.set_result(("error", Pyro4.errors.ConnectionClosedError("the connection has closed")))
        self.server.closed(self)

    @property
    def client_side(self) -> dict[Connection, None]:
        """All connections that the client has made."""
        return self.server.network.made_by.setdefault(self.client, {})


class Network:
    """All listeners and ways between hosts.

    Attributes:
        loss, doubling: chances that a message is lost, that a request comes twice.
        latency_s: longest usual delay.
        blocked: pairs of hosts that do not reach each other.
        refusing: workers that take nothing, whatever they are given.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.listeners: dict[str, Server] = {}
        self.made_by: dict[Process, dict[Connection, None]] = {}
        self.loss = 0.0
        self.doubling = 0.0
        self.slowness = 0.0
        self.latency_s = 0.01
        self.blocked: set[frozenset[str]] = set()
        self.refusing: set[Process] = set()
        self.observe: Callable[[str, Any, Any], None] = lambda method, arguments, answer: None

    def reaches(self, a: Process, b: Process) -> bool:
        """Whether messages pass between two processes."""
        pair = frozenset({a.host.name, b.host.name})
        return a.host.is_up and b.host.is_up and pair not in self.blocked

    def delay_s(self) -> float:
        """How long a message takes."""
        random = self.world.random
        if self.slowness and random.random() < self.slowness:
            self.world.bite("message delayed")
            return random.uniform(0.2, 6.0)
        return random.uniform(0.0005, self.latency_s)

    def is_lost(self) -> bool:
        """Whether a message is lost."""
        if self.loss and self.world.random.random() < self.loss:
            self.world.bite("message lost")
            return True
        return False

    def died(self, process: Process, is_noticed: bool) -> None:
        """A process is no more: its listeners and connections go with it."""
        for location, server in list(self.listeners.items()):
            if server.process is process:
                del self.listeners[location]
                for connection in list(server.connections):
                    connection.close(is_noticed)
        for connection in list(self.made_by.pop(process, ())):
            connection.close(is_noticed)


class Server:
    """What listens at an address (`pipeline.rpc.server.RpcServer`)."""

    problem = ""

    def __init__(self, network: Network, process: Process, address: str, on_disconnect: Any) -> None:
        self.network = network
        self.process = process
        self.host = address
        process.host.next_port += 1
        self.port = process.host.next_port
        self.locationStr = f"{address}:{self.port}"
        self.objects: dict[str, Any] = {}
        self.connections: dict[Connection, None] = {}
        self._registered = 0
        self._on_disconnect = on_disconnect

    def register(self, what: Any, name: str | None = None) -> str:
        self._registered += 1
        name = name or f"obj_{self._registered}"
        self.objects[name] = what
        return self.uriFor(name)

    def unregister(self, what: Any) -> None:
        for name in [n for n, o in self.objects.items() if o is what]:
            del self.objects[name]

    def uriFor(self, what: Any) -> str:  # noqa: N802 (Pyro4's name)
        name = what if isinstance(what, str) else next(n for n, o in self.objects.items() if o is what)
        return f"PYRO:{name}@{self.locationStr}"

    def lacks(self) -> str:
        return ""

    def start(self, guard: Any = None) -> None:
        self.network.listeners[self.locationStr] = self

    def shutdown(self) -> None:
        self.network.listeners.pop(self.locationStr, None)
        for connection in list(self.connections):
            connection.close()

    def closed(self, connection: Connection) -> None:
        """The other end of a connection is gone."""
        if self._on_disconnect is not None and not self.process.is_dead:
            self.network.world.spawn(self.process, lambda: self._on_disconnect(connection), "disconnect")


class ProcessNetwork:
    """`pipeline.rpc.network.Network` of one process."""

    def __init__(self, network: Network, process: Process) -> None:
        self.network = network
        self.process = process

    def make_authority(self, tls: Path, run_label: str) -> None:
        """Certificates are not simulated."""

    def take_credentials(self, tls: Path, name: str, addresses: Any) -> None:
        """Certificates are not simulated."""

    def own_address(self, towards: str) -> str:
        return self.process.host.address

    def serve(self, address: str, ports: Any, on_disconnect: Any = None, first_choice: int = 0) -> Server:
        return Server(self.network, self.process, address, on_disconnect)

    def proxy(self, uri: str, timeout_s: float, serializer: str = "json") -> Proxy:
        return Proxy(self.network, self.process, uri, timeout_s, is_stock=serializer == "serpent")

    def caller(self) -> Any:
        return getcurrent().connection


# What hpbandster's worker declares so: nobody hears whether it arrived.
ONEWAY = ("start_computation", "shutdown")
ONEWAY_S = 0.0001  # less than any other message takes


class Proxy:
    """`Pyro4.Proxy`; of a stock worker: whose calls may be oneway, and take objects along."""

    def __init__(self, network: Network, process: Process, uri: str, timeout_s: float, is_stock: bool = False) -> None:
        self._oneway = ONEWAY if is_stock else ()
        self._network = network
        self._process = process
        self._name, self._location = uri.removeprefix("PYRO:").split("@")
        self._pyroTimeout = timeout_s
        self._connection: Connection | None = None

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *error: object) -> None:
        self._pyroRelease()

    def _pyroRelease(self) -> None:  # noqa: N802 (Pyro4's name)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        return lambda *arguments, **named: self._call(method, arguments, named)

    def _call(self, method: str, arguments: Any, named: Any) -> Any:
        world, network = self._network.world, self._network
        deadline = world.now + self._pyroTimeout
        message = json.dumps([arguments, named], default=self._uri_of)
        if self._connection is not None and not self._connection.is_open:
            self._connection = None
            raise Pyro4.errors.ConnectionClosedError("the connection has closed")
        if self._connection is None:
            self._connection = self._connect(deadline)
        connection = self._connection
        reply = VirtualReply(world)
        if method in self._oneway:
            self._send_oneway(connection, method, message, reply)
            return None
        connection.waiting.append(reply)
        times = 1
        if network.doubling and world.random.random() < network.doubling:
            world.bite("message doubled")
            times = 2
        for _ in range(times):
            if not network.is_lost():
                world.after(network.delay_s(), lambda: self._arrive(connection, method, message, reply))
        try:
            kind, value = reply.result(max(0.0, deadline - world.now))
        except TimeoutError:
            connection.close()
            self._connection = None
            raise Pyro4.errors.TimeoutError("no answer in time") from None
        finally:
            connection.waiting.remove(reply)
        if kind == "error":
            if not connection.is_open:
                self._connection = None
            raise value
        return json.loads(value)

    @property
    def _pyroConnection(self) -> Connection | None:  # noqa: N802 (Pyro4's name)
        return self._connection

    def _send_oneway(self, connection: Connection, method: str, message: str, reply: VirtualReply) -> None:
        """It arrives before what follows on the same connection, or the connection breaks; nobody is told."""
        if self._network.is_lost():
            connection.close()
        else:
            self._network.world.after(ONEWAY_S, lambda: self._arrive(connection, method, message, reply))

    def _uri_of(self, what: Any) -> dict[str, str]:
        """As Pyro4 sends an object that a server of this process has registered: a proxy."""
        for server in self._network.listeners.values():
            if server.process is self._process and any(o is what for o in server.objects.values()):
                return {"__proxy__": server.uriFor(what)}
        raise TypeError(f"{what!r} cannot travel")

    def _connect(self, deadline: float) -> Connection:
        world, network = self._network.world, self._network
        world.suspend(network.delay_s())
        server = network.listeners.get(self._location)
        target_host = self._location.rsplit(":", 1)[0]
        is_up = all(h.is_up for h in world.hosts if h.name == target_host)
        pair = frozenset({self._process.host.name, target_host})
        if not is_up or pair in network.blocked or not self._process.host.is_up:
            world.suspend(max(0.0, deadline - world.now))
            raise Pyro4.errors.TimeoutError("no answer in time")
        if server is None:
            raise Pyro4.errors.CommunicationError("cannot connect") from ConnectionRefusedError()
        connection = Connection(self._process, server)
        server.connections[connection] = connection.client_side[connection] = None
        return connection

    def _arrive(self, connection: Connection, method: str, message: str, reply: VirtualReply) -> None:
        network, server = self._network, connection.server
        if not connection.is_open or server.process.is_dead or not network.reaches(self._process, server.process):
            return

        def received(plain: dict[str, Any]) -> Any:
            uri = plain.get("__proxy__")
            return plain if uri is None else Proxy(network, server.process, uri, 1e9)

        def serve() -> None:
            arguments, named = json.loads(message, object_hook=received)
            getcurrent().connection = connection
            target = server.objects.get(self._name)
            try:
                if target is None:
                    raise Pyro4.errors.DaemonError("unknown object")
                value = self._served(target, method, arguments, named, server.process)
                network.observe(method, arguments, value)
                answer: tuple[str, Any] = ("ok", json.dumps(value))
            except Killed:
                raise
            except Exception as error:
                answer = ("error", error)
            if not network.is_lost() and not reply.done():
                world = network.world
                world.after(network.delay_s(), lambda: self._answer(connection, reply, answer))

        network.world.spawn(server.process, serve, f"rpc {method}")

    def _served(self, target: Any, method: str, arguments: Any, named: Any, process: Process) -> Any:
        if process in self._network.refusing and method == "start_computation":
            self._network.world.bite("a worker refuses")
            return {"accepted": False, "reason": "not now"}
        return getattr(target, method)(*arguments, **named)

    def _answer(self, connection: Connection, reply: VirtualReply, answer: Any) -> None:
        is_waited_for = connection.is_open and not reply.done() and not self._process.is_dead
        if is_waited_for and self._network.reaches(self._process, connection.server.process):
            reply.set_result(answer)
