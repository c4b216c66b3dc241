"""A status with something of everything."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from pipeline.run.status import BracketStatus, IncumbentStatus, RungStatus, RunStatus, WorkerStatus


def status_of(**changes: Any) -> RunStatus:
    now = time.time()
    status = RunStatus(
        run_id="digits-1", state="searching", message="", term=2, host="login", pid=77, address="10.0.0.1:9090",
        started=now - 100, updated=now, iterations=4, planned=65, finished=10, crashed=1, queued=3, lost=2, retried=2,
        trained_s=500, lost_s=12, draws=27, model_based=5, checkpoint_mb=3, checkpoint_bound_mb=20,
        workers=(
            WorkerStatus("w1", "node1", "7_0", "H100", "training", "0-0-3 on 1.2, attempt 2", now - 3, now + 600),
            WorkerStatus("w2", "node2", "", "cpu", "suspect", "", now - 9),
        ),
        brackets=(
            BracketStatus(0, True, (RungStatus(1.2, 9, 9, 0, 0, 0),)),
            BracketStatus(1, False, (RungStatus(0.4, 27, 9, 1, 2, 15), RungStatus(1.2, 9, 0, 0, 0, 0))),
        ),
        incumbents=(IncumbentStatus(0.4, "0-0-3", 0.0625),), budget_unit="seconds",
        suspected_nodes={"node3": "3 evaluations failed there alone"},
    )  # fmt: skip
    return dataclasses.replace(status, **changes)
