"""What becomes of attempts: a result on disk, another attempt, or the end of the run."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from pipeline.master.checkpoints import CheckpointKeeper
from pipeline.master.evaluations import EvaluationJob, Evaluations, EvaluationState
from pipeline.master.failures import Decision, FailurePolicy
from pipeline.master.run_files import RunFiles
from pipeline.master.worker_pool import KnownWorker, WorkerPool
from pipeline.records import EvaluationKey, config_name
from pipeline.rpc.messages import AttemptId, Outcome
from pipeline.rpc.undelivered import read_undelivered, undelivered_path
from pipeline.run.folder import RunFolder
from pipeline.run.history import Result
from pipeline.runtime import SYSTEM, Clock, Reply
from pipeline.search.search import Search

log = logging.getLogger("tandem.master")

ACCEPTED: dict[str, Any] = {"accepted": True}
NOT_NEEDED: dict[str, Any] = {"accepted": False, "reason": "this evaluation has its result already"}


class AttemptTracker:
    """Takes in how attempts ended, follows the failure policy, and keeps the files.

    Args:
        break_run: called with the cause when the policy stops the run.

    Attributes:
        lost: attempts that were the machine's fault.
        lost_s: training seconds that will not count.
    """

    def __init__(
        self,
        folder: RunFolder,
        search: Search,
        evaluations: Evaluations,
        pool: WorkerPool,
        policy: FailurePolicy,
        files: RunFiles,
        checkpoints: CheckpointKeeper,
        break_run: Callable[[str], None],
        clock: Clock = SYSTEM,
    ) -> None:
        self._clock = clock
        self._folder = folder
        self._search = search
        self._evaluations = evaluations
        self._pool = pool
        self._policy = policy
        self._files = files
        self._checkpoints = checkpoints
        self._break_run = break_run
        # Who else delivered a result while the first one, which has come, is not on disk yet.
        self._late: dict[EvaluationKey, list[Reply]] = {}
        self._to_write: list[tuple[Result, AttemptId, Reply | None]] = []
        # Ends that were taken in and were no results, by evaluation: (attempt, worker). After a journal has lost its
        # tail, two workers can be at attempts of one number.
        self._taken: dict[EvaluationKey, set[tuple[int, str]]] = defaultdict(set)
        self.lost = 0
        self.lost_s = 0.0

    @property
    def has_unwritten(self) -> bool:
        """Whether results wait for `commit`."""
        return bool(self._to_write)

    # Outcomes ----------------------------------------------------------------------------------------------------
    def take(
        self,
        attempt: AttemptId,
        outcome: Outcome,
        worker: str,
        host: str,
        reply: Reply | None,
        memory_mb: float = 0.0,
    ) -> None:
        """An attempt has ended; the reply is given once what follows from it is durable.

        Args:
            memory_mb: of the device that ran it; 0: unknown.
        """
        job = self._evaluations.open(attempt.key)
        if job is None:
            self._take_superfluous(attempt, reply)
            return
        if outcome.status == "finished" and (missing := self._search.objectives.missing(outcome.info)):
            outcome = Outcome("crashed", kind="bad_result", reason=missing, is_leaving=outcome.is_leaving)
        if outcome.status != "finished":
            if (attempt.number, worker) in self._taken[attempt.key]:
                answer(reply, ACCEPTED)  # the answer to the first delivery came too late, while the disk stalled
                return
            self._taken[attempt.key].add((attempt.number, worker))
        reason = f"{outcome.kind}: {outcome.reason}" if outcome.kind else outcome.reason
        log.info("%s by %s: %s%s", describe(attempt), worker, outcome.status, f" ({reason})" if reason else "")
        if outcome.status == "lost":
            kind = outcome.kind or "killed_its_worker"
            self._lose(job, attempt, worker, host, outcome.reason, counts=True, reply=reply, kind=kind)
            return
        self._note(attempt, worker, host, outcome.status, reason)
        if outcome.status == "finished":
            self._end(job, attempt, outcome, worker, host, reply)
            self._end_held(self._policy.finished(attempt.key, host))
            return
        hosts = self._pool.usable_hosts()
        match outcome.status:
            case "crashed" if outcome.kind == "out_of_memory" and 0 < memory_mb < self._pool.largest_mb:
                decision = self._policy.out_of_memory(attempt.key, host, outcome.reason, memory_mb)
            case "crashed":
                decision = self._policy.crashed(attempt.key, host, outcome.kind, outcome.reason, hosts)
            case "broken":
                decision = self._policy.broken(host, outcome.reason, hosts)
            case _:
                decision = Decision("retry", avoid=job.avoid)
        self._checkpoints.attempt_ended(attempt)
        self._apply(self._within_budget(decision, attempt, reason), job, attempt, worker, host, reply)

    def has_ended(self, attempt: AttemptId, worker: str) -> bool:
        """Whether the end of a worker's attempt was taken in, and was no result."""
        return (attempt.number, worker) in self._taken.get(attempt.key, ())

    def _take_superfluous(self, attempt: AttemptId, reply: Reply | None) -> None:
        """Another attempt was faster, or this one has been delivered before."""
        if attempt.key in self._late:
            if reply is not None:
                self._late[attempt.key].append(reply)
            return
        answer(reply, NOT_NEEDED)
        accepted = self._search.accepted.get(attempt.key)
        if accepted is not None and accepted.attempt != attempt.number:
            self._checkpoints.attempt_was_superfluous(attempt)

    def lose(
        self,
        key: EvaluationKey,
        worker: KnownWorker | None,
        reason: str,
        counts: bool,
        attempt: AttemptId | None = None,
    ) -> None:
        """An attempt is lost.

        Args:
            worker: who had it; None: nobody that this master has met.
            attempt: default: what the worker is at, or else the last one.
            counts: whether it may be the configuration that killed its worker.
        """
        job = self._evaluations.open(key)
        if job is None or job.state is EvaluationState.WAITING or self._pool.has_runner(key, besides=worker):
            return
        if attempt is None:
            attempt = (worker.attempt if worker is not None else None) or job.last_attempt()
        name, host = (worker.name, worker.host) if worker is not None else ("", "")
        self._lose(job, attempt, name, host, reason, counts, None)

    def _lose(
        self,
        job: EvaluationJob,
        attempt: AttemptId,
        worker: str,
        host: str,
        reason: str,
        counts: bool,
        reply: Reply | None,
        kind: str = "killed_its_worker",
    ) -> None:
        progressed = self._has_checkpoint(attempt)
        lost_s = self._checkpoints.seconds_since_checkpoint(attempt, job.timestamps.get("started"), bool(worker))
        self.lost += 1
        self.lost_s += lost_s
        log.warning("%s on %s is lost: %s", describe(attempt), worker or "a worker", reason)
        self._note(attempt, worker, host, "lost", reason, progressed if counts else None, lost_s)
        decision = Decision("retry", avoid=job.avoid)
        if counts:
            hosts = self._pool.usable_hosts()
            decision = self._policy.died(attempt.key, attempt.number, host, reason, progressed, hosts, kind)
        self._checkpoints.attempt_ended(attempt)
        self._apply(self._within_budget(decision, attempt, reason), job, attempt, worker, host, reply)

    def requeue_unstarted(self, key: EvaluationKey, worker: str, host: str, reason: str) -> None:
        """An attempt was given out and never begun: nothing is lost but its number, and it is the worker's doing."""
        job = self._evaluations.open(key)
        if job is None or job.state is EvaluationState.WAITING or self._pool.has_runner(key):
            return
        attempt = job.last_attempt()
        log.info("%s by %s came to nothing: %s", describe(attempt), worker, reason)
        self._note(attempt, worker, host, "handed_back", reason)
        self._apply(Decision("retry", avoid=job.avoid), job, attempt, worker, host, None)

    def reconsider(self, job: EvaluationJob) -> None:
        """The hosts that were to try an evaluation again are gone: believe its failure, or try it anywhere."""
        attempt = job.last_attempt()
        decision = self._policy.reconsider(job.key)
        log.info("%s: no other node is left to try it (%s)", describe(attempt), decision.action)
        job.avoid, job.above_mb = frozenset(), 0.0
        self._apply(decision, job, attempt, "", "", None)

    def end_held(self) -> None:
        """Crashes that were put aside are believed: nothing else is left to be learnt."""
        self._end_held(self._policy.release_held())

    def take_undelivered(self, claim: Callable[[AttemptId], None]) -> None:
        """Take results that workers left in the run folder because no master took them."""
        for left in read_undelivered(self._folder):
            claim(left.attempt)
            self.take(left.attempt, left.outcome, left.worker, left.host, None, left.memory_mb)
            if left.attempt.key not in self._late:
                self._remove_undelivered(left.attempt)

    # Writing -----------------------------------------------------------------------------------------------------
    def commit(self) -> None:
        """Make results durable, let the search know, and acknowledge them."""
        if not self._to_write:
            return
        entries, self._to_write = self._to_write, []
        self._files.write_results([result for result, _, _ in entries])
        for result, attempt, reply in entries:
            self._search.absorb(result)
            self._evaluations.forget(attempt.key)
            self._taken.pop(attempt.key, None)
            answer(reply, ACCEPTED)
            for other_reply in self._late.pop(attempt.key):
                answer(other_reply, NOT_NEEDED)
            for other in self._pool.running(attempt.key):
                if other.attempt is not None:
                    other.connection.stop_attempt(other.attempt, "superseded")
            self._checkpoints.evaluation_ended(result, attempt)
            if reply is None:
                self._remove_undelivered(attempt)

    def _remove_undelivered(self, attempt: AttemptId) -> None:
        """What a worker has left is in results.json, or of no use: to a successor, if there is one, it may be."""
        self._files.check_lease()
        undelivered_path(self._folder, attempt).unlink(missing_ok=True)

    # Inside ------------------------------------------------------------------------------------------------------
    def _has_checkpoint(self, attempt: AttemptId) -> bool:
        return self._folder.checkpoint(*attempt.key, attempt.number).exists()

    def _within_budget(self, decision: Decision, attempt: AttemptId, reason: str) -> Decision:
        """Every kind of retry ends: what came to nothing too often in a row is told as a crash."""
        if decision.action != "retry":
            return decision
        return self._policy.fruitless(attempt.key, reason, self._has_checkpoint(attempt)) or decision

    def _requeue(self, job: EvaluationJob, avoid: frozenset[str], above_mb: float = 0.0) -> None:
        if not self._pool.has_runner(job.key):
            self._evaluations.requeue(job, avoid, above_mb)

    def _hold(self, job: EvaluationJob) -> None:
        """Put an evaluation aside, unless another attempt at it goes on or is to begin."""
        if job.state is not EvaluationState.WAITING and not self._pool.has_runner(job.key):
            self._evaluations.hold(job)

    def _apply(
        self, decision: Decision, job: EvaluationJob, attempt: AttemptId, worker: str, host: str, reply: Reply | None
    ) -> None:
        match decision.action:
            case "crash":
                crash = Outcome("crashed", kind=decision.kind, reason=decision.reason)
                self._end(job, attempt, crash, worker, host, reply)
                return
            case "retry":
                self._requeue(job, decision.avoid, decision.above_mb)
            case "hold":
                self._hold(job)
            case "stop":
                self._requeue(job, job.avoid)
                self._break_run(decision.reason)
        answer(reply, ACCEPTED)

    def _end(
        self, job: EvaluationJob, attempt: AttemptId, outcome: Outcome, worker: str, host: str, reply: Reply | None
    ) -> None:
        crashed = outcome.status == "crashed"
        submitted = job.timestamps["submitted"]
        result = Result(
            config_id=attempt.config_id,
            budget=attempt.budget,
            submitted=submitted,
            started=job.timestamps.get("started", submitted),
            finished=self._clock.time(),
            loss=None if crashed else outcome.loss,
            info={} if crashed else {**outcome.info, "attempt": attempt.number, "worker": worker, "host": host},
            exception=f"{outcome.kind}: {outcome.reason}" if crashed else None,
        )
        self._evaluations.end(job)
        self._late[attempt.key] = []
        self._to_write.append((result, attempt, reply))

    def _end_held(self, held: list[tuple[EvaluationKey, str, str]]) -> None:
        for key, kind, reason in held:
            job = self._evaluations.open(key)
            if job is not None:
                self._end(job, job.last_attempt(), Outcome("crashed", kind=kind, reason=reason), "", "", None)

    def _note(
        self,
        attempt: AttemptId,
        worker: str,
        host: str,
        outcome: str,
        reason: str,
        progressed: bool | None = None,
        lost_s: float = 0.0,
    ) -> None:
        self._files.note(
            "returned",
            config_id=list(attempt.config_id),
            budget=attempt.budget,
            attempt=attempt.number,
            worker=worker,
            host=host,
            outcome=outcome,
            reason=reason,
            progressed=progressed,
            lost_s=lost_s,
        )


def answer(reply: Reply | None, text: dict[str, Any]) -> None:
    """Answer a waiting call, if anybody waits."""
    if reply is not None and not reply.done():
        reply.set_result(text)


def describe(attempt: AttemptId | None) -> str:
    """An attempt as people read it, or ""."""
    if attempt is None:
        return ""
    return f"{config_name(attempt.config_id)} on {attempt.budget:g}, attempt {attempt.number}"
