"""Where the present master listens: a JSON file in the run folder, replaced by every master."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from pipeline.bounds import Count, Name, checked
from pipeline.errors import RunError
from pipeline.files import publish_json, read_json
from pipeline.run.folder import RunFolder
from pipeline.run.former_names import with_present_names
from pipeline.run.identity import run_label


@dataclass(frozen=True)
class MasterAddress:
    """What a worker must know to join.

    Attributes:
        term: of the master's lease; a higher one replaces this master.
        host: name of the master's machine, for people.
        address, port: of the nameserver and the dispatcher, which share one port.
        run_label: of the run that it is the master of (`pipeline.run.identity`); "" in an address of earlier versions.
    """

    run_id: Name
    term: Count
    host: Name
    address: Name
    port: Count
    run_label: Name = ""

    @property
    def location(self) -> str:
        """Where it listens, as host:port."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def dispatcher_uri(self) -> str:
        """Pyro4's name of the dispatcher."""
        return f"PYRO:{dispatcher_name(self.run_id)}@{self.location}"


def rpc_run_id(run_id: str) -> str:
    """The run's id as Pyro4's names can hold it: a folder may have been renamed to a name with spaces."""
    return re.sub(r"[^\w.-]", "_", run_id, flags=re.ASCII)


def dispatcher_name(run_id: str) -> str:
    """The name under which hpbandster's workers look for the dispatcher."""
    return f"hpbandster.run_{rpc_run_id(run_id)}.dispatcher"


def worker_prefix(run_id: str) -> str:
    """The beginning of the names under which hpbandster's workers register."""
    return f"hpbandster.run_{rpc_run_id(run_id)}.worker."


def publish_master_address(folder: RunFolder, address: MasterAddress) -> None:
    """Say where the master listens."""
    publish_json(folder.master_address, asdict(address), inside=folder.path)


def read_master_address(folder: RunFolder) -> MasterAddress | None:
    """Where the last master listened.

    None: none has said so yet, the file is being replaced, or it names the master of a run that this is a copy of.
    """
    try:
        address = checked(MasterAddress, with_present_names(read_json(folder.master_address, wait_s=0)))
        return address if address.run_label in ("", run_label(folder)) else None
    except (OSError, ValueError, TypeError, AttributeError, RunError):
        return None
