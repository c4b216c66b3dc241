"""Where the present master listens: a JSON file in the run folder, replaced by every master."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pipeline.bounds import Count, Name, checked
from pipeline.files import publish_json, read_json
from pipeline.run.folder import RunFolder
from pipeline.run.former_names import with_present_names


@dataclass(frozen=True)
class MasterAddress:
    """What a worker must know to join.

    Attributes:
        term: of the master's lease; a higher one replaces this master.
        host: name of the master's machine, for people.
        address, port: of the nameserver and the dispatcher, which share one port.
    """

    run_id: Name
    term: Count
    host: Name
    address: Name
    port: Count

    @property
    def location(self) -> str:
        """Where it listens, as host:port."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def dispatcher_uri(self) -> str:
        """Pyro4's name of the dispatcher."""
        return f"PYRO:{dispatcher_name(self.run_id)}@{self.location}"


def dispatcher_name(run_id: str) -> str:
    """The name under which hpbandster's workers look for the dispatcher."""
    return f"hpbandster.run_{run_id}.dispatcher"


def worker_prefix(run_id: str) -> str:
    """The beginning of the names under which hpbandster's workers register."""
    return f"hpbandster.run_{run_id}.worker."


def publish_master_address(folder: RunFolder, address: MasterAddress) -> None:
    """Say where the master listens."""
    publish_json(folder.master_address, asdict(address))


def read_master_address(folder: RunFolder) -> MasterAddress | None:
    """Where the last master listened, or None: none has said so yet, or the file is being replaced."""
    try:
        return checked(MasterAddress, with_present_names(read_json(folder.master_address, wait_s=0)))
    except (OSError, ValueError, TypeError, AttributeError):
        return None
