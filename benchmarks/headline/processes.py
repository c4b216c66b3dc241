"""The processes of the two sides: `python -m benchmarks.headline.processes ROLE FOLDER NUMBER CORE`.

Every search has a master and two workers. What an evaluation trained is kept beside the search, so that the test error
of those that came to be incumbents can be measured when the search is over and its clock stands.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.headline.protocol import ITERATIONS, WORKERS, network_name, now_of
from benchmarks.stock import start_master
from pipeline.files import read_json
from pipeline.records import WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.settings import load_settings

RUN_ID = "headline"


def networks(folder: Path) -> Path:
    """Where a search's trained networks are kept."""
    return folder / "networks"


def tandem_master(folder: Path, _: int) -> None:
    from pipeline.master.process import run_master

    run = RunFolder(folder / "run")
    run_master(run, load_settings(run.settings), None, "127.0.0.1")


def tandem_worker(folder: Path, number: int) -> None:
    from pipeline.training import train as train_module
    from pipeline.worker.evaluate import TrainingEvaluator
    from pipeline.worker.worker import run_worker
    from tandem_trial.clock import PhaseClock

    train_module.PhaseClock = partial(PhaseClock, now=now_of(read_json(folder / "size.json")["clock"]))  # type: ignore[misc,assignment]
    run = RunFolder(folder / "run")
    settings = load_settings(run.settings)
    identity = WorkerIdentity(f"w{number}", f"core{number}")
    train = TrainingEvaluator(run, settings, identity)

    def evaluate(evaluation: Any, should_stop: Any) -> Any:
        result = train(evaluation, should_stop)
        if result.status == "finished":
            last = run.checkpoint(evaluation.config_id, evaluation.budget, evaluation.attempt)
            os.link(last, networks(folder) / network_name(evaluation.config_id, evaluation.budget))
        return result

    run_worker(run, identity, settings, evaluate=evaluate, device="cpu")


def stock_master(folder: Path, _: int) -> None:
    from hpbandster.core.result import logged_results_to_HBS_result
    from hpbandster.optimizers import BOHB

    from pipeline.settings.space import build_space

    settings = load_settings(folder / "run" / "settings.yaml")
    log = folder / "run"
    earlier = logged_results_to_HBS_result(str(log)) if (log / "results.json").exists() else None
    space = build_space(settings.space, seed=settings.seed)
    log_to = log if earlier is None else folder / "again"
    master = start_master(BOHB, RUN_ID, space, settings.search, folder, log_to, earlier)
    master.run(n_iterations=ITERATIONS, min_n_workers=WORKERS if earlier is None else 1)


def stock_worker(folder: Path, number: int) -> None:
    import time

    import torch
    from hpbandster.core.worker import Worker

    from benchmarks.headline.authors import Authors

    settings = load_settings(folder / "run" / "settings.yaml")
    authors = Authors(settings, now_of(read_json(folder / "size.json")["clock"]))

    class Trains(Worker):  # type: ignore[misc]
        def compute(self, config_id: Any, config: Any, budget: float, working_directory: str) -> dict[str, Any]:
            error, model = authors.train(config, budget)
            kept = {"configuration": dict(config), "model": model.state_dict()}
            torch.save(kept, networks(folder) / network_name(config_id, budget))
            return {"loss": error, "info": {}}

    worker = Trains(run_id=RUN_ID, host="127.0.0.1", id=f"{number}-{os.getpid()}", logger=logging.getLogger("stock"))
    while not list(folder.glob("HPB_run_*_pyro.pkl")):
        time.sleep(0.1)
    worker.load_nameserver_credentials(str(folder))
    worker.run(background=False)


ROLES = {f.__name__: f for f in (tandem_master, tandem_worker, stock_master, stock_worker)}


def main() -> None:
    """Be one process of a search."""
    role, folder, number, core = sys.argv[1:]
    if core != "any":
        os.sched_setaffinity(0, {int(core)})
    logging.basicConfig(level=logging.INFO if "tandem" in role else logging.WARNING)
    ROLES[role](Path(folder), int(number))


if __name__ == "__main__":
    main()
