"""Fronts, crowding and hypervolume are what their definitions say, counted out by brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.search.pareto import best_first, crowding, fronts, hypervolume, on_front


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


def fronts_by_definition(values: np.ndarray) -> list[int]:
    number, left, front = [-1] * len(values), set(range(len(values))), 0
    while left:
        best = {i for i in left if not any(dominates(values[j], values[i]) for j in left)}
        for i in best:
            number[i] = front
        left, front = left - best, front + 1
    return number


# Few different values: ties and twins abound.
points = st.integers(1, 4).flatmap(
    lambda m: st.lists(st.lists(st.integers(0, 5), min_size=m, max_size=m), min_size=1, max_size=30)
)


@settings(max_examples=150, deadline=None)
@given(points)
def test_fronts_are_those_of_the_definition(values: list[list[int]]) -> None:
    array = np.array(values, dtype=float)
    assert fronts(array).tolist() == fronts_by_definition(array)
    assert on_front(array).tolist() == [number == 0 for number in fronts_by_definition(array)]


def test_no_points_have_no_fronts_and_no_volume() -> None:
    for m in (2, 3):
        nothing = np.empty((0, m))
        assert len(fronts(nothing)) == 0
        assert best_first(nothing) == []
        assert hypervolume(nothing, np.ones(m)) == 0.0


def test_crowding_is_the_extent_between_the_neighbours_and_infinite_at_the_ends() -> None:
    values = np.array([[0.0, 10.0], [1.0, 6.0], [3.0, 5.0], [4.0, 0.0]])
    assert crowding(values).tolist() == pytest.approx([np.inf, 3 / 4 + 5 / 10, 3 / 4 + 6 / 10, np.inf])


def test_twins_add_nothing_and_a_constant_objective_does_not_tell_apart() -> None:
    values = np.array([[0.0, 2.0], [1.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    assert crowding(values).tolist() == [np.inf, 2.0, 0.0, np.inf]
    assert crowding(np.array([[1.0, 5.0], [1.0, 5.0]])).tolist() == [np.inf, 0.0]
    with_constant = np.column_stack([values[[0, 1, 3]], np.full(3, 7.0)])
    assert crowding(with_constant).tolist() == [np.inf, 2.0, np.inf]


def test_the_order_is_by_front_then_by_crowding_then_as_given() -> None:
    values = np.array([[3.0, 3.0], [0.0, 4.0], [1.0, 3.9], [2.0, 1.0], [4.0, 0.0], [2.0, 1.0], [0.5, 3.95]])
    assert best_first(values) == [1, 4, 3, 2, 6, 5, 0]
    assert best_first(np.zeros((3, 2))) == [0, 1, 2]


@settings(max_examples=100, deadline=None)
@given(points, st.integers(1, 6))
def test_the_hypervolume_counts_the_cells_that_are_dominated(values: list[list[int]], reference: int) -> None:
    array = np.array(values, dtype=float)
    cells = product(range(reference), repeat=array.shape[1])
    dominated = sum(any((point <= cell).all() for point in array) for cell in cells)
    assert hypervolume(array, np.full(array.shape[1], float(reference))) == pytest.approx(dominated)


def test_a_better_point_adds_volume_and_a_worse_one_nothing() -> None:
    front, reference = np.random.default_rng(1).random((40, 3)), np.ones(3)
    volume = hypervolume(front, reference)
    assert hypervolume(np.vstack([front, front.max(axis=0)]), reference) == pytest.approx(volume)
    assert hypervolume(np.vstack([front, front.min(axis=0) / 2]), reference) > volume
