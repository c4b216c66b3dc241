"""A space with a categorical and a conditional hyperparameter goes through collection, importance and exploration."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic_run import write_synthetic_run
from pipeline.analysis import exploration, importance
from pipeline.settings import load_settings
from pipeline.storage.collect import collect
from pipeline.storage.results import Results, load_results
from pipeline.storage.tables import active_values, write_tables


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A run in which momentum exists only with SGD, and Adam is twice as bad."""
    settings = load_settings("digits", ["search.min_budget=1", "search.max_budget=3", "search.iterations=30"])
    folder = write_synthetic_run(tmp_path_factory.mktemp("results") / "run", settings, max_rows=1)
    space = json.loads(folder.configspace.read_text())
    space["hyperparameters"].append(
        {"type": "categorical", "name": "optimiser", "choices": ["sgd", "adam"], "weights": None}
    )
    space["conditions"] = [{"type": "EQ", "child": "momentum", "parent": "optimiser", "value": "sgd"}]
    folder.configspace.write_text(json.dumps(space))
    generator = np.random.default_rng(0)
    adam, lines = set(), []
    for line in folder.configs.read_text().splitlines():
        config_id, configuration, info = json.loads(line)
        configuration["optimiser"] = str(generator.choice(["sgd", "adam"]))
        if configuration["optimiser"] == "adam":
            adam.add(tuple(config_id))
            del configuration["momentum"]
        lines.append(json.dumps([config_id, configuration, info]))
    folder.configs.write_text("\n".join(lines) + "\n")
    lines = []
    for line in folder.results.read_text().splitlines():
        result = json.loads(line)
        if result[3] is not None and tuple(result[0]) in adam:
            result[3]["loss"] = min(2 * result[3]["loss"], 1.0)
        lines.append(json.dumps(result))
    folder.results.write_text("\n".join(lines) + "\n")
    return load_results(collect(folder))


def test_inactive_values_are_missing_in_the_tables(results: Results, tmp_path: Path) -> None:
    configurations = results.configurations
    is_adam = configurations["optimiser"] == "adam"
    assert 0.3 < is_adam.mean() < 0.7
    assert (configurations["momentum"].isna() == is_adam).all()
    write_tables(results, tmp_path)
    for _, row in results.finished().iterrows():
        assert ("momentum" in active_values(results, row)) == (row["optimiser"] == "sgd")


def test_the_category_that_decides_the_error_is_found_important(results: Results) -> None:
    fits, _ = importance.fit_budgets(results)
    mains = next(iter(fits.values())).mains.set_index("name")["share"]
    assert len(mains) == 18
    assert mains.idxmax() == "optimiser"


@pytest.mark.slow
def test_figures_of_such_a_space_can_be_drawn(results: Results) -> None:
    items = [*importance.section(results).items, *exploration.section(results).items]
    assert [item.lacking for item in items if item.lacking] == []
    for item in items:
        if item.figure is not None:
            item.figure.savefig(io.BytesIO(), format="png", dpi=40)


def test_a_prior_that_the_analysis_does_not_know_is_said(results: Results) -> None:
    odd = {"type": "normal_float", "name": "momentum"}
    run = replace(results, configspace={"hyperparameters": [*results.configspace["hyperparameters"], odd]})
    lacking = [importance.section(run).items[0].lacking, exploration.section(run).items[0].lacking]
    assert all("not 'normal_float'" in text for text in lacking)
