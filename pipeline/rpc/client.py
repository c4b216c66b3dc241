"""Calls to other processes: each with its own timeout, each failure of a known kind."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import Pyro4
import Pyro4.errors

# What a call may raise when the other side, or the way to it, is at fault.
CALL_ERRORS = (Pyro4.errors.CommunicationError, OSError)


def proxy_for(uri: str, timeout_s: float, serializer: str = "json") -> Any:
    """A proxy whose every call, connecting included, ends within about `timeout_s`.

    The timeout is the proxy's own: Pyro4's global one would also close idle connections, and a oneway call on a closed
    connection vanishes without an error.
    """
    proxy = Pyro4.Proxy(uri)
    proxy._pyroTimeout = timeout_s
    proxy._pyroSerializer = serializer
    return proxy


def is_gone(error: BaseException) -> bool:
    """Whether the error says that nothing listens there any more (as opposed to: no answer in time)."""
    return any(isinstance(e, ConnectionRefusedError) for e in _chain(error))


def explain(error: BaseException) -> str:
    """A failed call in a few words, for logs."""
    for cause in _chain(error):
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"certificate not accepted: {cause.verify_message}"
        if isinstance(cause, TimeoutError | Pyro4.errors.TimeoutError):
            return "no answer in time"
    return f"{type(error).__name__}: {error}"


def address_towards(host: str) -> str:
    """The address of this machine on the route to `host` (no packet is sent).

    Raises:
        OSError: the host is unknown, or there is no route.
    """
    family, kind, _, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])


def _chain(error: BaseException) -> list[BaseException]:
    errors: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in errors:
        errors.append(current)
        current = current.__cause__ or current.__context__
    return errors
