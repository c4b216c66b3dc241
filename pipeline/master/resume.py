"""What the journal adds to configs.json and results.json: attempts so far, and evaluations that were under way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from pipeline.master.failures import FailurePolicy
from pipeline.records import EvaluationKey
from pipeline.rpc.messages import AttemptId
from pipeline.run.folder import RunFolder
from pipeline.runtime import SYSTEM, Clock

# A node stays left out across masters for a day: somebody may have mended it.
EXCLUDED_S = 24 * 3600.0


@dataclass(frozen=True)
class InFlight:
    """An attempt that a worker was given and has not returned.

    Attributes:
        worker: its name.
        dispatched: when, s since 1970.
    """

    attempt: AttemptId
    worker: str
    dispatched: float


@dataclass
class Restored:
    """Evaluations that were under way when the last master ended, until their workers return or time is up.

    Attributes:
        attempts: attempts dispatched so far, by evaluation.
        in_flight: by evaluation.
        until: when waiting for their workers ends (monotonic).
        lost, retried, lost_s: as the scheduler counts them.
    """

    attempts: dict[EvaluationKey, int] = field(default_factory=lambda: defaultdict(int))
    in_flight: dict[EvaluationKey, InFlight] = field(default_factory=dict)
    until: float = 0.0
    lost: int = 0
    retried: int = 0
    lost_s: float = 0.0
    clock: Clock = SYSTEM

    @property
    def is_waiting(self) -> bool:
        """Whether a worker may still return with what it has: nothing new is drawn before."""
        return bool(self.in_flight) and self.clock.monotonic() < self.until

    def keep_only(self, wanted: Set[EvaluationKey]) -> None:
        """Forget what was under way and is not wanted: its result is on disk."""
        self.in_flight = {key: entry for key, entry in self.in_flight.items() if key in wanted}

    def claim(self, attempt: AttemptId) -> None:
        """A worker has returned with an attempt."""
        self.in_flight.pop(attempt.key, None)

    def given_up_by(self, worker: str) -> list[EvaluationKey]:
        """Evaluations that a worker had, which has returned without them; they are in flight no more."""
        keys = [key for key, entry in self.in_flight.items() if entry.worker == worker]
        for key in keys:
            del self.in_flight[key]
        return keys

    def expire(self) -> list[EvaluationKey]:
        """Evaluations whose workers have not returned in time."""
        if not self.in_flight or self.clock.monotonic() < self.until:
            return []
        keys = list(self.in_flight)
        self.in_flight.clear()
        return keys


def attempts_on_disk(folder: RunFolder, key: EvaluationKey) -> int:
    """The highest number of an attempt that has left a curve: a journal that lost its tail does not know of it."""
    pattern = folder.attempt(*key, 0).name.replace("-a0.", "-a*.")
    paths = folder.attempt(*key, 0).parent.glob(pattern)
    return max((folder.parse_attempt(path)[2] for path in paths), default=0)


def restore(
    journal: Sequence[Mapping[str, Any]], grace_s: float, policy: FailurePolicy, clock: Clock = SYSTEM
) -> Restored:
    """Read the journal.

    Args:
        grace_s: how long workers have to return.
        policy: learns of the failures before.
    """
    restored = Restored(until=clock.monotonic() + grace_s, clock=clock)
    for entry in journal:
        event = entry.get("event")
        if event == "node_suspected" and entry["time"] > clock.time() - EXCLUDED_S:
            policy.exclude(str(entry["host"]), str(entry["reason"]))
        if event not in ("dispatched", "returned"):
            continue
        attempt = AttemptId.from_plain([entry["config_id"], entry["budget"], entry["attempt"]])
        if event == "dispatched":
            restored.attempts[attempt.key] = max(restored.attempts[attempt.key], attempt.number)
            restored.in_flight[attempt.key] = InFlight(attempt, str(entry["worker"]), float(entry["time"]))
            restored.retried += attempt.number > 1
            continue
        under_way = restored.in_flight.get(attempt.key)
        if under_way is not None and under_way.attempt == attempt:
            del restored.in_flight[attempt.key]
        if entry["outcome"] == "lost":
            restored.lost += 1
            restored.lost_s += float(entry.get("lost_s") or 0.0)
            if entry.get("progressed") is not None:
                policy.remember_death(attempt.key, attempt.number, str(entry["host"]), bool(entry["progressed"]))
    return restored
