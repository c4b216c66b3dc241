"""Which workers there are, which evaluations wait, and who is given what. Pure bookkeeping: no threads, no files."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hpbandster.core.dispatcher import Job

from pipeline.master.connections import suspect_after_s
from pipeline.records import ConfigId, Configuration, EvaluationKey
from pipeline.rpc.messages import AttemptId, Registration


class EvaluationJob(Job):  # type: ignore[misc]
    """hpbandster's job: one evaluation, with the attempts that it took.

    Attributes:
        attempts: attempts dispatched so far; numbers are never used twice.
        avoid: hosts that must not run it, because they alone have failed it.
        stranded_since: since when every usable host is one of those (monotonic); None: there is another.
    """

    def __init__(self, config_id: ConfigId, configuration: Configuration, budget: float, attempts: int = 0) -> None:
        super().__init__(config_id, config=configuration, budget=budget)
        self.budget = budget
        self.configuration = configuration
        self.attempts = attempts
        self.avoid: frozenset[str] = frozenset()
        self.stranded_since: float | None = None
        self.time_it("submitted")

    @property
    def key(self) -> EvaluationKey:
        """The evaluation."""
        return self.id, self.budget

    def next_attempt(self) -> AttemptId:
        """Begin another attempt."""
        self.attempts += 1
        return AttemptId(self.id, self.budget, self.attempts)


@dataclass
class KnownWorker:
    """What the master knows of a worker.

    Attributes:
        state: "idle", "starting" (told to start, the call is not back), "training", "unsettled" (it refused, the
            next ping will tell), or "leaving".
        attempt: what it is at; None when idle.
        since, changed_at: when the state began, s since 1970 and monotonic.
        is_suspect: it has been silent for some seconds.
        is_lost: it has been silent for too long, and its evaluation was given to others.
    """

    registration: Registration
    connection: Any
    state: str = "idle"
    attempt: AttemptId | None = None
    since: float = field(default_factory=time.time)
    changed_at: float = field(default_factory=time.monotonic)
    is_suspect: bool = False
    is_lost: bool = False

    @property
    def name(self) -> str:
        """Its name."""
        return self.registration.name

    @property
    def host(self) -> str:
        """Its host's name."""
        return self.registration.host

    @property
    def is_usable(self) -> bool:
        """Whether it can be counted on for work."""
        return self.state != "leaving" and not self.is_suspect and not self.is_lost

    def become(self, state: str, attempt: AttemptId | None = None) -> None:
        """Change state."""
        self.state, self.attempt = state, attempt
        self.since, self.changed_at = time.time(), time.monotonic()


class WorkerPool:
    """Workers and waiting evaluations.

    Attributes:
        workers: by incarnation, in the order in which they became idle for the last time.
        waiting: evaluations to dispatch, the first one first.
        jobs: every evaluation that waits or runs, by key.
    """

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self.workers: dict[str, KnownWorker] = {}
        self.waiting: deque[EvaluationJob] = deque()
        self.jobs: dict[EvaluationKey, EvaluationJob] = {}
        self.paused: Callable[[str], bool] = lambda host: False

    # Workers -----------------------------------------------------------------------------------------------------
    def add(self, worker: KnownWorker) -> KnownWorker | None:
        """A worker has joined; returns the earlier process of the same name, if there is one still."""
        earlier = next((w for w in self.workers.values() if w.name == worker.name), None)
        self.workers[worker.registration.incarnation] = worker
        return earlier

    def remove(self, worker: KnownWorker) -> None:
        """A worker is no more."""
        self.workers.pop(worker.registration.incarnation, None)
        worker.connection.close()

    def of_connection(self, connection: Any) -> KnownWorker | None:
        """The worker behind a connection, unless it has been removed."""
        return next((w for w in self.workers.values() if w.connection is connection), None)

    def make_idle(self, worker: KnownWorker) -> None:
        """A worker has ended what it was at: last in line for new work."""
        worker.become("leaving" if worker.state == "leaving" else "idle")
        if worker.registration.incarnation in self.workers:
            self.workers[worker.registration.incarnation] = self.workers.pop(worker.registration.incarnation)

    def usable_hosts(self) -> set[str]:
        """Hosts with a worker that can be counted on."""
        return {w.host for w in self.workers.values() if w.is_usable}

    def present_count(self) -> int:
        """Workers that need no replacement: a silent one is given the run's patience first."""
        return sum(w.state != "leaving" and not w.is_lost for w in self.workers.values())

    def busy_count(self) -> int:
        """Workers that are at an evaluation, as far as is known."""
        return sum(w.attempt is not None for w in self.workers.values())

    def usable_count(self) -> int:
        """Workers that can be counted on."""
        return sum(w.is_usable for w in self.workers.values())

    def running(self, key: EvaluationKey) -> list[KnownWorker]:
        """Workers that are at an evaluation, lost ones included."""
        return [w for w in self.workers.values() if w.attempt is not None and w.attempt.key == key]

    # Evaluations -------------------------------------------------------------------------------------------------
    def submit(self, job: EvaluationJob) -> None:
        """A new evaluation: last in the queue."""
        self.jobs[job.key] = job
        self.waiting.append(job)

    def requeue(self, job: EvaluationJob, avoid: Iterable[str] = ()) -> None:
        """An evaluation comes back: first in the queue."""
        job.avoid = frozenset(avoid)
        if job not in self.waiting:
            self.waiting.appendleft(job)

    def stranded(self, after_s: float) -> list[EvaluationJob]:
        """Evaluations that every usable host must avoid, for so long now; they leave the queue."""
        hosts, now = self.usable_hosts(), time.monotonic()
        found = []
        for job in self.waiting:
            if not hosts or not hosts <= job.avoid:
                job.stranded_since = None
                continue
            job.stranded_since = now if job.stranded_since is None else job.stranded_since
            if now - job.stranded_since >= after_s:
                job.stranded_since = None
                found.append(job)
        for job in found:
            self.waiting.remove(job)
        return found

    def forget(self, key: EvaluationKey) -> None:
        """An evaluation has its result."""
        job = self.jobs.pop(key, None)
        if job is not None and job in self.waiting:
            self.waiting.remove(job)

    def adopt(self, worker: KnownWorker, attempt: AttemptId) -> bool:
        """A worker is found at an attempt: whether that is (now) the attempt that counts."""
        worker.become("training", attempt)
        job = self.jobs.get(attempt.key)
        if job is None:
            return False
        if any(w is not worker and not w.is_lost for w in self.running(attempt.key)):
            return False
        if job in self.waiting:
            self.waiting.remove(job)
        job.attempts = max(job.attempts, attempt.number)
        job.timestamps.setdefault("started", time.time())
        return True

    # Matching ----------------------------------------------------------------------------------------------------
    def idle(self) -> list[KnownWorker]:
        """Workers that wait for work, longest waiting first."""
        return [w for w in self.workers.values() if w.state == "idle" and w.is_usable]

    def shortage(self) -> int:
        """Workers that would stand idle with what is waiting: so many more evaluations can be started at once."""
        free = sum(1 for w in self.idle() if not self.paused(w.host))
        if not free or not self.waiting:
            return free
        return free - sum(1 for worker, _ in self._matches() if not self.paused(worker.host))

    def match(self) -> list[tuple[KnownWorker, EvaluationJob]]:
        """Give waiting evaluations to idle workers; they leave the queue."""
        matches = self._matches()
        for worker, job in matches:
            self.waiting.remove(job)
            worker.become("starting", job.next_attempt())
        return matches

    def _matches(self) -> list[tuple[KnownWorker, EvaluationJob]]:
        idle = self.idle()
        matches = []
        for job in self.waiting:
            if not idle:
                break
            worker = next((w for w in idle if self._may_run(w, job)), None)
            if worker is not None:
                idle.remove(worker)
                matches.append((worker, job))
        return matches

    def _may_run(self, worker: KnownWorker, job: EvaluationJob) -> bool:
        # A host under suspicion is given only what failed elsewhere, so that two suspected hosts can clear each other.
        return worker.host not in job.avoid and (job.attempts > 0 or not self.paused(worker.host))

    # Silence -----------------------------------------------------------------------------------------------------
    def newly_suspect(self) -> list[KnownWorker]:
        """Workers that have just been silent for long enough to be suspect; those heard again stop being so."""
        now = time.monotonic()
        limit = suspect_after_s(len(self.workers))
        changed = []
        for worker in self.workers.values():
            silent = now - worker.connection.heard
            if silent > limit and not worker.is_suspect:
                worker.is_suspect = True
                worker.since = time.time()
                changed.append(worker)
            elif silent <= limit and worker.is_suspect:
                worker.is_suspect = False
                worker.since = time.time()
        return changed

    def newly_lost(self) -> list[KnownWorker]:
        """Workers whose silence has lasted longer than the run's patience."""
        now = time.monotonic()
        lost = [w for w in self.workers.values() if not w.is_lost and now - w.connection.heard > self.patience_s]
        for worker in lost:
            worker.is_lost = True
        return lost

    def returned(self) -> list[KnownWorker]:
        """Workers that were given up and have been heard again."""
        now = time.monotonic()
        limit = suspect_after_s(len(self.workers))
        back = [w for w in self.workers.values() if w.is_lost and now - w.connection.heard <= limit]
        for worker in back:
            worker.is_lost = worker.is_suspect = False
        return back

    def long_lost(self, after_s: float) -> list[KnownWorker]:
        """Workers that were given up and have been silent for very long."""
        now = time.monotonic()
        return [w for w in self.workers.values() if w.is_lost and now - w.connection.heard > after_s]

    def contradicting(self) -> list[KnownWorker]:
        """Workers that say they are at something else than what they were given, and do so since they were given it."""
        return [
            w
            for w in self.workers.values()
            if w.state in ("training", "idle", "unsettled")
            and not w.is_lost
            and w.connection.reported_at > w.changed_at
            and (w.connection.reported != w.attempt or w.state == "unsettled")
        ]
