"""The run's status, published by a thread of its own: a slow file system must not slow the search."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.bounds import MAX_SECONDS
from pipeline.master.attempts import describe
from pipeline.master.events import MasterOutcome
from pipeline.master.hooks import Hooks
from pipeline.master.lease import Lease, LeaseLostError
from pipeline.master.threads import guarded
from pipeline.master.worker_pool import KnownWorker, WorkerState
from pipeline.problems.description import describe as describe_problem
from pipeline.records import EvaluationKey, config_name
from pipeline.run.folder import RunFolder
from pipeline.run.status import (
    BracketStatus,
    FrontStatus,
    IncumbentStatus,
    RungStatus,
    RunStatus,
    WorkerStatus,
    publish_status,
)
from pipeline.runtime import SYSTEM, Queue, Runtime
from pipeline.search.brackets import ConfigGroup
from pipeline.search.objectives import dominated_share
from pipeline.search.pareto import on_front
from pipeline.search.search import Search
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.master.scheduler import Scheduler

log = logging.getLogger("tandem.master")


# `pipeline.run.status.STALE_S` must be well above.
MAX_PAUSE_S = 5.0


class StatusPublisher:
    """Turns the scheduler's state into a `RunStatus` and publishes it."""

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        lease: Lease,
        location: str,
        inbox: Queue,
        runtime: Runtime = SYSTEM,
    ) -> None:
        self._runtime = runtime
        self._folder = folder
        self._settings = settings
        self._lease = lease
        self._location = location
        self._started = self._runtime.time()
        self._planned: tuple[int, int] = (-1, 0)
        self._not_before = 0.0
        self._problem = ""
        self._ended_brackets: dict[int, BracketStatus] = {}
        self._hooks = Hooks(settings.hooks, folder, runtime)
        self._to_publish: Queue = runtime.queue()
        self._thread = runtime.thread(guarded(inbox, "status", self._run), "status")
        self._thread.start()

    def publish(self, scheduler: Scheduler) -> None:
        """Publish the state soon; left out while the last one is being written, or if that took long just now."""
        if self._to_publish.empty() and self._runtime.monotonic() > self._not_before:
            status = self._status(scheduler, scheduler.state, scheduler.message or self._hooks.problem)
            self._hooks.look(status)
            self._to_publish.put(status)

    def publish_last(self, scheduler: Scheduler, outcome: MasterOutcome) -> None:
        """Publish how the master ended, before this returns."""
        self.close()
        publish_status(self._folder, self._status(scheduler, outcome.state, outcome.message))

    def tell_end(self, scheduler: Scheduler, outcome: MasterOutcome) -> None:
        """Let the user's commands know how the run ended, and publish what went wrong with them."""
        status = self._status(scheduler, outcome.state, outcome.message)
        self._hooks.look(status)
        self._hooks.end(status)
        if self._hooks.problem:
            self._lease.check()  # a successor may have begun meanwhile
            said = f"{outcome.message} ({self._hooks.problem})" if outcome.message else self._hooks.problem
            publish_status(self._folder, self._status(scheduler, outcome.state, said))

    def close(self) -> None:
        """Publish nothing more."""
        self._to_publish.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (status := self._to_publish.get()) is not None:
            began = self._runtime.monotonic()
            try:
                self._lease.check()  # the file belongs to the successor, if there is one
                publish_status(self._folder, status)
            except LeaseLostError:
                return  # the loop finds out before it writes
            except (OSError, ValueError) as error:  # the next one may do; results have their own word on a full disk
                self._warn(f"the status could not be written: {error}")
            # With hundreds of workers and brackets it is a large file: it may take a twentieth of the master's time.
            self._not_before = began + min(MAX_PAUSE_S, 20 * (self._runtime.monotonic() - began))

    def _warn(self, problem: str) -> None:
        """Say what is in the way, once."""
        if problem != self._problem:
            log.warning("%s", problem)
        self._problem = problem

    def _bracket_statuses(self, scheduler: Scheduler) -> Iterator[BracketStatus]:
        waiting = {job.key for job in scheduler.evaluations.waiting}
        for number, bracket in enumerate(scheduler.search.iterations):
            status = self._ended_brackets.get(number) or _bracket_status(bracket, scheduler.search, waiting)
            if status.is_finished:
                self._ended_brackets[number] = status
            yield status

    def _status(self, scheduler: Scheduler, state: str, message: str) -> RunStatus:
        search = scheduler.search
        metric = describe_problem(self._settings, scheduler.pool.devices).metric
        crashed = sum(a.loss is None for a in search.accepted.values())
        brackets = len(search.iterations)
        if self._planned[0] != brackets:
            planned = search.planned()
            self._planned = brackets, planned
        return RunStatus(
            run_id=self._folder.run_id,
            state=state,
            message=message,
            term=self._lease.term,
            host=platform.node(),
            pid=os.getpid(),
            address=self._location,
            started=self._started,
            updated=self._runtime.time(),
            iterations=self._settings.search.iterations,
            planned=self._planned[1],
            finished=len(search.accepted) - crashed,
            crashed=crashed,
            queued=len(scheduler.evaluations.waiting),
            lost=scheduler.attempts.lost,
            retried=scheduler.retried,
            trained_s=min(search.trained_s, MAX_SECONDS),  # a guest may send anything within its bounds, and often
            lost_s=min(scheduler.attempts.lost_s, MAX_SECONDS),
            draws=len(search.draws),
            model_based=search.model_based,
            checkpoint_mb=scheduler.checkpoints.used_mb,
            checkpoint_bound_mb=scheduler.checkpoints.bound_mb,
            workers=tuple(_worker_status(w) for w in sorted(scheduler.pool.workers.values(), key=lambda w: w.name)),
            brackets=tuple(self._bracket_statuses(scheduler)),
            incumbents=tuple(
                IncumbentStatus(budget, config_name(config_id), loss, metric.text(metric.of_loss(loss)))
                for budget, (config_id, loss) in sorted(search.incumbents.items())
            ),
            suspected_nodes=dict(scheduler.policy.excluded),
            metric=metric.title,
            remarks=tuple(search.remarks.lines()),
            front=_front_status(search),
            budget_unit=self._settings.search.budget_unit,
        )


def _front_status(search: Search) -> FrontStatus | None:
    """None: there is one objective, or no result."""
    budget = max(search.incumbents, default=None)
    if not search.objectives or budget is None:
        return None
    config_ids, losses = search.objectives.on_budget(budget)
    metrics = search.objectives.metrics
    best = [
        f"{metric.title} {metric.text(metric.of_loss(float(losses[row, place])))} ({config_name(config_ids[row])})"
        for place, metric in enumerate(metrics)
        for row in [int(losses[:, place].argmin())]
    ]
    size = int(on_front(losses).sum())
    return FrontStatus(budget, size, len(config_ids), tuple(best), dominated_share(losses, metrics))


# What a person need not tell apart.
_SHOWN_AS = {WorkerState.STARTING: "training", WorkerState.UNCONFIRMED: "idle"}


def _worker_status(worker: KnownWorker) -> WorkerStatus:
    state = "suspect" if worker.is_suspect or worker.is_lost else _SHOWN_AS.get(worker.state, worker.state.value)
    return WorkerStatus(
        name=worker.name,
        host=worker.host,
        slurm_job_id=worker.registration.slurm_job_id,
        device=worker.registration.device,
        state=state,
        evaluation=describe(worker.attempt),
        since=worker.since,
        allocation_end=worker.registration.allocation_end,
    )


def _bracket_status(bracket: ConfigGroup, search: Search, waiting: set[EvaluationKey]) -> BracketStatus:
    rungs = []
    outstanding = bracket.outstanding()
    for stage, budget in enumerate(bracket.budgets):
        results = [search.accepted.get((config_id, budget)) for config_id in bracket.data]
        crashed = sum(r is not None and r.loss is None for r in results)
        finished = sum(r is not None for r in results) - crashed
        here = [c for c, _, b in outstanding if b == budget]
        queued = sum((c, budget) in waiting for c in here)
        rungs.append(
            RungStatus(
                budget=budget,
                planned=bracket.num_configs[stage],
                finished=finished,
                crashed=crashed,
                running=len(here) - queued,
                queued=queued,
            )
        )
    return BracketStatus(bracket.HPB_iter, bool(bracket.is_finished), tuple(rungs))
