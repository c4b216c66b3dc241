"""What must hold after every step of a simulated search, and at its end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pipeline.master.loop as master_loop
from pipeline.errors import RunError
from pipeline.launch.backend import STARTING_MIN
from pipeline.master.assignment import may_run
from pipeline.master.evaluations import EvaluationState
from pipeline.master.events import MasterOutcome
from pipeline.master.scheduler import Scheduler
from pipeline.master.worker_pool import MAX_REFUSALS, KnownWorker
from pipeline.records import EvaluationKey
from pipeline.rpc.messages import AttemptId, Outcome
from pipeline.run.history import History, Result, read_history
from pipeline.search.brackets import planned_evaluations
from pipeline.search.replay import rebuild
from pipeline.settings import budget_ladder
from tests.simulation.cluster import Task
from tests.simulation.world import Process, current_process

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

# The most attempts at one evaluation, whatever happens; those that a worker did not take are held against the worker,
# which is asked a few times only.
MOST_ATTEMPTS = 40
PREFIXES = 2
# A master that comes round this late stood still itself.
LATE_S = 2.0
# A proposal may take its time, and so may a worker's answer.
PROMPT_S = 5.0


class Books:
    """Keeps what was promised, and compares."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.world = simulation.world
        self.lost: set[AttemptId] = set()
        self.refused: Counter[EvaluationKey] = Counter()
        self.believed: set[EvaluationKey] = set()
        self.found_nothing = False
        self.was_written_between = False
        self._without_work: dict[str, float] = {}
        self._passed_at: dict[Scheduler, float] = {}
        self._spare_since: dict[Scheduler, float] = {}
        self._joined: set[str] = set()
        self._needs: dict[Process, tuple[set[str], list[Task], int]] = {}
        self._results: set[EvaluationKey] = set()
        self._read = 0
        self._ends: Counter[str] = Counter()
        self._run = str(simulation.folder.path)
        simulation.cluster.observe = self.submits
        simulation.network.observe = self.answered
        simulation.disk.observe = self.begins_to_write
        folder, disk = simulation.folder, simulation.disk
        disk.recorded = {str(folder.configs), str(folder.results)}

    # After every pass of a master ------------------------------------------------------------------------------------
    def passed(self, scheduler: Scheduler) -> None:
        """A master's loop has come round."""
        self._look_at_evaluations(scheduler)
        self._look_at_refusals(scheduler)
        self._look_at_idle_workers(scheduler)
        self._look_at_kept_workers(scheduler)

    def _look_at_evaluations(self, scheduler: Scheduler) -> None:
        jobs = scheduler.evaluations.jobs
        waiting = Counter(job.key for job in scheduler.evaluations.waiting)
        for key, job in jobs.items():
            if not self._is_somebody_responsible(scheduler, key, job.state, waiting[key]):
                at = [(w.name, w.state.value, str(w.attempt), w.is_lost) for w in scheduler.pool.workers.values()]
                self.world.fail(f"nobody is responsible for {key}, which is {job.state.value}; workers {at}")
            if (job.state is EvaluationState.WAITING) != (key in waiting):
                self.world.fail(f"{key} is {job.state.value}, and in the queue {waiting[key]} times")
            if job.attempts - self.refused[key] > MOST_ATTEMPTS:
                self.world.fail(f"{key} is tried without end: attempt {job.attempts}")
        running = {
            (config_id, datum.budget)
            for bracket in scheduler.search.open_brackets()
            for config_id, datum in bracket.data.items()
            if datum.status == "RUNNING"
        }
        if running != set(jobs):
            self.world.fail(f"the search and the master disagree on {running ^ set(jobs)}")

    def _look_at_refusals(self, scheduler: Scheduler) -> None:
        for worker in scheduler.pool.workers.values():
            if worker.refusals > MAX_REFUSALS:
                self.world.fail(f"{worker.name} is asked without end: it refused {worker.refusals} times")

    @staticmethod
    def _is_somebody_responsible(scheduler: Scheduler, key: EvaluationKey, state: EvaluationState, waits: int) -> bool:
        match state:
            case EvaluationState.WAITING:
                return waits == 1
            case EvaluationState.RUNNING:
                return scheduler.pool.has_runner(key)
            case EvaluationState.RETURNING:
                return key in scheduler.restored.in_flight
            case EvaluationState.HELD:
                return key in scheduler.policy.held
            case EvaluationState.ENDED:
                return scheduler.attempts.has_unwritten
            case _:
                return False

    def _look_at_idle_workers(self, scheduler: Scheduler) -> None:
        """A healthy worker gets work when there is some that it may have."""
        if scheduler.state == "stopping":
            return
        now = self.world.now
        stood_still_s = now - self._passed_at.get(scheduler, now)
        self._passed_at[scheduler] = now
        if stood_still_s > LATE_S:  # a master that was not there has let nobody wait
            self._without_work = {name: since + stood_still_s for name, since in self._without_work.items()}
            self._spare_since.pop(scheduler, None)
        limit_s = 2 * scheduler.pool.patience_s + 15
        for worker in scheduler.pool.idle():
            name = worker.registration.incarnation
            idle_since = now - (worker.clock.monotonic() - worker.changed_at)
            if idle_since > self._without_work.get(name, 0.0) or not self._has_work_for(scheduler, worker):
                self._without_work[name] = now
            elif now - self._without_work[name] > limit_s:
                self.world.fail(f"{worker.name} has been idle for {limit_s:.0f} s though there is work for it")

    def _look_at_kept_workers(self, scheduler: Scheduler) -> None:
        """After a failover one idle worker is kept for each evaluation that may return; the others get work soon."""
        kept = len(scheduler.restored.in_flight)
        idle = [worker for worker in scheduler.pool.idle() if not scheduler._is_paused(worker.host)]
        if kept and idle and not scheduler.message:
            self.world.fail(f"{len(idle)} workers wait, {kept} of them for what may return, and nothing says so")
        is_spare = 0 < kept < len(idle) and scheduler.state != "stopping"
        if not (is_spare and any(self._has_work_for(scheduler, worker) for worker in idle)):
            self._spare_since.pop(scheduler, None)
        elif self.world.now - self._spare_since.setdefault(scheduler, self.world.now) > PROMPT_S:
            self.world.fail(f"{len(idle)} workers are idle for {kept} evaluations that may return")

    @staticmethod
    def _has_work_for(scheduler: Scheduler, worker: KnownWorker) -> bool:
        if any(may_run(worker, job) for job in scheduler.evaluations.waiting):
            return True
        under_way = len(scheduler.search.outstanding())
        return scheduler.search.parallel_now(under_way + 1) > under_way

    def dismissed(self, scheduler: Scheduler, worker: KnownWorker, reason: str) -> None:
        """A master sends a worker away."""
        others = [w for w in scheduler.pool.idle() if w is not worker]
        for job in scheduler.evaluations.waiting:
            if reason == "not_needed" and may_run(worker, job) and not any(may_run(w, job) for w in others):
                self.world.fail(f"{worker.name} is dismissed as not needed, though {job.key} waits for it")

    # Workers that are asked for --------------------------------------------------------------------------------------
    def asks(self, scheduler: Scheduler) -> None:
        """A master is about to ask for workers: who is there, what is coming, and how many are wanted now."""
        process = current_process()
        assert process is not None
        count = self.simulation.settings.workers.count
        there = {worker.name for worker in scheduler.pool.workers.values() if worker.is_usable}
        self._needs[process] = there, self._coming(), min(count, scheduler.search.parallel_now(count))

    def submits(self, lacking: int) -> None:
        """It has looked into Slurm's queue, and submits so many: never more than it lacks."""
        process = current_process()
        assert process is not None
        there, were_coming, wanted = self._needs.pop(process)
        # Who has joined meanwhile was coming; whose process has ended is not any more.
        coming = {*self._coming(), *(task for task in self.simulation.cluster.tasks if task in were_coming)}
        names = there | {task.process.name if task.process else f"task {task.number}" for task in coming}
        if lacking and len(names) + lacking > wanted:
            self.world.fail(f"{process.name} asks for {lacking} workers, wants {wanted}, and has {sorted(names)}")

    def _coming(self) -> list[Task]:
        """Tasks that wait, or whose process has not joined yet and will: one that finds no master leaves in time."""
        longest_s = 60 * (self.simulation.settings.workers.idle_timeout_min + STARTING_MIN)
        return [
            task
            for task in self.simulation.cluster.tasks
            if task.process is None
            or (task.process.name not in self._joined and self.world.now - task.started < longest_s)
        ]

    # Promises --------------------------------------------------------------------------------------------------------
    def answered(self, method: str, arguments: Any, answer: Any) -> None:
        """A master has answered a worker: what it says must be on disk."""
        if method == "register_worker" and answer.get("accepted"):
            self._joined.add(arguments[0]["name"])
        if method != "deliver" or answer.get("again") or answer.get("unknown"):
            return
        attempt = AttemptId.from_plain(arguments[1])
        if Outcome.from_plain(arguments[2]).status != "finished":
            return
        if not answer["accepted"] and self.simulation.faults.lines_were_lost:
            return  # the rung below is run again first
        if attempt.key not in self.durable_results():
            self.world.fail(f"the end of {attempt} was answered by {answer} and is not on disk")

    def durable_results(self) -> set[EvaluationKey]:
        """Evaluations with a synced line in results.json."""
        content = self.simulation.disk.files.get(str(self.simulation.folder.results))
        synced = 0 if content is None else content.synced
        if content is None or self.simulation.faults.lines_were_lost:  # what was read may have been cut since
            self._results, self._read = set(), 0
        if content is not None and synced > self._read:
            for line in bytes(content.data[self._read : synced]).splitlines():
                config_id, budget = json.loads(line)[:2]
                self._results.add((tuple(config_id), budget))
            self._read = synced
        return self._results

    def begins_to_write(self, process: Process, operation: str, path: str) -> None:
        """A process is about to change a file: a master that was superseded must not."""
        scheduler = self.simulation.schedulers.get(process)
        if scheduler is None or operation not in ("create", "write", "unlink") or process.is_dead:
            return
        successor = f"{self._run}/masters/{scheduler.files.term + 1:06d}.json"
        if successor not in self.simulation.disk.files:
            return
        name = path.removeprefix(f"{self._run}/")
        # It may write on what it began before, and takes that away if it comes to nothing: a file of its own.
        is_begun = operation in ("write", "unlink") and name.endswith(f".{process.pid}.tmp")
        if not name.startswith("masters/") and not is_begun:
            self.world.fail(f"{process.name} was superseded, and does this all the same: {operation} {name}")

    def knows_larger(self, scheduler: Scheduler, host: str) -> bool:
        """Whether a master has had a larger device than those of a host."""
        cluster = self.simulation.cluster
        memory_gb = {node.name: node.memory_gb for node in cluster.nodes}
        return host in memory_gb and 1000 * memory_gb[host] < scheduler.pool.largest_mb

    def master_ended(self, outcome: MasterOutcome) -> None:
        """A master has ended in order."""
        self._ends[outcome.state] += 1
        if "when this master last wrote to it" in outcome.message:
            self.was_written_between = True  # by one that was given up and stood still before its write: found at once
        if "nothing was found" in outcome.message:
            self.found_nothing = True  # a few evaluations, on the smallest node: no master can do more
        if "defect of the program" in outcome.message:
            self.world.fail(outcome.message)

    # The end ---------------------------------------------------------------------------------------------------------
    def look_at_results(self) -> None:
        """Every evaluation has one result, and the one that it deserves."""
        history = read_history(self.simulation.folder)
        counts = Counter((r.config_id, r.budget) for r in history.results)
        for key, count in counts.items():
            if count > 1 and not self.was_written_between:
                self.world.fail(f"{key} has {count} results")
        for result in history.results:
            self._look_at_result(result)
        if self.found_nothing and any(result.loss is not None for result in history.results):
            self.world.fail("a search that found something ended as one that found nothing")
        if not rebuild(self.simulation.settings, history).is_done:
            self.world.fail("the files do not hold a finished search")

    def _look_at_result(self, result: Result) -> None:
        key = result.config_id, result.budget
        trainings = self.simulation.trainings
        nature = trainings.nature(result.config_id)
        largest = max(node.memory_gb for node in self.simulation.cluster.nodes)
        if result.loss is not None:
            if nature.trouble or nature.memory_gb > largest:
                self.world.fail(f"{key} finished though its configuration cannot")
            if result.loss != trainings.loss(*key):
                self.world.fail(f"{key} has the loss {result.loss}, not its own")
            return
        kind = str(result.exception).split(":")[0]
        deserved = {"nan": "not_finite", "error": "error", "kills": "killed_its_worker"}.get(nature.trouble)
        if nature.memory_gb > largest:
            deserved = "out_of_memory"
        if kind == "out_of_memory" and key in self.believed:
            return  # whoever could have trained it was gone for too long
        if kind == deserved or (nature.trouble and kind in ("killed_its_worker", "out_of_memory")):
            return
        if kind == "error" and nature.memory_gb > largest:
            return  # a stock worker does not tell one error from another
        lost = sum(attempt.key == key for attempt in self.lost)
        if kind in ("killed_its_worker", "bad_result") and lost >= self.simulation.settings.workers.max_attempts:
            return  # machines or the network have ended it as often as nobody can tell apart
        self.world.fail(f"{key} is blamed without reason: {result.exception}")

    def resume_from_prefixes(self) -> None:
        """The files as they stood after any write can be resumed."""
        if self.simulation.faults.lines_were_lost:
            return
        folder, disk = self.simulation.folder, self.simulation.disk
        whole = read_history(folder)
        for _ in range(PREFIXES):
            end = self.world.random.randrange(len(disk.appended) + 1)
            sizes: dict[str, int] = dict(disk.appended[:end])
            history = History(whole.draws[: self._whole_lines(folder.configs, sizes)],
                              whole.results[: self._whole_lines(folder.results, sizes)])  # fmt: skip
            try:
                rebuild(self.simulation.settings, history)
            except RunError as error:
                self.world.fail(f"cannot be resumed after write {end}: {error}")

    def _whole_lines(self, path: Path, sizes: dict[str, int]) -> int:
        content = self.simulation.disk.files.get(str(path))
        return 0 if content is None else content.data.count(b"\n", 0, sizes.get(str(path), 0))

    # For people ------------------------------------------------------------------------------------------------------
    def longest_s(self) -> float:
        """How long one worker alone would take for the whole search."""
        settings = self.simulation.settings
        ladder = budget_ladder(settings.search)
        count = planned_evaluations(ladder, settings.search.eta, settings.search.iterations)
        return count * (1.0 + float(sum(ladder)) / len(ladder) * self.simulation.trainings.speed)

    def describe(self) -> str:
        """Where the search stands."""
        lines = [f"masters ended: {dict(self._ends)}; alive: {[m.name for m in self.simulation.masters]}"]
        for scheduler in self.simulation.schedulers.values():
            jobs = {str(key): job.state.value for key, job in scheduler.evaluations.jobs.items()}
            workers = {w.name: f"{w.state.value} {w.attempt} lost={w.is_lost}" for w in scheduler.pool.workers.values()}
            lines.append(f"{scheduler.state} {scheduler.message!r}: jobs {jobs}, workers {workers}")
        lines.append(
            f"tasks {[(t.number, t.process.name if t.process else None) for t in self.simulation.cluster.tasks]}"
        )
        return "; ".join(lines)


@contextmanager
def watched(simulation: Simulation) -> Iterator[None]:
    """Let every master of a simulation be looked at after each of its passes."""
    books = simulation.books

    class Watched(Scheduler):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            process = current_process()
            assert isinstance(process, Process)
            super().__init__(*arguments, **named)
            simulation.schedulers[process] = self
            lose = self.attempts._lose

            def lose_noted(job: Any, attempt: AttemptId, *rest: Any, **others: Any) -> None:
                books.lost.add(attempt)
                lose(job, attempt, *rest, **others)

            self.attempts._lose = lose_noted  # type: ignore[method-assign]
            requeue = self.attempts.requeue_unstarted

            def requeue_noted(key: EvaluationKey, *rest: Any) -> None:
                books.refused[key] += 1
                requeue(key, *rest)

            self.attempts.requeue_unstarted = requeue_noted  # type: ignore[method-assign,assignment]
            crashed = self.policy.crashed

            def crashed_noted(key: Any, host: str, kind: str, *rest: Any) -> Any:
                if kind == "out_of_memory" and not books.knows_larger(self, host):
                    books.believed.add(key)
                return crashed(key, host, kind, *rest)

            self.policy.crashed = crashed_noted  # type: ignore[method-assign,assignment]
            ask = self.requester.tick

            def ask_noted(*numbers: int) -> None:
                is_busy = self.requester._busy.is_set
                was_busy = is_busy()
                ask(*numbers)
                if is_busy() and not was_busy:
                    books.asks(self)

            self.requester.tick = ask_noted  # type: ignore[method-assign,assignment]
            reconsider = self.attempts.reconsider

            def reconsider_noted(job: Any) -> None:
                books.believed.add(job.key)
                reconsider(job)

            self.attempts.reconsider = reconsider_noted  # type: ignore[method-assign]

        def advance(self) -> None:
            super().advance()
            books.passed(self)

        def _dismiss(self, worker: KnownWorker, reason: str) -> None:
            books.dismissed(self, worker, reason)
            super()._dismiss(worker, reason)

    original = master_loop.Scheduler
    master_loop.Scheduler = Watched  # type: ignore[misc]
    try:
        yield
    finally:
        master_loop.Scheduler = original  # type: ignore[misc]
