"""A problem whose evaluations wait at a gate until the test lets them through: they last as long as the test needs.

It imports nothing that is slow, so that a worker joins within a second or two.
"""

from __future__ import annotations

import time
from pathlib import Path

from tandem_trial import Metric, Problem, Trial

# In the run folder: evaluations of so many brackets may pass.
GATE = "gate"


def _let_through(run: Path) -> int:
    try:
        return int((run / GATE).read_text(encoding="utf-8") or 0)
    except FileNotFoundError:
        return 0


def objective(trial: Trial) -> dict[str, float]:
    run = next(folder for folder in trial.folder.parents if (folder / "settings.yaml").exists())
    while _let_through(run) <= trial.config_id[0] and not trial.should_stop():
        time.sleep(0.1)
    if not trial.stop_reason:
        trial.step(int(trial.remaining))
    return {"error": trial["x"]}


problem = Problem(objective, {"x": [0.0, 1.0]}, metric=Metric("error"))
