"""Hosts on one machine: each a set of Linux namespaces (network, PIDs, mounts, host name) held by one init process.

Killing a host's init is a power cut: every process, interface and mount of the host goes with it. Every host dies
with the process that booted it, whatever way that one ends.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

NETWORK = "10.78.0"
BOOT_LIMIT_S = 120.0
# People without an administrator's rights, by name: their user and group ids, known on every host.
USER, OTHER_USER = "ada", "ben"
USERS = {USER: 4711, OTHER_USER: 4712}


def wait_until(condition: Callable[[], object], limit_s: float, what: str, pause_s: float = 0.1) -> None:
    """Return as soon as the condition holds.

    Raises:
        TimeoutError: it did not within the limit; the text names what was waited for.
    """
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit_s:g} s")
        time.sleep(pause_s)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def opened(places: Path, folders: Iterable[Path]) -> list[str]:
    """Shell commands that let everybody reach folders which lie in closed ones (Python's in /root, say).

    The closed folder is covered by an empty one, in which the folders appear again where they were. To be run in a
    host's own mount namespace.

    Args:
        places: an empty folder of the host's.
    """
    closed: dict[Path, list[Path]] = {}
    for folder in {folder.resolve() for folder in folders}:
        barred = [parent for parent in reversed(folder.parents) if not parent.stat().st_mode & stat.S_IXOTH]
        if barred:
            closed.setdefault(barred[0], []).append(folder)
    kept = [(folder, places / str(n)) for n, folder in enumerate(f for inside in closed.values() for f in inside)]
    return [
        *(f"mkdir -p {place}; mount --bind {folder} {place}" for folder, place in kept),
        *(f"mount -t tmpfs -o mode=755 tmpfs {cover}" for cover in closed),
        *(f"mkdir -p {folder}; mount --bind {place} {folder}" for folder, place in kept),
    ]


class Host:
    """A host, off until `boot`.

    Attributes:
        name: its host name.
        address: on the network of all hosts; None: it has none (the fabric, which holds the switch).
        init: process id of its init in the namespace of the tests; 0: off.
    """

    def __init__(self, name: str, address: str | None, state: Path) -> None:
        self.name = name
        self.address = address
        self.init = 0
        self._folder = state / "hosts" / name
        self._outer: subprocess.Popen[bytes] | None = None

    def boot(self, names: Mapping[str, str]) -> None:
        """Start the host's namespaces.

        Args:
            names: address by host name: the host's /etc/hosts.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        hosts = "".join(f"{address} {name}\n" for name, address in names.items())
        (self._folder / "hosts").write_text("127.0.0.1 localhost\n" + hosts)
        (self._folder / "hostname").write_text(self.name + "\n")
        people = [(name, str(number)) for name, number in USERS.items()]
        for file, lines in (
            ("passwd", [f"{name}:x:{number}:{number}::/tmp:/bin/bash\n" for name, number in people]),
            ("group", [f"{name}:x:{number}:\n" for name, number in people]),
        ):
            (self._folder / file).write_text(Path("/etc", file).read_text() + "".join(lines))
        ready = self._folder / "ready"
        ready.unlink(missing_ok=True)
        steps = [
            f"hostname {self.name}",
            "mount --make-rprivate /",
            f"mount --bind {self._folder}/hosts /etc/hosts",
            *(f"mount --bind {self._folder}/{name} /etc/{name}" for name in ("hostname", "passwd", "group")),
            *opened(self._folder / "opened", (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2])),
            "mount -t tmpfs tmpfs /dev/shm",
            "ip link set lo up",
            f"touch {ready}",
        ]
        namespaces = ["--net", "--uts", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = "set -e; " + "; ".join(steps) + "; sleep infinity & wait"
        with (self._folder / "init.log").open("ab") as log:
            self._outer = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "bash", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        outer = self._outer
        wait_until(lambda: ready.exists() or outer.poll() is not None, BOOT_LIMIT_S, f"booting {self.name}", 0.01)
        if outer.poll() is not None:
            raise RuntimeError(f"{self.name} did not boot: {(self._folder / 'init.log').read_text()}")
        self.init = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0])

    @property
    def is_on(self) -> bool:
        """Whether the host runs."""
        return self.init != 0 and is_alive(self.init)

    def power_off(self) -> None:
        """Cut the power."""
        if self.is_on:
            os.kill(self.init, signal.SIGKILL)
        if self._outer is not None:
            self._outer.wait(timeout=BOOT_LIMIT_S)
        self.init = 0

    def connect(self, fabric: Host) -> None:
        """Plug a cable into the switch."""
        if self.address is None:
            raise ValueError(f"{self.name} has no address")
        # The kernel takes a moment to remove the cable of a host that lost its power.
        fabric.run_network("ip", "link", "del", self._port, check=False)
        peer = ["type", "veth", "peer", "name", "eth0", "netns", str(self.init)]
        fabric.run_network("ip", "link", "add", self._port, *peer)
        fabric.run_network("ip", "link", "set", self._port, "master", "switch", "up")
        self.run_network("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.run_network("ip", "link", "set", "eth0", "up")

    def unplug(self, fabric: Host) -> None:
        """Cut the cable: the host runs on, and reaches nobody."""
        fabric.run_network("ip", "link", "set", self._port, "down")

    def plug(self, fabric: Host) -> None:
        """Mend the cable."""
        fabric.run_network("ip", "link", "set", self._port, "up")

    @property
    def _port(self) -> str:
        return f"p-{self.name}"

    def run_network(self, *command: str, check: bool = True) -> None:
        """Run a command of the tests' own file system in the host's network."""
        subprocess.run(["nsenter", "-t", str(self.init), "-n", "--", *command], check=check, capture_output=True)

    def enter(self, *command: str, user: str = "root") -> list[str]:
        """The command line that runs a command on this host, in the folder of that path, as one of `USERS` or root."""
        if not self.is_on:
            raise RuntimeError(f"{self.name} is off")
        if user != "root":
            command = ("setpriv", f"--reuid={USERS[user]}", f"--regid={USERS[user]}", "--clear-groups", *command)
        return ["nsenter", "-t", str(self.init), "-n", "-u", "-m", "-i", "-p", f"--wdns={Path.cwd()}", "--", *command]
