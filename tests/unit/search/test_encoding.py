"""Coordinates and back: the same as ConfigSpace's own, for every kind of hyperparameter, condition and clause."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ConfigSpace import (
    AndConjunction,
    Categorical,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    Float,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    GreaterThanCondition,
    InCondition,
    Integer,
    NotEqualsCondition,
    OrConjunction,
    OrdinalHyperparameter,
)
from ConfigSpace import Configuration as SpaceConfiguration
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.search.encoding import Encoding
from pipeline.settings.space import plain_configuration


def mixed_space() -> ConfigurationSpace:
    space = ConfigurationSpace(seed=1)
    kind = Categorical("kind", ["plain", "deep", "wide"])
    depth = Integer("depth", (1, 9))
    size = OrdinalHyperparameter("size", [16, 64, 256, 1024])
    rate = Float("rate", (1e-4, 1.0), log=True)
    width, drop, fixed = Integer("width", (2, 500), log=True), Float("drop", (-1.0, 3.0)), Constant("fixed", "sgd")
    extra = Constant("extra", 3)
    space.add(kind, depth, size, rate, width, drop, fixed, extra)
    space.add(EqualsCondition(depth, kind, "deep"))
    space.add(OrConjunction(GreaterThanCondition(width, depth, 4), InCondition(width, kind, ["wide"])))
    space.add(AndConjunction(NotEqualsCondition(drop, depth, 5), NotEqualsCondition(drop, kind, "plain")))
    space.add(EqualsCondition(extra, size, 64))
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(size, 1024), ForbiddenEqualsClause(kind, "wide")))
    return space


def test_every_configuration_of_a_mixed_space_comes_back_from_its_coordinates() -> None:
    space = mixed_space()
    encoding = Encoding(space)
    for drawn in space.sample_configuration(300):
        configuration = plain_configuration(dict(drawn))
        vector = encoding.vector(configuration)
        back = encoding.configuration(vector)
        assert back == {n: pytest.approx(v, rel=1e-12) if isinstance(v, float) else v for n, v in configuration.items()}
        assert encoding.holds(configuration)
        assert not encoding.holds({**configuration, "unknown": 1})
        assert not encoding.holds({n: v for n, v in configuration.items() if n != "rate"})
        wrong: dict[str, Any] = {"kind": "deeper", "rate": 2.0, "size": None, "fixed": "adam"}
        assert not any(encoding.holds({**configuration, name: value}) for name, value in wrong.items())
        snapped, allowed = encoding.legal(vector[None])
        assert allowed.all()
        np.testing.assert_allclose(snapped[0], vector, atol=1e-12)


def test_coordinates_are_configspaces_own() -> None:
    space = mixed_space()
    encoding = Encoding(space)
    rows = [list(space).index(name) for name in encoding.names if name != "size"]
    columns = [i for i, name in enumerate(encoding.names) if name != "size"]
    for drawn in space.sample_configuration(100):
        ours = encoding.vector(plain_configuration(dict(drawn)))
        np.testing.assert_allclose(ours[columns], drawn.get_array()[rows], atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_any_point_of_the_cube_is_a_configuration_that_configspace_accepts_or_a_forbidden_one(seed: int) -> None:
    space = mixed_space()
    encoding = Encoding(space)
    random = np.random.default_rng(seed)
    point = np.array(
        [random.integers(c) if c else random.choice([0.0, 1.0, random.random()]) for c in encoding.choices]
    )
    configuration = encoding.configuration(point)
    _, allowed = encoding.legal(point[None])
    is_forbidden = configuration["size"] == 1024 and configuration["kind"] == "wide"
    assert allowed[0] == (not is_forbidden)
    if not is_forbidden:
        SpaceConfiguration(space, values=configuration)  # raises where it is not valid


def test_an_ordinal_lies_evenly_and_in_order() -> None:
    encoding = Encoding(mixed_space())
    column = encoding.names.index("size")
    space = mixed_space()
    base = plain_configuration(dict(space.sample_configuration()))
    places = [encoding.vector({**base, "size": size})[column] for size in (16, 64, 256, 1024)]
    assert places == [0.125, 0.375, 0.625, 0.875]
    assert "fixed" not in encoding.names


def test_conditions_and_clauses_may_ask_for_a_constant() -> None:
    space = ConfigurationSpace()
    optimizer, inner = Constant("optimizer", "sgd"), Constant("inner", "p")
    momentum, last, kind = Float("momentum", (0.0, 0.99)), Float("last", (0.0, 1.0)), Categorical("kind", ["x", "y"])
    space.add(optimizer, inner, momentum, last, kind)
    space.add(EqualsCondition(momentum, optimizer, "sgd"), EqualsCondition(inner, kind, "x"))
    space.add(EqualsCondition(last, inner, "p"))
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(optimizer, "sgd"), ForbiddenEqualsClause(kind, "y")))
    encoding = Encoding(space)
    names = {"optimizer", "inner", "momentum", "last", "kind"}
    for kind_index, switched_off in ((0, set()), (1, {"inner", "last"})):
        point = np.array([kind_index if c else 0.5 for c in encoding.choices])
        assert set(encoding.configuration(point)) == names - switched_off
        assert encoding.legal(point[None])[1].tolist() == [kind_index == 0]
    assert all(encoding.holds(plain_configuration(dict(drawn))) for drawn in space.sample_configuration(20))
