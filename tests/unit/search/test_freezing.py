"""Survivors of a rung that a model holds to be hopeless are not trained on: `search.freeze_below`."""

from __future__ import annotations

import random
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
from pipeline.search.brackets import Brackets
from pipeline.search.freezing import AS_LIKELY, HopelessFrozen
from pipeline.search.proposers import Expected
from pipeline.search.replay import rebuild
from pipeline.search.search import Search
from pipeline.search.verify import verify
from pipeline.settings import Settings
from tests.unit.search.test_brackets import settings_for, write_run
from tests.unit.search.test_model_ranking import moments, results_of
from tests.unit.search.test_replay import LivingRun

LADDER = (1.0, 3.0, 9.0)


def of_run(*overrides: str) -> Settings:
    return settings_for("search.method=gp", "search.freeze_below=0.4", "search.iterations=7", *overrides)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.1, 0.5, 1.0]))
def test_whoever_is_frozen_a_search_ends_as_planned_and_nobody_frozen_is_trained_on(seed: int, share: float) -> None:
    chance, frozen = random.Random(seed), set()

    def freezing(survivors: Any, budget: float) -> set:
        now = {c for c in survivors if chance.random() < share}
        frozen.update((c, budget) for c in now)
        return now

    brackets = Brackets(LADDER, 3.0, 4, freezing=freezing)
    running, results = [], set()
    while True:
        while len(running) < 5 and (step := brackets.next_step()):
            if len(step) == 2:
                brackets.add_drawn(step[0], {"x": 1.0}, {})
            else:
                running.append((step[0], step[2]))
        if not running:
            break
        config_id, budget = running.pop(chance.randrange(len(running)))
        brackets.add_result(config_id, budget, None if chance.random() < 0.15 else chance.random())
        assert (config_id, budget) not in results
        results.add((config_id, budget))
    assert brackets.is_done()
    assert len(results) == brackets.planned()
    assert {d.status for b in brackets.iterations for d in b.data.values()} <= {"TERMINATED", "COMPLETED", "CRASHED"}
    assert not any((config_id, b) in results for config_id, budget in frozen for b in LADDER if b > budget)


class Oracle:
    """A model that gives each configuration the chance that it is told to."""

    def __init__(self, *chances: float) -> None:
        self._chances = chances

    def expected(self, configurations: Any, budget: float) -> Any:
        chances = np.array([self._chances[c["number"]] for c in configurations])
        return Expected(np.zeros(len(chances)), chances, 1.0)


def frozen_by(proposer: Any) -> tuple[HopelessFrozen, list[Any]]:
    """Of three survivors, below a chance of .2."""
    ids = [(0, 0, i) for i in range(3)]
    bracket = SimpleNamespace(data={c: SimpleNamespace(config={"number": c[2]}) for c in ids}, budgets=list(LADDER))
    return HopelessFrozen(proposer, lambda: [bracket], 0.2), ids  # type: ignore[list-item]


def test_those_with_too_small_a_chance_are_frozen_and_none_where_the_model_knows_too_little() -> None:
    freezing, ids = frozen_by(Oracle(0.1, 0.2, 0.3))
    assert freezing(ids, 1.0) == {ids[0]}
    assert freezing([], 1.0) == set()
    freezing, ids = frozen_by(NoProposer())
    assert freezing(ids, 1.0) == set()


@pytest.mark.parametrize(
    ("chances", "doubts"),
    [
        ((0.2 - AS_LIKELY / 2, 0.2 + AS_LIKELY / 2, 0.1), []),
        ((0.1, 0.3, 0.1), ["0-0-0: was promoted to budget 3, derived: frozen",
                           "0-0-1: was frozen, derived: promoted to budget 3"]),
    ],
)  # fmt: skip
def test_what_the_files_show_is_believed_and_doubted_where_the_model_differs_by_much(
    chances: tuple[float, ...], doubts: list[str]
) -> None:
    freezing, ids = frozen_by(Oracle(*chances))
    freezing.known, freezing.examines = {(ids[0], 3.0), (ids[0], 9.0)}, True
    assert freezing(ids, 1.0) == set(ids[1:])
    assert freezing.doubts == doubts
    freezing.known, freezing.doubts = {(ids[0], 3.0)}, []
    # The rung above may still be under way: the model decides of those without a result.
    assert freezing(ids, 1.0) == {c for c, chance in zip(ids[1:], chances[1:], strict=True) if chance < 0.2}


@pytest.fixture(scope="module")
def frozen() -> tuple[Search, list[Result]]:
    search = Search(of_run())
    return search, results_of(search, random.Random(1))


def test_what_a_frozen_survivor_would_have_cost_is_saved_and_said(frozen: Any) -> None:
    search, results = frozen
    assert search.is_done
    assert len(results) == search.planned() < Search(of_run("search.freeze_below=0")).planned()


def test_a_search_rebuilt_at_any_moment_has_frozen_the_same(frozen: Any) -> None:
    done, results = frozen
    for going_on, rebuilt in moments(done, results, every=13):
        assert rebuilt.outstanding() == going_on.outstanding()
        assert rebuilt.planned() == going_on.planned()


def test_a_run_is_rebuilt_without_its_model_and_verified_with_it(frozen: Any, tmp_path: Path) -> None:
    search, results = frozen
    rebuilt = rebuild(search.settings, History(tuple(search.draws), tuple(results)), NoProposer())
    assert set(rebuilt.accepted) == {(r.config_id, r.budget) for r in results}
    write_run(RunFolder(tmp_path / "honest"), search.settings, search.draws, results)
    assert verify(RunFolder(tmp_path / "honest")) == []
    write_run(RunFolder(tmp_path / "other"), of_run("search.freeze_below=0.9"), search.draws, results)
    assert any("derived: frozen" in difference for difference in verify(RunFolder(tmp_path / "other")))


@pytest.mark.slow
@settings(max_examples=2, deadline=None)
@given(st.integers(20, 32), st.integers(1, 15), st.integers(0, 1000))
def test_a_run_that_loses_results_is_resumed_and_verified(
    tmp_path_factory: pytest.TempPathFactory, results: int, lost: int, seed: int
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    living = LivingRun(folder, of_run("search.iterations=5"), 4, seed)
    living.go_on(results)
    living.lose(lost)
    living.go_on(10_000)
    assert rebuild(living.settings, read_history(folder)).is_done
    assert verify(folder) == []


@pytest.mark.parametrize(
    "override", ["search.method=bohb", "search.scheduler=asha", "search.objectives=[validation_error, parameters]"]
)
def test_where_no_model_can_tell_who_is_hopeless_the_setting_is_refused(override: str) -> None:
    with pytest.raises(SettingsError, match="freeze_below needs method=gp, scheduler=brackets and one objective"):
        of_run(override)
