"""Several objectives: promotion by fronts, proposals by random scalarisation, and one objective as it always was."""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.problems.space import build_space
from pipeline.run.folder import RunFolder
from pipeline.run.history import EarlierResult, History, Result, read_history
from pipeline.search.asha import Asha
from pipeline.search.gp import GpProposer
from pipeline.search.objectives import Objectives, normalised
from pipeline.search.pareto import on_front
from pipeline.search.proposers import RandomProposer
from pipeline.search.replay import rebuild
from pipeline.search.scalarisation import RandomScalarisation, tchebycheff
from pipeline.search.search import Search
from pipeline.search.verify import verify
from pipeline.settings import Settings
from pipeline.settings.space import HYPERPARAMETERS, plain_configuration
from tandem_trial.problem import Metric
from tests.unit.search.test_brackets import loss_of, run, settings_for, write_run
from tests.unit.search.test_derivability import Elsewhere, next_draws

pytestmark = pytest.mark.slow

SEVERAL = "search.objectives=[validation_error, parameters]"
# Losses of the second are accuracies with their signs turned.
METRICS = (Metric("validation_error", scale="log"), Metric("accuracy", direction="maximise"))
SEARCHES = [("bohb", "brackets"), ("gp", "brackets"), ("bohb", "asha"), ("hyperband", "brackets"), ("random", "asha")]


# All but two: models are quicker in two dimensions.
FIXED = [f"space.{h.name}={h.default:g}" for h in HYPERPARAMETERS if h.name not in ("momentum", "learning_rate")]


def several_for(*overrides: str) -> Settings:
    return settings_for(SEVERAL, "search.iterations=9", "search.min_points_in_model=1", *FIXED, *overrides)


def size_of(config_id: tuple[int, int, int]) -> int:
    return 1000 + (config_id[0] * 5 + config_id[2] * 3) % 7 * 1000


def result_of(config_id: Any, budget: float, kind: str = "") -> Result:
    if kind == "crashed":
        return Result(config_id, budget, 0, 0, 1, None, {}, "not_finite: so it is")
    info = {"attempt": 1, "training_s": budget, "parameters": size_of(config_id)}
    info |= {"missing": {"parameters": None}, "infinite": {"parameters": math.inf}}.get(kind, {})
    return Result(config_id, budget, 0, 0, 1, loss_of(config_id, budget), info, None)


def wander(search: Search, chance: random.Random, steps: int, results: list[Result]) -> None:
    """As in test_derivability, with a crash or a missing value now and then."""
    elsewhere = search.background = Elsewhere(chance)
    running = [(config_id, budget) for config_id, _, budget in search.outstanding()]
    while search.next_evaluation(may_draw=False):
        pass
    for _ in range(steps):
        elsewhere.go_on()
        if running and chance.random() < 0.5:
            kind = chance.choice(["crashed", "missing", *[""] * 20])
            results.append(result_of(*running.pop(chance.randrange(len(running))), kind))
            search.absorb(results[-1])
        elif len(running) < 8 and (due := search.next_evaluation()):
            running.append((due[0], due[2]))


def digest(search: Search) -> str:
    """Of what was drawn, of what the proposers had seen, and of the order of results."""
    infos = [(d.info["results_seen"], d.info["model_budget"]) for d in search.draws]
    draws = [[list(d.config_id), dict(d.configuration), *i] for d, i in zip(search.draws, infos, strict=True)]
    ended = [[list(config_id), budget] for config_id, budget in search.accepted]
    return hashlib.sha256(json.dumps([draws, ended]).encode()).hexdigest()[:16]


# One objective --------------------------------------------------------------------------------------------------------
GOLDEN = {
    ("hyperband", "brackets"): "e2ed230cf0806ffe",
    ("hyperband", "asha"): "385497e8b3798c78",
    ("bohb", "brackets"): "a9abd83000c1bf90",
    ("bohb", "asha"): "872ef26938a0910a",
}


@pytest.mark.parametrize(("method", "scheduler"), GOLDEN)
def test_with_one_objective_a_search_is_what_it_was_before_there_were_several(method: str, scheduler: str) -> None:
    # Naming the one changes nothing.
    named = ["search.objectives=[validation_error]"] if scheduler == "brackets" else []
    chosen = settings_for(f"search.method={method}", f"search.scheduler={scheduler}", "search.iterations=30", *named)
    search, _ = run(chosen, crashes=lambda config_id, budget: config_id[2] == 4)
    assert digest(search) == GOLDEN[method, scheduler]


def test_with_one_objective_a_model_is_asked_without_detour() -> None:
    assert isinstance(Search(settings_for("search.method=gp")).proposer, GpProposer)
    assert isinstance(Search(several_for("search.method=gp")).proposer, RandomScalarisation)


# Settings -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("objectives", "says"),
    [
        ("[validation_error, speed]", "does not measure speed; it has: validation_error"),
        ("[parameters, validation_error]", "the first is the problem's own metric, validation_error"),
        ("[validation_error, parameters, parameters]", "parameters is there twice"),
    ],
)
def test_objectives_that_cannot_be_are_refused_before_the_search(objectives: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Search(settings_for(f"search.objectives={objectives}"))


# Promotion ------------------------------------------------------------------------------------------------------------
def test_a_rung_promotes_its_fronts_and_never_a_crash_or_what_lacks_a_value() -> None:
    search = Search(several_for("search.method=hyperband"))
    kinds = {2: "crashed", 3: "missing", 5: "infinite"}
    rung = [search.next_evaluation() for _ in range(9)]
    for due in rung:
        assert due is not None
        search.absorb(result_of(due[0], due[2], kinds.get(due[0][2], "")))
    promoted = {run[0] for run in search.outstanding()}
    config_ids, values = search.objectives.on_budget(1.0)
    assert len(config_ids) == 6
    assert len(promoted) == 3
    best = {c for c, b in zip(config_ids, on_front(values), strict=True) if b}
    assert promoted <= best or best <= promoted
    first = min(best, key=lambda c: (search.objectives.losses[c, 1.0], c))
    assert first == search.incumbents[1.0][0]
    assert {key[0][2] for key, a in search.accepted.items() if a.loss is None} == set(kinds)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans()), min_size=27, max_size=27))
def test_asha_promotes_from_the_best_third_of_its_rung_and_each_configuration_once(values: Any) -> None:
    objectives = Objectives(METRICS)
    asha = Asha((1.0, 3.0, 9.0), 3.0, 3, objectives.ranked)
    promoted: list[Any] = []
    for number, (first, second, crashes) in enumerate(values):
        config_id = (number // 9, 0, number % 9)
        asha.add_drawn(config_id, {}, {})
        loss = objectives.take_in((config_id, 1.0), None if crashes else first, {"accuracy": second})
        waiting = {c for c, _, b in asha.open()[-1].outstanding() if b > 1}
        asha.add_result(config_id, 1.0, loss)
        new = [d for group in asha.open() for d, _, b in group.outstanding() if b == 3 and d not in promoted]
        assert len(new) <= 1
        here = objectives.ranked([c for (c, b) in objectives.losses if b == 1.0], 1.0)
        assert set(new) <= set(here[: (number + 1) // 3])
        promoted += new
        assert waiting <= set(promoted)
    assert len(promoted) == len(set(promoted))


# Proposals ------------------------------------------------------------------------------------------------------------
def test_losses_lie_between_the_best_and_the_worst_on_their_metrics_scale() -> None:
    losses = np.array([[0.01, -3.0], [0.1, -1.0], [1.0, -2.0]])
    assert normalised(losses, METRICS) == pytest.approx(np.array([[0.0, 0.0], [0.5, 1.0], [1.0, 0.5]]))
    none = np.array([[0.0, 1.0], [0.02, 1.0], [2.0, 1.0]])
    assert normalised(none, METRICS) == pytest.approx(
        np.array([[0.0, 0.0], [math.log(2) / math.log(200), 0.0], [1.0, 0.0]])
    )
    negative = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert normalised(negative, METRICS)[:, 0].tolist() == [0.0, 0.5, 1.0]


def test_the_tchebycheff_function_prefers_what_dominates_and_follows_its_weights() -> None:
    values = np.array([[0.0, 1.0], [1.0, 0.0], [0.4, 0.4], [0.4, 0.5], [0.0, 0.9]])
    for weights in np.random.default_rng(0).dirichlet([1, 1], 20):
        scalars = tchebycheff(values, weights)
        assert scalars[2] < scalars[3] or weights[1] == 0
        assert scalars[4] < scalars[0]
    assert tchebycheff(values, np.array([0.99, 0.01])).argmin() == 4
    assert tchebycheff(values, np.array([0.01, 0.99])).argmin() == 1


def test_weights_differ_from_proposal_to_proposal_and_depend_on_the_seed_alone() -> None:
    objectives = Objectives(METRICS)
    first = np.linspace(0.01, 1, 40)
    values = np.column_stack([first, 1 - np.sqrt(first)])

    def best(seed: int, index: int) -> int:
        proposer = RandomScalarisation(lambda: pytest.fail("not asked"), objectives, seed)
        return int(proposer._scalarised(values, (0, 0, index)).argmin())

    chosen = [best(1, index) for index in range(30)]
    assert len(set(chosen)) > 3
    assert chosen == [best(1, index) for index in range(30)]
    assert chosen != [best(2, index) for index in range(30)]
    assert on_front(normalised(values, METRICS))[chosen].all()


@pytest.mark.parametrize("method", ["bohb", "gp"])
def test_a_model_proposes_along_the_whole_front(method: str) -> None:
    chosen = several_for(f"search.method={method}", "search.max_budget=1", "search.iterations=50")
    search = Search(chosen)
    while (due := search.next_evaluation()) is not None:
        # Two ends of one hyperparameter: small at one, exact at the other. All others do nothing.
        x = due[1]["momentum"]
        info = {"attempt": 1, "training_s": 1.0, "parameters": 1000 * (1 + 9 * x)}
        search.absorb(Result(due[0], due[2], 0, 0, 1, 0.1 + (1 - x) ** 2, info, None))
    modelled = [d.configuration["momentum"] for d in search.draws if d.info["model_based_pick"]]
    assert len(modelled) > 15
    thirds = np.histogram(np.array(modelled, dtype=float), bins=3, range=(0.5, 1))[0]
    assert (thirds > 0).all()


# Derivable ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("method", "scheduler"), SEARCHES)
def test_a_search_for_several_objectives_is_rebuilt_and_verified(method: str, scheduler: str, tmp_path: Path) -> None:
    chosen = several_for(f"search.method={method}", f"search.scheduler={scheduler}")
    chance = random.Random(5)
    search, results = Search(chosen), []
    for _ in range(2):
        wander(search, chance, 50, results)
        rebuilt = rebuild(chosen, History(tuple(search.draws), tuple(results)))
        assert rebuilt.outstanding() == search.outstanding()
        assert rebuilt.objectives.losses == search.objectives.losses
        search._making = search._ready = None
        assert next_draws(rebuilt, 2) == next_draws(search, 2)
    write_run(RunFolder(tmp_path), chosen, search.draws, results)
    assert verify(RunFolder(tmp_path)) == []


def test_verify_notices_a_promotion_by_the_first_objective_alone(tmp_path: Path) -> None:
    search, results = run(settings_for("search.iterations=3"))
    results = [result_of(r.config_id, r.budget) for r in results]
    write_run(RunFolder(tmp_path), several_for("search.method=hyperband", "search.iterations=3"), search.draws, results)
    assert any("does not follow" in difference for difference in verify(RunFolder(tmp_path)))


def test_a_run_starts_from_another_ones_values_and_passes_over_results_without_them(tmp_path: Path) -> None:
    chosen = several_for("search.method=bohb")
    search, results = Search(chosen), []
    wander(search, random.Random(2), 60, results)
    write_run(RunFolder(tmp_path), chosen, search.draws, results)
    lines = json.loads(json.dumps(read_history(RunFolder(tmp_path)).as_earlier(["parameters"])))
    earlier = [EarlierResult(*line) for line in lines]
    later = Search(chosen, earlier=[*earlier, EarlierResult(earlier[0].configuration, 1.0, 0.01)])
    assert sorted(later.objectives.losses.values()) == sorted(search.objectives.losses.values())
    assert later.objectives.on_budget(1.0)[0] == []


def test_an_earlier_result_that_lacks_a_value_is_no_crash_for_the_model() -> None:
    told: list[float | None] = []

    class Listening(RandomProposer):
        def absorb(self, config_id: Any, configuration: Any, budget: float, loss: float | None) -> None:
            told.append(loss)

    chosen = several_for("search.method=bohb")
    space = build_space(chosen)
    configuration = plain_configuration(dict(space.sample_configuration()))
    earlier = [EarlierResult(configuration, 1.0, 0.01), EarlierResult(configuration, 1.0, None)]
    Search(chosen, Listening(space, 0), earlier=earlier)
    assert told == [None]
