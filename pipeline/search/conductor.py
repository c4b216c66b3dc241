"""The master's decisions: what an event means for the search, the queue and the workers.

All methods run in the master's loop. `handle` takes an event in, `commit` makes what was delivered durable and answers,
`tick` looks at silences and needs, `advance` draws and dispatches.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from pipeline.history import Result
from pipeline.records import config_name
from pipeline.run_folder import RunFolder
from pipeline.search.checkpoints import CheckpointKeeper
from pipeline.search.dispatcher import TandemDispatcher
from pipeline.search.judge import Judge, Verdict
from pipeline.search.messages import (
    Attempt,
    Delivered,
    DispatchEnded,
    Event,
    Gone,
    Joined,
    Left,
    MasterOutcome,
    Outcome,
    Reply,
)
from pipeline.search.recruiter import Recruiter
from pipeline.search.resume import Restored, restore
from pipeline.search.roster import EvaluationJob, Key, Roster, Worker
from pipeline.search.run_files import RunFiles, read_undelivered, undelivered_path
from pipeline.search.search import Search
from pipeline.settings import Settings

log = logging.getLogger("tandem.master")

# After the end, workers have this long to say good-bye before the master leaves anyway.
FINISHED_FAREWELL_S = 20.0
ACCEPTED: dict[str, Any] = {"accepted": True}


class Conductor:
    """Owns the search, the roster and the judge.

    Attributes:
        outcome: how the master is to end, once that is known.
        lost, retried: attempts that were the machine's fault; dispatches after a first attempt.
        lost_s: training seconds that will not count.
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
        self.roster = Roster(settings.workers.patience_s)
        self.judge = Judge(settings.workers.max_attempts, settings.workers.max_broken)
        self.roster.paused = self.judge.is_paused
        self.checkpoints = CheckpointKeeper(folder, settings, dispatcher.inbox)
        self.recruiter = Recruiter(settings, request_workers, files)
        self.restored = Restored()
        self.outcome: MasterOutcome | None = None
        self.lost = self.retried = 0
        self.lost_s = 0.0
        self._ending: MasterOutcome | None = None
        self._end_by = 0.0
        # Evaluations whose result has come and is not on disk yet.
        self._ended: set[Key] = set()
        self._deliveries: list[tuple[Result, Attempt, Reply | None]] = []
        self._announced: set[str] = set()

    def restore(self, journal: list[dict[str, Any]]) -> None:
        """Take up what was under way when the last master ended."""
        self.restored = restore(journal, self.settings.workers.patience_s, self.judge)
        self.lost, self.retried, self.lost_s = self.restored.lost, self.restored.retried, self.restored.lost_s
        wanted = {(config_id, budget) for config_id, _, budget in self.search.outstanding()}
        for key in list(self.restored.in_flight):
            if key not in wanted:
                del self.restored.in_flight[key]
        while (due := self.search.next_evaluation(may_draw=False)) is not None:
            job = self._job(*due)
            if job.key in self.restored.in_flight:
                self.roster.jobs[job.key] = job
            else:
                self.roster.submit(job)
        if journal:
            self.recruiter.wait_for_returning()
        self._take_undelivered()

    @property
    def state(self) -> str:
        """One of `pipeline.status.STATES`."""
        if self._ending is not None:
            return "stopping"
        return "searching" if self.roster.workers or self.restored.is_waiting else "waiting for workers"

    @property
    def message(self) -> str:
        """What a person should know now, or ""."""
        if self._ending is not None:
            return self._ending.message
        return self.recruiter.problem

    # Events ------------------------------------------------------------------------------------------------------
    def handle(self, event: Event) -> None:
        """Take an event in."""
        match event:
            case Joined():
                self._joined(event)
            case Left():
                self._left(event)
            case Delivered():
                self._delivered(event)
            case DispatchEnded():
                self._dispatch_ended(event)
            case Gone(link=link, reason=reason):
                worker = self.roster.of_link(link)
                if worker is not None:
                    self._remove(worker, f"its process is gone ({reason})")

    def _joined(self, event: Joined) -> None:
        hello, host = event.hello, event.hello.host
        known = self.roster.workers.get(hello.incarnation)
        if known is not None:  # the same process, on a new connection
            known.link.close()
            known.hello, known.link = hello, event.link
            event.link.start()
            event.reply.set_result(ACCEPTED)
            return
        refusal = f"node {host} is left out: {self.judge.excluded[host]}" if host in self.judge.excluded else ""
        if self._ending is not None:
            refusal = f"the run ends ({self._ending.state})"
        if refusal:
            event.reply.set_result({"accepted": False, "leave": True, "reason": refusal})
            if hello.is_stock:
                event.link.dismiss(refusal)
            event.link.close()
            self.dispatcher.forget(hello.incarnation)
            return
        worker = Worker(hello, event.link)
        earlier = self.roster.add(worker)
        if earlier is not None:
            self._remove(earlier, "a new process of the same name has joined")
        if hello.holds is not None:
            self._found_at(worker, hello.holds)
        for key in self.restored.given_up_by(hello.name):
            self._requeue_unstarted(key, hello.name, host, "its worker returned and never had it")
        event.link.start()
        log.info("worker %s on %s joined%s", hello.name, host, f" at {_name(hello.holds)}" if hello.holds else "")
        self.files.note(
            "worker_joined", worker=hello.name, host=host, slurm_job_id=hello.slurm_job_id, device=hello.device
        )
        self.recruiter.worker_joined()
        event.reply.set_result(ACCEPTED)

    def _left(self, event: Left) -> None:
        worker = self.roster.workers.get(event.incarnation)
        if worker is not None:
            self._remove(worker, event.reason, died=False)
        event.reply.set_result(ACCEPTED)

    def _dispatch_ended(self, event: DispatchEnded) -> None:
        worker = self.roster.of_link(event.link)
        if worker is None or worker.attempt != event.attempt or worker.state == "training":
            return  # it has finished or gone meanwhile
        if event.result in ("started", "unknown"):
            # Unknown: it is presumed to have it; its next answer tells.
            if worker.state == "starting":
                worker.become("training", event.attempt)
            job = self.roster.jobs.get(event.attempt.key)
            if job is not None:
                job.time_it("started")
            return
        log.info("%s did not take %s: %s", worker.name, _name(event.attempt), event.reason)
        worker.become("leaving" if event.is_leaving or worker.state == "leaving" else "unsettled")
        self._requeue_unstarted(event.attempt.key, worker.name, worker.host, f"not started: {event.reason}")
        if event.result == "gone":
            self._remove(worker, event.reason)

    def _delivered(self, event: Delivered) -> None:
        worker = self.roster.workers.get(event.incarnation)
        if worker is None:
            event.reply.set_result({"accepted": False, "unknown": True, "reason": "register first"})
            return
        if event.outcome.is_leaving:
            worker.state = "leaving"
        if worker.attempt == event.attempt or worker.attempt is None:
            self.roster.make_idle(worker)
        self.restored.claim(event.attempt)
        self._take(event.attempt, event.outcome, worker.name, worker.host, event.reply)

    def _take(self, attempt: Attempt, outcome: Outcome, worker: str, host: str, reply: Reply | None) -> None:
        """What an attempt's end means; the reply follows once it is durable."""
        job = self.roster.jobs.get(attempt.key)
        if job is None or attempt.key in self._ended or not self.search.waits_for(*attempt.key):
            _answer(reply, {"accepted": False, "reason": "this evaluation has its result already"})
            return
        log.info(
            "%s by %s: %s%s", _name(attempt), worker, outcome.status, f" ({outcome.reason})" if outcome.reason else ""
        )
        reason = f"{outcome.kind}: {outcome.reason}" if outcome.kind else outcome.reason
        self._journal_returned(attempt, worker, host, outcome.status, reason)
        hosts = self.roster.usable_hosts()
        match outcome.status:
            case "finished":
                self._end_evaluation(job, attempt, outcome, worker, host, reply)
                for key, kind, why in self.judge.finished(attempt.key, host):
                    self._end_held(key, kind, why)
                return
            case "crashed":
                verdict = self.judge.crashed(attempt.key, host, outcome.kind, outcome.reason, hosts)
            case "broken":
                verdict = self.judge.broken(attempt.key, host, outcome.reason, hosts)
            case _:
                verdict = Verdict("retry", avoid=job.avoid)
        self._apply(verdict, job, attempt, worker, host, reply)
        self._dismiss_excluded()

    def _apply(
        self, verdict: Verdict, job: EvaluationJob, attempt: Attempt, worker: str, host: str, reply: Reply | None
    ) -> None:
        match verdict.action:
            case "crash":
                crash = Outcome("crashed", kind=verdict.kind, reason=verdict.reason)
                self._end_evaluation(job, attempt, crash, worker, host, reply)
                return
            case "retry":
                self._requeue_unless_running(job, verdict.avoid)
            case "stop":
                self.end("broken", verdict.reason)
        _answer(reply, ACCEPTED)

    def _requeue_unless_running(self, job: EvaluationJob, avoid: frozenset[str]) -> None:
        if not any(not w.is_lost for w in self.roster.running(job.key)):
            self.roster.requeue(job, avoid)

    def _end_evaluation(
        self, job: EvaluationJob, attempt: Attempt, outcome: Outcome, worker: str, host: str, reply: Reply | None
    ) -> None:
        now = time.time()
        crashed = outcome.status == "crashed"
        info = {"attempt": attempt.number, "worker": worker, "host": host, **outcome.info}
        result = Result(
            config_id=attempt.config_id,
            budget=attempt.budget,
            submitted=job.timestamps["submitted"],
            started=job.timestamps.get("started", job.timestamps["submitted"]),
            finished=now,
            loss=None if crashed else outcome.loss,
            info={} if crashed else info,
            exception=f"{outcome.kind}: {outcome.reason}" if crashed else None,
        )
        self._ended.add(attempt.key)
        self._deliveries.append((result, attempt, reply))

    def _end_held(self, key: Key, kind: str, reason: str) -> None:
        """A crash that was put aside is believed now."""
        job = self.roster.jobs.get(key)
        if job is not None:
            crash = Outcome("crashed", kind=kind, reason=reason)
            self._end_evaluation(job, Attempt(*key, job.attempts), crash, "", "", None)

    # Writing -----------------------------------------------------------------------------------------------------
    def commit(self) -> None:
        """Make what was delivered durable, let the search know, and acknowledge it."""
        if not self._deliveries:
            return
        deliveries, self._deliveries = self._deliveries, []
        self.files.write_results([result for result, _, _ in deliveries])
        for result, attempt, reply in deliveries:
            self.search.absorb(result)
            self.roster.forget(attempt.key)
            self._ended.discard(attempt.key)
            _answer(reply, ACCEPTED)
            for other in self.roster.running(attempt.key):
                other.link.stop_attempt(other.attempt, "superseded")
            self.checkpoints.evaluation_ended(self.search, result, attempt)
        self._remove_undelivered([attempt for _, attempt, reply in deliveries if reply is None])

    def _journal_returned(
        self,
        attempt: Attempt,
        worker: str,
        host: str,
        outcome: str,
        reason: str,
        progressed: bool | None = None,
        lost_s: float = 0.0,
    ) -> None:
        self.files.note(
            "returned", config_id=list(attempt.config_id), budget=attempt.budget, attempt=attempt.number,
            worker=worker, host=host, outcome=outcome, reason=reason, progressed=progressed, lost_s=lost_s,
        )  # fmt: skip

    # Time --------------------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """Look at silences, at needs, and at whether an end has been reached."""
        for worker in self.roster.newly_suspect():
            if worker.is_suspect:
                log.warning("worker %s on %s is silent", worker.name, worker.host)
        for worker in self.roster.newly_lost():
            self._lose(worker, f"silent for more than {self.roster.patience_s:.0f} s", died=True)
        for worker in self.roster.returned():
            log.info("worker %s is back", worker.name)
            if worker.attempt is not None:
                self._found_at(worker, worker.attempt)
        for worker in self.roster.contradicting():
            self._settle(worker)
        for key in self.restored.expire():
            self._requeue_lost(key, None, "its worker did not return to the new master", counts=False)
        self.checkpoints.note_load(self.search, sum(w.attempt is not None for w in self.roster.workers.values()))
        self._tick_end()
        if self._ending is None:
            useful = self.search.most_parallel(max(self.settings.workers.count, len(self.roster.workers)))
            self._release_surplus(useful)
            self.recruiter.tick(self.roster.usable_count(), useful)

    def _settle(self, worker: Worker) -> None:
        """A worker says that it is at something else than was thought."""
        attempt, reported = worker.attempt, worker.link.reported
        self.roster.make_idle(worker)
        if attempt is not None:
            self._requeue_unstarted(attempt.key, worker.name, worker.host, "its worker does not have it")
        if reported is not None:
            self._found_at(worker, reported)

    def _found_at(self, worker: Worker, attempt: Attempt) -> None:
        """A worker is found at an attempt that it was not given just now: let it go on if that is of use."""
        self.restored.claim(attempt)
        if not self.roster.adopt(worker, attempt):
            log.info("%s is at %s, which another has or had", worker.name, _name(attempt))
            if attempt.key not in self.roster.jobs:
                worker.link.stop_attempt(attempt, "superseded")

    def _remove(self, worker: Worker, reason: str, died: bool = True) -> None:
        log.info("worker %s on %s left: %s", worker.name, worker.host, reason)
        self.files.note("worker_left", worker=worker.name, reason=reason)
        was_lost, worker.is_lost = worker.is_lost, True
        if worker.attempt is not None and not was_lost:
            self._lose(worker, reason, died)
        self.roster.remove(worker)
        self.dispatcher.forget(worker.hello.incarnation)

    def _lose(self, worker: Worker, reason: str, died: bool) -> None:
        """A worker's evaluation is given to others."""
        if worker.attempt is not None:
            self._requeue_lost(worker.attempt.key, worker, reason, counts=died)

    def _requeue_unstarted(self, key: Key, worker: str, host: str, reason: str) -> None:
        """An attempt was given out and never begun: nothing is lost but its number."""
        job = self.roster.jobs.get(key)
        if job is None or key in self._ended or job in self.roster.waiting:
            return
        self._journal_returned(Attempt(*key, job.attempts), worker, host, "handed_back", reason)
        self._requeue_unless_running(job, job.avoid)

    def _requeue_lost(self, key: Key, worker: Worker | None, reason: str, counts: bool) -> None:
        """An attempt is lost; `counts`: it may be the configuration that killed its worker."""
        job = self.roster.jobs.get(key)
        if job is None or key in self._ended or job in self.roster.waiting:
            return
        if any(w is not worker and not w.is_lost for w in self.roster.running(key)):
            return
        attempt = worker.attempt if worker is not None and worker.attempt is not None else Attempt(*key, job.attempts)
        name, host = (worker.name, worker.host) if worker is not None else ("", "")
        progressed = self.folder.checkpoint(*key, attempt.number).exists()
        lost_s = self.checkpoints.seconds_since_checkpoint(attempt, job.timestamps.get("started"))
        self.lost += 1
        self.lost_s += lost_s
        log.warning("%s on %s is lost: %s", _name(attempt), name or "a worker", reason)
        self._journal_returned(attempt, name, host, "lost", reason, progressed if counts else None, lost_s)
        verdict = Verdict("retry", avoid=job.avoid)
        if counts:
            verdict = self.judge.died(key, host, reason, progressed, self.roster.usable_hosts() - {""})
        self._apply(verdict, job, attempt, name, host, None)

    # Going on ----------------------------------------------------------------------------------------------------
    def advance(self) -> None:
        """Draw as many evaluations as workers are free for, and give them out: draws first to disk, then dispatches."""
        if self._ending is None:
            self._submit_new()
            draws = self.search.take_new_draws()
            if draws:
                self.files.write_draws(draws)
            self._dispatch()
            if self.search.is_done and not self._deliveries:
                self.end("finished", "")
        self.files.write_journal(durable=False)

    def _submit_new(self) -> None:
        may_draw = not self.restored.is_waiting
        for _ in range(self.roster.shortage()):
            due = self.search.next_evaluation(may_draw)
            if due is None:
                break
            self.roster.submit(self._job(*due))
        else:
            return
        if self.judge.held and may_draw and not self.roster.waiting and not self._someone_works():
            for key, kind, reason in self.judge.release_held():
                self._end_held(key, kind, reason)
            self.commit()

    def _dispatch(self) -> None:
        matches = self.roster.match()
        if not matches:
            return
        for worker, job in matches:
            self.retried += job.attempts > 1
            self.files.note(
                "dispatched", config_id=list(job.id), budget=job.budget, attempt=job.attempts, worker=worker.name
            )
        self.files.write_journal(durable=True)
        for worker, job in matches:
            worker.link.dispatch(self.search.evaluation(job.id, job.configuration, job.budget, job.attempts))

    def _job(self, config_id: Any, configuration: Any, budget: float) -> EvaluationJob:
        return EvaluationJob(config_id, configuration, budget, self.restored.attempts.get((config_id, budget), 0))

    def _someone_works(self) -> bool:
        return any(w.attempt is not None for w in self.roster.workers.values())

    # Ending ------------------------------------------------------------------------------------------------------
    def stop(self, reason: str) -> None:
        """End the run in order: a person asked for it."""
        self.end("stopped", reason)

    def end(self, state: str, message: str) -> None:
        """Send the workers home, and end once they have left or their time is up."""
        if self._ending is not None:
            return
        self._ending = MasterOutcome(state, message)
        log.info("the run ends: %s%s", state, f" ({message})" if message else "")
        self._end_by = time.monotonic() + (FINISHED_FAREWELL_S if state == "finished" else self.roster.patience_s + 30)
        for worker in self.roster.workers.values():
            self._dismiss(worker, "done" if state == "finished" else state)

    def _tick_end(self) -> None:
        if self._ending is None:
            return
        present = [w for w in self.roster.workers.values() if not w.is_lost and not w.is_suspect]
        if not present or time.monotonic() > self._end_by:
            self.outcome = self._ending

    def _dismiss(self, worker: Worker, reason: str) -> None:
        worker.become("leaving", worker.attempt)
        worker.link.dismiss(reason)

    def _dismiss_excluded(self) -> None:
        for worker in self.roster.workers.values():
            if worker.host in self.judge.excluded and worker.state != "leaving":
                self._dismiss(worker, "excluded")
        for host, reason in self.judge.excluded.items():
            if host not in self._announced:
                self._announced.add(host)
                log.error("node %s is left out: %s", host, reason)
                self.files.note("node_suspected", host=host, reason=reason)

    def _release_surplus(self, useful: int) -> None:
        """Workers that the search cannot use any more free their GPUs at once."""
        surplus = self.roster.usable_count() - useful
        for worker in self.roster.idle()[: max(0, surplus)]:
            self._dismiss(worker, "not_needed")

    def close(self) -> None:
        """Close files and connections."""
        self.checkpoints.close()
        self.dispatcher.shutdown()
        self.files.close()

    # Results left in the run folder ------------------------------------------------------------------------------
    def _take_undelivered(self) -> None:
        for attempt, worker, host, outcome in read_undelivered(self.folder):
            self.restored.claim(attempt)
            if attempt.key in self.roster.jobs:
                self._take(attempt, outcome, worker, host, None)
            if attempt.key not in self._ended:
                self._remove_undelivered([attempt])

    def _remove_undelivered(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            undelivered_path(self.folder, attempt).unlink(missing_ok=True)


def _answer(reply: Reply | None, answer: dict[str, Any]) -> None:
    if reply is not None and not reply.done():
        reply.set_result(answer)


def _name(attempt: Attempt | None) -> str:
    if attempt is None:
        return "nothing"
    return f"{config_name(attempt.config_id)} on {attempt.budget:g}, attempt {attempt.number}"
