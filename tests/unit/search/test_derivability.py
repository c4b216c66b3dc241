"""Every draw of every method can be derived again from the files alone, whatever the order of draws and results."""

from __future__ import annotations

import random
from concurrent.futures import Future
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.run.folder import RunFolder
from pipeline.run.history import Draw, History, Result
from pipeline.search.replay import rebuild
from pipeline.search.search import Search
from pipeline.search.verify import verify
from pipeline.settings import SearchSettings, Settings, load_settings
from tests.unit.search.test_brackets import loss_of, write_run

pytestmark = pytest.mark.slow

METHODS = get_args(SearchSettings.model_fields["method"].annotation)
SMALL = ["search.min_budget=1", "search.max_budget=9", "search.iterations=12", "search.min_points_in_model=1"]


SEARCHES = [
    *((method, "brackets") for method in METHODS),
    *((method, "asha") for method in ("bohb", "gp", "hyperband")),
    ("gp", "brackets by posterior"),
    ("gp", "asha by posterior"),
]


def settings_of(method: str, scheduler: str, seed: int) -> Settings:
    scheduler, _, promote_by = scheduler.partition(" by ")
    how = [f"search.scheduler={scheduler}", f"search.promote_by={promote_by or 'rank'}"]
    return load_settings("digits", [f"search.method={method}", *how, f"seed={seed}", *SMALL])


class Elsewhere:
    """A background in which a proposal is ready when chance says so."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.waiting: list[tuple[Future, object]] = []

    def __call__(self, plan: Any) -> Any:
        reply: Future = Future()
        self.waiting.append((reply, plan))
        return reply

    def go_on(self) -> None:
        while self.waiting and self.chance.random() < 0.5:
            reply, plan = self.waiting.pop(0)
            reply.set_result(plan())


def wander(search: Search, chance: random.Random, steps: int, results: list[Result]) -> None:
    """So many draws and results in random order, with crashes, up to 8 at a time, proposals made elsewhere."""
    elsewhere = search.background = Elsewhere(chance)
    running = [(config_id, budget) for config_id, _, budget in search.outstanding()]
    while search.next_evaluation(may_draw=False):
        pass
    for step in range(steps):
        elsewhere.go_on()
        if step % 3:
            search.look_ahead()
        if running and chance.random() < 0.5:
            config_id, budget = running.pop(chance.randrange(len(running)))
            loss = None if chance.random() < 0.1 else loss_of(config_id, budget)
            passed = [[b, loss_of(config_id, b)] for b in search.ladder if b < budget]
            info = {} if loss is None else {"attempt": 1, "training_s": budget, "lower_rungs": passed}
            results.append(Result(config_id, budget, 0, 0, 1, loss, info, None if loss else "not_finite: so it is"))
            search.absorb(results[-1])
        elif len(running) < 8 and (due := search.next_evaluation()):
            running.append((due[0], due[2]))


def next_draws(search: Search, count: int) -> list:
    search.background = None
    search.take_new_draws()
    found = []
    while len(found) < count and search.next_evaluation():
        found.extend((d.config_id, d.configuration, d.info["results_seen"]) for d in search.take_new_draws())
    return found


@pytest.mark.parametrize(("method", "scheduler"), SEARCHES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_search_rebuilt_at_any_moment_proposes_what_it_would_have(method: str, scheduler: str, seed: int) -> None:
    chance = random.Random(seed)
    chosen = settings_of(method, scheduler, seed)
    search, results = Search(chosen), []
    for _ in range(4):
        wander(search, chance, 15, results)
        rebuilt = rebuild(chosen, History(tuple(search.draws), tuple(results)))
        assert rebuilt.outstanding() == search.outstanding()
        search._making = search._ready = None  # as if the master had died: what is being made elsewhere is lost
        assert next_draws(rebuilt, 2) == next_draws(search, 2)


@pytest.mark.parametrize(("method", "scheduler"), SEARCHES)
def test_verify_finds_nothing_in_a_run_whose_proposals_were_made_elsewhere(
    method: str, scheduler: str, tmp_path: Path
) -> None:
    chosen = settings_of(method, scheduler, 0)
    search, results = Search(chosen), []
    wander(search, random.Random(3), 350, results)
    assert search.is_done or len(results) > 60
    assert any(d.info["model_based_pick"] for d in search.draws) == (method in ("bohb", "gp"))
    write_run(RunFolder(tmp_path), chosen, search.draws, results)
    assert verify(RunFolder(tmp_path)) == []


def test_verify_takes_another_configuration_that_the_model_finds_as_good_and_no_worse_one(tmp_path: Path) -> None:
    chosen = settings_of("gp", "brackets", 0)
    search, results = Search(chosen), []
    wander(search, random.Random(3), 120, results)
    place = next(i for i, d in enumerate(search.draws) if d.info["model_based_pick"])
    honest = search.draws[place]
    rounded = {**honest.configuration, "momentum": honest.configuration["momentum"] * (1 + 1e-7)}
    for configuration, differs in ((rounded, False), (search.draws[0].configuration, True)):
        folder = RunFolder(tmp_path / str(differs))
        draws = [*search.draws[:place], Draw(honest.config_id, configuration, honest.info)]
        write_run(folder, chosen, draws, results[: honest.info["results_seen"]])
        assert bool(verify(folder)) == differs


@pytest.mark.parametrize("scheduler", ["brackets", "asha"])
def test_a_proposal_is_ready_before_a_worker_asks_and_made_anew_with_every_result(scheduler: str) -> None:
    search = Search(settings_of("gp", scheduler, 0))
    made: list[Future] = []

    def at_once(plan: Any) -> Any:
        made.append(Future())
        made[-1].set_result(plan())
        return made[-1]

    search.background = at_once
    running: list = []
    for number in range(30):
        search.look_ahead()
        count = len(made)
        due = search.next_evaluation()
        assert due is not None
        assert len(made) == count
        running.append((due[0], due[2]))
        search.look_ahead()
        if number % 2:
            config_id, budget = running.pop(0)
            loss = loss_of(config_id, budget)
            search.absorb(Result(config_id, budget, 0, 0, 1, loss, {"attempt": 1, "training_s": budget}, None))
            count = len(made)
            search.look_ahead()
            search.look_ahead()
            assert len(made) == count + 1
    seen = [d.info["results_seen"] for d in search.draws]
    assert seen == sorted(seen)
    assert seen[-1] >= 12


def test_a_worker_is_given_what_is_ready_while_the_newest_result_is_thought_over() -> None:
    search, elsewhere = Search(settings_of("gp", "brackets", 0)), Elsewhere(random.Random(0))
    search.background = elsewhere
    search.next_evaluation()
    assert search.is_proposing
    while elsewhere.waiting:
        elsewhere.go_on()
    first = search.next_evaluation()
    search.look_ahead()
    while elsewhere.waiting:
        elsewhere.go_on()
    search.absorb(Result(first[0], first[2], 0, 0, 1, 0.5, {"attempt": 1, "training_s": 1}, None))
    search.look_ahead()
    assert elsewhere.waiting
    assert search.next_evaluation() is not None
    assert [d.info["results_seen"] for d in search.draws] == [0, 0]
