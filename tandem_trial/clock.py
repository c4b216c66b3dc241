"""Where an attempt's wall time goes: every moment belongs to exactly one phase, so they add up to it."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PHASES = ("startup", "compile", "training", "validation", "checkpoint")


class PhaseClock:
    """Wall time by phase, starting in "startup"; the device is synchronised at every change of phase.

    Kernels are asynchronous: an unsynchronised change would charge the next phase for what this one started.
    """

    def __init__(self, synchronise: Callable[[], None], now: Callable[[], float] = time.perf_counter) -> None:
        self._synchronise = synchronise
        self._now = now
        self._began = self._since = now()
        self._phase = PHASES[0]
        self._seconds = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the block to a phase, and what follows to the phase that was interrupted."""
        interrupted = self._phase
        self.enter(name)
        try:
            yield
        finally:
            self.enter(interrupted)

    def enter(self, name: str) -> None:
        """Charge what follows to a phase."""
        self._synchronise()
        now = self._now()
        self._seconds[self._phase] += now - self._since
        self._since = now
        self._phase = name

    def move(self, old: str, new: str) -> None:
        """Charge a phase's seconds so far to another one."""
        self._seconds[new] += self._seconds[old]
        self._seconds[old] = 0.0

    def seconds(self, name: str) -> float:
        """Seconds of a phase so far; of the running one up to now, without synchronising."""
        running = self._now() - self._since if name == self._phase else 0.0
        return self._seconds[name] + running

    def reading(self) -> dict[str, float]:
        """Seconds of every phase at one moment, without synchronising, and their sum as "wall"."""
        now = self._now()
        seconds = dict(self._seconds)
        seconds[self._phase] += now - self._since
        return {**seconds, "wall": now - self._began}

    @property
    def wall_s(self) -> float:
        """Seconds since this clock was made."""
        return self._now() - self._began


class Device:
    """The CUDA device of an objective that uses PyTorch, if it does: known only once the objective has begun to use it.

    torch is never imported here; without it, or on a CPU, there is nothing to wait for.
    """

    def __init__(self) -> None:
        self._pending: deque[Any] = deque()

    def synchronise(self) -> None:
        """Wait until the device has done what it was given."""
        self._pending.clear()
        cuda = _cuda_in_use()
        if cuda is not None:
            cuda.synchronize()

    def fence(self) -> None:
        """Keep the host at most one step ahead of the device, so that the host's clock tells the device's progress."""
        cuda = _cuda_in_use()
        if cuda is None:
            return
        event = cuda.Event()
        event.record()
        self._pending.append(event)
        while len(self._pending) > 1:
            self._pending.popleft().synchronize()


def _cuda_in_use() -> Any:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_in_use = getattr(cuda, "is_initialized", None)
    return cuda if is_in_use is not None and is_in_use() else None
