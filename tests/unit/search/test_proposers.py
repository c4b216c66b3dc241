"""Proposals: the same densities as statsmodels, hpbandster's algorithm, and nothing that cannot be derived."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    Float,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    Integer,
    OrdinalHyperparameter,
)
from ConfigSpace import Configuration as ConfigSpaceConfiguration

from pipeline.run.history import DRAW_KEYS
from pipeline.search.bohb import BohbProposer, best_first, impute
from pipeline.search.densities import fit_density
from pipeline.search.methods import make_proposer
from pipeline.search.proposers import Proposer, RandomProposer
from pipeline.search.search import Search
from pipeline.settings import SearchSettings, load_settings
from pipeline.settings.space import build_space

SETTINGS = load_settings("digits")
METHODS = get_args(SearchSettings.model_fields["method"].annotation)


def small_space() -> ConfigurationSpace:
    space = ConfigurationSpace(seed=1)
    space.add(Float("x", (0.0, 1.0)), Integer("n", (1, 100), log=True), Categorical("c", ["a", "b", "c"]))
    return space


def conditional_space() -> ConfigurationSpace:
    space = ConfigurationSpace(seed=1)
    kind, depth = Categorical("kind", ["plain", "deep"]), Integer("depth", (1, 9))
    space.add(kind, depth, Float("a_first", (0.0, 1.0)))
    space.add(EqualsCondition(depth, kind, "deep"), EqualsCondition(space["a_first"], kind, "deep"))
    return space


def feed(
    proposer: Proposer, space: ConfigurationSpace, count: int, loss: Callable[..., Any], budget: float = 1.0
) -> None:
    for index in range(count):
        config_id = (0, 0, index)
        configuration = RandomProposer(space, 7).propose(config_id).configuration
        proposer.absorb(config_id, configuration, budget, loss(configuration, index))


def modelled_of(proposer: Proposer, count: int) -> list:
    """The configurations among so many proposals that the model made."""
    proposals = [proposer.propose((1, 0, i)) for i in range(count)]
    return [p.configuration for p in proposals if p.model_budget is not None]


def test_densities_equal_statsmodels_where_both_are_defined() -> None:
    statsmodels = pytest.importorskip("statsmodels.api")
    random = np.random.default_rng(3)
    data = np.column_stack([random.random(40), random.normal(0.5, 0.1, 40), random.integers(3, size=40)])
    points = np.column_stack([random.random(25), random.random(25), random.integers(3, size=25)])
    theirs = statsmodels.nonparametric.KDEMultivariate(data=data, var_type="ccu", bw="normal_reference")
    ours = fit_density(data, np.array([0, 0, 3]), min_bandwidth=1e-3)
    np.testing.assert_allclose(ours.bandwidths, theirs.bw, rtol=1e-12)
    np.testing.assert_allclose(ours(points), [theirs.pdf(p) for p in points], rtol=1e-9)


def test_a_category_that_no_observation_has_keeps_a_positive_density() -> None:
    density = fit_density(np.zeros((5, 1)), np.array([3]), min_bandwidth=1e-3)
    assert density(np.array([[2.0]]))[0] == pytest.approx(1e-3 / 2)


def test_a_bandwidth_is_never_below_its_minimum() -> None:
    density = fit_density(np.full((30, 2), 0.5), np.array([0, 0]), min_bandwidth=0.01)
    assert density.bandwidths.tolist() == [0.01, 0.01]


def test_a_categorical_bandwidth_is_never_wider_than_every_category_alike() -> None:
    # statsmodels' rule gives 1.9 here: more than a probability can be.
    density = fit_density(np.array([[0.0], [5.0]] * 3), np.array([6]), min_bandwidth=1e-3)
    assert density.bandwidths.tolist() == [5 / 6]
    np.testing.assert_allclose(density(np.arange(6.0)[:, None]), 1 / 6)


def test_candidates_come_from_where_good_is_likelier_than_bad() -> None:
    random = np.random.default_rng(0)
    choices = np.array([0, 0])
    good = fit_density(random.normal(0.8, 0.03, (30, 2)), choices, 1e-3)
    bad = fit_density(random.normal(0.2, 0.03, (60, 2)), choices, 1e-3)
    picks = np.array([best_first(good, bad, np.random.default_rng(i), 64, 3.0)[0] for i in range(50)])
    assert (picks >= 0).all()
    assert (picks <= 1).all()
    assert picks.mean() > 0.6


def test_no_model_before_both_densities_have_enough_observations() -> None:
    space = small_space()
    proposer = BohbProposer(space, SETTINGS)
    least = 2 * (len(space) + 1)
    feed(proposer, space, least - 1, lambda c, i: c["x"])
    assert {proposer.propose((1, 0, i)).model_budget for i in range(40)} == {None}
    one_more = RandomProposer(space, 7).propose((0, 0, least)).configuration
    proposer.absorb((0, 0, least), one_more, 1.0, 0.5)
    budgets = [proposer.propose((1, 0, i)).model_budget for i in range(300)]
    share = sum(budget is not None for budget in budgets) / len(budgets)
    assert share == pytest.approx(1 - SETTINGS.search.random_fraction, abs=0.1)
    assert set(budgets) == {None, 1.0}


def test_the_model_of_the_largest_budget_that_has_one_is_used() -> None:
    space = small_space()
    proposer = BohbProposer(space, SETTINGS)
    feed(proposer, space, 20, lambda c, i: c["x"], budget=1.0)
    feed(proposer, space, 12, lambda c, i: c["x"], budget=3.0)
    feed(proposer, space, 3, lambda c, i: c["x"], budget=9.0)
    budgets = {proposer.propose((1, 0, i)).model_budget for i in range(60)}
    assert budgets == {None, 3.0}


def test_a_model_finds_the_good_region() -> None:
    space = small_space()
    proposer = BohbProposer(space, SETTINGS)
    feed(proposer, space, 100, lambda c, i: (c["x"] - 0.9) ** 2 + (c["c"] != "b"))
    modelled = modelled_of(proposer, 200)
    assert np.mean([c["x"] for c in modelled]) > 0.7
    assert np.mean([c["c"] == "b" for c in modelled]) > 0.8


def test_proposals_do_not_depend_on_the_order_of_results_nor_on_proposals_before() -> None:
    losses = {i: round(math.sin(i), 1) for i in range(40)}  # with ties

    def proposer(order: Any) -> BohbProposer:
        space = small_space()
        made = BohbProposer(space, SETTINGS)
        for index in order:
            drawn = RandomProposer(space, 7).propose((0, 0, index))
            made.absorb((0, 0, index), drawn.configuration, 1.0, losses[index])
        return made

    forward, backward = proposer(range(40)), proposer(reversed(range(40)))
    for i in range(5):
        forward.propose((9, 0, i))
    assert [forward.propose((1, 0, i)) for i in range(20)] == [backward.propose((1, 0, i)) for i in range(20)]


def test_crashes_and_infinite_losses_are_bad_observations() -> None:
    space = small_space()
    proposer = BohbProposer(space, SETTINGS)
    feed(proposer, space, 60, lambda c, i: None if c["x"] > 0.5 else (math.inf if c["x"] < 0.1 else c["x"]))
    assert np.mean([0.05 < c["x"] < 0.55 for c in modelled_of(proposer, 100)]) > 0.9


def test_values_that_a_condition_switches_off_are_imputed_in_every_column() -> None:
    nan = np.nan
    vectors = np.array([[nan, 0.5], [0.25, nan], [nan, nan]])
    filled = impute(vectors, np.array([0, 0]), np.random.default_rng(0))
    assert not np.isnan(filled).any()
    assert filled[:, 0].tolist() == [0.25, 0.25, 0.25]  # hpbandster overlooks column 0
    assert filled[:, 1].tolist() == [0.5, 0.5, 0.5]
    nothing_known = impute(np.full((50, 2), nan), np.array([0, 4]), np.random.default_rng(0))
    assert ((nothing_known[:, 0] >= 0) & (nothing_known[:, 0] <= 1)).all()
    assert set(nothing_known[:, 1]) <= {0.0, 1.0, 2.0, 3.0}


def test_proposals_of_a_conditional_space_are_valid_configurations() -> None:
    space = conditional_space()
    proposer = BohbProposer(space, SETTINGS)
    feed(proposer, space, 60, lambda c, i: float(c.get("depth") or 0))
    for i in range(60):
        configuration = proposer.propose((1, 0, i)).configuration
        assert ("depth" in configuration) == (configuration["kind"] == "deep")
        assert ("a_first" in configuration) == (configuration["kind"] == "deep")


def test_the_model_learns_an_ordinal_leaves_constants_alone_and_proposes_nothing_forbidden() -> None:
    space = ConfigurationSpace(seed=1)
    size, kind = OrdinalHyperparameter("size", [8, 16, 32, 64, 128]), Categorical("kind", ["a", "b"])
    space.add(size, kind, Float("x", (0.0, 1.0)), Constant("optimiser", "sgd"))
    space.add(ForbiddenEqualsClause(kind, "b"))
    proposer = BohbProposer(space, SETTINGS)
    feed(proposer, space, 80, lambda c, i: abs(math.log2(c["size"]) - 6) + abs(c["x"] - 0.5))
    modelled = modelled_of(proposer, 100)
    assert {c["optimiser"] for c in modelled} == {"sgd"}
    assert {c["kind"] for c in modelled} == {"a"}
    assert np.mean([c["size"] in (32, 64, 128) for c in modelled]) > 0.8


def test_where_every_candidate_is_forbidden_a_draw_is_random() -> None:
    space = ConfigurationSpace(seed=1)
    n = Integer("n", (0, 9), default=0)
    space.add(n, Float("x", (0.0, 1.0)))
    proposer = BohbProposer(space, SETTINGS)
    for index in range(40):
        proposer.absorb((0, 0, index), {"n": 4, "x": index / 40}, 1.0, index / 40)
    assert modelled_of(proposer, 20)
    space.add(ForbiddenEqualsClause(n, 4))
    again = BohbProposer(space, SETTINGS)
    for index in range(40):
        again.absorb((0, 0, index), {"n": 4, "x": index / 40}, 1.0, index / 40)
    proposals = [again.propose((1, 0, i)) for i in range(20)]
    assert {p.configuration["n"] == 4 for p in proposals} == {False}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_proposes_legal_configurations_of_a_space_with_everything_in_it(method: str) -> None:
    kind, depth = Categorical("kind", ["plain", "deep", "bad"]), Integer("depth", (1, 4))
    size, rate = OrdinalHyperparameter("size", [8, 16, 32]), Float("rate", (0.01, 1.0), log=True)
    space = ConfigurationSpace(seed=1)
    space.add(kind, depth, size, rate, Constant("optimiser", "sgd"))
    space.add(EqualsCondition(depth, kind, "deep"))
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(kind, "deep"), ForbiddenEqualsClause(size, 32)))
    space.add(ForbiddenEqualsClause(kind, "bad"))
    known = [
        "search.priors={size: {value: 32}, rate: {value: 0.1}}",
        "search.try_first=[{kind: deep, depth: 2, size: 8}]",
    ]
    settings = load_settings("digits", [f"search.method={method}", *known])
    proposer = make_proposer(settings, space)
    feed(proposer, space, 40, lambda c, i: None if i % 9 == 8 else c["rate"] - c["size"], settings.search.max_budget)
    proposals = [proposer.plan((n, 0, i), settings.search.min_budget, [])() for n in (0, 1) for i in range(15)]
    for configuration in (p.configuration for p in proposals):
        # ConfigSpace refuses what is forbidden, switched off or missing.
        assert set(ConfigSpaceConfiguration(space, values=dict(configuration))) == set(configuration)
    assert (proposals[0].configuration["kind"], proposals[0].configuration["size"]) == ("deep", 8)
    assert any(p.model_budget is not None for p in proposals) == (method in ("bohb", "gp"))


@pytest.mark.parametrize("method", METHODS)
def test_proposals_are_plain_values_that_travel(method: str) -> None:
    settings = load_settings("digits", [f"search.method={method}"])
    space = build_space(settings.space)
    proposer = make_proposer(settings, space)
    feed(proposer, space, 50, lambda c, i: c["momentum"], settings.search.max_budget)
    search = Search(settings, proposer)
    for _ in range(10):
        search.next_evaluation()
    for draw in search.take_new_draws():
        assert {type(v) for v in draw.configuration.values()} <= {int, float}
        assert set(draw.configuration) == {h.name for h in space.values()}
        assert type(draw.info["results_seen"]) is int
        assert set(draw.info) == set(DRAW_KEYS)


def test_random_proposals_cover_the_space_evenly() -> None:
    space = small_space()
    proposer = RandomProposer(space, seed=5)
    drawn = [proposer.propose((0, 0, i)).configuration for i in range(600)]
    assert np.mean([c["x"] for c in drawn]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([c["c"] == "a" for c in drawn]) == pytest.approx(1 / 3, abs=0.06)
    assert len({c["x"] for c in drawn}) == 600
