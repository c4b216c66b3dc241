"""The protocol that search methods are compared under."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.search.methods import TandemMethod, tandem_methods
from benchmarks.search.problem import Outcome, Problem, describe
from benchmarks.search.protocol import Ask, Simulation, regret_at
from benchmarks.search.results import Key, load, stored
from benchmarks.search.run import run, search, searches
from benchmarks.search.suite import PROBLEMS, problem
from pipeline.records import derive_seed
from pipeline.settings.space import plain_configuration

BUDGET = 6.0


class Scripted:
    """Asks for what it is given, and remembers what it was told."""

    def __init__(self, *asks: Any) -> None:
        self.asks = list(asks)
        self.told = []

    def ask(self) -> Any:
        return self.asks.pop(0) if self.asks else None

    def tell(self, trial: Any, outcome: Any) -> None:
        self.told.append((trial, outcome))


class Lengths(Problem):
    """Evaluations whose duration is a hyperparameter."""

    name = "lengths"
    budgets = (1.0, 3.0)

    @property
    def space(self) -> Any:
        from ConfigSpace import ConfigurationSpace, Float

        space = ConfigurationSpace()
        space.add(Float("seconds", (0.0, 100.0)))
        return space

    def loss(self, vector: Any, values: Any, budget: float) -> Any:
        return values["seconds"]

    def cost_s(self, vector: Any, values: Any, budget: float) -> Any:
        return values["seconds"] * budget / self.budgets[-1]


def lengths(*seconds: Any, budget: float = 3.0) -> Any:
    return [Ask(i, {"seconds": s}, budget) for i, s in enumerate(seconds)]


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_configuration_beats_the_known_best(name: str) -> None:
    about = problem(name)
    about.space.seed(5)
    values = [about.value(plain_configuration(dict(c))) for c in about.space.sample_configuration(300)]
    assert min(values) >= about.best
    assert about.scale > 0


def test_the_optima_that_are_known_are_reached() -> None:
    found = {
        "counting": {f"cat_{i}": "1" for i in range(8)} | {f"num_{i}": 1.0 for i in range(8)},
        "hartmann3": {"x0": 0.114614, "x1": 0.555649, "x2": 0.852547},
        "hartmann6": dict(
            zip((f"x{i}" for i in range(6)), (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573), strict=True)
        ),
        "conditional": {
            "optimiser": "momentum", "activation": "elu", "layers": 5, "width": 128, "dropout": 0.2, "decay": 1e-4,
            "momentum_rate": 10**-1.5, "momentum": 0.9,
        },
        "misleading": {f"x{i}": c for i, c in enumerate(problem("misleading").centre)},
    }  # fmt: skip
    for name, values in found.items():
        assert problem(name).value(values) == pytest.approx(problem(name).best, abs=1e-5), name  # type: ignore[arg-type]
    noisy = problem("noisy17")
    assert noisy.loss(noisy.centre, {}, noisy.budgets[-1]) == noisy.best


def test_a_proposal_with_inactive_values_is_completed_to_a_legal_configuration() -> None:
    about = problem("conditional")
    every = {name: about.space[name].default_value for name in about.space} | {"optimiser": "adaptive"}
    values = about.complete(every)
    assert "adaptive_rate" in values
    assert "momentum" not in values
    assert np.isfinite(about.value(values))


def test_a_space_is_described_without_configspace() -> None:
    about = {h["name"]: h for h in json.loads(json.dumps(describe(problem("conditional").space)))}
    assert about["width"] == {"name": "width", "kind": "int", "lower": 16, "upper": 512, "log": True}
    assert about["momentum"]["active_if"] == {"optimiser": ["momentum"]}


@pytest.mark.parametrize("method", [m for m in tandem_methods() if not m.startswith("tandem.gp")])
@pytest.mark.parametrize("workers", [1, 8])
def test_the_same_seed_gives_the_same_search_and_another_seed_another(method: str, workers: Any) -> None:
    key = Key("conditional", method, workers, 3)
    first, again = (asdict(search(key, BUDGET)) for _ in range(2))
    other = asdict(search(Key("conditional", method, workers, 4), BUDGET))
    for trace in (first, again, other):
        assert trace.pop("ended") == ""
        trace.pop("proposal_s")
    assert first == again
    assert first != other


def test_a_comparison_that_is_begun_again_runs_what_is_missing_only(tmp_path: Path) -> None:
    keys = list(searches(["hartmann3"], ["tandem.random"], [1, 8], range(2)))
    assert run(keys[:3], tmp_path, BUDGET) == 3
    kept = keys[0].path(tmp_path).stat().st_mtime_ns
    keys[1].path(tmp_path).write_bytes(b"torn")
    assert run(keys, tmp_path, BUDGET) == 2
    assert keys[0].path(tmp_path).stat().st_mtime_ns == kept
    assert sorted(stored(tmp_path), key=str) == sorted(keys, key=str)
    assert run(keys, tmp_path, BUDGET / 2) == 0, "a larger budget holds what a smaller one would"
    assert load(tmp_path, keys[0], problem("hartmann3"), 2 * BUDGET) is None


def test_never_more_evaluations_run_than_there_are_workers_and_the_clock_is_theirs() -> None:
    method = Scripted(*lengths(10, 1, 1, 1))
    simulation = Simulation(Lengths(), method, 0, workers=2, full_budgets=4)
    trace = simulation.run()
    assert simulation.most_running == 2
    # One worker trains 10 s; the other three of 1 s, one after the other.
    assert trace.clock_s == [1, 2, 3, 10]
    assert [trial for trial, _ in method.told] == [1, 2, 3, 0]


@pytest.mark.parametrize("workers", [1, 8, 64])
def test_the_clock_never_runs_backwards_and_workers_are_used(workers: Any) -> None:
    about = problem("noisy17")
    simulation = Simulation(about, TandemMethod(about, 1, method="hyperband"), 1, workers, 20.0)
    trace = simulation.run()
    assert simulation.most_running == workers
    assert trace.clock_s == sorted(trace.clock_s)
    assert trace.spent[-1] == pytest.approx(20.0, abs=workers)
    assert len(trace.spent) == trace.asked


def test_a_promotion_pays_the_difference_and_a_repetition_pays_the_whole() -> None:
    asks = [*lengths(9, budget=1.0), *lengths(9, budget=3.0), *lengths(9, budget=3.0)]
    trace = Simulation(Lengths(), Scripted(*asks), 0, workers=1, full_budgets=2).run()
    assert trace.spent == pytest.approx([1 / 3, 1, 2])
    assert trace.clock_s == pytest.approx([3, 9, 18])


def test_a_crash_is_told_as_one_and_is_never_the_incumbent() -> None:
    about = problem("conditional")
    base = dict(about.space.get_default_configuration())
    crashing = about.complete(base | {"optimiser": "plain", "plain_rate": 0.9})
    good = about.complete(base | {"optimiser": "adaptive", "adaptive_rate": 1e-3})
    method = Scripted(Ask("crash", crashing, 27.0), Ask("good", good, 27.0))
    trace = Simulation(about, method, 0, workers=1, full_budgets=1).run()
    assert method.told[0][1] == Outcome(None, pytest.approx(method.told[0][1].cost_s), ())  # type: ignore[arg-type]
    assert trace.loss[0] is None
    assert trace.value[0] is None
    assert regret_at(trace, about.best, 9.0, 0.5) == 9.0
    assert regret_at(trace, about.best, 9.0, 2.0) == pytest.approx(about.value(good) - about.best)


def test_regret_of_random_search_is_what_its_draws_imply() -> None:
    seed, about = 7, problem("hartmann6")
    trace = search(Key("hartmann6", "tandem.random", 1, seed), 30.0)
    draws = []
    for i in range(30):
        about.space.seed(derive_seed(seed, "draw", i, 0, 0) % 2**32)
        draws.append(plain_configuration(dict(about.space.sample_configuration())))
    observed = [about.evaluate(d, 27.0, derive_seed(seed, "evaluation") % 2**32).loss for d in draws]
    for spent in (1, 10, 30):
        best = draws[int(np.argmin(observed[:spent]))]  # type: ignore[arg-type]
        assert regret_at(trace, about.best, 9.0, spent) == pytest.approx(about.value(best) - about.best)
