"""The losses of an evaluation on the rungs that it passed: from its curve into its result, and out of it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.run.history import Result
from pipeline.run.lower_rungs import lower_rung_losses, lower_rungs

LADDER = (1.0, 3.0, 9.0)


def result_with(said: Any) -> Result:
    return Result((1, 0, 0), 9.0, 0.0, 0.0, 1.0, 0.1, {"lower_rungs": said}, None)


def test_the_last_row_within_a_rungs_end_stands_for_it() -> None:
    clock, losses = [0.5, 0.95, 1.0, 2.0, 2.9, 3.2], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert lower_rung_losses(clock, losses, [1.0, 3.0]) == [[1.0, 0.7], [3.0, 0.5]]


def test_a_rung_at_whose_end_nothing_was_measured_is_left_out() -> None:
    assert lower_rung_losses([0.5, 1.0, 2.0], [0.9, math.nan, 0.5], [1.0, 3.0]) == []


def test_what_was_written_is_read_again() -> None:
    said = lower_rung_losses([1.0, 3.0, 9.0], [0.5, 0.4, 0.3], [1.0, 3.0])
    assert lower_rungs(result_with(said), LADDER) == [(1.0, 0.5), (3.0, 0.4)]


@pytest.mark.parametrize(
    "said",
    [None, 3, "1", {}, [1, 2], [[1.0]], [[1.0, "a"]], [[1.0, math.inf]], [[True, 0.5]], [[9.0, 0.1]], [[2.0, 0.1]]],
)
def test_whatever_else_a_worker_sends_is_left_out(said: Any) -> None:
    assert lower_rungs(result_with(said), LADDER) == []
