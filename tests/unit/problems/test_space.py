"""Search spaces of the user's own: from a mapping, from ConfigSpace, narrowed; what is wrong is one line."""

from __future__ import annotations

from typing import Any

import pytest
from ConfigSpace import ConfigurationSpace
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.problems.names import COLUMNS, check_names
from pipeline.problems.space import narrowed, serialized_space
from pipeline.settings.space import plain_configuration
from pipeline.storage import schema

SPACE: dict[str, Any] = {
    "rate": {"lower": 1e-4, "upper": 1.0, "log": True},
    "layers": [1, 8],
    "kind": ["plain", "deep"],
    "size": {"sequence": ["s", "m", "l"]},
    "bias": {"choices": [True, False]},
    "width": 64,
    "depth": {"lower": 2, "upper": 9, "when": {"kind": "deep"}},
    "noise": {"lower": 0.0, "upper": 1.0, "when": {"layers": {"above": 3}}},
}
FORBIDDEN = [{"kind": "deep", "size": "l"}]


def drawn(serialized: dict[str, Any], count: int = 200, **ranges: Any) -> list[dict[str, Any]]:
    space = narrowed(serialized, ranges, seed=1)
    return [dict(plain_configuration(dict(c))) for c in space.sample_configuration(count)]


def test_every_kind_of_hyperparameter_is_drawn_as_plain_values_and_conditions_and_forbidden_clauses_hold() -> None:
    for c in drawn(serialized_space(SPACE, FORBIDDEN)):
        assert 1e-4 <= c["rate"] <= 1.0
        assert type(c["layers"]) is int
        assert type(c["bias"]) is bool
        assert c["width"] == 64
        assert ("depth" in c) == (c["kind"] == "deep")
        assert ("noise" in c) == (c["layers"] > 3)
        assert not (c["kind"] == "deep" and c["size"] == "l")


def test_configspaces_own_form_is_taken_as_it_is() -> None:
    mine = ConfigurationSpace({"a": (0.0, 1.0), "b": ["x", "y"]})
    assert set(narrowed(serialized_space(mine.to_serialized_dict()), {})) == {"a", "b"}


def test_a_space_is_narrowed_and_fixed_and_stays_as_it_was_for_the_next() -> None:
    whole = serialized_space(SPACE, FORBIDDEN)
    few = drawn(whole, rate=[0.01, 0.1], layers=2, kind="plain", size=["s", "m"])
    assert all(0.01 <= c["rate"] <= 0.1 and c["layers"] == 2 and c["kind"] == "plain" for c in few)
    assert {c["size"] for c in few} == {"s", "m"}
    assert len({c["layers"] for c in drawn(whole)}) == 8


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "it is empty"),
        ({"a b": [0, 1]}, "a Python name"),
        ({"a": [1.0]}, "neither a range"),
        ({"a": [1, 2, 3]}, "write {choices"),
        ({"a": {"low": 1, "high": 2}}, "give lower and upper"),
        ({"a": {"lower": 2, "upper": 1}}, "space.a"),
        ({"a": {"lower": 0, "upper": 1.0, "log": True}}, "space.a"),
        ({"a": {"choices": []}}, "space.a"),
        ({"a": {"lower": 0, "upper": 1, "when": {"b": 1}}}, "there is no hyperparameter 'b'"),
        ({"a": ["x", "y"], "b": {"lower": 0, "upper": 1, "when": {"a": "z"}}}, "space.b.when.a"),
    ],
)
def test_what_is_wrong_with_a_space_is_one_line_that_names_it(space: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        serialized_space(space)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_forbidden_default_says_how_to_mend_it() -> None:
    with pytest.raises(SettingsError, match="another `default`"):
        serialized_space({"a": ["x", "y"], "b": ["u", "v"]}, [{"a": "x", "b": "u"}])


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({"nothing": 1}, "unknown hyperparameter; known: bias"),
        ({"rate": [0.1, 2.0]}, "no range inside"),
        ({"rate": "fast"}, "neither a range"),
        ({"layers": 1.5}, "whole numbers"),
        ({"kind": "wide"}, "one or several of plain, deep"),
        ({"width": 32}, "cannot be narrowed"),
    ],
)
def test_a_range_that_does_not_fit_the_problems_is_one_line(ranges: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        narrowed(serialized_space(SPACE), ranges)
    assert said in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(low=st.floats(1e-6, 1.0), ratio=st.floats(1.5, 1e4), log=st.booleans(), share=st.floats(0.1, 0.9))
def test_any_range_can_be_narrowed_to_any_part_of_it(low: float, ratio: float, log: bool, share: float) -> None:
    serialized = serialized_space({"x": {"lower": low, "upper": low * ratio, "log": log}})
    upper = low + share * (low * ratio - low)
    assert all(low * (1 - 1e-9) <= c["x"] <= upper * (1 + 1e-9) for c in drawn(serialized, 5, x=[low, upper]))


def test_what_a_fixed_value_decides_is_left_out() -> None:
    whole = serialized_space(SPACE, FORBIDDEN)
    assert "depth" not in narrowed(whole, {"kind": "plain"})
    assert all("depth" in c and c["size"] != "l" for c in drawn(whole, 50, kind="deep"))
    assert all("noise" in c for c in drawn(whole, 20, layers=[5, 8]))
    assert "noise" not in narrowed(whole, {"layers": 2})


@pytest.mark.parametrize(
    ("names", "is_command", "said"),
    [
        (["rate", "accuracy"], False, r"space\.accuracy: a metric has the same name"),
        (["epochs"], False, r"space\.epochs: Tandem's tables have a column of this name"),
        (["folder"], True, r"space\.folder: a command is given something else as {folder}"),
        ([""], False, r"space\.: it should be a name of one character at least"),
        (["optimizer/rate"], False, r"space\.optimizer/rate: it should be a name .* without /"),
        (["Rate", "rate"], True, r"space\.rate: the environment variable of Rate is the same"),
    ],
)
def test_a_hyperparameters_name_that_clashes_is_refused_with_what_it_clashes_with(
    names: list[str], is_command: bool, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        check_names(names, ["accuracy"], is_command)


def test_every_column_that_stands_beside_hyperparameters_is_a_name_they_cannot_have() -> None:
    beside = {column.name for column in (*schema.EVALUATIONS, *schema.CONFIGURATIONS)}
    assert beside <= COLUMNS
    check_names(["folder", "Rate", "rate"], ["accuracy"], is_command=False)
