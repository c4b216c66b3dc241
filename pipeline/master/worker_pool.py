"""Which workers there are, what each is at, and which are silent. No threads, no files."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from pipeline.master.events import Connection
from pipeline.records import EvaluationKey
from pipeline.rpc.messages import AttemptId, Registration
from pipeline.runtime import SYSTEM, Clock
from pipeline.settings.liveness import suspect_after_s


class WorkerState(Enum):
    """What a worker is doing, as far as the master knows."""

    IDLE = "idle"
    STARTING = "starting"  # told to start; the call is not back
    TRAINING = "training"
    UNCONFIRMED = "unconfirmed"  # it did not take its evaluation, or delivers an end again; a ping tells what it is at
    LEAVING = "leaving"


# A worker that did not take what it was given, and again, rests, twice as long each time, and is sent away in the end.
REST_S, LONGEST_REST_S = 1.0, 60.0
MAX_REFUSALS = 8
# Longer than it takes to begin, to compile and to validate.
QUIET_S = 600.0

# States in which what a worker says it is at can contradict what the master thinks.
_COMPARABLE = (WorkerState.TRAINING, WorkerState.IDLE, WorkerState.UNCONFIRMED)


@dataclass(eq=False)
class KnownWorker:
    """What the master knows of a worker.

    Attributes:
        attempt: what it is at; None when idle.
        since, changed_at: when the state began, s since 1970 and monotonic.
        has_begun: whether it has confirmed its attempt.
        works: it has delivered an end of an attempt.
        refusals: dispatches in a row that it did not take; of those for which it was only busy, one counts.
        refusal: why it did not take the last one.
        rests_until: it is given nothing before (monotonic), because it has refused.
        is_suspect: it has been silent for some seconds.
        is_lost: it has been silent for too long, and its evaluation was given to others.
        pool: which it belongs to, and hears of what becomes of it.
    """

    registration: Registration
    connection: Connection
    state: WorkerState = WorkerState.IDLE
    attempt: AttemptId | None = None
    since: float = 0.0
    changed_at: float = 0.0
    has_begun: bool = False
    works: bool = False
    refusals: int = 0
    refusal: str = ""
    rests_until: float = 0.0
    is_suspect: bool = False
    is_lost: bool = False
    clock: Clock = SYSTEM
    pool: WorkerPool | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._note_change()

    @property
    def name(self) -> str:
        """Its name."""
        return self.registration.name

    @property
    def host(self) -> str:
        """Its host's name."""
        return self.registration.host

    @property
    def memory_mb(self) -> float:
        """Of its device; 0: unknown."""
        return self.registration.memory_mb

    @property
    def is_usable(self) -> bool:
        """Whether it can be counted on for work."""
        return self.state is not WorkerState.LEAVING and not self.is_suspect and not self.is_lost

    @property
    def contradicts(self) -> bool:
        """Whether it said, after it was given what it has, that it is at something else."""
        says_otherwise = self.connection.reported != self.attempt or self.state is WorkerState.UNCONFIRMED
        is_newer = self.connection.reported_at > self.changed_at
        return self.state in _COMPARABLE and not self.is_lost and is_newer and says_otherwise

    def refused(self, reason: str, is_busy: bool = False) -> None:
        """It did not take what it was given; `is_busy`: with something that will end."""
        self.refusal = reason
        self.refusals = 1 if is_busy else self.refusals + 1
        if self.refusals > 1 or is_busy:
            self.rests_until = self.clock.monotonic() + min(LONGEST_REST_S, REST_S * 2.0 ** (self.refusals - 1))

    def delivered(self) -> None:
        """An end of an attempt has come from it."""
        self.works, self.refusals = True, 0

    def become(self, state: WorkerState, attempt: AttemptId | None = None) -> None:
        """Change state."""
        self.has_begun = self.has_begun and attempt is not None and attempt == self.attempt
        before = self.attempt
        self.state, self.attempt = state, attempt
        self._note_change()
        if self.pool is not None:
            self.pool.note(self, before)

    def _note_change(self) -> None:
        self.since, self.changed_at = self.clock.time(), self.clock.monotonic()


class WorkerPool:
    """The workers that have joined.

    Args:
        patience_s: silence after which a worker's evaluation goes to others.

    Attributes:
        largest_mb: memory of the largest device that any of them has had.
        devices: what every worker that has ever joined said of its own.
        workers: by incarnation, in the order in which they joined.
    """

    def __init__(self, patience_s: float, clock: Clock = SYSTEM) -> None:
        self.patience_s = patience_s
        self._clock = clock
        self.workers: dict[str, KnownWorker] = {}
        self.largest_mb = 0.0
        self.devices: set[str] = set()
        # With thousands of workers, looking through all of them for these is most of what an evaluation would cost.
        self._by_name: dict[str, KnownWorker] = {}
        self._idle: dict[str, KnownWorker] = {}  # in the order in which they became so
        self._at: dict[EvaluationKey, list[KnownWorker]] = {}

    def add(self, worker: KnownWorker) -> KnownWorker | None:
        """A worker has joined; returns the earlier process of the same name, if there is one still."""
        earlier = self._by_name.get(worker.name)
        self.workers[worker.registration.incarnation] = self._by_name[worker.name] = worker
        self.largest_mb = max(self.largest_mb, worker.memory_mb)
        self.devices.add(worker.registration.device)
        worker.pool = self
        self.note(worker, None)
        return earlier

    def note(self, worker: KnownWorker, before: AttemptId | None) -> None:
        """A worker is at something else than before."""
        if before is not None and worker in self._at.get(before.key, ()):
            self._at[before.key].remove(worker)
            if not self._at[before.key]:
                del self._at[before.key]
        if worker.attempt is not None:
            self._at.setdefault(worker.attempt.key, []).append(worker)
        if worker.state is not WorkerState.IDLE:
            self._idle.pop(worker.registration.incarnation, None)
        else:
            self._idle[worker.registration.incarnation] = worker

    def remove(self, worker: KnownWorker) -> None:
        """A worker is no more."""
        worker.become(WorkerState.LEAVING)
        worker.pool = None
        self.workers.pop(worker.registration.incarnation, None)
        if self._by_name.get(worker.name) is worker:
            del self._by_name[worker.name]
        worker.connection.close()

    def of_connection(self, connection: Connection) -> KnownWorker | None:
        """The worker behind a connection, unless it has been removed."""
        return next((w for w in self.workers.values() if w.connection is connection), None)

    def make_idle(self, worker: KnownWorker) -> None:
        """A worker has ended what it was at: last in line for new work."""
        self._idle.pop(worker.registration.incarnation, None)
        worker.become(WorkerState.LEAVING if worker.state is WorkerState.LEAVING else WorkerState.IDLE)

    def idle(self) -> list[KnownWorker]:
        """Workers that wait for work and may be given some, longest waiting first."""
        now = self._clock.monotonic()
        return [w for w in self._idle.values() if w.is_usable and w.rests_until <= now]

    def usable_hosts(self) -> set[str]:
        """Hosts with a worker that can be counted on."""
        return {w.host for w in self.workers.values() if w.is_usable}

    def on_host(self, host: str) -> list[KnownWorker]:
        """The workers on a host."""
        return [w for w in self.workers.values() if w.host == host]

    def refusing(self) -> list[KnownWorker]:
        """Workers that have taken nothing for too long."""
        return [w for w in self.workers.values() if w.refusals >= MAX_REFUSALS and w.state is not WorkerState.LEAVING]

    def quiet(self) -> list[KnownWorker]:
        """Workers that answer while their training has begun no batch for very long: it may hang."""
        return [w for w in self.workers.values() if w.attempt and not w.is_lost and w.connection.quiet_s > QUIET_S]

    def present_count(self) -> int:
        """Workers that need no replacement: a silent one is given the run's patience first."""
        return sum(w.state is not WorkerState.LEAVING and not w.is_lost for w in self.workers.values())

    def busy_count(self) -> int:
        """Workers that are at an evaluation, as far as is known."""
        return sum(map(len, self._at.values()))

    def usable_count(self) -> int:
        """Workers that can be counted on."""
        return sum(w.is_usable for w in self.workers.values())

    def running(self, key: EvaluationKey) -> list[KnownWorker]:
        """Workers that are at an evaluation, lost ones included."""
        return list(self._at.get(key, ()))

    def has_runner(self, key: EvaluationKey, besides: KnownWorker | None = None) -> bool:
        """Whether a worker that is not lost is at an evaluation, besides one."""
        return any(w is not besides and not w.is_lost for w in self.running(key))

    def excuse_silence(self, seconds: float) -> None:
        """The master itself was not there for so long: it could not have heard anybody."""
        now = self._clock.monotonic()
        for worker in self.workers.values():
            worker.connection.heard = min(now, worker.connection.heard + seconds)

    # Silence -----------------------------------------------------------------------------------------------------
    def newly_suspect(self) -> list[KnownWorker]:
        """Workers that have just been silent for long enough to be suspect; those heard again stop being so."""
        now = self._clock.monotonic()
        limit_s = suspect_after_s(len(self.workers))
        changed = []
        for worker in self.workers.values():
            silent_s = now - worker.connection.heard
            if silent_s > limit_s and not worker.is_suspect:
                worker.is_suspect = True
                worker.since = self._clock.time()
                changed.append(worker)
            elif silent_s <= limit_s and worker.is_suspect:
                worker.is_suspect = False
                worker.since = self._clock.time()
        return changed

    def newly_lost(self) -> list[KnownWorker]:
        """Workers whose silence has lasted longer than the run's patience."""
        now = self._clock.monotonic()
        lost = [w for w in self.workers.values() if not w.is_lost and now - w.connection.heard > self.patience_s]
        for worker in lost:
            worker.is_lost = True
        return lost

    def returned(self) -> list[KnownWorker]:
        """Workers that were given up and have been heard again."""
        now = self._clock.monotonic()
        limit_s = suspect_after_s(len(self.workers))
        back = [w for w in self.workers.values() if w.is_lost and now - w.connection.heard <= limit_s]
        for worker in back:
            worker.is_lost = worker.is_suspect = False
        return back

    def long_lost(self, after_s: float) -> list[KnownWorker]:
        """Workers that were given up and have been silent for very long."""
        now = self._clock.monotonic()
        return [w for w in self.workers.values() if w.is_lost and now - w.connection.heard > after_s]

    def contradicting(self) -> list[KnownWorker]:
        """Workers that say they are at something else than what they were given."""
        return [worker for worker in self.workers.values() if worker.contradicts]
