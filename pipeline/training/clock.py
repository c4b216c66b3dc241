"""The budget clock: the training phase plus what the checkpoint brought along.

Start-up, compiling, validation and checkpoints do not count.
"""

from __future__ import annotations

from collections import deque

import torch

from tandem_trial.clock import PhaseClock


class Fence:
    """Keeps the host at most one step ahead of a CUDA device, so that the host's clock tells the device's progress.

    After `step()` the device works on the step just given while everything before it is done: the device never
    waits for the host, and a clock read on the host is late by less than one step. On a CPU there is nothing to do.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pending: deque[torch.cuda.Event] = deque()

    def step(self) -> None:
        """Call after a step was given to the device."""
        if self._device.type != "cuda":
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending.append(event)
        while len(self._pending) > 1:
            self._pending.popleft().synchronize()

    def drain(self) -> None:
        """Wait for the step that is still running, if any."""
        while self._pending:
            self._pending.popleft().synchronize()


class BudgetClock:
    """Says when a budget in seconds is spent: at most one batch late, on every device.

    Attributes:
        inherited_s: training seconds that the checkpoint brought along.
    """

    # Within so many steps of the end the host waits for every step, to stop after the right one.
    CAREFUL_STEPS = 4

    def __init__(self, phases: PhaseClock, fence: Fence, inherited_s: float) -> None:
        self.inherited_s = inherited_s
        self._phases = phases
        self._fence = fence
        self._last_read = self.training_s
        self._longest_step_s: float | None = None

    @property
    def trained_here_s(self) -> float:
        """Training seconds of this attempt."""
        return self._phases.seconds("training")

    @property
    def training_s(self) -> float:
        """Training seconds since the first step ever."""
        return self.inherited_s + self.trained_here_s

    def step_done(self, budget_s: float) -> bool:
        """Call after each step was given to the device; True when the budget is spent."""
        self._fence.step()
        if self._longest_step_s is None:
            self._fence.drain()  # nothing is known of this configuration's steps yet
        now = self.training_s
        # The longest of recent steps: one slow first step shall not make the rest careful for ever.
        self._longest_step_s = max(now - self._last_read, 0.9 * (self._longest_step_s or 0.0))
        if now + self.CAREFUL_STEPS * self._longest_step_s >= budget_s:
            self._fence.drain()
            now = self.training_s
        self._last_read = now
        return now >= budget_s
