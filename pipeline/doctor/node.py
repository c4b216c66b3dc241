"""What a compute node is asked: `python -m pipeline.doctor.node FOLDER` in a job of a minute.

The folder holds request.json (the settings' texts, where to call, the time it was written) and the run-like `tls`; the
answer is answer.json, findings as plain dicts.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from pathlib import Path

from pipeline.doctor.findings import FAULT, OK, Finding
from pipeline.doctor.machine import check_clock, check_devices, check_versions, safely
from pipeline.doctor.roundtrip import greet
from pipeline.files import publish_json, read_json
from pipeline.settings import Settings, load_settings


def main(folder: Path) -> None:
    """Examine this node and leave the answer in the folder."""
    request = read_json(folder / "request.json", wait_s=60.0)
    settings = load_settings(folder / "settings.yaml")
    host = platform.node()
    findings = [
        Finding("storage", OK, f"sees {folder}"),
        *safely(lambda: check_clock(folder), "clock"),
        *safely(check_versions, "versions"),
        *safely(lambda: _ways(folder, request["uri"], settings), "network"),
        *safely(lambda: check_devices(settings), "devices"),
    ]
    publish_json(folder / "answer.json", [{**asdict(f), "check": f"node {host}, {f.check}"} for f in findings])


def _ways(folder: Path, uri: str, settings: Settings) -> list[Finding]:
    """Both directions of the network between this node and the host of the master."""
    there, back = greet(folder / "tls", uri, settings.network.ports)
    mend = (
        "the nodes must reach the master, and the master the nodes, by TCP: network.address names another interface, "
        "network.ports a range that the firewall lets through; or run the master as a job (MASTER=slurm)"
    )
    if there:
        return [Finding("network to the master", FAULT, there, mend)]
    findings = [Finding("network to the master", OK, f"reached {uri.partition('@')[2]} over TLS")]
    if back:
        return [*findings, Finding("network from the master", FAULT, f"cannot be reached at {back}", mend)]
    return [*findings, Finding("network from the master", OK, "called back over TLS")]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
