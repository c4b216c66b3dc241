"""Workers come and go: who may join, what a returning worker is at, and what follows when one is gone."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.master.attempts import ACCEPTED, AttemptTracker, answer, describe
from pipeline.master.evaluations import Evaluations
from pipeline.master.events import Connection, Joined, Left
from pipeline.master.resume import Restored
from pipeline.master.run_files import RunFiles
from pipeline.master.worker_pool import KnownWorker, WorkerPool, WorkerState
from pipeline.master.worker_requests import WorkerRequester
from pipeline.rpc.messages import AttemptId
from pipeline.runtime import SYSTEM, Clock

log = logging.getLogger("tandem.master")


class Membership:
    """Keeps the pool of workers true.

    Args:
        restored: evaluations that workers of an earlier master may return with.
        refusal: why a worker on a host may not join; "": it may.
        forget: called with the incarnation of a worker that is no more.
    """

    def __init__(
        self,
        pool: WorkerPool,
        evaluations: Evaluations,
        attempts: AttemptTracker,
        restored: Restored,
        files: RunFiles,
        requester: WorkerRequester,
        refusal: Callable[[str], str],
        forget: Callable[[str], None],
        clock: Clock = SYSTEM,
    ) -> None:
        self._clock = clock
        self._pool = pool
        self._evaluations = evaluations
        self._attempts = attempts
        self._restored = restored
        self._files = files
        self._requester = requester
        self._refusal = refusal
        self._forget = forget

    def joined(self, event: Joined) -> bool:
        """A worker has registered; whether it is new to the pool and has been taken in."""
        known = self._pool.workers.get(event.registration.incarnation)
        if known is not None:
            self._reconnect(known, event)
            return False
        refusal = self._refusal(event.registration.host)
        if refusal:
            self._refuse(event, refusal)
            return False
        self._take_in(event)
        return True

    def _reconnect(self, worker: KnownWorker, event: Joined) -> None:
        """The same process, on a new connection: what was under way on the old one, its next answer tells."""
        worker.connection.close()
        worker.registration, worker.connection = event.registration, event.connection
        if worker.state is WorkerState.STARTING:
            worker.become(WorkerState.TRAINING, worker.attempt)
        answer(event.reply, ACCEPTED)

    def _refuse(self, event: Joined, refusal: str) -> None:
        answer(event.reply, {"accepted": False, "leave": True, "reason": refusal})
        if event.registration.is_stock:
            event.connection.dismiss(refusal)
        event.connection.close()
        self._forget(event.registration.incarnation)

    def _take_in(self, event: Joined) -> None:
        who = event.registration
        worker = KnownWorker(who, event.connection, clock=self._clock)
        earlier = self._pool.add(worker)
        if earlier is not None:
            self.remove(earlier, "a new process of the same name has joined")
        log.info("worker %s on %s joined %s", who.name, who.host, describe(who.holds))
        if who.holds is not None:
            self.found_at(worker, who.holds)
        for key in self._restored.given_up_by(who.name):
            self._attempts.requeue_unstarted(key, who.name, who.host, "its worker returned and never had it")
        self._files.note(
            "worker_joined", worker=who.name, host=who.host, slurm_job_id=who.slurm_job_id, device=who.device
        )
        self._requester.worker_joined()
        answer(event.reply, ACCEPTED)

    def left(self, event: Left) -> None:
        """A worker says that it leaves."""
        worker = self._pool.workers.get(event.incarnation)
        if worker is not None:
            self.remove(worker, event.reason, died=False)
        answer(event.reply, ACCEPTED)

    def gone(self, connection: Connection, reason: str) -> None:
        """Nothing listens at a worker's address any more."""
        worker = self._pool.of_connection(connection)
        if worker is not None:
            self.remove(worker, f"its process is gone ({reason})")

    def remove(self, worker: KnownWorker, reason: str, died: bool = True) -> None:
        """A worker is no more, and its attempt is lost.

        Args:
            died: whether its configuration may have killed it.
        """
        log.info("worker %s on %s left: %s", worker.name, worker.host, reason)
        self._files.note("worker_left", worker=worker.name, reason=reason)
        was_lost, worker.is_lost = worker.is_lost, True
        if worker.attempt is not None and not was_lost:
            self._attempts.lose(worker.attempt.key, worker, reason, counts=died)
        self._pool.remove(worker)
        self._forget(worker.registration.incarnation)

    def correct(self, worker: KnownWorker) -> None:
        """A worker says that it is at something else than was thought: its word counts."""
        attempt, reported = worker.attempt, worker.connection.reported
        had_begun = worker.has_begun
        self._pool.make_idle(worker)
        if attempt is not None and had_begun:
            # Its result could not be sent, say: with the next try it is the same, and there are not many of these. It
            # says nothing of a configuration while its worker has never delivered anything.
            reason = "its worker ended it, and no result has come"
            worker.refused(reason)
            self._attempts.lose(attempt.key, worker, reason, counts=worker.works, attempt=attempt)
        elif attempt is not None:
            worker.refused("it does not have what it was given")
            self._attempts.requeue_unstarted(attempt.key, worker.name, worker.host, "its worker does not have it")
        if reported is not None:
            self.found_at(worker, reported)

    def found_at(self, worker: KnownWorker, attempt: AttemptId) -> None:
        """A worker is found at an attempt that it was not given just now: let it go on if that is of use."""
        self._restored.claim(attempt)
        if self._attempts.has_ended(attempt, worker.name):
            # The answer to its delivery was lost: it delivers again, and says then that it is free.
            worker.become(WorkerState.UNCONFIRMED)
            return
        worker.become(WorkerState.TRAINING, attempt)
        worker.has_begun = True
        if not self._adopt(worker, attempt):
            log.info("%s is at %s, which another has or had", worker.name, describe(attempt))
            if attempt.key not in self._evaluations.jobs:
                worker.connection.stop_attempt(attempt, "superseded")

    def _adopt(self, worker: KnownWorker, attempt: AttemptId) -> bool:
        """Let the worker's attempt be the one that counts; False: it is of no use."""
        job = self._evaluations.open(attempt.key)
        if job is None or self._pool.has_runner(attempt.key, besides=worker):
            return False
        self._evaluations.start(job)
        job.attempts = max(job.attempts, attempt.number)
        job.timestamps.setdefault("started", self._clock.time())
        return True
