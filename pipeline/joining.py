"""How a person adds workers to a run: by hand, without a checkout, or with a worker written for hpbandster itself."""

from __future__ import annotations

import platform
import shlex

from pipeline.cluster.fit import is_checkout
from pipeline.errors import RunError
from pipeline.launch.choice import backend_for
from pipeline.run.creation import read_settings
from pipeline.run.folder import RunFolder
from pipeline.run.identity import require_no_copy
from pipeline.run.status import read_status


def stock_worker_lines(folder: RunFolder) -> list[str]:
    """The environment and the arguments with which a worker written for hpbandster itself joins from this host.

    Issues a certificate for this host, as Tandem's own workers have one.

    Raises:
        RunError: no master is at work, the folder is a copy of a run, or the run's status or authority cannot be read.
    """
    from pipeline.rpc.client import address_towards
    from pipeline.rpc.master_address import read_master_address, rpc_run_id
    from pipeline.rpc.tls import issue_certificate, stock_worker_environment

    require_no_copy(folder)  # the address and the authority are the original's
    master, status = read_master_address(folder), read_status(folder)
    if master is None or (status is not None and (status.has_ended or status.is_stale())):
        raise RunError(
            f"Run {folder.run_id} has no master at work. `tandem resume-search {folder.shell_path}` starts one."
        )
    here = address_towards(master.address)
    names = sorted({here, platform.node(), "127.0.0.1", "localhost"})
    certificate = issue_certificate(folder.tls, f"stock-{platform.node()}", names)
    environment = stock_worker_environment(certificate)
    return [
        *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
        f"# worker = MyWorker(run_id={rpc_run_id(folder.run_id)!r}, nameserver={master.address!r}, "
        f"nameserver_port={master.port}, host={here!r})",
        "# Leave as soon as the job is done: whoever holds this certificate's key can join the run.",
    ]


def worker_command(folder: RunFolder) -> str:
    """The command with which a person adds a worker to a run, from the checkout."""
    return backend_for(read_settings(folder)).worker_command(folder)


def asks_for_workers(folder: RunFolder) -> bool:
    """Whether the run asks for workers itself."""
    return read_settings(folder).workers.count > 0


def scripts_place() -> str:
    """From where `worker_command` works, for a person."""
    return "from the checkout" if is_checkout() else "after `tandem scripts`, which makes slurm/ here"


def worker_options(folder: RunFolder) -> str:
    """The options of sbatch for a worker that a person submits.

    Raises:
        SiteError: the run's workers are no Slurm jobs.
    """
    return backend_for(read_settings(folder)).worker_options()
