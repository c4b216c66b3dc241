"""Several objectives in the report: fronts of two, the front's table, hypervolume over time."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.analysis import objectives as several
from pipeline.analysis import summary, views
from pipeline.search.pareto import on_front
from pipeline.storage.results import Results
from tandem_trial.problem import Metric

NAMES = ["validation_error", "parameters", "latency_s"]


@pytest.fixture(scope="module")
def of_three(results: Results) -> Results:
    settings = {**results.settings, "search": {**results.settings["search"], "objectives": NAMES}}
    return replace(results, settings=settings)


def numbers(results: Results) -> pd.DataFrame:
    data = several.trade_offs(results, several.objectives(results)).data
    assert data is not None
    return data


def test_a_search_for_one_objective_has_no_section_and_no_card_of_a_front(results: Results) -> None:
    assert several.objectives(results) == ()
    assert several.front_facts(results) is None
    assert all(card.label != "on the front" for card in summary.cards(results))


def test_every_two_objectives_have_a_panel_with_a_mark_for_every_configuration(of_three: Results) -> None:
    item = several.trade_offs(of_three, several.objectives(of_three))
    assert item.figure is not None
    labels = [(axis.get_ylabel(), axis.get_xlabel()) for axis in item.figure.axes]
    assert [y for y, _ in labels] == ["validation error (%)", "validation error (%)", "parameters"]
    assert [len(marks.rows) for marks in item.marks] == [len(numbers(of_three))] * 3
    assert f"{int(numbers(of_three)['on_front'].sum())} are on the front" in item.caption


def test_the_fronts_table_has_every_value_of_those_that_nothing_dominates(of_three: Results) -> None:
    item = several.front_item(of_three, several.objectives(of_three))
    table, data = item.table, item.data
    assert table is not None
    assert data is not None
    everyone = numbers(of_three)
    best = everyone[on_front(everyone[NAMES].to_numpy())]
    assert set(table["configuration"]) == set(best["config_id"]) == set(data["config_id"])
    assert data["validation_error"].is_monotonic_increasing
    assert {"validation error (%)", "parameters", "latency of a batch (s)"} < set(table.columns)
    assert set(of_three.hyperparameters) < set(data.columns)


def test_the_hypervolume_grows_with_the_front_and_ends_at_what_the_card_says(of_three: Results) -> None:
    item = several.hypervolume_over_time(of_three, several.objectives(of_three))
    assert item.data is not None
    volume = item.data["hypervolume"].to_numpy()
    assert (np.diff(volume) >= 0).all()
    assert 0 < volume[-1] <= 1
    assert item.data["on_front"].iloc[-1] == numbers(of_three)["on_front"].sum()
    assert "Reference point: the worst values, validation error" in item.caption
    card = next(card for card in summary.cards(of_three) if card.label == "on the front")
    assert f"hypervolume {volume[-1]:.3f}; best validation error" in card.detail


def test_a_maximised_metric_is_on_the_front_where_it_is_large(results: Results) -> None:
    score = Metric("score", direction="maximise")
    own = replace(
        results,
        problem=replace(results.problem, metric=score, metrics=(score, Metric("size")), is_built_in=False),
        metrics=pd.DataFrame({"score": 1 - results.metrics["validation_error"], "size": results.metrics["parameters"]}),
    )
    values = several.values_on_largest(own, own.problem.metrics)
    front = several.front_of(values, own.problem.metrics)
    assert values["score"].max() in front["score"].to_numpy()
    assert values["size"].min() in front["size"].to_numpy()
    [item] = several.against_others(own)
    assert item.figure is not None
    assert item.figure.axes[0].get_xlabel() == "size"


def test_without_results_every_item_says_what_is_lacking(of_three: Results) -> None:
    empty = replace(of_three, evaluations=of_three.evaluations.head(0), metrics=of_three.metrics.head(0))
    assert all(item.lacking == several.NOTHING for item in several.section(empty).items)


def test_the_latency_is_one_of_the_costs_that_errors_are_drawn_against(results: Results) -> None:
    item = views.pareto(results)
    assert item.data is not None
    assert item.data["on_front_of_latency_s"].any()
