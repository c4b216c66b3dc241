"""The proposer `gp`: early, of any space, no twins, no crashes where it can tell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    Float,
    ForbiddenEqualsClause,
    Integer,
    OrdinalHyperparameter,
)

from pipeline.run.history import Result
from pipeline.search.belief import Observation, standardised
from pipeline.search.gp import FIT_MOST, GROWTH, LEAST, MOST, GpProposer, _chosen, milestone
from pipeline.search.proposers import Proposal, Proposer, RandomProposer
from pipeline.search.search import Search
from pipeline.settings import load_settings

SETTINGS = load_settings("digits", ["search.method=gp", "search.min_budget=1", "search.max_budget=9"])


def space_of(*hyperparameters: Any) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=1)
    space.add(*hyperparameters)
    return space


def bowl() -> ConfigurationSpace:
    return space_of(Float("x", (0.0, 1.0)), Float("y", (0.0, 1.0)), Categorical("c", ["a", "b", "c"]))


def bowl_loss(c: Any) -> float:
    return (c["x"] - 0.7) ** 2 + (c["y"] - 0.2) ** 2 + 0.3 * (c["c"] != "b")


def fed(
    space: ConfigurationSpace, count: int, loss: Any, budgets: Any = (1.0,), order: Any = None, settings: Any = SETTINGS
) -> GpProposer:
    proposer = GpProposer(space, settings)
    for index in order or range(count):
        configuration = RandomProposer(space, 7).propose((0, 0, index)).configuration
        proposer.absorb((0, 0, index), configuration, budgets[index % len(budgets)], loss(configuration))
    return proposer


def modelled(proposer: Any, count: int, pending: Any = ()) -> Any:
    proposals = [proposer.plan((1, 0, i), 1.0, pending)() for i in range(count)]
    return [p.configuration for p in proposals if p.model_budget is not None]


def test_a_handful_of_results_is_enough_for_a_model() -> None:
    space = bowl()
    assert modelled(fed(space, LEAST - 1, bowl_loss), 10) == []
    assert len(modelled(fed(space, LEAST, bowl_loss), 40)) == pytest.approx(32, abs=7)


def test_the_model_finds_the_good_region_with_few_results() -> None:
    found = modelled(fed(bowl(), 20, bowl_loss), 10)
    assert np.median([bowl_loss(c) for c in found]) < 0.02


def test_low_budgets_that_mislead_are_seen_through() -> None:
    space = space_of(Float("x", (0.0, 1.0)))
    proposer = GpProposer(space, SETTINGS)
    for index in range(24):
        x, budget = index / 23, (1.0, 3.0, 9.0)[index % 3]
        centre = {1.0: 0.1, 3.0: 0.5, 9.0: 0.8}[budget]
        proposer.absorb((0, 0, index), {"x": x}, budget, (x - centre) ** 2)
    assert np.median([c["x"] for c in modelled(proposer, 10)]) == pytest.approx(0.8, abs=0.1)


class Recording(Proposer):
    """A proposer that notes what it is told."""

    is_slow = False

    def __init__(self, learns_on_the_way: bool) -> None:
        self.learns_on_the_way = learns_on_the_way
        self.told: list[Any] = []

    def absorb(self, config_id: Any, configuration: Any, budget: float, loss: float | None) -> None:
        self.told.append((config_id, budget, loss))

    def plan(self, config_id: Any, budget: float, pending: Any) -> Any:
        return lambda: Proposal({})


@pytest.mark.parametrize(
    ("learns", "promotion", "expected"), [(True, "continue", 2), (False, "continue", 0), (True, "restart", 0)]
)
def test_losses_on_rungs_that_a_training_passed_come_before_its_result_and_none_comes_twice(
    learns: bool, promotion: str, expected: int
) -> None:
    budgets = ["search.min_budget=1", "search.max_budget=9", "search.iterations=3", f"search.promotion={promotion}"]
    cosine = ["training.schedule=cosine"] if promotion == "restart" else []
    proposer = Recording(learns)
    search = Search(load_settings("digits", ["search.method=gp", *budgets, *cosine]), proposer)
    results = 0
    while (due := search.next_evaluation()) is not None:
        config_id, _, budget = due
        passed = [[b, 0.5 + b / 100] for b in search.ladder if b < budget]
        info = {"attempt": 1, "training_s": budget, "lower_rungs": passed}
        search.absorb(Result(config_id, budget, 0, 0, 1, config_id[2] / 10, info, None))
        results += 1
    assert search.is_done
    assert len({(c, b) for c, b, _ in proposer.told}) == len(proposer.told)
    begun_on_largest = [t for t in proposer.told if t[0] == (2, 0, 0)]
    assert begun_on_largest == [((2, 0, 0), 1.0, 0.51), ((2, 0, 0), 3.0, 0.53), ((2, 0, 0), 9.0, 0.0)][2 - expected :]
    assert (len(proposer.told) > results) == bool(expected)


def test_configurations_that_crash_are_avoided() -> None:
    def loss(c: Any) -> Any:
        return None if c["x"] > 0.6 else -c["x"]

    found = modelled(fed(space_of(Float("x", (0.0, 1.0)), Float("y", (0.0, 1.0))), 40, loss), 20)
    assert np.mean([c["x"] > 0.6 for c in found]) < 0.25


def test_parallel_workers_get_no_twins() -> None:
    space = bowl()
    proposer = fed(space, 20, bowl_loss)
    pending = []
    for i in range(8):
        pending.append((proposer.plan((1, 0, i), 1.0, pending)().configuration, 1.0))
    alone = modelled(proposer, 8)

    def nearest(configurations: Any) -> Any:
        points = np.array([[c["x"], c["y"], c["c"] == "b"] for c in configurations], dtype=float)
        gaps = np.abs(points[:, None] - points).max(axis=2) + np.eye(len(points))
        return np.median(gaps.min(axis=1))

    assert nearest([c for c, _ in pending]) > 2 * nearest(alone)


def test_proposals_do_not_depend_on_the_order_of_results_nor_on_proposals_before() -> None:
    space, count = bowl(), LEAST + 1  # as many as the hyperparameters were fitted on
    forward, backward = fed(space, count, bowl_loss), fed(bowl(), count, bowl_loss, order=range(count - 1, -1, -1))
    for i in range(3):
        forward.plan((9, 0, i), 1.0, [])()
    first = [forward.plan((1, 0, i), 1.0, [])() for i in range(5)]
    assert first == [backward.plan((1, 0, i), 1.0, [])() for i in range(5)]


def test_what_is_planned_does_not_see_what_comes_later() -> None:
    space = bowl()
    proposer = fed(space, 12, bowl_loss)
    plan = proposer.plan((1, 0, 1), 1.0, [])
    expected = plan()
    for index in range(12, 20):
        proposer.absorb((0, 0, index), RandomProposer(space, 7).propose((0, 0, index)).configuration, 1.0, 0.0)
    assert fed(bowl(), 12, bowl_loss).plan((1, 0, 1), 1.0, [])() == expected


def test_spaces_with_everything_in_them_get_valid_configurations_that_are_new() -> None:
    kind, depth = Categorical("kind", ["plain", "deep", "bad"]), Integer("depth", (1, 4))
    size = OrdinalHyperparameter("size", [8, 16, 32])
    space = space_of(kind, depth, size, Constant("optimiser", "sgd"), Float("rate", (0.0, 1.0)))
    space.add(EqualsCondition(depth, kind, "deep"), ForbiddenEqualsClause(kind, "bad"))
    found = modelled(fed(space, 30, lambda c: float(c.get("depth", 9)) + c["rate"]), 20)
    for c in found:
        assert ("depth" in c) == (c["kind"] == "deep")
        assert c["kind"] != "bad"
        assert c["optimiser"] == "sgd"
    assert np.mean([c.get("depth") == 1 for c in found]) > 0.5


def test_where_every_configuration_is_known_a_draw_is_random() -> None:
    space = space_of(Categorical("a", ["x", "y"]), Categorical("b", ["x", "y", "z"]))
    proposer = GpProposer(space, SETTINGS)
    every = [{"a": a, "b": b} for a in "xy" for b in "xyz"]
    for index, c in enumerate(every):
        proposer.absorb((0, 0, index), c, 1.0, index / 10)
    assert all(p.model_budget is None for p in (proposer.plan((1, 0, i), 1.0, [])() for i in range(10)))


def test_thousands_of_results_keep_the_best_and_the_largest_budgets() -> None:
    space = bowl()
    proposer = fed(space, 1300, bowl_loss, budgets=(1.0, 1.0, 1.0, 1.0, 9.0))
    assert np.median([bowl_loss(c) for c in modelled(proposer, 4)]) < 0.01


def test_hyperparameters_are_fitted_ever_less_often() -> None:
    proposer = fed(bowl(), 60, lambda c: None if c["x"] < 0.05 else 0.5)
    reached = {milestone(proposer._observed[:n]) for n in range(LEAST + 4, 61)}
    assert len(reached) < 2 + math.log(60 / LEAST) / math.log(GROWTH)
    assert max(reached) > 60 / GROWTH - 1


def test_a_search_in_which_nearly_everything_crashes_still_has_a_model() -> None:
    proposer = fed(bowl(), 5, lambda c: 0.5, budgets=(1.0,))
    vector = proposer._observed[0].vector
    crashes = [Observation((1, 0, i), vector, 2, math.inf) for i in range(1500)]
    for most in (FIT_MOST, MOST):
        chosen = _chosen([*proposer._observed, *crashes], most)
        assert len(chosen) == most
        assert sum(not o.crashed for o in chosen) == 5


def test_losses_that_differ_little_are_told_apart_and_rounding_is_no_difference() -> None:
    losses = np.array([3.0, 1.0, 2.0, 5.0])
    np.testing.assert_allclose(standardised(losses * 1e-14), standardised(losses))
    assert np.abs(standardised(np.full(10, 0.1))).max() < 0.01
    assert (standardised(np.zeros(3)) == 0).all()
