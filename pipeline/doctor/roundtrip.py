"""A call from one host to another and back, over the mutual TLS that master and workers use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import Pyro4

from pipeline.rpc.client import CALL_ERRORS, explain
from pipeline.rpc.network import PYRO, Server

ROUND_TRIP_S = 10.0
GREETED, PARTNER = "tandem.doctor", "tandem.doctor.partner"


class Greeted:
    """What is called: it calls back, and tells how that went."""

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def greet(self, uri: str) -> str:
        """Call whoever has called; "": that worked."""
        return call_back(uri)


class Partner:
    """What is called back."""

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def answer(self) -> str:
        """A word that proves that the call came through."""
        return "here"


def call_back(uri: str) -> str:
    """Why a partner cannot be called; "": it can."""
    proxy = PYRO.proxy(uri, ROUND_TRIP_S)
    try:
        return "" if proxy.answer() == "here" else "it answered something else"
    except CALL_ERRORS as error:
        return f"{uri.partition('@')[2]}: {explain(error)}"
    finally:
        proxy._pyroRelease()


def listen(tls: Path, address: str, ports: tuple[int, int] | None) -> tuple[Server, str]:
    """Be greeted on an address; returns the server, and where it listens.

    Raises:
        SiteError: it cannot listen there.
    """
    PYRO.make_authority(tls, "doctor")
    PYRO.take_credentials(tls, "doctor", [address])
    server = PYRO.serve(address, ports)
    uri = server.register(Greeted(), GREETED)
    server.start()
    return server, str(uri)


def greet(tls: Path, uri: str, ports: tuple[int, int] | None) -> tuple[str, str]:
    """Greet whoever listens at a uri, from this host.

    Returns:
        (why it cannot be reached, why it cannot call back); "" where that worked.
    """
    host = uri.partition("@")[2].rpartition(":")[0]
    own = PYRO.own_address(host)
    PYRO.take_credentials(tls, "partner", [own])
    server: Any = PYRO.serve(own, ports)
    back = server.register(Partner(), PARTNER)
    server.start()
    proxy = PYRO.proxy(uri, 2 * ROUND_TRIP_S)
    try:
        return "", str(proxy.greet(str(back)))
    except CALL_ERRORS as error:
        return f"{own} cannot reach {uri.partition('@')[2]}: {explain(error)}", ""
    finally:
        proxy._pyroRelease()
        server.shutdown()
