import math
from itertools import pairwise

import pytest

from pipeline.settings import load_settings
from pipeline.settings.schema import Settings
from pipeline.training.schedule import CosineCycles, schedule_for


def settings_with(*overrides: str) -> Settings:
    return load_settings("cifar10", overrides)


def test_a_cycle_falls_as_a_cosine_from_one_to_zero_and_restarts_at_one() -> None:
    schedule = CosineCycles([10, 30])
    assert schedule.factor(0) == 1
    assert schedule.factor(2.5) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert schedule.factor(9.999) == pytest.approx(0, abs=1e-6)
    assert schedule.factor(10) == 1
    assert schedule.factor(20) == pytest.approx(0.5)
    assert schedule.factor(30) == schedule.factor(99) == 0


def test_the_ladders_cycles_end_on_the_rungs_so_that_every_rung_is_measured_near_zero() -> None:
    schedule = schedule_for(settings_with("training.schedule=ladder"), 10800)
    assert schedule.ends == (400, 1200, 3600, 10800)


def test_the_ladder_of_a_lower_rung_is_the_beginning_of_the_higher_ones_so_that_a_promotion_continues_it() -> None:
    settings = settings_with("training.schedule=ladder")
    lower, higher = schedule_for(settings, 1200), schedule_for(settings, 10800)
    for position in range(0, 1200, 50):
        assert lower.factor(position) == higher.factor(position)
    assert lower.factor(1200) == 0
    assert higher.factor(1200) == 1


def test_the_papers_doubling_cycles_begin_as_in_the_authors_code_and_end_on_every_budget() -> None:
    first = {}
    for budget in (400, 1200, 3600, 10800):
        schedule = schedule_for(settings_with(), budget)
        lengths = [end - begin for begin, end in zip((0, *schedule.ends), schedule.ends, strict=False)]
        assert all(later == pytest.approx(2 * earlier) for earlier, later in pairwise(lengths))
        assert schedule.ends[-1] == budget
        first[budget] = lengths[0]
    assert first == pytest.approx({400: 400, 1200: 400, 3600: 514.2857, 10800: 720.0})  # T_e in the authors' opts.py


def test_a_single_cosine_spans_the_budget() -> None:
    assert schedule_for(settings_with("training.schedule=cosine"), 3600).ends == (3600,)


def test_random_search_whose_ladder_has_one_rung_is_a_single_cycle() -> None:
    assert schedule_for(settings_with("training.schedule=ladder", "search.method=random"), 10800).ends == (10800,)


@pytest.mark.parametrize("ends", [[], [0], [2, 1], [1, 1]])
def test_cycles_that_do_not_ascend_are_refused(ends: list[int]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        CosineCycles(ends)
