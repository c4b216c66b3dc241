"""Brackets and their rebuilding: the same whatever the order of results, and wherever the master was killed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import RunError
from pipeline.files import publish_text
from pipeline.run.folder import RunFolder
from pipeline.run.history import Draw, History, Result, draw_line, result_line
from pipeline.run.json_lines import JsonLinesWriter
from pipeline.search.brackets import Bracket, bracket_shape, planned_evaluations
from pipeline.search.replay import rebuild
from pipeline.search.search import Search
from pipeline.search.verify import verify
from pipeline.settings import budget_ladder, dump_settings, load_settings
from pipeline.settings.schema import Settings


def settings_for(*overrides: str) -> Settings:
    base = ["search.min_budget=1", "search.max_budget=9", "search.iterations=5", "search.method=hyperband"]
    return load_settings("digits", [*base, *overrides])


def loss_of(config_id: tuple[int, int, int], budget: float) -> float:
    return round(((config_id[0] * 7 + config_id[2] * 13) % 11) / 10 + 1 / budget, 3)


def result_of(config_id: tuple[int, int, int], budget: float, crashed: bool = False, number: int = 0) -> Result:
    loss = None if crashed else loss_of(config_id, budget)
    info = {} if crashed else {"attempt": 1, "training_s": budget}
    return Result(
        config_id, budget, number, number, number + 1, loss, info, "not_finite: so it is" if crashed else None
    )


def run(
    settings: Settings,
    workers: int = 3,
    seed: int = 0,
    crashes: Callable[..., Any] = lambda config_id, budget: False,
    results: list[Result] | None = None,
    search: Search | None = None,
) -> tuple[Search, list[Result]]:
    """Run a search without processes: `workers` evaluations at a time, ending in random order."""
    order = random.Random(seed)
    search = search or Search(settings)
    running = []
    results = results if results is not None else []
    while True:
        while len(running) < workers and (due := search.next_evaluation()) is not None:
            running.append((due[0], due[2]))
        if not running:
            return search, results
        config_id, budget = running.pop(order.randrange(len(running)))
        results.append(result_of(config_id, budget, crashes(config_id, budget), len(results)))
        search.absorb(results[-1])


def write_run(folder: RunFolder, settings: Settings, draws: list[Draw], results: list[Result]) -> None:
    publish_text(folder.settings, dump_settings(settings))
    with JsonLinesWriter(folder.configs) as configs, JsonLinesWriter(folder.results) as lines:
        configs.append(draw_line(d) for d in draws)
        lines.append(result_line(r) for r in results)


def test_brackets_have_hpbandsters_sizes() -> None:
    bohb = pytest.importorskip("hpbandster.optimizers.bohb")
    theirs = bohb.BOHB.__new__(bohb.BOHB)
    theirs.eta, theirs.max_SH_iter = 3.0, 4
    theirs.budgets = np.array([400.0, 1200.0, 3600.0, 10800.0])
    theirs.config_generator = type("G", (), {"get_config": None})()
    for iteration in range(8):
        counts, budgets = bracket_shape((400.0, 1200.0, 3600.0, 10800.0), 3.0, iteration)
        stock = theirs.get_next_iteration(iteration, {})
        assert (list(counts), list(budgets)) == (stock.num_configs, list(stock.budgets))


def test_the_papers_search_costs_what_facts_say() -> None:
    ladder = budget_ladder(load_settings("cifar10").search)
    hours = sum(c * b for i in range(4) for c, b in zip(*bracket_shape(ladder, 3.0, i), strict=True)) / 3600
    assert hours == pytest.approx(45)
    assert planned_evaluations(ladder, 3.0, 4) == 40 + 13 + 8 + 4


def test_the_best_are_promoted_and_ties_go_to_the_smaller_config_id() -> None:
    bracket = Bracket(0, (4, 2), (1.0, 3.0))
    for index in range(4):
        bracket.add_drawn((0, 0, index), {"x": index}, {})
    runs = [bracket.next_queued() for _ in range(4)]
    for config_id, _, budget in reversed(runs):
        bracket.add_result(config_id, budget, 0.1 if config_id[2] == 3 else 0.5)
    assert bracket.promoted[1] == {(0, 0, 3), (0, 0, 0)}


def test_configurations_replace_those_that_crashed_when_too_few_are_left_to_promote() -> None:
    settings = settings_for("search.iterations=1")
    search, results = run(settings, crashes=lambda config_id, budget: config_id[1] == 0 and config_id[2] > 0)
    assert {d.config_id for d in search.draws if d.config_id[1] == 1} == {(0, 1, 1), (0, 1, 2)}
    assert len(results) == 13


@pytest.mark.parametrize("seed", range(5))
def test_the_set_of_evaluations_does_not_depend_on_the_order_of_results(seed: int) -> None:
    settings = settings_for()
    reference = {(r.config_id, r.budget, r.loss) for r in run(settings, workers=1)[1]}
    assert {(r.config_id, r.budget, r.loss) for r in run(settings, workers=7, seed=seed)[1]} == reference


@pytest.mark.parametrize("method", ["bohb", "hyperband", "random"])
def test_a_search_rebuilt_from_any_prefix_of_its_files_goes_on_as_before(method: str) -> None:
    settings = settings_for(f"search.method={method}", "search.iterations=18")
    crashes = lambda config_id, budget: config_id[2] == 1 and budget == 3  # noqa: E731
    whole, results = run(settings, workers=1, crashes=crashes)
    for cut in range(0, len(results), 13):
        seen = [d for d in whole.draws if d.info["results_seen"] <= cut]
        rebuilt = rebuild(settings, History(tuple(seen), tuple(results[:cut])))
        again, more = run(settings, workers=1, crashes=crashes, results=list(results[:cut]), search=rebuilt)
        assert [(r.config_id, r.budget, r.loss) for r in more] == [(r.config_id, r.budget, r.loss) for r in results]
        strip = [(d.config_id, d.configuration) for d in again.draws]
        assert strip == [(d.config_id, d.configuration) for d in whole.draws]


def test_a_promoted_configuration_continues_from_the_accepted_attempt_below() -> None:
    settings = settings_for("search.promotion=continue", "search.iterations=1")
    search, _ = run(settings)
    promoted = next(c for c, b in search.accepted if b == 9)
    evaluation = search.evaluation(promoted, {}, 9.0, attempt=2)
    assert (evaluation.continues.budget, evaluation.continues.attempt) == (3.0, 1)
    assert evaluation.is_largest
    restart = replace_promotion(search, "restart")
    assert restart.evaluation(promoted, {}, 9.0, attempt=2).continues is None


def replace_promotion(search: Search, promotion: str) -> Search:
    search.settings = settings_for(f"search.promotion={promotion}", "search.iterations=1")
    return search


def test_a_duplicate_line_counts_once() -> None:
    settings = settings_for()
    whole, results = run(settings)
    doubled = (*results[:5], results[2], *results[5:])
    draws = tuple(
        replace(d, info={**d.info, "results_seen": d.info["results_seen"] + (d.info["results_seen"] > 5)})
        for d in whole.draws
    )
    assert rebuild(settings, History(draws, doubled)).is_done


# verify ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def finished(tmp_path: Path) -> tuple[Any, ...]:
    settings = settings_for("search.method=bohb", "search.iterations=18")
    search, results = run(settings, workers=4)
    return RunFolder(tmp_path), settings, list(search.draws), list(results)


def test_verify_finds_nothing_in_an_honest_run(finished: tuple[Any, ...]) -> None:
    folder, settings, draws, results = finished
    assert any(d.info["model_based_pick"] for d in draws)
    write_run(folder, settings, draws, results)
    assert verify(folder) == []


def test_verify_finds_a_changed_hyperparameter(finished: tuple[Any, ...]) -> None:
    folder, settings, draws, results = finished
    changed = {**draws[20].configuration, "momentum": 0.123}
    draws[20] = Draw(draws[20].config_id, changed, draws[20].info)
    write_run(folder, settings, draws, results)
    assert any("momentum is 0.123, derived: " in d for d in verify(folder))


def test_verify_finds_a_changed_loss_that_led_to_another_promotion(finished: tuple[Any, ...]) -> None:
    folder, settings, draws, results = finished
    index = next(i for i, r in enumerate(results) if r.budget == 3 and r.config_id[:2] == (0, 0))
    first = next(i for i, r in enumerate(results) if r.config_id == results[index].config_id and r.budget == 1)
    results[first] = replace(results[first], loss=9.0)
    write_run(folder, settings, draws, results)
    assert any("on budget 3 does not follow" in d for d in verify(folder))


def test_verify_finds_a_result_that_appears_twice_and_one_that_is_missing(finished: tuple[Any, ...]) -> None:
    folder, settings, draws, results = finished
    write_run(folder, settings, draws, [*results, results[-1]])
    assert any("does not follow" in d for d in verify(folder))
    folder.results.unlink()
    folder.configs.unlink()
    write_run(folder, settings, draws, results[:-20] + results[-19:])
    assert verify(folder) != []


def test_a_run_whose_settings_changed_is_refused_with_the_line(finished: tuple[Any, ...]) -> None:
    _, _, draws, results = finished
    other = settings_for("search.method=bohb", "search.iterations=18", "search.min_budget=3")
    with pytest.raises(RunError, match=r"configs\.json, line 1 .* does not fit the run: .*The files were"):
        rebuild(other, History(tuple(draws), tuple(results)))


def test_a_run_of_another_version_is_refused_and_says_so(finished: tuple[Any, ...]) -> None:
    _, settings, draws, results = finished
    old = [Draw(d.config_id, d.configuration, {"model_based_pick": False}) for d in draws]
    with pytest.raises(RunError, match="lacks budget, results_seen, model_budget, drawn: another version wrote it"):
        rebuild(settings, History(tuple(old), tuple(results)))
