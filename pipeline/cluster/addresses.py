"""Which address of this machine the nodes reach it by.

A login node has several addresses, and the first interface is rarely the one that compute nodes can reach: the
kernel's route towards a node tells, and a setting overrules it.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence

from pipeline.cluster import slurm
from pipeline.errors import SiteError
from pipeline.settings import NetworkSettings, Settings

LOOPBACK = "127.0.0.1"

# Nodes whose routes are asked for: enough for a majority, few enough for a slow resolver.
MAX_ASKED = 16

_SIOCGIFADDR = 0x8915  # linux/sockios.h: the IPv4 address of an interface


def choose_address(
    network: NetworkSettings, towards: Sequence[str], route: Callable[[str], str | None] | None = None
) -> str:
    """The IP address that a master on this machine listens on.

    Args:
        network: `network.address` may name an interface of this machine, a host name or an IP address.
        towards: host names or addresses of the nodes that must reach it; empty: workers run on this machine.
        route: the address of this machine on the way to a host, None without one (default: ask the kernel).

    Raises:
        SiteError: the setting names nothing of this machine, or there is no route to any of the nodes.
    """
    if network.address is not None:
        return _configured(network.address)
    if not towards:
        return LOOPBACK
    asked = towards[:MAX_ASKED]
    sources = Counter(source for source in map(route or route_source, asked) if source and not _is_loopback(source))
    if not sources:
        raise SiteError(
            f"This machine has no route to any of the nodes {', '.join(asked[:4])}. Set network.address to the "
            f"interface, host name or address that they reach it by. It has: {_describe(interfaces())}."
        )
    return sources.most_common(1)[0][0]


def address_towards_nodes(settings: Settings) -> str:
    """The address of this machine towards the nodes of the run's partition.

    Raises:
        SiteError: as `choose_address`, or Slurm does not answer.
    """
    if settings.network.address is not None:
        return choose_address(settings.network, ())
    wanted = settings.slurm.partition
    nodes = slurm.nodes()
    chosen = [n for n in nodes if wanted is None or n.partition in wanted.split(",")] or nodes
    return choose_address(settings.network, list(dict.fromkeys(node.address for node in chosen)))


def _configured(name: str) -> str:
    local = interfaces()
    if name in local:
        return local[name]
    try:
        address = str(socket.getaddrinfo(name, None, family=socket.AF_INET)[0][4][0])
    except OSError:
        raise SiteError(
            f"network.address: {name!r} is no interface of this machine, and no host name or address that it knows. "
            f"Interfaces: {_describe(local)}."
        ) from None
    if not _is_own(address):
        raise SiteError(
            f"network.address: {name!r} is {address}, which is not an address of this machine "
            f"({socket.gethostname()}). Its interfaces: {_describe(local)}."
        )
    return address


def _is_own(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def route_source(host: str) -> str | None:
    """The IPv4 address of this machine on the way to a host; None: unknown host or no route. Sends nothing."""
    try:
        target = socket.getaddrinfo(host, 9, family=socket.AF_INET, type=socket.SOCK_DGRAM)[0][4]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # of a datagram socket: only looks up the route
            return str(probe.getsockname()[0])
    except OSError:
        return None


def interfaces() -> dict[str, str]:
    """IPv4 address by interface, of the interfaces that have one."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:  # an interface without an address
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _describe(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {address}" for name, address in found.items()) or "none with an IPv4 address"
