"""The master's decisions about workers: who joins, who is given what, who is silent, and when it all ends.

All methods run in the master's loop. `handle` takes an event in, `commit` makes what was delivered durable and answers,
`tick` looks at silences and needs, `advance` draws and dispatches.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from pipeline.master.attempts import ACCEPTED, AttemptTracker, answer, describe
from pipeline.master.checkpoints import CheckpointKeeper
from pipeline.master.dispatcher import TandemDispatcher
from pipeline.master.events import Delivered, DispatchEnded, Event, Gone, Joined, Left, MasterOutcome, Unreachable
from pipeline.master.failures import FailurePolicy
from pipeline.master.resume import Restored, attempts_on_disk, restore
from pipeline.master.run_files import RunFiles
from pipeline.master.worker_pool import EvaluationJob, KnownWorker, WorkerPool
from pipeline.master.worker_requests import WorkerRequester
from pipeline.rpc.messages import AttemptId
from pipeline.run.folder import RunFolder
from pipeline.search.search import Search
from pipeline.settings import Settings

log = logging.getLogger("tandem.master")

# After the end, workers have this long to say good-bye before the master leaves anyway.
FAREWELL_S = 20.0
# A worker that was given up is forgotten after so many times the run's patience.
FORGET_AFTER = 10
UNDELIVERED_S = 10.0


class Scheduler:
    """Owns the search, the pool and the policy.

    Attributes:
        outcome: how the master is to end, once that is known.
        retried: dispatches after a first attempt.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        search: Search,
        files: RunFiles,
        dispatcher: TandemDispatcher,
        request_workers: Callable[[int], None] | None,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.search = search
        self.files = files
        self.dispatcher = dispatcher
        self.pool = WorkerPool(settings.workers.patience_s)
        self.policy = FailurePolicy(settings.workers.max_attempts, settings.workers.max_broken)
        self.pool.paused = self._is_paused
        self.checkpoints = CheckpointKeeper(folder, settings, dispatcher.inbox)
        self.attempts = AttemptTracker(
            folder, search, self.pool, self.policy, files, self.checkpoints, lambda cause: self.end("broken", cause)
        )
        self.requester = WorkerRequester(settings, request_workers, files)
        self.restored = Restored()
        self.outcome: MasterOutcome | None = None
        self.retried = 0
        self._ending: MasterOutcome | None = None
        self._end_by = 0.0
        self._announced: set[str] = set()
        self._blocked = ""
        self._next_look = 0.0

    def restore(self, journal: list[dict[str, Any]]) -> None:
        """Take up what was under way when the last master ended."""
        self.restored = restore(journal, self.settings.workers.patience_s, self.policy)
        self.attempts.lost, self.attempts.lost_s = self.restored.lost, self.restored.lost_s
        self.retried = self.restored.retried
        self._announced.update(self.policy.excluded)
        wanted = {(config_id, budget) for config_id, _, budget in self.search.outstanding()}
        for key in list(self.restored.in_flight):
            if key not in wanted:
                del self.restored.in_flight[key]
        while (due := self.search.next_evaluation(may_draw=False)) is not None:
            job = self._job(*due)
            job.attempts = max(job.attempts, attempts_on_disk(self.folder, job.key))
            if job.key in self.restored.in_flight:
                job.timestamps["started"] = self.restored.in_flight[job.key].dispatched
                self.pool.jobs[job.key] = job
            else:
                self.pool.submit(job)
        self.checkpoints.catch_up(self.search)
        if journal:
            self.requester.wait_for_returning()

    @property
    def state(self) -> str:
        """One of `pipeline.run.status.STATES`."""
        if self._ending is not None:
            return "stopping"
        return "searching" if self.pool.workers or self.restored.is_waiting else "waiting for workers"

    @property
    def message(self) -> str:
        """What a person should know now, or ""."""
        if self._ending is not None:
            return self._ending.message
        return self._blocked or self.requester.problem or self.checkpoints.problem

    # Events ------------------------------------------------------------------------------------------------------
    def handle(self, event: Event) -> None:
        """Take an event in."""
        match event:
            case Joined():
                self._joined(event)
            case Unreachable(name=name, reason=reason):
                self._blocked = f"worker {name}: {reason}"
            case Left():
                self._left(event)
            case Delivered():
                self._delivered(event)
            case DispatchEnded():
                self._dispatch_ended(event)
            case Gone(connection=connection, reason=reason):
                worker = self.pool.of_connection(connection)
                if worker is not None:
                    self._remove(worker, f"its process is gone ({reason})")

    def _joined(self, event: Joined) -> None:
        registration = event.registration
        known = self.pool.workers.get(registration.incarnation)
        if known is not None:
            self._reconnect(known, event)
            return
        refusal = self._refusal(registration.host)
        if refusal:
            answer(event.reply, {"accepted": False, "leave": True, "reason": refusal})
            if registration.is_stock:
                event.connection.start()  # its thread says so
                event.connection.dismiss(refusal)
            event.connection.close()
            self.dispatcher.forget(registration.incarnation)
            return
        worker = KnownWorker(registration, event.connection)
        earlier = self.pool.add(worker)
        if earlier is not None:
            self._remove(earlier, "a new process of the same name has joined")
        log.info("worker %s on %s joined %s", registration.name, registration.host, describe(registration.holds))
        if registration.holds is not None:
            self._found_at(worker, registration.holds)
        for key in self.restored.given_up_by(registration.name):
            self.attempts.requeue_unstarted(
                key, registration.name, registration.host, "its worker returned and never had it"
            )
        event.connection.start()
        self.files.note(
            "worker_joined",
            worker=registration.name,
            host=registration.host,
            slurm_job_id=registration.slurm_job_id,
            device=registration.device,
        )
        self.requester.worker_joined()
        self._blocked = ""
        answer(event.reply, ACCEPTED)

    def _reconnect(self, worker: KnownWorker, event: Joined) -> None:
        """The same process, on a new connection: what was under way on the old one, its next answer tells."""
        worker.connection.close()
        worker.registration, worker.connection = event.registration, event.connection
        if worker.state == "starting":
            worker.become("training", worker.attempt)
        event.connection.start()
        answer(event.reply, ACCEPTED)

    def _refusal(self, host: str) -> str:
        if self._ending is not None:
            return "done" if self._ending.state == "finished" else self._ending.state
        return "excluded" if host in self.policy.excluded else ""

    def _left(self, event: Left) -> None:
        worker = self.pool.workers.get(event.incarnation)
        if worker is not None:
            self._remove(worker, event.reason, died=False)
        answer(event.reply, ACCEPTED)

    def _dispatch_ended(self, event: DispatchEnded) -> None:
        worker = self.pool.of_connection(event.connection)
        if worker is None or worker.attempt != event.attempt or worker.state == "training":
            return  # it has finished or gone meanwhile
        if event.result in ("started", "unknown"):
            # Unknown: it is presumed to have it; its next answer tells.
            if worker.state == "starting":
                worker.become("training", event.attempt)
            job = self.pool.jobs.get(event.attempt.key)
            if job is not None:
                job.time_it("started")
            return
        log.info("%s did not take %s: %s", worker.name, describe(event.attempt), event.reason)
        worker.become("leaving" if event.is_leaving or worker.state == "leaving" else "unsettled")
        self.attempts.requeue_unstarted(event.attempt.key, worker.name, worker.host, f"not started: {event.reason}")
        if event.result == "gone":
            self._remove(worker, event.reason)

    def _delivered(self, event: Delivered) -> None:
        worker = self.pool.workers.get(event.incarnation)
        if worker is None:
            answer(event.reply, {"accepted": False, "unknown": True, "reason": "register first"})
            return
        if event.outcome.is_leaving:
            worker.state = "leaving"
        if worker.attempt == event.attempt or worker.attempt is None:
            self.pool.make_idle(worker)
        self.restored.claim(event.attempt)
        self.attempts.take(event.attempt, event.outcome, worker.name, worker.host, event.reply)
        self._dismiss_excluded()

    def commit(self) -> None:
        """Make what was delivered durable, and acknowledge it."""
        self.attempts.commit()

    # Time --------------------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """Look at silences, at needs, and at whether an end has been reached."""
        for worker in self.pool.newly_suspect():
            log.warning("worker %s on %s is silent", worker.name, worker.host)
        for worker in self.pool.newly_lost():
            if worker.attempt is not None:
                reason = f"silent for more than {self.pool.patience_s:g} s"
                self.attempts.lose(worker.attempt.key, worker, reason, counts=True)
        for worker in self.pool.returned():
            log.info("worker %s is back", worker.name)
            if worker.attempt is not None:
                self._found_at(worker, worker.attempt)
        for worker in self.pool.contradicting():
            self._settle(worker)
        for worker in self.pool.long_lost(FORGET_AFTER * self.pool.patience_s):
            self._remove(worker, "not heard of again")
        for key in self.restored.expire():
            self.attempts.lose(key, None, "its worker did not return to the new master", counts=False)
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + UNDELIVERED_S
            self.attempts.take_undelivered(self.restored.claim)
        for job in self.pool.stranded(self.pool.patience_s):
            self.attempts.reconsider(job)
        # What has its result now must not be given out in this pass.
        self.attempts.commit()
        running = self.pool.busy_count() + len(self.restored.in_flight)
        interrupted = sum(job.attempts > 0 for job in self.pool.waiting)
        self.checkpoints.note_load(self.search, running, interrupted)
        if self._ending is None:
            useful = self.search.most_parallel(max(self.settings.workers.count, len(self.pool.workers)))
            self._release_surplus(useful)
            self.requester.tick(self.pool.present_count(), useful)
        elif now > self._end_by or all(w.is_lost or w.is_suspect for w in self.pool.workers.values()):
            self.outcome = self._ending

    def _settle(self, worker: KnownWorker) -> None:
        """A worker says that it is at something else than was thought."""
        attempt, reported = worker.attempt, worker.connection.reported
        self.pool.make_idle(worker)
        if attempt is not None:
            self.attempts.requeue_unstarted(attempt.key, worker.name, worker.host, "its worker does not have it")
        if reported is not None:
            self._found_at(worker, reported)

    def _found_at(self, worker: KnownWorker, attempt: AttemptId) -> None:
        """A worker is found at an attempt that it was not given just now: let it go on if that is of use."""
        self.restored.claim(attempt)
        if not self.pool.adopt(worker, attempt):
            log.info("%s is at %s, which another has or had", worker.name, describe(attempt))
            if attempt.key not in self.pool.jobs:
                worker.connection.stop_attempt(attempt, "superseded")

    def _remove(self, worker: KnownWorker, reason: str, died: bool = True) -> None:
        log.info("worker %s on %s left: %s", worker.name, worker.host, reason)
        self.files.note("worker_left", worker=worker.name, reason=reason)
        was_lost, worker.is_lost = worker.is_lost, True
        if worker.attempt is not None and not was_lost:
            self.attempts.lose(worker.attempt.key, worker, reason, counts=died)
        self.pool.remove(worker)
        self.dispatcher.forget(worker.registration.incarnation)

    # Going on ----------------------------------------------------------------------------------------------------
    def advance(self) -> None:
        """Draw as many evaluations as workers are free for, and give them out: draws first to disk, then dispatches."""
        if self._ending is None:
            self._submit_new()
            draws = self.search.take_new_draws()
            if draws:
                self.files.write_draws(draws)
            self._dispatch()
            if self.search.is_done and not self.attempts.has_unwritten:
                self.end("finished", "")
        self.files.write_journal(durable=False)

    def _submit_new(self) -> None:
        may_draw = not self.restored.is_waiting
        for _ in range(self.pool.shortage()):
            due = self.search.next_evaluation(may_draw)
            if due is None:
                break
            self.pool.submit(self._job(*due))
        is_quiet = not self.pool.waiting and all(w.attempt is None for w in self.pool.workers.values())
        if may_draw and self.policy.held and is_quiet and self.pool.idle():
            self.attempts.end_held()
            self.attempts.commit()

    def _is_paused(self, host: str) -> bool:
        # Where there is no other host, pausing this one could never end.
        return self.policy.is_paused(host) and self.pool.usable_hosts() != {host}

    def _dispatch(self) -> None:
        matches = self.pool.match()
        if not matches:
            return
        for worker, job in matches:
            self.retried += job.attempts > 1
            self.files.note(
                "dispatched", config_id=list(job.id), budget=job.budget, attempt=job.attempts, worker=worker.name
            )
        self.files.write_journal(durable=True)
        for worker, job in matches:
            worker.connection.dispatch(self.search.evaluation(job.id, job.configuration, job.budget, job.attempts))

    def _job(self, config_id: Any, configuration: Any, budget: float) -> EvaluationJob:
        return EvaluationJob(config_id, configuration, budget, self.restored.attempts.get((config_id, budget), 0))

    # Ending ------------------------------------------------------------------------------------------------------
    def end(self, state: str, message: str) -> None:
        """Send the workers home, and end once they have left or their time is up.

        Args:
            state: "finished", "stopped" or "broken".
            message: the cause.
        """
        if self._ending is not None:
            return
        self._ending = MasterOutcome(state, message)
        log.info("the run ends: %s%s", state, f" ({message})" if message else "")
        # Workers checkpoint before they leave, unless all is done.
        self._end_by = time.monotonic() + (FAREWELL_S if state == "finished" else self.pool.patience_s + 30)
        for worker in self.pool.workers.values():
            self._dismiss(worker, "done" if state == "finished" else state)

    def _dismiss(self, worker: KnownWorker, reason: str) -> None:
        worker.become("leaving", worker.attempt)
        worker.connection.dismiss(reason)

    def _dismiss_excluded(self) -> None:
        for host, reason in self.policy.excluded.items():
            if host in self._announced:
                continue
            self._announced.add(host)
            log.error("node %s is left out: %s", host, reason)
            self.files.note("node_suspected", host=host, reason=reason)
            for worker in self.pool.workers.values():
                if worker.host == host:
                    self._dismiss(worker, "excluded")

    def _release_surplus(self, useful: int) -> None:
        """Workers that the search cannot use any more free their GPUs at once."""
        surplus = self.pool.usable_count() - useful
        for worker in self.pool.idle()[: max(0, surplus)]:
            self._dismiss(worker, "not_needed")

    def close(self) -> None:
        """Close files and connections."""
        self.checkpoints.close()
        self.dispatcher.shutdown()
        self.files.close()
