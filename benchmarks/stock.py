"""Stock hpbandster as it runs with today's numpy; nothing else of it is changed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pipeline.settings.search import SearchSettings


def start_master(
    optimizer: Any,
    run_id: str,
    space: Any,
    search: SearchSettings,
    folder: Path,
    log: Path,
    previous_result: Any = None,
) -> Any:
    """Make one of hpbandster's masters, with a nameserver of its own on a free port.

    Args:
        optimizer: a class of `hpbandster.optimizers`.
        run_id: by which workers find it.
        space: the ConfigSpace.
        search: its budgets and eta.
        folder: where the nameserver says where it is.
        log: folder of the results.
        previous_result: what an earlier master logged.
    """
    from hpbandster.core.nameserver import NameServer
    from hpbandster.core.result import json_result_logger

    from pipeline.settings.space import plain_configuration

    class Stock(optimizer):  # type: ignore[misc]
        """numpy 2 knows values that hpbandster's transport does not: plain ones travel."""

        def _submit_job(self, config_id: Any, config: Any, budget: Any) -> None:
            self.iterations[config_id[0]].data[config_id].config = config = dict(plain_configuration(config))
            super()._submit_job(config_id, config, float(budget))

    nameserver = NameServer(run_id=run_id, host="127.0.0.1", port=0, working_directory=str(folder))
    host, port = nameserver.start()
    try:
        master = Stock(
            configspace=space,
            run_id=run_id,
            eta=search.eta,
            min_budget=search.min_budget,
            max_budget=search.max_budget,
            nameserver=host,
            nameserver_port=port,
            ping_interval=5,
            result_logger=json_result_logger(directory=str(log), overwrite=True),
            previous_result=previous_result,
            logger=logging.getLogger("stock"),
        )
    except Exception:
        nameserver.shutdown()  # its thread would outlive the error
        raise
    master.own_nameserver = nameserver  # it ends when nothing refers to it
    return master
