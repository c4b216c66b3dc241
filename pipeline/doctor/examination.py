"""The whole examination: the checks in order, each told as soon as it is done."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pipeline.doctor.cluster import check_configuration, check_request, examine_node
from pipeline.doctor.findings import FAULT, OK, Finding
from pipeline.doctor.machine import (
    check_clock,
    check_data,
    check_devices,
    check_limits,
    check_storage,
    check_versions,
    safely,
)
from pipeline.doctor.roundtrip import listen
from pipeline.launch.choice import settle_where
from pipeline.settings import Settings

CLIENT_S = 60.0


def examine(
    settings: Settings, results: Path, wait_s: float, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Finding]:
    """Every finding, as it is found. A check is left out where it could only fail of what has been named already.

    Args:
        results: where the run folders will be.
        wait_s: how long the job on a compute node may take; 0: submit none.
        tell: told what is waited for.

    Raises:
        SiteError: as `settle_where`.
    """
    settings = settle_where(settings)
    yield from safely(check_versions, "versions")
    storage = safely(lambda: check_storage(results), "storage")
    yield from storage
    can_write = not any(finding.check == "storage" for finding in storage)
    if can_write:
        yield from safely(lambda: check_clock(results), "clock")
    yield from safely(lambda: check_data(settings), "data")
    yield from safely(check_limits, "limits")
    if settings.workers.where == "local":
        yield from safely(lambda: _round_trip_here(settings), "network")
        yield from safely(lambda: check_devices(settings), "devices")
        return
    request = safely(lambda: check_request(settings, results), "slurm: the request")
    yield from request
    yield from safely(lambda: check_configuration(settings), "slurm: configuration")
    # The job asks for what the workers ask for, and answers in RESULTS.
    is_ready = can_write and not any(finding.verdict == FAULT for finding in request)
    if wait_s > 0 and not is_ready:
        tell("No job examines a node before this is mended.")
    elif wait_s > 0:
        job = partial(examine_node, settings, wait_s=wait_s, tell=tell)
        yield from safely(lambda: _in_folder(results, job), "node")


def _in_folder(results: Path, check: Callable[[Path], list[Finding]]) -> list[Finding]:
    """The findings of a check in a folder of its own, which is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=".doctor-", dir=results.resolve()))
    try:
        return check(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _round_trip_here(settings: Settings) -> list[Finding]:
    """A call over TLS to another process of this machine, and back."""
    address = settings.network.address or "127.0.0.1"
    client = (
        "import sys; from pathlib import Path; from pipeline.doctor.roundtrip import greet; "
        "print('|'.join(greet(Path(sys.argv[1]), sys.argv[2], None)))"
    )
    with tempfile.TemporaryDirectory(prefix="tandem-doctor-") as folder:
        tls = Path(folder) / "tls"
        server, uri = listen(tls, address, settings.network.ports)
        command = [sys.executable, "-c", client, str(tls), uri]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_S, check=False)
        finally:
            server.shutdown()
    if done.returncode == 0 and done.stdout.strip() == "|":
        return [Finding("network", OK, f"processes call each other over TLS on {address}")]
    said = done.stdout.strip().strip("|") or (done.stderr.strip().splitlines() or ["no answer"])[-1]
    mend = "processes of one machine must reach each other: network.address=127.0.0.1"
    return [Finding("network", FAULT, said, mend)]
