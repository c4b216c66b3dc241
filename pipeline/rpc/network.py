"""The network as a process sees it. `PYRO` is the real one: Pyro4 over mutual TLS; a simulation gives another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import Pyro4

from pipeline.rpc.client import address_towards, proxy_for
from pipeline.rpc.server import RpcServer, Target, open_server
from pipeline.rpc.tls import ensure_authority, prove_oneself

Ports = tuple[int, int] | None
OnDisconnect = Callable[[Any], None]


class Server(Protocol):
    """What serves calls; the names are Pyro4's.

    Attributes:
        host: the address that it listens on.
        locationStr: host:port.
    """

    host: str
    locationStr: str  # noqa: N815

    @property
    def port(self) -> int:
        """The port that it listens on."""

    def register(self, what: Any, name: str | None = None) -> Any:
        """Serve an object, by default under a name of its own; returns its uri."""

    def unregister(self, what: Any) -> None:
        """Serve it no more."""

    def uriFor(self, what: Any) -> Any:  # noqa: N802
        """The uri of an object or a name."""

    @property
    def problem(self) -> str:
        """What has kept connections out lately, or ""."""

    def lacks(self) -> str:
        """Why no other connection should be made now, or ""."""

    def start(self, guard: Callable[[Target], Target] = ...) -> None:
        """Serve in the background; `guard` wraps the target of the thread, which raises when it ends unasked."""

    def shutdown(self) -> None:
        """Close every connection."""


class Network(Protocol):
    """How a process proves itself, serves calls and makes them."""

    def make_authority(self, tls: Path, run_label: str) -> None:
        """Make the run's authority unless it is there; errors as `pipeline.rpc.tls.ensure_authority`."""

    def take_credentials(self, tls: Path, name: str, addresses: Sequence[str]) -> None:
        """Prove oneself as `name` at these addresses from now on; errors as `pipeline.rpc.tls.issue_certificate`."""

    def own_address(self, towards: str) -> str:
        """The address of this machine as a host sees it; raises OSError where there is no route."""

    def serve(
        self, address: str, ports: Ports, on_disconnect: OnDisconnect | None = None, first_choice: int = 0
    ) -> Server:
        """A server, not yet started; arguments and errors as `pipeline.rpc.server.open_server`."""

    def proxy(self, uri: str, timeout_s: float, serializer: str = "json") -> Any:
        """What calls the object of a uri; a call raises one of `pipeline.rpc.client.CALL_ERRORS` if it fails."""

    def caller(self) -> Any:
        """The connection on which the present call came, as `on_disconnect` is given it."""


class PyroNetwork:
    """Pyro4 over mutual TLS. Its settings are global to the process, so that there is one of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._proven_as: tuple[Path, tuple[str, ...]] | None = None

    def make_authority(self, tls: Path, run_label: str) -> None:
        """See `Network`."""
        ensure_authority(tls, run_label)
        self._proven_as = None

    def take_credentials(self, tls: Path, name: str, addresses: Sequence[str]) -> None:
        """See `Network`; once for the same addresses."""
        with self._lock:
            if self._proven_as != (tls, tuple(addresses)):
                prove_oneself(tls, name, addresses)
                self._proven_as = tls, tuple(addresses)

    def own_address(self, towards: str) -> str:
        """See `Network`."""
        return address_towards(towards)

    def serve(
        self, address: str, ports: Ports, on_disconnect: OnDisconnect | None = None, first_choice: int = 0
    ) -> RpcServer:
        """See `Network`."""
        return open_server(address, ports, on_disconnect, first_choice)

    def proxy(self, uri: str, timeout_s: float, serializer: str = "json") -> Any:
        """See `Network`."""
        return proxy_for(uri, timeout_s, serializer)

    def caller(self) -> Any:
        """See `Network`."""
        return Pyro4.current_context.client


PYRO: Network = PyroNetwork()
