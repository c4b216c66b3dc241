"""Survivors of a rung where a model has a say in them: `search.promote_by`."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.planning.simulation import NoProposer
from pipeline.run.folder import RunFolder
from pipeline.run.history import History, Result, read_history
from pipeline.search.asha import ModelRung
from pipeline.search.gp import LEAST, GpProposer
from pipeline.search.model_ranking import AS_GOOD, LEAST_AGREEMENT, ModelRanking
from pipeline.search.proposers import Expected
from pipeline.search.replay import rebuild, replay_order
from pipeline.search.search import Search
from pipeline.search.verify import verify
from pipeline.settings import Settings
from tests.unit.search.test_brackets import settings_for, write_run
from tests.unit.search.test_replay import LivingRun

POSTERIOR = ["search.method=gp", "search.promote_by=posterior"]
ASHA = "search.scheduler=asha"


def of_run(*overrides: str) -> Settings:
    return settings_for(*POSTERIOR, "search.iterations=7", *overrides)


def moments(done: Search, results: list[Result], every: int) -> Iterator[tuple[Search, Search]]:
    """A search after every so many of its draws and results, and the same rebuilt from its files of that moment."""
    going_on, draws, seen = Search(done.settings), [], []
    for number, event in enumerate(replay_order(History(tuple(done.draws), tuple(results))), start=1):
        if isinstance(event, Result):
            going_on.absorb(event)
            seen.append(event)
        else:
            going_on.take_in(event)
            draws.append(event)
        if number % every == 0:
            yield going_on, rebuild(done.settings, History(tuple(draws), tuple(seen)))


def learning_rate_of(configuration: Any) -> float:
    return float(configuration["learning_rate"])


def results_of(search: Search, order: random.Random) -> list[Result]:
    """Run a search whose small budgets rank against the largest."""
    running, results = [], []
    while True:
        while len(running) < 4 and (due := search.next_evaluation()) is not None:
            running.append(due)
        if not running:
            return results
        config_id, configuration, budget = running.pop(order.randrange(len(running)))
        rate = math.log10(learning_rate_of(configuration)) + 0.9  # from -0.6 to 0.6
        loss = rate if budget == 9 else -rate
        passed = [[b, -rate] for b in search.ladder if b < budget]
        info = {"attempt": 1, "training_s": budget, "lower_rungs": passed}
        results.append(Result(config_id, budget, 0, 0, 1, loss, info, None))
        search.absorb(results[-1])


@pytest.fixture(scope="module")
def misled() -> tuple[Search, list[Result]]:
    search = Search(of_run())
    return search, results_of(search, random.Random(1))


@pytest.fixture(scope="module")
def misled_without_barriers() -> tuple[Search, list[Result]]:
    search = Search(of_run(ASHA))
    return search, results_of(search, random.Random(1))


def rates(search: Search, results: list[Result], iteration: int) -> tuple[list[float], list[float]]:
    """Learning rates in a bracket, and of those that survived its lowest rung, ascending; the least is best."""
    bracket = search.iterations[iteration]
    all_rates = {c: learning_rate_of(datum.config) for c, datum in bracket.data.items()}
    survivors = {r.config_id for r in results if r.config_id in all_rates and r.budget == bracket.budgets[1]}
    return sorted(all_rates.values()), sorted(all_rates[c] for c in survivors)


def test_what_ranks_worst_on_a_small_budget_survives_once_the_model_knows_that_it_misleads(misled: Any) -> None:
    search, results = misled
    drawn, survived = rates(search, results, 0)
    assert survived == drawn[-3:]
    drawn, survived = rates(search, results, 6)
    assert max(survived) <= np.median(drawn)


def test_without_barriers_too_what_ranks_worst_survives_once_the_model_knows_and_no_more_than_a_third(
    misled_without_barriers: Any,
) -> None:
    search, results = misled_without_barriers
    drawn = {d.config_id: learning_rate_of(d.configuration) for d in search.draws}
    survived = [drawn[r.config_id] for r in results if r.budget == 3]
    assert len(survived) == len(drawn) // 3
    assert np.mean(survived[:3]) > np.median(list(drawn.values()))
    assert max(survived[-3:]) <= np.median(list(drawn.values()))


def test_a_model_has_no_say_before_there_are_a_few_losses_on_the_largest_budget() -> None:
    search = Search(of_run())
    proposer = search.proposer
    assert isinstance(proposer, GpProposer)
    configurations = [proposer.plan((0, 0, i), 1.0, [])().configuration for i in range(9)]
    for index, configuration in enumerate(configurations):
        proposer.absorb((0, 0, index), configuration, 1.0, index / 9)
    for index in range(LEAST):
        assert proposer.expected(configurations, 1.0) is None
        proposer.absorb((0, 0, index), configurations[index], 9.0, index / 9)
    expected = proposer.expected(configurations, 1.0)
    assert expected is not None
    assert expected.losses[0] < expected.losses[LEAST - 1]


@pytest.mark.parametrize("scheduler", ["brackets", "asha"])
def test_a_search_rebuilt_at_any_moment_has_promoted_the_same(scheduler: str, request: pytest.FixtureRequest) -> None:
    done, results = request.getfixturevalue("misled" if scheduler == "brackets" else "misled_without_barriers")
    for going_on, rebuilt in moments(done, results, every=17):
        assert rebuilt.outstanding() == going_on.outstanding()


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["brackets", "asha"])
@settings(max_examples=2, deadline=None)
@given(st.integers(20, 32), st.integers(1, 15), st.integers(0, 1000))
def test_a_run_that_loses_results_is_resumed_and_verified(
    tmp_path_factory: pytest.TempPathFactory, scheduler: str, results: int, lost: int, seed: int
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    living = LivingRun(folder, of_run(f"search.scheduler={scheduler}", "search.iterations=5"), 4, seed)
    living.go_on(results)
    living.lose(lost)
    living.go_on(10_000)
    assert rebuild(living.settings, read_history(folder)).is_done
    assert verify(folder) == []


class Oracle:
    """A model that expects what it is told to, of each configuration."""

    def __init__(self, *losses: float, agreement: float = 0.0) -> None:
        self._losses, self._agreement = losses, agreement

    def expected(self, configurations: Any, budget: float) -> Any:
        losses = np.array([self._losses[c["number"]] for c in configurations])
        return Expected(losses, np.ones(len(losses)), self._agreement)


def ranking_of(oracle: Any, trusts_agreement: bool = False) -> tuple[ModelRanking, list[Any]]:
    """Of a rung of four that two survive, whose losses are 0.1, 0.2, 0.3 and 0.4."""
    config_ids = [(0, 0, i) for i in range(4)]
    data = {c: SimpleNamespace(config={"number": c[2]}, results={1.0: {"loss": (c[2] + 1) / 10}}) for c in config_ids}
    bracket = SimpleNamespace(data=data, budgets=[1.0, 3.0], num_configs=[4, 2])
    return ModelRanking(oracle, lambda: [bracket], trusts_agreement), config_ids  # type: ignore[list-item]


def test_ties_go_to_the_smaller_config_id_and_without_a_model_losses_decide() -> None:
    ranking, ids = ranking_of(Oracle(0.5, 0.1, 0.1, -1.0))
    assert ranking(ids[::-1], 1.0)[:2] == [(0, 0, 3), (0, 0, 1)]
    ranking, ids = ranking_of(NoProposer())
    assert ranking(ids[::-1], 1.0)[:2] == [(0, 0, 0), (0, 0, 1)]
    assert ranking([], 1.0) == []


def test_without_barriers_every_third_result_promotes_the_best_that_waits_even_after_a_crash() -> None:
    ranking, ids = ranking_of(Oracle(0.4, 0.2, 0.3, 0.1))
    rung = ModelRung(ranking, 1.0, 3.0)
    keys = [(0.1, ids[0]), (0.2, ids[1]), None, (0.3, ids[2]), None, None, None, None, None, (0.4, ids[3])]
    assert [rung.add(key, 3.0) for key in keys] == [None, None, ids[1], None, None, ids[2], None, None, ids[0], None]
    assert rung.add(None, 3.0) is None
    assert rung.add(None, 3.0) == ids[3]
    assert [rung.add(None, 3.0) for _ in range(6)] == [None] * 6


@pytest.mark.parametrize(("worse_by", "count"), [(AS_GOOD / 2, 0), (2 * AS_GOOD, 1)])
def test_without_barriers_what_the_files_show_was_promoted_takes_a_place(worse_by: float, count: int) -> None:
    ranking, ids = ranking_of(Oracle(0.1, 0.1 + worse_by, 0.9, 1.0))
    ranking.known, ranking.examines = {(ids[1], 3.0)}, True
    rung = ModelRung(ranking, 1.0, 3.0)
    assert [rung.add((0.1, config_id), 3.0) for config_id in ids[:3]] == [None, None, ids[0]]
    assert [rung.take_as_promoted(config_id) for config_id in ids] == [False, True, False, False]
    assert ranking.doubts == ["0-0-1: was promoted to budget 3; derived: not by then"][:count]
    assert [rung.add(None, 3.0) for _ in range(6)] == [None] * 5 + [ids[2]]


@pytest.mark.parametrize(("agreement", "by_model"), [(LEAST_AGREEMENT - 0.1, True), (LEAST_AGREEMENT + 0.1, False)])
def test_where_budgets_agree_losses_decide_and_where_they_do_not_the_model(agreement: float, by_model: bool) -> None:
    ranking, ids = ranking_of(Oracle(4.0, 3.0, 2.0, 1.0, agreement=agreement), trusts_agreement=True)
    assert (ranking(ids, 1.0)[:2] == ids[:1:-1]) == by_model
    assert (ranking(ids, 1.0)[:2] == ids[:2]) != by_model


@pytest.mark.parametrize(("agreement", "count"), [(0.0, 2), (LEAST_AGREEMENT - AS_GOOD / 2, 0), (0.9, 0)])
def test_where_another_machine_may_have_seen_agreement_either_way_is_not_doubted(agreement: float, count: int) -> None:
    ranking, ids = ranking_of(Oracle(4.0, 3.0, 2.0, 1.0, agreement=agreement), trusts_agreement=True)
    ranking.known, ranking.examines = {(c, 3.0) for c in ids[:2]}, True
    assert ranking(ids, 1.0)[:2] == ids[1::-1] if agreement < LEAST_AGREEMENT else ids[:2]
    assert len(ranking.doubts) == count


@pytest.mark.parametrize(("worse_by", "count"), [(AS_GOOD / 2, 0), (2 * AS_GOOD, 1)])
def test_what_the_files_show_was_promoted_and_is_doubted_where_the_model_holds_it_to_be_worse(
    worse_by: float, count: int
) -> None:
    ranking, ids = ranking_of(Oracle(0.0, 0.1, 0.1 + worse_by, 1.0))
    ranking.known, ranking.examines = {((0, 0, 2), 3.0)}, True
    assert set(ranking(ids, 1.0)[:2]) == {(0, 0, 0), (0, 0, 2)}
    assert ranking.doubts == ["0-0-2: was promoted to budget 3, derived: 0-0-1"][:count]


@pytest.mark.parametrize("scheduler", ["brackets", "asha"])
def test_verify_names_promotions_by_rank_where_the_model_was_to_decide(scheduler: str, tmp_path: Path) -> None:
    how = f"search.scheduler={scheduler}"
    search = Search(of_run("search.promote_by=rank", how))
    results = results_of(search, random.Random(1))
    write_run(RunFolder(tmp_path), of_run(how), list(search.draws), results)
    differences = ["was promoted to budget" in difference for difference in verify(RunFolder(tmp_path))]
    assert any(differences)
    # Without barriers, others are under way when a configuration is drawn: that is another draw.
    assert all(differences) or scheduler == "asha"


@pytest.mark.parametrize("scheduler", ["brackets", "asha"])
def test_a_run_is_rebuilt_where_the_model_would_promote_others(
    scheduler: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, results = request.getfixturevalue("misled" if scheduler == "brackets" else "misled_without_barriers")
    history, chosen = History(tuple(search.draws), tuple(results)), search.settings
    promoted = {(r.config_id, r.budget) for r in results}
    assert set(rebuild(chosen, history, NoProposer()).accepted) == promoted
    expected = GpProposer.expected

    def otherwise(self: GpProposer, configurations: Any, budget: float) -> Any:
        found = expected(self, configurations, budget)
        return None if found is None else Expected(-found.losses, found.chances, found.agreement)

    monkeypatch.setattr(GpProposer, "expected", otherwise)
    assert set(rebuild(chosen, history).accepted) == promoted


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.method=bohb"], "posterior needs method=gp, not bohb"),
        (["search.objectives=[validation_error, parameters]"], "several objectives are promoted by fronts"),
    ],
)
def test_where_a_model_cannot_decide_the_setting_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        of_run(*overrides)
