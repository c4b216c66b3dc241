"""The master's scheduler: who is given what, who is given up, and when it all ends.

All methods run in the master's loop. `handle` takes an event in, `commit` makes what was delivered durable and answers,
`tick` looks at silences and needs, `advance` draws and dispatches.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.master.assignment import assign, is_stranded, shortage
from pipeline.master.attempts import AttemptTracker, answer, describe
from pipeline.master.checkpoints import CheckpointKeeper
from pipeline.master.dispatcher import Dispatcher
from pipeline.master.evaluations import EvaluationJob, Evaluations
from pipeline.master.events import (
    Delivered,
    DispatchEnded,
    Event,
    Gone,
    Joined,
    Left,
    MasterOutcome,
    Unreachable,
)
from pipeline.master.failures import FailurePolicy
from pipeline.master.membership import Membership
from pipeline.master.proposals import ProposalMaker
from pipeline.master.resume import attempts_on_disk, restore
from pipeline.master.run_files import RunFiles
from pipeline.master.worker_pool import KnownWorker, WorkerPool, WorkerState
from pipeline.master.worker_requests import RequestWorkers, WorkerRequester
from pipeline.records import ConfigId, Configuration
from pipeline.run.folder import RunFolder
from pipeline.run.history import devices_joined
from pipeline.runtime import SYSTEM, Runtime
from pipeline.search.search import Search
from pipeline.settings import Settings

log = logging.getLogger("tandem.master")

# After the end, workers have this long to leave before the master leaves anyway.
LEAVE_S = 20.0
# A worker that was given up is forgotten after so many times the run's patience.
FORGET_AFTER = 10
UNDELIVERED_S = 10.0
# Evaluations that a worker has not taken, one after the other, before the status says so.
TOLD_AFTER = 3


class Scheduler:
    """Owns the search, its evaluations, the workers and what is known of failures.

    Args:
        journal: of the masters before this one, oldest event first: what was under way is taken up.
        request_workers: asks for workers that are missing; None: they come by themselves.

    Attributes:
        outcome: how the master is to end, once that is known.
        retried: dispatches after a first attempt.
    """

    def __init__(
        self,
        folder: RunFolder,
        search: Search,
        files: RunFiles,
        dispatcher: Dispatcher,
        request_workers: RequestWorkers | None,
        journal: Sequence[Mapping[str, Any]],
        runtime: Runtime = SYSTEM,
    ) -> None:
        self.runtime = runtime
        self.folder = folder
        self.settings: Settings = search.settings
        self.search = search
        self.files = files
        self.dispatcher = dispatcher
        workers = self.settings.workers
        self.evaluations = Evaluations(runtime)
        self.pool = WorkerPool(workers.patience_s, runtime)
        self.policy = FailurePolicy(workers.max_attempts, workers.max_broken, runtime)
        self.checkpoints = CheckpointKeeper(folder, search, dispatcher.inbox, runtime, files.check_lease)
        self.attempts = AttemptTracker(
            folder, search, self.evaluations, self.pool, self.policy, files, self.checkpoints, self._break, runtime
        )
        self.requester = WorkerRequester(self.settings, request_workers, files, runtime)
        self.restored = restore(journal, workers.patience_s, self.policy, runtime)
        self.membership = Membership(
            self.pool,
            self.evaluations,
            self.attempts,
            self.restored,
            files,
            self.requester,
            self._refusal,
            dispatcher.forget,
            runtime,
        )
        search.now = runtime.time
        self.proposals: ProposalMaker | None = None
        if search.proposer.is_slow:
            search.background = self.proposals = ProposalMaker(dispatcher.inbox, runtime)
        self.outcome: MasterOutcome | None = None
        self.retried = self.restored.retried
        self._ending: MasterOutcome | None = None
        self._end_by = 0.0
        self._announced = set(self.policy.excluded)
        self._unreachable = ""
        self._next_look = 0.0
        self._resume(journal)

    def _resume(self, journal: Sequence[Mapping[str, Any]]) -> None:
        """Take up what was under way when the last master ended."""
        self.pool.devices |= devices_joined(journal)
        self.attempts.lost, self.attempts.lost_s = self.restored.lost, self.restored.lost_s
        self.restored.keep_only({(config_id, budget) for config_id, _, budget in self.search.outstanding()})
        while (due := self.search.next_evaluation(may_draw=False)) is not None:
            job = self._job(*due)
            job.attempts = max(job.attempts, attempts_on_disk(self.folder, job.key))
            under_way = self.restored.in_flight.get(job.key)
            if under_way is not None:
                self.evaluations.expect(job, under_way.dispatched)
            else:
                self.evaluations.submit(job)
        self.checkpoints.catch_up()
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
        waits = self.restored.in_flight and self.pool.idle()
        problem = (
            self.dispatcher.problem
            or self._unreachable
            or self.requester.problem
            or self.checkpoints.problem
            or self._refusing
        )
        return problem or (self._wait if waits else "") or self._hanging

    @property
    def _refusing(self) -> str:
        refusing = [w for w in self.pool.workers.values() if w.refusals >= TOLD_AFTER]
        return f"worker {refusing[0].name} does not take what it is given: {refusing[0].refusal}" if refusing else ""

    @property
    def _hanging(self) -> str:
        for worker in self.pool.quiet():
            minutes = worker.connection.quiet_s / 60
            what = f"{describe(worker.attempt)} on {worker.name} has begun no batch for {minutes:.0f} min"
            return f"{what}; if it hangs, end that worker's job or process, and another goes on"
        return ""

    @property
    def _wait(self) -> str:
        count, left_s = len(self.restored.in_flight), self.restored.until - self.runtime.monotonic()
        return (
            f"workers of the last master may return with {count} evaluation{'s' * (count > 1)}: for "
            f"{max(0.0, left_s):.0f} s more, as many idle workers wait to take them over"
        )

    # Events ------------------------------------------------------------------------------------------------------
    def handle(self, event: Event) -> None:
        """Take an event in."""
        match event:
            case Joined():
                if self.membership.joined(event):
                    self._unreachable = ""
            case Unreachable(name=name, reason=reason):
                self._unreachable = f"worker {name}: {reason}"
            case Left():
                self.membership.left(event)
            case Gone(connection=connection, reason=reason):
                self.membership.gone(connection, reason)
            case Delivered():
                self._delivered(event)
            case DispatchEnded():
                self._dispatch_ended(event)

    def _refusal(self, host: str) -> str:
        """Why a worker on a host may not join; "": it may."""
        if self._ending is not None:
            return "done" if self._ending.state == "finished" else self._ending.state
        return "excluded" if host in self.policy.excluded else ""

    def _dispatch_ended(self, event: DispatchEnded) -> None:
        worker = self.pool.of_connection(event.connection)
        if worker is None or worker.attempt != event.attempt or worker.state is WorkerState.TRAINING:
            return  # it has finished or gone meanwhile
        if event.result in ("started", "unknown"):
            # Unknown: it is presumed to have it; its next answer tells.
            self._started(worker, event)
            return
        log.info("%s did not take %s: %s", worker.name, describe(event.attempt), event.reason)
        is_leaving = event.is_leaving or worker.state is WorkerState.LEAVING
        worker.become(WorkerState.LEAVING if is_leaving else WorkerState.UNCONFIRMED)
        worker.refused(event.reason, is_busy=event.result == "busy")
        self.attempts.requeue_unstarted(event.attempt.key, worker.name, worker.host, f"not started: {event.reason}")
        if event.result == "gone":
            self.membership.remove(worker, event.reason)

    def _started(self, worker: KnownWorker, event: DispatchEnded) -> None:
        if worker.state is WorkerState.STARTING:
            worker.become(WorkerState.TRAINING, event.attempt)
        worker.has_begun = event.result == "started"
        job = self.evaluations.jobs.get(event.attempt.key)
        if job is not None:
            job.time_it("started")

    def _delivered(self, event: Delivered) -> None:
        worker = self.pool.workers.get(event.incarnation)
        if worker is None:
            answer(event.reply, {"accepted": False, "unknown": True, "reason": "register first"})
            return
        if event.outcome.is_leaving:
            worker.become(WorkerState.LEAVING, worker.attempt)
        if worker.attempt == event.attempt or worker.attempt is None:
            self.pool.make_idle(worker)
        if event.outcome.status != "lost":
            worker.delivered()
        self.restored.claim(event.attempt)
        self.attempts.take(event.attempt, event.outcome, worker.name, worker.host, event.reply, worker.memory_mb)
        self._dismiss_excluded()

    def commit(self) -> None:
        """Make what was delivered durable, and acknowledge it."""
        self.attempts.commit()

    # Time --------------------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """Look at silences, at needs, and at whether an end has been reached."""
        self._notice_silence()
        self._follow_reports()
        self._give_up_absent()
        self._take_undelivered()
        self._decide_stranded()
        # What has its result now must not be given out in this pass.
        self.attempts.commit()
        self._note_load()
        if self._ending is None:
            self._leave_out_failing_nodes()
            self._send_away_refusing()
            self._fit_workers_to_work()
        elif self._all_have_left():
            self.outcome = self._ending

    def excuse_silence(self, seconds: float) -> None:
        """The master, or its disk, stood still for so long: what others did not do meanwhile is not their fault."""
        log.warning("this master stood still for %.1f s; its workers are given as much longer", seconds)
        self.pool.excuse_silence(seconds)
        self.evaluations.excuse(seconds)
        self.restored.until += seconds
        self._end_by += seconds

    def _notice_silence(self) -> None:
        for worker in self.pool.newly_suspect():
            log.warning("worker %s on %s is silent", worker.name, worker.host)
        for worker in self.pool.newly_lost():
            if worker.attempt is not None:
                reason = f"silent for more than {self.pool.patience_s:g} s"
                self.attempts.lose(worker.attempt.key, worker, reason, counts=True)

    def _follow_reports(self) -> None:
        """What workers say they are at counts more than what was thought."""
        for worker in self.pool.returned():
            log.info("worker %s is back", worker.name)
            if worker.attempt is not None:
                self.membership.found_at(worker, worker.attempt)
        for worker in self.pool.contradicting():
            self.membership.correct(worker)

    def _give_up_absent(self) -> None:
        for worker in self.pool.long_lost(FORGET_AFTER * self.pool.patience_s):
            self.membership.remove(worker, "not heard of again")
        for key in self.restored.expire():
            self.attempts.lose(key, None, "its worker did not return to the new master", counts=False)

    def _take_undelivered(self) -> None:
        now = self.runtime.monotonic()
        if now >= self._next_look:
            self._next_look = now + UNDELIVERED_S
            self.attempts.take_undelivered(self.restored.claim)

    def _decide_stranded(self) -> None:
        for job in self.evaluations.hold_stranded(lambda j: is_stranded(j, self.pool), self.pool.patience_s):
            self.attempts.reconsider(job)

    def _note_load(self) -> None:
        running = self.pool.busy_count() + len(self.restored.in_flight)
        interrupted = sum(job.attempts > 0 for job in self.evaluations.waiting)
        self.checkpoints.note_load(running, interrupted)

    def _leave_out_failing_nodes(self) -> None:
        """Nodes on which workers end before they join."""
        for node, reason in self.requester.failing_nodes.items():
            self.policy.exclude(node, reason)
        self._dismiss_excluded()

    def _send_away_refusing(self) -> None:
        """Workers that take nothing: that is no configuration's fault, but their node's, or everybody's."""
        refusing = self.pool.refusing()
        for worker in refusing:
            reason = f"a worker took none of {worker.refusals} evaluations: {worker.refusal}"
            log.error("%s on %s is sent away: %s", worker.name, worker.host, reason)
            self._dismiss(worker, "refuses")
            decision = self.policy.broken(worker.host, reason, self.pool.usable_hosts())
            if decision.action == "stop":
                self._break(decision.reason)
        if refusing:
            self._dismiss_excluded()

    def _fit_workers_to_work(self) -> None:
        """Workers that the search cannot use free their GPUs at once; workers that it lacks are asked for."""
        useful = self.search.most_parallel(max(self.settings.workers.count, len(self.pool.workers)))
        surplus = self.pool.usable_count() - useful
        wanted = {worker.name for worker, _ in assign(self.evaluations, self.pool, self._is_paused)}
        for worker in [w for w in self.pool.idle() if w.name not in wanted][: max(0, surplus)]:
            self._dismiss(worker, "not_needed")
        # Of use later is no reason to ask now: whoever idles behind a straggler leaves in time, and would be replaced.
        self.requester.tick(self.pool.present_count(), self.search.parallel_now(useful))

    def _all_have_left(self) -> bool:
        """Whether every worker has left or is silent, or the time for leaving is up."""
        is_late = self.runtime.monotonic() > self._end_by
        return is_late or all(w.is_lost or w.is_suspect for w in self.pool.workers.values())

    # Going on ----------------------------------------------------------------------------------------------------
    def advance(self) -> None:
        """Draw as many evaluations as workers are free for, and give them out: draws first to disk, then dispatches.
        The next draw's proposal is made meanwhile.
        """
        if self._ending is None:
            self._submit_new()
            draws = self.search.take_new_draws()
            if draws:
                self.files.write_draws(draws)
            self._dispatch()
            self.search.look_ahead()
            if self.search.is_done and not self.attempts.has_unwritten:
                self._end_of_search()
        self.files.write_journal(durable=False)

    def _submit_new(self) -> None:
        # One idle worker for each evaluation whose own may not return: what it was at comes before what is new.
        kept = len(self.restored.in_flight)
        lacking = shortage(self.evaluations, self.pool, self._is_paused)
        for number in range(lacking):
            due = self.search.next_evaluation(may_draw=number < lacking - kept)
            if due is None:
                break
            self.evaluations.submit(self._job(*due))
        may_draw = not kept
        is_quiet = not (self.evaluations.waiting or self.pool.busy_count() or self.search.is_proposing)
        if may_draw and self.policy.held and is_quiet and self.pool.idle():
            self.attempts.end_held()
            self.attempts.commit()

    def _is_paused(self, host: str) -> bool:
        # Where there is no other host, pausing this one could never end.
        return self.policy.is_paused(host) and self.pool.usable_hosts() != {host}

    def _dispatch(self) -> None:
        assigned = assign(self.evaluations, self.pool, self._is_paused)
        if not assigned:
            return
        for worker, job in assigned:
            self.evaluations.start(job)
            worker.become(WorkerState.STARTING, job.next_attempt())
            self.retried += job.attempts > 1
            self.files.note(
                "dispatched", config_id=list(job.id), budget=job.budget, attempt=job.attempts, worker=worker.name
            )
        self.files.write_journal(durable=True)
        for worker, job in assigned:
            worker.connection.dispatch(self.search.evaluation(job.id, job.configuration, job.budget, job.attempts))

    def _job(self, config_id: ConfigId, configuration: Configuration, budget: float) -> EvaluationJob:
        return EvaluationJob(
            config_id, configuration, budget, self.restored.attempts.get((config_id, budget), 0), self.runtime
        )

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
        self._end_by = self.runtime.monotonic() + (LEAVE_S if state == "finished" else self.pool.patience_s + 30)
        for worker in self.pool.workers.values():
            self._dismiss(worker, "done" if state == "finished" else state)

    def _end_of_search(self) -> None:
        """All is evaluated: finished, unless nothing ever was."""
        if any(accepted.loss is not None for accepted in self.search.accepted.values()):
            self.end("finished", "")
        else:
            count = len(self.search.accepted)
            self.end("broken", f"all {count} evaluations crashed, and nothing was found; results.json has the reasons")

    def _break(self, cause: str) -> None:
        self.end("broken", cause)

    def _dismiss(self, worker: KnownWorker, reason: str) -> None:
        worker.become(WorkerState.LEAVING, worker.attempt)
        worker.connection.dismiss(reason)

    def _dismiss_excluded(self) -> None:
        for host, reason in self.policy.excluded.items():
            if host in self._announced:
                continue
            self._announced.add(host)
            log.error("node %s is left out: %s", host, reason)
            self.files.note("node_suspected", host=host, reason=reason)
            for worker in self.pool.on_host(host):
                self._dismiss(worker, "excluded")

    def close(self) -> None:
        """Close files and connections."""
        if self.proposals is not None:
            self.proposals.close()
        self.checkpoints.close()
        self.dispatcher.shutdown()
        self.files.close()
