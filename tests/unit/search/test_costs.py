"""Improvement per second of training: `search.acquisition`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ConfigSpace import Float

from pipeline.errors import SettingsError
from pipeline.run.folder import RunFolder
from pipeline.run.history import History, Result
from pipeline.search.costs import GROWTH, LEAST, MOST, learnt_from
from pipeline.search.gp import GpProposer
from pipeline.search.proposers import RandomProposer
from pipeline.search.replay import rebuild
from pipeline.search.search import Search
from pipeline.search.verify import verify
from pipeline.settings import Settings
from tests.unit.search.test_brackets import settings_for, write_run
from tests.unit.search.test_gp import modelled, space_of

PER_SECOND = ["search.method=gp", "search.acquisition=improvement_per_second", "search.budget_unit=epochs"]


def proposer_of(acquisition: str, tell_costs: bool = True) -> GpProposer:
    """After 20 results of two wells that are alike; training takes a hundred times as long in the left one."""
    space = space_of(Float("x", (0.0, 1.0)), Float("y", (0.0, 1.0)))
    proposer = GpProposer(space, settings_for(*PER_SECOND, f"search.acquisition={acquisition}"))
    for index in range(20):
        c: Any = RandomProposer(space, 7).propose((0, 0, index)).configuration
        loss = min((c["x"] - 0.25) ** 2, (c["x"] - 0.75) ** 2) + (c["y"] - 0.5) ** 2
        proposer.absorb((0, 0, index), c, 9.0, loss)
        if tell_costs:
            proposer.learn_cost((0, 0, index), c, 9.0, 9.0 * 100 ** (c["x"] < 0.5))
    return proposer


def share_on_the_right(proposer: GpProposer) -> float:
    return float(np.mean([c["x"] > 0.5 for c in modelled(proposer, 30)]))


def test_of_two_wells_that_promise_about_as_much_the_cheap_one_is_searched() -> None:
    assert share_on_the_right(proposer_of("improvement_per_second")) > 0.9
    assert share_on_the_right(proposer_of("improvement")) < 0.9


def test_without_known_costs_or_unless_asked_costs_change_nothing() -> None:
    plain = modelled(proposer_of("improvement", tell_costs=False), 5)
    assert modelled(proposer_of("improvement"), 5) == plain
    assert modelled(proposer_of("improvement_per_second", tell_costs=False), 5) == plain


def test_costs_are_learnt_ever_less_often_and_from_the_first_ones() -> None:
    assert [learnt_from(n) for n in (0, LEAST - 1, LEAST, LEAST + 1, 10_000)] == [0, 0, LEAST, LEAST, MOST]
    reached = {learnt_from(n) for n in range(LEAST, 2 * MOST)}
    assert len(reached) < 2 + np.log(MOST / LEAST) / np.log(GROWTH)


def wandered(chosen: Settings, count: int) -> tuple[Search, list[Result]]:
    """A search after so many results, whose configurations differ in what they take."""
    search, order, running, results = Search(chosen), random.Random(2), [], []
    while len(results) < count:
        while len(running) < 3 and (due := search.next_evaluation()) is not None:
            running.append(due)
        config_id, configuration, budget = running.pop(order.randrange(len(running)))
        loss, training_s = order.random(), budget * float(str(configuration["initial_filters"]))
        results.append(Result(config_id, budget, 0, 0, 1, loss, {"attempt": 1, "training_s": training_s}, None))
        search.absorb(results[-1])
    return search, results


def test_a_search_per_second_is_rebuilt_and_verified_from_its_files(tmp_path: Path) -> None:
    chosen = settings_for(*PER_SECOND, "search.iterations=7")
    search, results = wandered(chosen, 24)
    rebuilt = rebuild(chosen, History(tuple(search.draws), tuple(results)))
    assert rebuilt.plan((9, 0, 9), 1.0)() == search.plan((9, 0, 9), 1.0)()
    write_run(RunFolder(tmp_path / "honest"), chosen, search.draws, results)
    assert verify(RunFolder(tmp_path / "honest")) == []
    plain = settings_for(*PER_SECOND, "search.iterations=7", "search.acquisition=improvement")
    write_run(RunFolder(tmp_path / "other"), plain, search.draws, results)
    assert verify(RunFolder(tmp_path / "other")) != []


@pytest.mark.parametrize(
    "override", ["search.budget_unit=seconds", "search.method=bohb", "search.objectives=[validation_error, parameters]"]
)
def test_where_costs_do_not_differ_or_no_model_learns_them_the_setting_is_refused(override: str) -> None:
    with pytest.raises(SettingsError, match="improvement_per_second needs method=gp, one objective, and a budget_unit"):
        settings_for(*PER_SECOND, override)
