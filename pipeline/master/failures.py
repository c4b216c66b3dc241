"""Whose fault a failure is: the configuration's, a node's, or the installation's.

lost     the machine's: tried again, hidden from the model; but a configuration whose attempts die one after the other
         without progress kills its workers, and counts as crashed
crashed  the configuration's, once a second node agrees (where there is one)
broken   the installation's, once it is seen on more than one node (where there is more than one): the run stops

Pure bookkeeping: what happened goes in, a decision comes out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass, field

from pipeline.records import EvaluationKey
from pipeline.run.remarks import without_numbers
from pipeline.runtime import SYSTEM, Clock
from pipeline.wording import counted

# Evaluations that one node alone failed, and another finished, before the node is left out.
MAX_CONTRADICTED = 2
# Deaths of workers on a node within this time are one incident: a power cut takes all of them.
INCIDENT_S = 60.0
# Unresolved crashes, one after the other, after which a node is given no new evaluations.
PAUSE_AFTER = 3
# Found by arithmetic before anything is built: no node has a say in it.
NODE_INDEPENDENT = ("too_large",)
# Nodes may differ in memory: that another one finished is no sign of a fault.
NO_CONTRADICTION = ("out_of_memory",)
# Faults of the program that is searched: where nothing has finished yet, the first few alike stop the run.
OF_THE_PROGRAM = ("error", "bad_result")
# Attempts in a row that may come to nothing (handed back, lost, never delivered) before it is told as a crash.
MAX_FRUITLESS = 30


@dataclass(frozen=True)
class Decision:
    """What is to be done about a failure.

    Attributes:
        action: "retry", "crash" (with kind and reason), "hold" (put aside until something tells), or "stop" (the run,
            with the reason).
        avoid: hosts that must not retry it.
        above_mb: devices that may retry it have more memory than this.
    """

    action: str
    kind: str = ""
    reason: str = ""
    avoid: frozenset[str] = frozenset()
    above_mb: float = 0.0


@dataclass
class _Case:
    """An evaluation's failures.

    Attributes:
        crashes: (kind, reason) by host.
        deaths: by attempt, the host on which its worker died without progress.
        fruitless: attempts in a row that ended without a result and without progress, whatever ended them.
    """

    crashes: dict[str, tuple[str, str]] = field(default_factory=dict)
    deaths: dict[int, str] = field(default_factory=dict)
    fruitless: int = 0


@dataclass
class _Node:
    """A host's record since it last finished an evaluation."""

    has_finished: bool = False
    unresolved: set[EvaluationKey] = field(default_factory=set)
    contradicted: int = 0
    incidents: int = 0
    last_incident: float = -1e9
    broken: int = 0


class FailurePolicy:
    """Keeps the record of evaluations and nodes.

    Args:
        max_attempts: attempts without progress after which a configuration counts as killing its workers.
        max_broken: broken evaluations in a row after which the run stops (or one node is left out).

    Attributes:
        excluded: hosts that are left out, with the reason.
        held: crashes put aside, by evaluation: (kind, reason).
    """

    def __init__(self, max_attempts: int, max_broken: int, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self.max_attempts = max_attempts
        self.max_broken = max_broken
        self.excluded: dict[str, str] = {}
        self.held: dict[EvaluationKey, tuple[str, str]] = {}
        self._cases: dict[EvaluationKey, _Case] = defaultdict(_Case)
        self._nodes: dict[str, _Node] = defaultdict(_Node)
        self._broken_in_a_row: list[tuple[str, str]] = []  # (host, reason)

    def is_paused(self, host: str) -> bool:
        """Whether a host is given no new evaluations until its last failures are resolved."""
        return len(self._nodes[host].unresolved) >= PAUSE_AFTER if host in self._nodes else False

    def finished(self, key: EvaluationKey, host: str) -> list[tuple[EvaluationKey, str, str]]:
        """An evaluation finished. Returns the held crashes that are now believed: the installation works."""
        self._nodes[host] = _Node(has_finished=True)
        self._broken_in_a_row.clear()
        case = self._cases.pop(key, _Case())
        for other, (kind, _) in case.crashes.items():
            if other != host and kind not in NO_CONTRADICTION:
                self._contradict(other, key, f"evaluations crashed there ({kind}) that finished on {host}")
        for other in set(case.deaths.values()) - {host}:
            self._incident(other, f"workers died there on evaluations that finished on {host}")
        return self.release_held()

    def crashed(self, key: EvaluationKey, host: str, kind: str, reason: str, hosts: Set[str]) -> Decision:
        """An evaluation crashed on `host`; `hosts` are those with usable workers."""
        if kind in NODE_INDEPENDENT:
            self._resolve(key)
            return Decision("crash", kind, reason)
        case = self._cases[key]
        case.crashes[host] = (kind, reason)
        if kind not in NO_CONTRADICTION:
            self._nodes[host].unresolved.add(key)
        if len(case.crashes) == 1 and hosts - {host} - set(self.excluded):
            return Decision("retry", kind, reason, avoid=frozenset(case.crashes))
        return self._conclude(key, kind, reason)

    def out_of_memory(self, key: EvaluationKey, host: str, reason: str, memory_mb: float) -> Decision:
        """An evaluation ran out of memory on a device with so much, and the run has had larger ones."""
        self._cases[key].crashes[host] = ("out_of_memory", reason)
        return Decision("retry", "out_of_memory", reason, above_mb=memory_mb)

    def fruitless(self, key: EvaluationKey, reason: str, progressed: bool) -> Decision | None:
        """An attempt ended without a result; what is to be done if there have been too many in a row, else None."""
        case = self._cases[key]
        case.fruitless = 0 if progressed else case.fruitless + 1
        if case.fruitless < MAX_FRUITLESS:
            return None
        self._resolve(key)
        return Decision("crash", "error", f"{MAX_FRUITLESS} attempts in a row came to nothing; last: {reason}")

    def reconsider(self, key: EvaluationKey) -> Decision:
        """The nodes that were to try an evaluation again are gone: what its failures so far come to."""
        case = self._cases.get(key)
        if case is None or not case.crashes:
            return Decision("retry")
        kind, reason = list(case.crashes.values())[-1]
        return self._conclude(key, kind, reason)

    def _conclude(self, key: EvaluationKey, kind: str, reason: str) -> Decision:
        """No other node or attempt is left to ask."""
        if len(self._cases[key].crashes) <= 1 and kind in OF_THE_PROGRAM and not self._works():
            self.held[key] = (kind, reason)
            alike = [k for k, (_, r) in self.held.items() if without_numbers(r) == without_numbers(reason)]
            if len(alike) >= self.max_broken:
                return Decision("stop", reason=f"the first {len(alike)} evaluations failed alike: {reason}")
            return Decision("hold", kind, reason)
        self._resolve(key)
        return Decision("crash", kind, reason)

    def died(
        self,
        key: EvaluationKey,
        attempt: int,
        host: str,
        reason: str,
        progressed: bool,
        hosts: Set[str],
        kind: str = "killed_its_worker",
    ) -> Decision:
        """The worker of an attempt died or fell silent, or ended it without a word.

        Args:
            progressed: this attempt left a checkpoint.
            kind: the crash that it is told as where it goes on so.
        """
        self.remember_death(key, attempt, host, progressed)
        case = self._cases[key]
        if len(case.deaths) < self.max_attempts:
            return Decision("retry", reason=reason)
        seen = set(case.deaths.values())
        if len(seen) == 1 and hosts - seen - set(self.excluded):
            return Decision("retry", reason=reason, avoid=frozenset(seen))
        count, where = len(case.deaths), ", ".join(sorted(seen))
        return self._conclude(key, kind, f"{counted(count, 'attempt')} without progress on {where}; last: {reason}")

    def remember_death(self, key: EvaluationKey, attempt: int, host: str, progressed: bool) -> None:
        """Note that an attempt was lost; progress clears the record."""
        if progressed:
            self._cases[key].deaths.clear()
        else:
            self._cases[key].deaths[attempt] = host  # once, however often its worker falls silent

    def broken(self, host: str, reason: str, hosts: Set[str]) -> Decision:
        """A worker says that the installation is at fault, or takes nothing that it is given."""
        node = self._nodes[host]
        node.broken += 1
        self._broken_in_a_row.append((host, reason))
        others = {h for h in hosts - {host} - set(self.excluded) if self._nodes[h].broken < self.max_broken}
        alike = [h for h, r in self._broken_in_a_row if without_numbers(r) == without_numbers(reason)]
        # Since something finished last. Where much works, two bad nodes are no reason to stop; half of them are.
        where = set(alike)
        is_common = not self._works() or 2 * len(where) >= len(hosts | where)
        everywhere = len(alike) >= self.max_broken and len(where) > 1 and is_common
        if everywhere or (node.broken >= self.max_broken and not others):
            return Decision("stop", reason=reason)
        if node.broken >= self.max_broken:
            self.exclude(host, f"{node.broken} evaluations in a row were broken there alone: {reason}")
        return Decision("retry", reason=reason, avoid=frozenset({host}) if others else frozenset())

    def exclude(self, host: str, reason: str) -> None:
        """Leave a host out."""
        self.excluded.setdefault(host, reason)

    def release_held(self) -> list[tuple[EvaluationKey, str, str]]:
        """Held crashes, to be recorded as such now."""
        released = [(key, kind, reason) for key, (kind, reason) in self.held.items()]
        self.held.clear()
        for key, _, _ in released:
            self._resolve(key)
        return released

    def _works(self) -> bool:
        """Whether anything has finished under this master."""
        return any(n.has_finished for n in self._nodes.values())

    def _resolve(self, key: EvaluationKey) -> None:
        """A decision on an evaluation was reached: it says nothing about nodes any more."""
        self._cases.pop(key, None)
        for node in self._nodes.values():
            node.unresolved.discard(key)

    def _contradict(self, host: str, key: EvaluationKey, reason: str) -> None:
        node = self._nodes[host]
        node.unresolved.discard(key)
        node.contradicted += 1
        if node.contradicted >= MAX_CONTRADICTED:
            self.exclude(host, f"{node.contradicted} {reason}")

    def _incident(self, host: str, reason: str) -> None:
        node = self._nodes[host]
        now = self._clock.monotonic()
        if now - node.last_incident > INCIDENT_S:
            node.incidents += 1
            node.last_incident = now
        if node.incidents >= self.max_attempts:
            self.exclude(host, f"{node.incidents} times, {reason}")
