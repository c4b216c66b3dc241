"""Train what `pipeline.retraining.plan` plans: as a Slurm array, or one after the other on this machine."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pipeline.cluster import slurm
from pipeline.cluster.allocation import Allocation, allocation_end, worker_identity
from pipeline.errors import CrashedError
from pipeline.files import is_absent
from pipeline.launch.array_tasks import RequeuedAsItIs
from pipeline.launch.choice import backend_for
from pipeline.records import Evaluation, TrainResult
from pipeline.retraining.plan import (
    UNDER_WAY,
    Retraining,
    jobs_of,
    missing,
    note_submitted,
    previous_attempt,
    summary,
)
from pipeline.run.folder import RunFolder
from pipeline.settings import DataSettings, Settings, changed
from pipeline.storage.curves import AttemptFile
from pipeline.storage.retrained import INCUMBENT

log = logging.getLogger(__name__)

Say = Callable[[str], None]


def retrain(task: Retraining, settings: Settings, should_stop: Callable[[], str | None]) -> TrainResult:
    """Train one model on training plus validation data, going on from its last checkpoint.

    Raises:
        CrashedError, BrokenError: as `pipeline.training.train.train`.
    """
    from pipeline.training.train import train

    number, state = previous_attempt(task)
    if number == 0:
        shutil.rmtree(task.work.path, ignore_errors=True)  # of another incumbent or budget
    task.work.path.mkdir(parents=True, exist_ok=True)
    log.info("%s: attempt %d (before: %s)", task.name, number + 1, state)
    evaluation = Evaluation(
        config_id=task.config_id,
        configuration=task.configuration,
        budget=task.budget,
        attempt=number + 1,
        seed=task.seed,
        is_largest=True,
    )
    # The test set is what this training is for.
    settings = changed(settings, {"training.test": "largest"})
    curve, identity = AttemptFile(task.path), worker_identity()
    result = train(evaluation, settings, task.work, _all_data(settings.data, settings), curve, identity, should_stop)
    if result.status == "finished":
        shutil.rmtree(task.work.path, ignore_errors=True)
    return result


@cache
def _joined(data: str, device: str) -> Any:
    """Training plus validation data, loaded once per process."""
    import torch

    from pipeline.training.data import join_validation, load_data

    return join_validation(load_data(DataSettings.model_validate_json(data), torch.device(device)))


def _all_data(data: DataSettings, settings: Settings) -> Any:
    from pipeline.training.device import device_for

    return _joined(data.model_dump_json(), str(device_for(settings)))


def retrain_all(plan: Sequence[Retraining], settings: Settings, say: Say) -> None:
    """Train what is missing of a plan: on Slurm as an array, else here and now, one after the other.

    Raises:
        BrokenError, DataError: nothing can be trained.
        SiteError: Slurm refused the array.
    """
    queue = _queue(plan, settings)
    say(summary(plan, queue))
    todo = missing(plan, queue)
    if not todo:
        return
    settings = changed(settings, {"data.root": settings.data.root.resolve()})
    jobs = _submit(todo, settings)
    if jobs is None:
        _train_here(todo, settings, say)
    else:
        arrays = dict.fromkeys(job.partition("_")[0] for job in jobs)
        say(f"Submitted as {', '.join(arrays)}. `squeue --me` shows them; run this again for what is missing by then.")


def _queue(plan: Sequence[Retraining], settings: Settings) -> set[str] | None:
    """The jobs that wait or run, if any of the plan's may be among them; None: there is no queue."""
    if not any(jobs_of(each) for each in plan):
        return None
    return backend_for(settings).submitted_tasks(_job_name(plan))


def _train_here(todo: Sequence[Retraining], settings: Settings, say: Say) -> None:
    settings = as_one_worker(settings)
    allocation = Allocation(allocation_end(), settings.workers.handback_margin_s)
    allocation.listen()
    for number, task in enumerate(todo, start=1):
        if previous_attempt(task)[1] in UNDER_WAY:
            say(f"[{number}/{len(todo)}] {task.name}: another process has begun it meanwhile.")
            continue
        say(f"[{number}/{len(todo)}] {task.name}: training for {task.budget:g} {settings.search.budget_unit} ...")
        try:
            result = retrain(task, settings, allocation.should_stop)
        except CrashedError as error:
            say(f"    crashed: {error}")
            continue
        if result.status == "handed_back":
            say(f"    stopped ({result.reason}); the same command goes on from its checkpoint.")
            return
        say(f"    test error {100 * float(result.info['test_error'] or 0):.2f}%")


def as_one_worker(settings: Settings) -> Settings:
    """Settings under which a budget in seconds buys here what it bought one of the search's workers on this machine.

    As many threads as one of them had; the memory is all of the machine's, because trainings run one at a time.
    """
    share = max(1, len(os.sched_getaffinity(0)) // max(1, settings.workers.count))
    return changed(settings, {"training.threads": settings.training.threads or share})


def _submit(todo: Sequence[Retraining], settings: Settings) -> list[str] | None:
    """Submit an array task per training; returns their ids. None: trainings run here.

    Raises:
        RunError: others could write where the tasks' pickles lie.
        SiteError: Slurm refused; the text has its reason.
    """
    tasks = [RetrainTask(each, settings) for each in todo]
    folder = RunFolder(todo[0].path.parent)
    folder.path.mkdir(parents=True, exist_ok=True)  # the first trainings of their kind
    jobs = backend_for(settings).submit_tasks(folder, _job_name(todo), tasks)
    for task, job in zip(todo, jobs or (), strict=False):
        note_submitted(task, job)
    return jobs


def _job_name(plan: Sequence[Retraining]) -> str:
    return f"tandem-{INCUMBENT if plan[0].model == INCUMBENT else 'baselines'}"


@dataclass(frozen=True)
class RetrainTask(RequeuedAsItIs):
    """What an array task runs; a requeued one goes on from the checkpoint."""

    task: Retraining
    settings: Settings

    def __call__(self) -> str:
        """Train until finished, or until the allocation ends; returns how it ended."""
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)-7s %(message)s")
        allocation = Allocation(allocation_end(), self.settings.workers.handback_margin_s)
        allocation.listen()
        folder = self.task.path.parent
        if is_absent(folder):
            log.error("%s is gone: the run was moved or deleted while this waited. Retrain it where it is now.", folder)
            return "moved"
        if previous_attempt(self.task)[1] == "finished":  # it was requeued or submitted once too often
            return "finished"
        result = retrain(self.task, self.settings, allocation.should_stop)
        if result.status == "handed_back" and allocation.asks_for_requeue(result.reason):
            slurm.requeue_this_job()
        return result.status
