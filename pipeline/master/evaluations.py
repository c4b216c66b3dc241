"""The evaluations that the search waits for: the state of each, and the queue of those that no worker has."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set
from enum import Enum

from hpbandster.core.dispatcher import Job

from pipeline.records import ConfigId, Configuration, EvaluationKey
from pipeline.rpc.messages import AttemptId
from pipeline.runtime import SYSTEM, Clock


class EvaluationState(Enum):
    """Where an evaluation stands between its draw or promotion and its result on disk."""

    NEW = "new"
    WAITING = "waiting"  # in the queue
    RUNNING = "running"  # a worker is at it, as far as is known
    RETURNING = "returning"  # an earlier master gave it out, and its worker may return with it
    HELD = "held"  # it failed, and what follows from that is not decided yet
    ENDED = "ended"  # its result has come and is not on disk yet


# What may follow what. A result that is on disk takes its evaluation out of the book, so that nothing follows ENDED.
TRANSITIONS: Mapping[EvaluationState, Set[EvaluationState]] = {
    EvaluationState.NEW: {EvaluationState.WAITING, EvaluationState.RETURNING},
    # Also a result of an earlier attempt, which came late.
    EvaluationState.WAITING: {EvaluationState.RUNNING, EvaluationState.HELD, EvaluationState.ENDED},
    EvaluationState.RUNNING: {EvaluationState.WAITING, EvaluationState.HELD, EvaluationState.ENDED},
    EvaluationState.RETURNING: {
        EvaluationState.RUNNING,
        EvaluationState.WAITING,
        EvaluationState.HELD,
        EvaluationState.ENDED,
    },
    # An earlier attempt, given up before, may turn up again.
    EvaluationState.HELD: {EvaluationState.WAITING, EvaluationState.RUNNING, EvaluationState.ENDED},
    EvaluationState.ENDED: set(),
}


class EvaluationJob(Job):  # type: ignore[misc]
    """hpbandster's job: one evaluation, with the attempts that it took.

    Attributes:
        state: changed by `Evaluations` only.
        attempts: attempts dispatched so far; numbers are never used twice.
        avoid: hosts that must not run it, because they alone have failed it.
        above_mb: it ran out of memory on a device with so much, and needs a larger one; 0: nobody has said so.
        stranded_since: since when every usable host is one of those (monotonic); None: there is another.
    """

    def __init__(
        self,
        config_id: ConfigId,
        configuration: Configuration,
        budget: float,
        attempts: int = 0,
        clock: Clock = SYSTEM,
    ) -> None:
        super().__init__(config_id, config=configuration, budget=budget)
        self.budget = budget
        self.configuration = configuration
        self.state = EvaluationState.NEW
        self.attempts = attempts
        self.avoid: frozenset[str] = frozenset()
        self.above_mb = 0.0
        self.stranded_since: float | None = None
        self._clock = clock
        self.time_it("submitted")

    def time_it(self, which_time: str) -> None:
        """Note when something happened, s since 1970 (hpbandster's name)."""
        self.timestamps[which_time] = self._clock.time()

    @property
    def key(self) -> EvaluationKey:
        """The evaluation."""
        return self.id, self.budget

    def next_attempt(self) -> AttemptId:
        """Begin another attempt."""
        self.attempts += 1
        return self.last_attempt()

    def last_attempt(self) -> AttemptId:
        """The attempt that was dispatched last."""
        return AttemptId(self.id, self.budget, self.attempts)

    def move_to(self, state: EvaluationState) -> None:
        """Change state; raises RuntimeError where `TRANSITIONS` has no such change (a defect of the program)."""
        if state is not self.state and state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"evaluation {self.key} cannot go from {self.state.value} to {state.value}")
        self.state = state


class Evaluations:
    """Every evaluation without a durable result, and the queue of those that wait.

    Attributes:
        jobs: by key.
        waiting: those in the state WAITING, the first one first.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self.jobs: dict[EvaluationKey, EvaluationJob] = {}
        self.waiting: deque[EvaluationJob] = deque()

    def open(self, key: EvaluationKey) -> EvaluationJob | None:
        """The evaluation if it still lacks a result, durable or not."""
        job = self.jobs.get(key)
        return None if job is None or job.state is EvaluationState.ENDED else job

    def submit(self, job: EvaluationJob) -> None:
        """A new evaluation: last in the queue."""
        self.jobs[job.key] = job
        job.move_to(EvaluationState.WAITING)
        self.waiting.append(job)

    def expect(self, job: EvaluationJob, started: float) -> None:
        """A new evaluation that an earlier master gave out at `started`, s since 1970: its worker may return."""
        self.jobs[job.key] = job
        job.timestamps["started"] = started
        job.move_to(EvaluationState.RETURNING)

    def start(self, job: EvaluationJob) -> None:
        """A worker is at it."""
        self._move(job, EvaluationState.RUNNING)

    def requeue(self, job: EvaluationJob, avoid: Iterable[str] = (), above_mb: float = 0.0) -> None:
        """An evaluation comes back: first in the queue, or where it is if it waits already."""
        job.avoid = frozenset(avoid)
        job.above_mb = max(job.above_mb, above_mb)
        if job.state is not EvaluationState.WAITING:
            job.move_to(EvaluationState.WAITING)
            self.waiting.appendleft(job)

    def hold(self, job: EvaluationJob) -> None:
        """Nobody is at it, and nobody shall be until its failure is decided."""
        self._move(job, EvaluationState.HELD)

    def end(self, job: EvaluationJob) -> None:
        """Its result has come."""
        self._move(job, EvaluationState.ENDED)

    def forget(self, key: EvaluationKey) -> None:
        """Its result is on disk."""
        self.jobs.pop(key, None)

    def hold_stranded(self, is_stranded: Callable[[EvaluationJob], bool], after_s: float) -> list[EvaluationJob]:
        """Hold the waiting evaluations that no usable worker may run, for `after_s` now."""
        now = self._clock.monotonic()
        found = []
        for job in self.waiting:
            if not is_stranded(job):
                job.stranded_since = None
                continue
            job.stranded_since = now if job.stranded_since is None else job.stranded_since
            if now - job.stranded_since >= after_s:
                job.stranded_since = None
                found.append(job)
        for job in found:
            self.hold(job)
        return found

    def excuse(self, seconds: float) -> None:
        """The master was not there for so long: nobody was stranded meanwhile."""
        for job in self.waiting:
            if job.stranded_since is not None:
                job.stranded_since += seconds

    def _move(self, job: EvaluationJob, state: EvaluationState) -> None:
        waited = job.state is EvaluationState.WAITING
        job.move_to(state)
        if waited and state is not EvaluationState.WAITING:
            self.waiting.remove(job)
