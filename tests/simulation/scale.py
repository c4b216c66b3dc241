"""The paper's search with ten to ten thousand workers, on a virtual clock and without faults: what bounds it.

Budgets are sixty times shorter than the paper's, so that the master has sixty times as much to do in a second as it
would have: what it can do here it can do there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.master.process as master_process
from pipeline.files import publish_text
from pipeline.master.events import MasterOutcome
from pipeline.records import Evaluation, TrainResult, WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.search.brackets import bracket_shape
from pipeline.settings import budget_ladder, dump_settings, load_settings
from pipeline.worker.worker import run_worker
from tests.simulation.disk import ROOT, Disk
from tests.simulation.network import Network, ProcessNetwork
from tests.simulation.simulation import quiet
from tests.simulation.world import Host, Process, World

SHORTER = 60.0
ITERATIONS = 64


class Scale:
    """One search with so many workers, all there from the beginning."""

    def __init__(self, workers: int) -> None:
        self.world = World(0)
        self.workers = workers
        self.disk, self.network = Disk(self.world), Network(self.world)
        self.folder = RunFolder(Path(ROOT) / "run")
        low, high = 400 / SHORTER, 10800 / SHORTER
        sizes = [f"search.min_budget={low!r}", f"search.max_budget={high!r}", f"search.iterations={ITERATIONS}"]
        patience = f"workers.patience_s={max(60, workers / 10):g}"
        self.settings = load_settings(
            "cifar10", [*sizes, "search.method=hyperband", f"workers.count={workers}", patience]
        )
        self.trained_s = 0.0
        self.begun: list[float] = []
        self.master = Process(self.world, Host(self.world, "login0"), "master")
        self.master.is_measured = True
        self.outcome: MasterOutcome | None = None

    def run(self) -> str:
        """Run it; a line about it."""
        began = time.process_time()
        with self.disk.mounted(), quiet():
            try:
                self.disk.mkdir(str(self.folder.path))
                publish_text(self.folder.settings, dump_settings(self.settings))
                self.master.start(self._be_master)
                node = Host(self.world, "node0")
                for number in range(self.workers):
                    self._start_worker(node, number)
                self.world.run(lambda: self.outcome is not None, 1e7)
            finally:
                self.world.close()
        return self._line(time.process_time() - began)

    def _line(self, cpu_s: float) -> str:
        assert self.outcome is not None, self.world.failures
        assert self.outcome.state == "finished", self.outcome
        ended_s = self.world.now
        used = self.trained_s / (self.workers * ended_s)
        bound = max(self.trained_s / self.workers, self._longest_chain_s())
        what = "the workers" if bound > self._longest_chain_s() else "one bracket"
        first = min(self.workers, self._side_by_side())
        begun_s = sorted(self.begun)[first - 1]
        return (
            f"{self.workers:6,d} workers: {len(self.begun):,} evaluations in {ended_s:,.0f} virtual s; the {first:,} "
            f"that wait for nobody begun within {begun_s:.1f} s; utilisation {used:.0%}; no schedule beats "
            f"{bound:,.0f} s, bounded by {what}; master CPU {self.master.cpu_s:.1f} s of {cpu_s:.0f}"
        )

    def _side_by_side(self) -> int:
        """Evaluations that need no result of another: those of every bracket's lowest rung."""
        ladder, eta = budget_ladder(self.settings.search), self.settings.search.eta
        return sum(bracket_shape(ladder, eta, number)[0][0] for number in range(ITERATIONS))

    def _longest_chain_s(self) -> float:
        """A bracket trains its last configuration for the whole of the largest budget, one rung after the other."""
        return float(self.settings.search.max_budget)

    def _be_master(self) -> None:
        self.outcome = master_process.run_master(
            self.folder, self.settings, None, "login0",
            runtime=self.master.runtime, network=ProcessNetwork(self.network, self.master),
        )  # fmt: skip

    def _start_worker(self, node: Host, number: int) -> None:
        process = Process(self.world, node, f"w{number}")
        process.on_death.append(lambda: self.network.died(process, is_noticed=True))

        def evaluate(evaluation: Evaluation, should_stop: Callable[[], str | None]) -> TrainResult:
            self.begun.append(self.world.now)
            lower = evaluation.continues.budget if evaluation.continues is not None else 0.0
            self.world.suspend(evaluation.budget - lower)
            self.trained_s += evaluation.budget - lower
            loss = 0.1 + (hash(evaluation.config_id) % 1000) / 1e4
            return TrainResult("finished", loss, {"training_s": evaluation.budget})

        def main() -> Any:
            identity = WorkerIdentity(process.name, node.name)
            network = ProcessNetwork(self.network, process)
            return run_worker(
                self.folder, identity, self.settings,
                evaluate=evaluate, device="virtual", memory_mb=0.0, runtime=process.runtime, network=network,
            )  # fmt: skip

        process.start(main)
