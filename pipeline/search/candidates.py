"""The most promising configuration of a space: evenly drawn points, moved ones, and the best of these moved again.

It asks nothing of the space but random points, and works alike for numbers, categories, conditions and
forbidden clauses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.search.encoding import Array, Encoding

# First so many points drawn evenly, and so many times each of the best known ones moved.
EVEN, STARTS, MOVES = 500, 10, 25
# Then, round by round, the best of all so far moved so many times, by steps that shrink.
ROUNDS, SURVIVORS, OFFSPRING = 4, 6, 40
# Standard deviation of a step in units of the cube, and how many coordinates a step changes on average.
STEP, SHRINKING, CHANGED = 0.15, 0.5, 4.0


def most_promising(
    encoding: Encoding, starts: Array, known: Array, merit: Callable[[Array], Array], random: np.random.Generator
) -> Array | None:
    """The vector with the largest merit that was found, shape (d,); None: every point is known or forbidden.

    Args:
        starts: the best known vectors, the best first; shape (m, d).
        known: vectors that must not be proposed again.
        merit: of vectors of shape (n, d), NaN where a condition switches off.
    """
    points = np.concatenate([even(encoding, random, EVEN), _moved(encoding, random, starts[:STARTS], MOVES, STEP)])
    best, merits = np.empty((0, len(encoding.choices))), np.empty(0)
    for round_number in range(1, ROUNDS + 1):
        points = _new(encoding, points, known)
        if len(points):
            best, merits = (np.concatenate([best, points]), np.concatenate([merits, merit(points)]))
        if not len(best):
            return None
        kept = np.argsort(-merits, kind="stable")[:SURVIVORS]
        best, merits = best[kept], merits[kept]
        points = _moved(encoding, random, best, OFFSPRING, STEP * SHRINKING**round_number)
    return np.asarray(best[0])


def even(encoding: Encoding, random: np.random.Generator, count: int) -> Array:
    """Points of the unit cube, categories as whole numbers; shape (count, d)."""
    points = random.random((count, len(encoding.choices)))
    return np.where(encoding.choices > 0, np.floor(points * encoding.choices), points)


def _moved(encoding: Encoding, random: np.random.Generator, points: Array, times: int, step: float) -> Array:
    points = np.repeat(points, times, axis=0)
    count, d = points.shape
    fresh = even(encoding, random, count)
    points = np.where(np.isnan(points), fresh, points)
    changes = random.random((count, d)) < CHANGED / d
    changes[np.arange(count), random.integers(d, size=count)] = True
    numbers = np.clip(points + step * random.standard_normal((count, d)), 0.0, 1.0)
    return np.where(changes, np.where(encoding.choices > 0, fresh, numbers), points)


def _new(encoding: Encoding, points: Array, known: Array) -> Array:
    """Those that are allowed and not known, as the values that they stand for."""
    snapped, allowed = encoding.legal(points)
    snapped = snapped[allowed]
    a, b = np.nan_to_num(snapped, nan=-1.0), np.nan_to_num(known, nan=-1.0)
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    return np.asarray(snapped[squares.min(axis=1, initial=1.0) > 1e-9])
