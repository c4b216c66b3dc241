"""How a stock hpbandster worker joins a run: the nameserver's place, and a certificate for the worker's own address."""

from __future__ import annotations

import shlex

from pipeline.errors import RunError
from pipeline.rpc.master_address import read_master_address
from pipeline.rpc.tls import issue_certificate, stock_worker_environment
from pipeline.run_folder import RunFolder


def invitation(folder: RunFolder, address: str) -> list[str]:
    """Shell lines for a stock hpbandster worker that will listen on `address`, and what to give its constructor.

    Args:
        address: the worker's own host name or IP address, as the master reaches it.

    Raises:
        RunError: the run has no master, or its certificates cannot be used.
    """
    master = read_master_address(folder)
    if master is None:
        raise RunError(f"Run {folder.run_id} has no master; `tandem resume-search {folder.path}` starts one.")
    name = "guest-" + "".join(c if c.isalnum() else "-" for c in address)
    variables = stock_worker_environment(issue_certificate(folder.tls, name, [address]))
    return [
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        f"# Worker(run_id={folder.run_id!r}, nameserver={master.address!r}, nameserver_port={master.port}, "
        f"host={address!r})",
    ]
