"""Quantiles of many curves or points along an axis, for figures of which dots and lines would only hide each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

QUANTILES = (0.1, 0.5, 0.9)
# Fewer points than this in a bin, or curves at a time, have no quantiles worth drawing.
FEWEST = 5
POINTS = 60


def curve_quantiles(curves: Sequence[np.ndarray], points: int = POINTS) -> pd.DataFrame:
    """Quantiles of curves at times evenly spaced on a logarithmic axis.

    Args:
        curves: [rows, 2] arrays of (time, value), times ascending; a curve counts from its first row to its last.

    Returns:
        Columns: x, n (curves there), low, middle, high.
    """
    curves = [curve for curve in curves if len(curve)]
    if not curves:
        return pd.DataFrame({name: [] for name in ("x", "n", "low", "middle", "high")})
    begin, end = min(c[0, 0] for c in curves), max(c[-1, 0] for c in curves)
    grid = np.geomspace(max(begin, end * 1e-6), end, points)
    nowhere = {"left": np.nan, "right": np.nan}
    values = np.array([np.interp(grid, c[:, 0], c[:, 1], **nowhere) for c in curves])
    return column_quantiles(grid, values)


def column_quantiles(places: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """Quantiles of each column of values [n, places], NaN where there is none; columns as `curve_quantiles`."""
    return _summary(places, [column[~np.isnan(column)] for column in values.T])


def binned_quantiles(x: np.ndarray, y: np.ndarray, bins: int = 30) -> pd.DataFrame:
    """Quantiles of points in bins that hold about as many points each; columns as `curve_quantiles`."""
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, max(1, min(bins, len(x) // FEWEST))) if len(part)]
    return _summary(np.array([x[part].mean() for part in parts]), [y[part] for part in parts])


def _summary(places: np.ndarray, samples: Sequence[np.ndarray]) -> pd.DataFrame:
    rows = [
        (place, len(sample), *np.quantile(sample, QUANTILES))
        for place, sample in zip(places, samples, strict=True)
        if len(sample) >= FEWEST
    ]
    return pd.DataFrame(rows, columns=["x", "n", "low", "middle", "high"], dtype=float)


def density_jitter(values: np.ndarray, width: float, generator: np.random.Generator) -> np.ndarray:
    """A sideways shift per value, random up to the density of the values there: together they draw its shape."""
    if len(values) < 3 or np.ptp(values) == 0:
        return np.asarray(generator.uniform(-width / 2, width / 2, len(values)))
    counts, edges = np.histogram(values, bins=int(np.clip(np.sqrt(len(values)), 5, 60)))
    smooth = np.convolve(counts, [0.25, 0.5, 0.25], mode="same")
    heights = smooth[np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(counts) - 1)]
    # Few values would otherwise lie on a line: the floor keeps them apart.
    shares = np.maximum(heights / smooth.max(), min(1.0, 10 / len(values)))
    return np.asarray(width * shares * generator.uniform(-1, 1, len(values)))
