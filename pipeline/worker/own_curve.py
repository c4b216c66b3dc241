"""The learning curve of an attempt whose objective is the user's own: rows come as fast as it reports them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.records import AttemptEnd, AttemptHeader
from pipeline.storage.curves import own_columns, row_dtype, write_attempt
from tandem_trial.problem import Metric

# Writing takes at most one part in so many of the time: a file is written anew as a whole.
SHARE = 20
MAX_ROWS = 100_000


class OwnCurve:
    """Collects rows and writes them, durably when `flush` returns, and soon otherwise.

    Attributes:
        rows: how many there are, those of the chain that it continues included.
        left_out: rows beyond `MAX_ROWS`.
    """

    def __init__(self, path: Path, metrics: Sequence[Metric]) -> None:
        self._path = path
        self._columns = own_columns(metrics)
        self._names = [name for name, _, _ in self._columns]
        self._dtype = row_dtype(self._columns)
        self._table = np.empty(64, self._dtype)
        self._header: AttemptHeader | None = None
        self._is_dirty = False
        self._next_write = 0.0
        self.rows = 0
        self.left_out = 0

    @property
    def table(self) -> np.ndarray:
        """The rows so far."""
        return self._table[: self.rows]

    @property
    def has_begun(self) -> bool:
        """Whether there is a header."""
        return self._header is not None

    def begin(self, header: AttemptHeader, inherited: np.ndarray) -> None:
        """Begin with the rows of the chain that the attempt continues."""
        self._header = header
        self._table = np.empty(max(64, 2 * len(inherited)), self._dtype)
        for name in self._names:
            self._table[name][: len(inherited)] = inherited[name] if name in (inherited.dtype.names or ()) else math.nan
        self.rows = len(inherited)
        self._is_dirty = True
        self._next_write = time.monotonic() + 0.5

    def add(self, row: Mapping[str, float]) -> None:
        """Add a row; what it lacks is NaN."""
        if self.rows >= MAX_ROWS:
            self.left_out += 1
            return
        if self.rows == len(self._table):
            self._table = np.concatenate([self._table, np.empty(len(self._table), self._dtype)])
        self._table[self.rows] = tuple(row.get(name, math.nan) for name in self._names)
        self.rows += 1
        self._is_dirty = True

    def write_when_due(self) -> None:
        """Write what is new, if writing has not taken more than its share."""
        if self._is_dirty and time.monotonic() >= self._next_write:
            self.flush()

    def flush(self) -> None:
        """Write what is new now."""
        if self._is_dirty:
            self._write(None)

    def end(self, end: AttemptEnd) -> None:
        """Say how the attempt ended."""
        self._write(end)

    def _write(self, end: AttemptEnd | None) -> None:
        if self._header is None:
            return
        began = time.monotonic()
        run = self._path.parents[2]  # see `RunFolder.attempt`
        write_attempt(self._path, self._header, self.table, end, columns=self._columns, inside=run)
        took = time.monotonic() - began
        self._next_write = began + took * SHARE
        self._is_dirty = False
