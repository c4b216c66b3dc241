"""A Pyro4 daemon that no client can hold up: TLS handshakes happen off the accept loop, with a deadline.

Pyro4's own daemon shakes hands inside accept(), so that one client that connects and says nothing hangs it; and its
pool refuses clients beyond 40. Here every connection has a thread of its own, and a connection that has not proved
itself within `HANDSHAKE_S` is closed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import Pyro4
import Pyro4.naming

from pipeline.errors import SiteError
from pipeline.rpc.limits import is_shortage, lacks_files
from pipeline.runtime import SYSTEM, Clock

log = logging.getLogger("tandem.rpc")

HANDSHAKE_S = 8.0
# Connections that may be shaking hands at once; beyond it the one that has been silent for longest gives way.
MAX_UNPROVEN = 512
LISTEN_BACKLOG = 1024
NAMESERVER = "Pyro.NameServer"
# Refused connections that are told of one by one in so many seconds, and peers that are counted apart beyond.
REFUSALS_TOLD, REFUSALS_EVERY_S, REFUSED_PEERS = 5, 60.0, 100
# How long a shortage is told of after it has cost a connection, and the pause after one that was not even taken.
SHORTAGE_S, ACCEPT_AGAIN_S = 30.0, 0.5

Target = Callable[[], None]


class RpcServer(Pyro4.Daemon):  # type: ignore[misc]
    """A Pyro4 daemon with a thread per connection and a deadline for handshakes.

    Args:
        address: host name or IP address of the one interface to listen on.
        port: 0: any free one.
        on_disconnect: called with Pyro4's connection object when a client's connection has closed.
    """

    def __init__(self, address: str, port: int = 0, on_disconnect: Callable[[Any], None] | None = None) -> None:
        self.host = address
        self._refusals = RefusalLog()
        self._connections = _ConnectionThreads(self._refusals)
        self._on_disconnect = on_disconnect
        super().__init__(host=address, port=port)
        # The three seams: accept() without a handshake, a pool that never refuses nor blocks, and patience where a
        # connection cannot be taken: it stays in the queue, so that Pyro4's loop would be at it without a pause.
        self.sock.do_handshake_on_connect = False
        self.sock.listen(LISTEN_BACKLOG)
        self.transportServer.pool.close()
        self.transportServer.pool = self._connections
        self._take_any, self.transportServer.events = self.transportServer.events, self._take
        self._is_shut_down = False

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.locationStr.rsplit(":", 1)[1])

    @property
    def problem(self) -> str:
        """What has kept connections out lately, or ""."""
        return self._connections.shortage

    def start(self, guard: Callable[[Target], Target] = lambda target: target) -> None:
        """Serve in the background.

        Args:
            guard: wraps the thread's target, which raises when it ends without having been asked to.
        """
        threading.Thread(target=guard(self._accept), name=f"rpc {self.locationStr}", daemon=True).start()

    def shutdown(self) -> None:
        """Close every connection."""
        self._is_shut_down = True
        super().shutdown()

    def lacks(self) -> str:
        """Why no other connection should be made now, or ""."""
        try:
            probe = os.dup(self.sock.fileno())
        except OSError as error:
            return str(error)
        os.close(probe)
        return lacks_files(probe)

    def _accept(self) -> None:
        try:
            self.requestLoop()
        except Exception:
            if not self._is_shut_down:
                raise
        if not self._is_shut_down:
            raise RuntimeError(f"{self.locationStr} takes no more connections, and was not asked to end")

    def _take(self, sockets: Any) -> None:
        """Take a connection that has come."""
        try:
            self._take_any(sockets)
        except OSError as error:
            if not is_shortage(error):
                raise
            self._connections.note_shortage("a client", str(error))
            time.sleep(ACCEPT_AGAIN_S)

    def _handshake(self, conn: Any, denied_reason: str | None = None) -> bool:
        """TLS first, then Pyro4's own handshake; runs in the connection's thread."""
        self._connections.begin_handshake(conn.sock)
        try:
            conn.sock.do_handshake()
            return bool(super()._handshake(conn, denied_reason))
        except OSError as error:
            self._refusals.note(_peer(conn.sock), str(error))
            return False
        finally:
            self._connections.end_handshake(conn.sock)

    def clientDisconnect(self, conn: Any) -> None:  # noqa: N802 (Pyro4's name)
        """Pyro4's hook."""
        if self._on_disconnect is not None:
            self._on_disconnect(conn)

    def housekeeping(self) -> None:
        """Pyro4's hook, every two seconds."""
        self._connections.close_silent(HANDSHAKE_S)
        self._refusals.sum_up()


class RefusalLog:
    """Tells of refused connections: the first few of each minute one by one, then how many more there were.

    Anybody on the network can be refused as often as they like, and must not be able to fill the disk with it.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since = clock.monotonic()
        self._told = 0
        self._untold: Counter[str] = Counter()

    def note(self, peer: str, reason: str) -> None:
        """A connection from a peer was refused."""
        self.sum_up()
        with self._lock:
            self._told += 1
            if self._told > REFUSALS_TOLD:
                is_counted = peer in self._untold or len(self._untold) < REFUSED_PEERS
                self._untold[peer if is_counted else "others"] += 1
                return
        log.info("refused a connection from %s: %s", peer, reason)

    def sum_up(self) -> None:
        """Once a minute is over, tell of those that were not told of."""
        with self._lock:
            if self._clock.monotonic() - self._since < REFUSALS_EVERY_S:
                return
            untold, self._untold = self._untold, Counter()
            self._since, self._told = self._clock.monotonic(), 0
        if untold:
            most = ", ".join(f"{peer} {count}" for peer, count in untold.most_common(3))
            log.info("refused %d more connections within %.0f s; most of: %s", untold.total(), REFUSALS_EVERY_S, most)


class _ConnectionThreads:
    """Stands in for Pyro4's thread pool: starts a thread per connection and knows which are not proven yet."""

    def __init__(self, refusals: RefusalLog) -> None:
        self._refusals = refusals
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._unproven: dict[socket.socket, float] = {}
        self._shortage, self._short_until = "", 0.0

    @property
    def shortage(self) -> str:
        """What this process lacked for a connection lately, or ""."""
        return self._shortage if time.monotonic() < self._short_until else ""

    def note_shortage(self, peer: str, shortage: str) -> None:
        """A connection was refused for want of something."""
        self._shortage, self._short_until = shortage, time.monotonic() + SHORTAGE_S
        self._refusals.note(peer, shortage)

    def process(self, job: Any) -> None:
        """Serve an accepted connection."""
        connection = job.csock.sock
        shortage = lacks_files(connection.fileno())
        if not shortage:
            _notice_dead_peers(connection)
            try:
                threading.Thread(target=self._serve, args=(job,), name="rpc connection", daemon=True).start()
            except RuntimeError as error:
                shortage = f"no thread can be had for another connection ({error}): raise `ulimit -u`, or a job's limit"
        if shortage:
            self.note_shortage(_peer(connection), shortage)
            job.csock.close()

    def _serve(self, job: Any) -> None:
        connection = job.csock.sock
        with self._lock:
            self._open.add(connection)
        try:
            job()
        finally:
            with self._lock:
                self._open.discard(connection)

    def begin_handshake(self, connection: socket.socket) -> None:
        with self._lock:
            crowded = len(self._unproven) >= MAX_UNPROVEN
            oldest = next(iter(self._unproven), None)
            self._unproven[connection] = time.monotonic()
        if crowded and oldest is not None:
            _cut(oldest)

    def end_handshake(self, connection: socket.socket) -> None:
        with self._lock:
            self._unproven.pop(connection, None)

    def close_silent(self, after_s: float) -> None:
        """Close the connections that have been shaking hands for too long."""
        now = time.monotonic()
        with self._lock:
            silent = [c for c, since in self._unproven.items() if now - since > after_s]
        for connection in silent:
            self._refusals.note(_peer(connection), f"no handshake within {after_s:.0f} s")
            _cut(connection)

    def num_workers(self) -> int:
        """Open connections (Pyro4's name)."""
        return len(self._open)

    def close(self) -> None:
        """Close every connection; their threads end."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _cut(connection)


class AnnouncingNameServer(Pyro4.naming.NameServer):  # type: ignore[misc]
    """Pyro4's nameserver, which also tells at once who has registered (stock hpbandster polls for that)."""

    def __init__(self, on_register: Callable[[str, str], None]) -> None:
        super().__init__()
        self._on_register = on_register

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def register(self, name: str, uri: Any, safe: bool = False, metadata: Any = None) -> None:
        """Pyro4's method."""
        super().register(name, uri, safe=safe, metadata=metadata)
        self._on_register(name, str(uri))


def open_server(
    address: str,
    ports: tuple[int, int] | None,
    on_disconnect: Callable[[Any], None] | None = None,
    first_choice: int = 0,
) -> RpcServer:
    """A server on a free port of the range (None: any), not yet started.

    Args:
        first_choice: where in the range to look first; spreading it keeps workers that start together apart.

    Raises:
        SiteError: the address is not this machine's, or every port of the range is taken.
    """
    candidates: Iterable[int] = [0]
    if ports is not None:
        count = ports[1] - ports[0] + 1
        candidates = [ports[0] + (first_choice + i) % count for i in range(count)]
    error: OSError | None = None
    for port in candidates:
        try:
            return RpcServer(address, port, on_disconnect)
        except OSError as this:
            error = this
    which = "any port" if ports is None else f"a port in {ports[0]}..{ports[1]}"
    raise SiteError(
        f"Cannot listen on {which} of {address}: {error}. `network.address` chooses the interface, "
        f"`network.ports` the range of ports."
    )


def _notice_dead_peers(connection: socket.socket) -> None:
    """Let the kernel find within a minute that a peer's host is gone (its default is two hours)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)


def _cut(connection: socket.socket) -> None:
    # Of the plain socket: SSLSocket.shutdown would take its state away from under the thread that reads.
    with contextlib.suppress(OSError):  # it has closed itself
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _peer(connection: socket.socket) -> str:
    try:
        return str(connection.getpeername()[0])
    except OSError:
        return "a client that has left"
