"""What is better where there are several objectives: fronts, crowding and hypervolume. Less is better in all of them.

Sources: Deb et al. 2002 (NSGA-II) for sorting and crowding; Zhang et al. 2015 for the sort's binary search over fronts.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Whole = NDArray[np.int64]


def fronts(values: Array) -> Whole:
    """The number of each point's front, from 0: of those that no other dominates, then of those that only these do, ...

    A point dominates another that is nowhere better and somewhere worse; equal points are on one front.

    Args:
        values: finite, shape (n, objectives).

    Returns:
        Shape (n,).
    """
    # In this order, a point is dominated by earlier ones alone; and by every earlier one that is nowhere worse.
    points, place = np.unique(values, axis=0, return_inverse=True)
    number = _fronts_of_two(points) if points.shape[1] == 2 else _fronts_of_many(points)
    return number[place.reshape(-1)]


def _fronts_of_two(points: Array) -> Whole:
    """Of a front, the last point added has the least second value: it alone is to be looked at."""
    least: list[float] = []
    number = np.empty(len(points), dtype=np.int64)
    for row, second in enumerate(points[:, 1].tolist()):
        front = bisect_right(least, second)
        number[row] = front
        least[front : front + 1] = [second]
    return number


def _fronts_of_many(points: Array) -> Whole:
    number = np.empty(len(points), dtype=np.int64)
    members: list[list[int]] = []
    for row, point in enumerate(points):
        low, high = 0, len(members)
        while low < high:
            middle = (low + high) // 2
            if (points[members[middle]] <= point).all(axis=1).any():
                low = middle + 1
            else:
                high = middle
        number[row] = low
        if low == len(members):
            members.append([])
        members[low].append(row)
    return number


def on_front(values: Array) -> NDArray[np.bool_]:
    """Which points no other dominates; shape (n,)."""
    return np.asarray(fronts(values) == 0)


def crowding(values: Array) -> Array:
    """How far the neighbours of each point of one front lie apart: the sum over the objectives, each in units of the
    front's extent; infinite at the ends of an objective.

    Of several equal points the first has the distance, the others have none: they add nothing to it.
    """
    points, first = np.unique(values, axis=0, return_index=True)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]]
        if extent > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
            distance[order[[0, -1]]] = np.inf
    if len(points) == 1:
        distance[:] = np.inf
    found = np.zeros(len(values))
    found[first] = distance
    return found


def best_first(values: Array) -> list[int]:
    """The points by the number of their front, then the least crowded first, then in their order."""
    number = fronts(values)
    distance = np.zeros(len(values))
    for front in range(int(number.max(initial=-1)) + 1):
        here = np.flatnonzero(number == front)
        distance[here] = crowding(values[here])
    return [int(row) for row in np.lexsort((-distance, number))]


def hypervolume(values: Array, reference: Array) -> float:
    """The volume that the points dominate up to a reference point, exactly; what is not better than it adds nothing.

    Args:
        values: shape (n, objectives).
        reference: shape (objectives,).
    """
    inside = values[(values < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    front = np.unique(inside[on_front(inside)], axis=0)
    if front.shape[1] == 1:
        return float(reference[0] - front[0, 0])
    if front.shape[1] == 2:
        heights = np.append(reference[1], front[:-1, 1]) - front[:, 1]
        return float((reference[0] - front[:, 0]) @ heights)
    import moocore  # a tenth of a second, which a search with one objective saves

    return float(moocore.hypervolume(front, ref=reference))
