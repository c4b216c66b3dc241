"""What is known before a search: an expert's beliefs, configurations to try first, the results of an earlier run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    Float,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    Integer,
)

from pipeline.errors import RunError, SettingsError
from pipeline.run.creation import create_run
from pipeline.run.folder import RunFolder
from pipeline.run.history import EarlierResult, History, read_history
from pipeline.search.encoding import Encoding
from pipeline.search.methods import make_proposer
from pipeline.search.priors import ExpertPriors
from pipeline.search.replay import rebuild
from pipeline.search.search import Search
from pipeline.search.verify import verify
from pipeline.settings import load_settings
from pipeline.settings.search import PriorSettings
from pipeline.settings.space import build_space
from tests.unit.search.test_brackets import run, settings_for, write_run

pytestmark = pytest.mark.slow

KNOWLEDGE = (
    "search.priors={learning_rate: {value: 0.1, confidence: high}, res_branches_1: {value: 2}}",
    "search.try_first=[{learning_rate: 0.05, momentum: 0.5}, {batch_size: 100}]",
)


def space_of_kinds() -> ConfigurationSpace:
    space = ConfigurationSpace(seed=1)
    kind, n = Categorical("kind", ["a", "b", "c"]), Integer("n", (1, 100), log=True)
    space.add(kind, n, Float("x", (0.0, 1.0)))
    space.add(EqualsCondition(space["x"], kind, "a"), ForbiddenEqualsClause(kind, "c"))
    return space


def priors_of(**given: Any) -> tuple[ExpertPriors, Encoding]:
    encoding = Encoding(space_of_kinds())
    return ExpertPriors(encoding, {name: PriorSettings(**about) for name, about in given.items()}), encoding


def drawn(priors: Any, results: Any, count: int = 600) -> Any:
    draws = [priors.draw(np.random.default_rng(i), results) for i in range(count)]
    return [d for d in draws if d is not None]


def test_draws_come_from_where_the_expert_is_sure_and_are_allowed() -> None:
    priors, encoding = priors_of(n={"value": 10, "confidence": "high"}, kind={"value": "a", "confidence": "high"})
    found: Any = [encoding.configuration(v) for v in drawn(priors, 0)]
    assert np.mean([math.log10(c["n"]) for c in found]) == pytest.approx(1.0, abs=0.05)
    assert np.std([math.log10(c["n"]) for c in found]) == pytest.approx(0.25, abs=0.05)
    assert {c["kind"] for c in found} == {"a", "b"}
    assert np.mean([c["kind"] == "a" for c in found]) > 0.8
    assert np.std([c["x"] for c in found if "x" in c]) == pytest.approx(0.29, abs=0.05)


def test_the_belief_fades_as_results_come_in() -> None:
    priors, _ = priors_of(x={"value": 0.9})
    assert [len(drawn(priors, n)) / 600 for n in (0, 30, 270)] == pytest.approx([0.5, 0.25, 0.05], abs=0.06)
    columns = {name: i for i, name in enumerate(Encoding(space_of_kinds()).names)}
    points = np.zeros((2, 3))
    points[:, columns["x"]] = 0.9, 0.4
    gaps = [-np.diff(priors.log_weight(points, n))[0] for n in (10, 100)]
    assert gaps == pytest.approx([2.0, 0.2])
    points[1, columns["x"]] = np.nan  # switched off: no opinion
    assert np.isfinite(priors.log_weight(points, 10)).all()


@pytest.mark.parametrize("method", ["bohb", "gp", "hyperband"])
def test_every_method_turns_to_where_the_expert_points(method: str) -> None:
    def mean(*overrides: Any) -> Any:
        settings = settings_for(f"search.method={method}", "search.iterations=9", *overrides)
        search: Any = run(settings, workers=2)[0]
        return np.mean([math.log10(d.configuration["learning_rate"]) for d in search.draws])

    sure = "search.priors={learning_rate: {value: 0.5, confidence: high}}"
    assert mean(sure) > mean() + 0.15


def test_what_is_to_be_tried_first_comes_first_and_what_it_leaves_open_is_drawn() -> None:
    search = Search(settings_for(*KNOWLEDGE))
    for _ in range(4):
        search.next_evaluation()
    first, second, third, _ = (d.configuration for d in search.take_new_draws())
    assert (first["learning_rate"], first["momentum"]) == (pytest.approx(0.05), pytest.approx(0.5))
    assert second["batch_size"] == 100
    assert second["momentum"] != first["momentum"]
    assert third["batch_size"] != 100


def test_a_long_list_goes_on_in_the_next_bracket() -> None:
    many = ", ".join(f"{{cutout_length: {i % 3}}}" for i in range(12))
    search, _ = run(settings_for(f"search.try_first=[{many}]"), workers=1)
    given = [d.configuration["cutout_length"] for d in search.draws if d.config_id[1] == 0][:12]
    assert given == [i % 3 for i in range(12)]


def test_conditions_make_way_for_what_is_tried_first() -> None:
    settings = settings_for("search.try_first=[{kind: a, x: 0.25}, {kind: b}]")
    proposer = make_proposer(settings, space_of_kinds())
    assert proposer.plan((0, 0, 0), 1.0, [])().configuration["x"] == 0.25
    assert "x" not in proposer.plan((0, 0, 1), 1.0, [])().configuration


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("search.priors={depth: {value: 3}}", r"search\.priors\.depth: unknown hyperparameter; known: .*momentum"),
        (
            "search.priors={momentum: {value: 7}}",
            r"search\.priors\.momentum\.value: got '7', which is not in the search",
        ),
        ("search.try_first=[{batch_size: tiny}]", r"search\.try_first: batch_size: got 'tiny', which is not in"),
    ],
)
def test_knowledge_that_does_not_fit_the_space_is_refused_in_one_line(override: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Search(settings_for(override))


@pytest.mark.parametrize("method", ["bohb", "gp"])
@pytest.mark.parametrize("scheduler", ["brackets", "asha"])
def test_a_run_with_all_kinds_of_knowledge_is_rebuilt_and_verified(method: str, scheduler: str, tmp_path: Path) -> None:
    before, results = run(settings_for("search.method=hyperband", "search.iterations=18"), workers=3)
    earlier = History(tuple(before.draws), tuple(results)).as_earlier()
    settings = settings_for(f"search.method={method}", f"search.scheduler={scheduler}", *KNOWLEDGE)
    known = tuple(EarlierResult(c, b, v) for c, b, v in earlier)
    search, results = run(settings, workers=4, search=Search(settings, earlier=known))
    assert search.model_based > 10
    history = History(tuple(search.draws[:20]), tuple(r for r in results[:25]), known)
    rebuild(settings, History(history.draws[:4], (), known))
    folder = RunFolder(tmp_path)
    write_run(folder, settings, search.draws, results)
    folder.earlier.write_text("".join(f"{json.dumps(line)}\n" for line in earlier))
    assert verify(folder) == []
    folder.earlier.unlink()
    assert verify(folder) != []


def test_the_results_of_an_earlier_run_are_copied_when_a_run_is_made(tmp_path: Path) -> None:
    first = create_run(settings_for(), tmp_path)
    search, results = run(settings_for(), workers=3)
    write_run(first, settings_for(), search.draws, results)
    second = create_run(settings_for(f"search.start_from={first.run_id}"), tmp_path)
    assert [(e.budget, e.loss) for e in read_history(second).earlier] == [(r.budget, r.loss) for r in results]
    third = create_run(settings_for(f"search.start_from={second.path}"), tmp_path)
    assert len(read_history(third).earlier) == len(results)
    with pytest.raises(RunError, match="No run 'nothing'"):
        create_run(settings_for("search.start_from=nothing"), tmp_path)


def test_what_does_not_fit_is_left_out() -> None:
    fits = dict(build_space(settings_for().space).sample_configuration())
    fits = {n: v.item() if hasattr(v, "item") else v for n, v in fits.items()}
    known = (
        EarlierResult(fits, 1.0, 0.5),
        EarlierResult(fits, 2.0, 0.5),  # of another ladder
        EarlierResult({**fits, "momentum": 2.0}, 1.0, 0.5),
        EarlierResult({**fits, "depth": 2}, 1.0, 0.5),
        EarlierResult({k: v for k, v in fits.items() if k != "momentum"}, 1.0, 0.5),
    )
    search = Search(settings_for("search.method=gp"), earlier=known)
    assert len(search.proposer._observed) == 1
    assert search.results_seen == 0
    assert load_settings("digits").search.start_from is None


def space_with_a_clause() -> ConfigurationSpace:
    space = ConfigurationSpace(seed=0)
    optimizer, size = Categorical("optimizer", ["sgd", "adamw"]), Categorical("size", ["small", "large"])
    momentum = Float("momentum", (0.0, 0.99))
    space.add(optimizer, size, momentum, Constant("schedule", "cosine"))
    space.add(EqualsCondition(momentum, optimizer, "sgd"))
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(optimizer, "adamw"), ForbiddenEqualsClause(size, "large")))
    return space


def first_tries(given: str) -> list[dict[str, Any]]:
    settings = settings_for(f"search.try_first=[{', '.join([given] * 8)}]")
    proposer = make_proposer(settings, space_with_a_clause())
    return [proposer.plan((0, 0, i), 1.0, [])().configuration for i in range(8)]


def test_what_is_left_open_of_a_first_try_is_drawn_as_clauses_and_conditions_allow() -> None:
    assert {c["size"] for c in first_tries("{optimizer: adamw}")} == {"small"}
    tried = first_tries("{momentum: 0.9, schedule: cosine}")
    assert {(c["optimizer"], c["momentum"]) for c in tried} == {("sgd", 0.9)}
    assert {c["size"] for c in tried} == {"small", "large"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("{optimizer: adamw, size: large}", "in no legal configuration: a clause forbids it"),
        ("{optimizer: adamw, momentum: 0.9}", "a condition switches off a part of it"),
        ("{schedule: steps}", "schedule: got 'steps', but the space fixes it at 'cosine'"),
    ],
)
def test_a_first_try_that_cannot_be_is_refused(given: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        first_tries(given)
