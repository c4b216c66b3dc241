"""What a proposal costs, refit included, and taking in a result: Tandem's methods beside stock hpbandster's.

    python -m benchmarks.proposals [--stock] [--method bohb ...] [--at 100 1000 5000]

CPU milliseconds of one core on the paper's 17-dimensional space, medians and (the most); random draws, which a share of
all proposals are, are not counted. Every proposal follows a new result, so that the model is fitted again: bohb's each
time, gp's hyperparameters once there are 15% more results. Ten evaluations are under way.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import logging
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np

from pipeline.run.history import Result
from pipeline.search.methods import make_proposer
from pipeline.search.proposers import RandomProposer
from pipeline.search.search import Search
from pipeline.settings import load_settings
from pipeline.settings.space import build_space

BUDGET = 10800.0
METHODS = ("bohb", "gp")


def ours(method: str) -> tuple[Callable[[int, Any, float], None], Callable[[int], object]]:
    """How a method takes in a result and proposes."""
    shares = ["search.random_fraction=0", "search.gp_random_fraction=0"]
    settings = load_settings("cifar10", [f"search.method={method}", *shares])
    space = build_space(settings.space)
    proposer = make_proposer(settings, space)
    draw = RandomProposer(space, 2)
    pending = [(draw.propose((0, 0, i)).configuration, BUDGET) for i in range(10)]
    return (
        lambda i, configuration, loss: proposer.absorb((0, 0, i), configuration, BUDGET, loss),
        lambda i: proposer.plan((1, 0, i), BUDGET, pending)(),
    )


def stock() -> tuple[Callable[[int, Any, float], None], Callable[[int], object]]:
    """The same of hpbandster 0.7.4; results but the last are taken in without fitting."""
    from hpbandster.core.dispatcher import Job
    from hpbandster.optimizers.config_generators.bohb import BOHB

    logging.getLogger("hpbandster").setLevel(logging.ERROR)
    generator = BOHB(build_space(load_settings("cifar10").space), random_fraction=0)

    def absorb(i: int, configuration: Any, loss: float, update: bool = True) -> None:
        job = Job((0, 0, i), config=configuration, budget=BUDGET)
        job.result = {"loss": loss}
        generator.new_result(job, update_model=update)

    return absorb, lambda i: generator.get_config(BUDGET)


def cost_ms(
    absorb: Callable[..., None], propose: Callable[[int], object], at: Sequence[int], tries: int, quietly: bool
) -> dict[int, list[float]]:
    """CPU milliseconds of a result and the proposal after it, by how many results there are before."""
    draw = RandomProposer(build_space(load_settings("cifar10").space), 1)
    random = np.random.default_rng(1)
    configurations = [dict(draw.propose((0, 0, i)).configuration) for i in range(max(at) + len(at) * tries)]
    costs, count = {}, 0
    for n in sorted(at):
        while count < n:
            absorb(count, configurations[count], random.random(), **({"update": False} if quietly else {}))
            count += 1
        times = []
        for _ in range(tries):
            began = time.process_time()
            absorb(count, configurations[count], random.random())
            propose(count)
            times.append(1e3 * (time.process_time() - began))
            count += 1
        costs[n] = times
    return costs


def absorb_ms(count: int) -> list[float]:
    """CPU milliseconds to take each result into a whole search under bohb, brackets and promotions included."""
    search = Search(load_settings("cifar10", ["search.iterations=1000000", "search.random_fraction=1"]))
    random, spent = np.random.default_rng(1), []
    for _ in range(count):
        due = search.next_evaluation()
        assert due is not None
        result = Result(due[0], due[2], 0.0, 0.0, 1.0, random.random(), {"attempt": 1, "training_s": due[2]}, None)
        began = time.process_time()
        search.absorb(result)
        spent.append(1e3 * (time.process_time() - began))
    return spent


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stock", action="store_true", help="stock hpbandster, too (a third of a second a proposal)")
    parser.add_argument("--method", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--at", nargs="+", type=int, default=[100, 1000, 5000], metavar="RESULTS")
    parser.add_argument("--tries", type=int, default=30)
    arguments = parser.parse_args()
    print(
        f"{'ms a proposal, refit included':32s}"
        + "".join(f"{n:>10d}" + 10 * " " for n in sorted(arguments.at))
        + "  results"
    )
    for method in arguments.method:
        _print(method, cost_ms(*ours(method), arguments.at, arguments.tries, quietly=False))
    if arguments.stock:
        _print("stock hpbandster's BOHB", cost_ms(*stock(), arguments.at, min(arguments.tries, 10), quietly=True))
    spent = absorb_ms(5000)
    print(f"{'ms to take in a result (bohb)':32s}{median(spent):10.3f} (mean {np.mean(spent):.3f})")


def _print(name: str, costs: dict[int, list[float]]) -> None:
    print(f"{name:32s}" + "".join(f"{median(costs[n]):10.2f} ({max(costs[n]):7.2f})" for n in sorted(costs)))


if __name__ == "__main__":
    main()
