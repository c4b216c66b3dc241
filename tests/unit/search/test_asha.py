"""Asynchronous successive halving: the algorithm's promotions, nobody waits, and stock hpbandster reads the files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.run.folder import RunFolder
from pipeline.run.history import History
from pipeline.search.asha import Asha
from pipeline.search.replay import rebuild
from pipeline.search.search import Search
from tests.unit.search.test_brackets import loss_of, result_of, run, settings_for, write_run

LADDER = (1.0, 3.0, 9.0)


def asha_settings(*overrides: str) -> Any:
    return settings_for("search.scheduler=asha", "search.iterations=3", *overrides)


def promotable(results: list[tuple[tuple, float, float | None]], budget: float, eta: float) -> set:
    """Algorithm 2, lines 12 to 15: the best 1/eta of the rung's results."""
    here = [(loss, config_id) for config_id, b, loss in results if b == budget]
    best = sorted((loss, config_id) for loss, config_id in here if loss is not None)[: int(len(here) / eta)]
    return {config_id for _, config_id in best}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), eta=st.sampled_from([2.0, 3.0, 4.0]))
def test_whatever_is_among_the_best_of_its_rung_is_promoted_at_once_and_nothing_else(seed: int, eta: float) -> None:
    chance = random.Random(seed)
    asha = Asha(LADDER, eta, 3)
    running, results, promoted = [], [], set()
    for _ in range(150):
        while len(running) < 5 and (step := asha.next_step()):
            if len(step) == 2:
                asha.add_drawn(step[0], {"x": 1.0}, {})
            else:
                running.append((step[0], step[2]))
        if not running:
            break
        config_id, budget = running.pop(chance.randrange(len(running)))
        loss = None if chance.random() < 0.15 else chance.choice([0.1, 0.2, chance.random()])
        asha.add_result(config_id, budget, loss)
        results.append((config_id, budget, loss))
        if budget < LADDER[-1]:
            upper = LADDER[LADDER.index(budget) + 1]
            promoted |= {(c, upper) for c in promotable(results, budget, eta)}
        seen = {(c, b) for c, b, _ in results} | {(c, b) for g in asha.iterations for c, _, b in g.outstanding()}
        assert {(c, b) for c, b in seen if b > LADDER[0]} == promoted


def test_nobody_waits_while_there_is_something_to_draw() -> None:
    search = Search(asha_settings())
    most = search.most_parallel(1000)
    assert most == 27
    assert sum(search.next_evaluation() is not None for _ in range(most)) == most
    assert search.next_evaluation() is None


def test_promotions_go_before_new_configurations_and_the_largest_budgets_first() -> None:
    search = Search(asha_settings())
    order = []
    for number in range(20):
        config_id, _, budget = search.next_evaluation()
        order.append(budget)
        search.absorb(result_of(config_id, budget, number=number))
    assert order[:4] == [1.0, 1.0, 1.0, 3.0]
    assert 9.0 in order


@pytest.mark.parametrize("workers", [1, 4, 30])
def test_a_search_ends_with_a_third_of_each_rung_promoted_and_every_configuration_over(workers: int) -> None:
    search, results = run(asha_settings(), workers=workers, crashes=lambda config_id, budget: config_id[2] == 4)
    assert search.is_done
    assert search.open_brackets() == []
    assert {d.status for g in search.iterations for d in g.data.values()} == {"TERMINATED", "COMPLETED", "CRASHED"}
    count = {budget: sum(r.budget == budget for r in results) for budget in LADDER}
    assert count[1.0] == 27
    assert 9 <= count[3.0] <= 16
    assert 3 <= count[9.0] <= 7
    assert len(results) >= search.planned()


def test_a_finished_search_that_is_extended_draws_on() -> None:
    settings_before = asha_settings()
    search, results = run(settings_before, workers=4)
    longer = settings_for("search.scheduler=asha", "search.iterations=4")
    again = rebuild(longer, History(tuple(search.draws), tuple(results)))
    assert not again.is_done
    again, more = run(longer, workers=4, search=again, results=list(results))
    assert again.is_done
    assert len(again.draws) == 36
    assert more[: len(results)] == results


def test_stock_hpbandster_reads_the_files_of_a_run_without_barriers(tmp_path: Path) -> None:
    from hpbandster.core.result import logged_results_to_HBS_result

    search, results = run(asha_settings("search.method=bohb"), workers=5)
    write_run(RunFolder(tmp_path), search.settings, search.draws, results)
    theirs = logged_results_to_HBS_result(str(tmp_path))
    assert len(theirs.get_all_runs()) == len(results)
    best = min((loss_of(r.config_id, r.budget), r.config_id) for r in results if r.budget == 9)
    assert theirs.get_runs_by_id(theirs.get_incumbent_id())[-1].loss == best[0]
