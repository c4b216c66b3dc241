"""What configurations cost: training seconds for a unit of budget, where budgets count epochs, batches or steps.

A Gaussian process over configurations learns the logarithm. Costs are learnt from the first results alone, and anew
once there are `GROWTH` times more, so that a resumed search needs one fit and gets the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.records import ConfigId
from pipeline.search.belief import Frame
from pipeline.search.encoding import Array
from pipeline.search.gaussian_process import Data, Posterior, fit

# Costs before there is a model, and the most that it learns from: they have little noise.
LEAST, MOST, GROWTH = 5, 200, 1.3


@dataclass(frozen=True)
class UnitCost:
    """What a unit of budget took.

    Attributes:
        vector: see `Encoding`; shape (d,).
        log_s: natural logarithm of training seconds.
    """

    config_id: ConfigId
    vector: Array
    log_s: float


class CostModel:
    """What is expected of configurations that were not trained yet."""

    def __init__(self, costs: Sequence[UnitCost], frame: Frame) -> None:
        ordered = sorted(costs, key=lambda c: (c.config_id, c.log_s))
        logs = np.array([c.log_s for c in ordered])
        self._embedding, self._scale = frame.embedding, max(float(logs.std()), 1e-12)
        data, y = self._data(np.array([c.vector for c in ordered])), (logs - logs.mean()) / self._scale
        groups = frame.embedding.groups
        self._posterior = Posterior(data, y, groups, fit(data, y, groups, 1))

    def __call__(self, vectors: Array) -> Array:
        """The logarithm of what is expected, up to a constant; shape (n,)."""
        mean, _ = self._posterior(self._data(vectors))
        return np.asarray(self._scale * mean)

    def _data(self, vectors: Array) -> Data:
        return Data(self._embedding(vectors), np.zeros(len(vectors), dtype=np.int64))


def learnt_from(count: int) -> int:
    """Of so many costs, how many the model was made of last; 0: there is none yet."""
    if count < LEAST:
        return 0
    reached = LEAST
    while (following := min(MOST, int(reached * GROWTH) + 1)) <= count and following > reached:
        reached = following
    return reached
