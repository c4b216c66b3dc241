"""Notice a loss that is no longer finite, without making the host wait for the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class FiniteCheck:
    """Looks at a running sum of losses, which stays NaN or infinite once it is.

    On CUDA the sum is copied to the host every `INTERVAL` steps and read one call of `check` later, when the fence of
    the training loop (one step in flight) guarantees that the copy has arrived.
    """

    INTERVAL = 16

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._calls = 0
        if self._is_cuda:
            self._copy = torch.zeros((), dtype=torch.float64, pin_memory=True)

    def check(self, loss_sum: Tensor) -> bool:
        """False when the sum is known not to be finite."""
        if not self._is_cuda:
            return math.isfinite(float(loss_sum))
        position = self._calls % self.INTERVAL
        self._calls += 1
        if position == 0:
            self._copy.copy_(loss_sum, non_blocking=True)
        # Copied after step k; at the call after step k + 2 step k + 1 is done, and the copy before it.
        return position != 2 or math.isfinite(float(self._copy))
