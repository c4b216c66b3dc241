"""One simulated search: the real master and the real workers, whatever its seed does to them, and what must hold."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pipeline.master.loop as master_loop
import pipeline.master.process as master_process
from pipeline.errors import RunError, SiteError
from pipeline.files import publish_text
from pipeline.master.events import MasterOutcome
from pipeline.problems.space import serialized_space
from pipeline.run.folder import RunFolder
from pipeline.search.verify import verify
from pipeline.settings import FrozenProblem, MetricSettings, Settings, changed, load_settings
from tests.simulation.cluster import Cluster, Trainings
from tests.simulation.disk import ROOT, Disk
from tests.simulation.faults import Faults
from tests.simulation.guests import Guests
from tests.simulation.invariants import Books, watched
from tests.simulation.network import Network, ProcessNetwork
from tests.simulation.world import Host, Process, World

STEP_S = 0.5
# A proposal of `gp` costs as much as the rest of its evaluation.
GP_SHARE = 0.06
SPACE = serialized_space({"rate": {"lower": 1e-4, "upper": 1.0, "log": True}, "layers": [1, 16], "kind": ["a", "b"]})


@dataclass(frozen=True)
class Outcome:
    """What became of a seed.

    Attributes:
        failures: invariants that did not hold; empty: all did.
        bites: faults that had an effect, by kind.
        digest: of all that happened: another run of the seed has the same.
    """

    seed: int
    failures: list[str]
    bites: dict[str, int]
    evaluations: int
    virtual_s: float
    digest: str = ""
    error: BaseException | None = None


class Simulation:
    """A run, its cluster, whoever starts masters, and the faults."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.world = World(seed, trace)
        chance = self.world.random
        self.settings = _settings(chance)
        self.folder = RunFolder(Path(ROOT) / "run")
        self.disk = Disk(self.world)
        self.network = Network(self.world)
        trainings = Trainings(self.world, self.folder, chance.uniform(0.2, 2.0), chance.choice((0.0, 0.05, 0.15)))
        self.trainings = trainings
        self.cluster = Cluster(self.world, self.network, self.folder, self.settings, trainings)
        self.logins = [Host(self.world, f"login{i}") for i in range(2)]
        largest = 2.0 * 2**3.2
        for i in range(chance.randint(1, 4)):
            small = i > 0 and chance.random() < 0.3
            self.cluster.nodes.append(Host(self.world, f"node{i}", chance.uniform(4, 14) if small else largest))
        self.guests: Guests | None = None
        if chance.random() < 0.15:
            host = Host(self.world, "guesthouse", largest)
            self.guests = Guests(self.world, self.network, self.folder, trainings, host)
        self.books = Books(self)
        self.faults = Faults(self)
        self.masters: list[Process] = []
        self.schedulers: dict[Process, Any] = {}
        self.finished = False
        self.starts = 0
        self._may_start_at = 0.0

    # Whoever starts masters ------------------------------------------------------------------------------------------
    def start_master(self, stopped_s: float = 6.0) -> None:
        """As `submit-search` and `resume-search` do."""
        host = self.world.random.choice([login for login in self.logins if login.is_up])
        process = Process(self.world, host, f"master{self.starts}")
        self.starts += 1
        self.masters.append(process)
        process.on_death.append(lambda: self._master_ended(process))
        network = ProcessNetwork(self.network, process)

        def main() -> MasterOutcome:
            return master_process.run_master(
                self.folder,
                self.settings,
                self.cluster.request,
                host.address,
                stopped_s=stopped_s,
                runtime=process.runtime,
                network=network,
            )

        self.world.note(f"{process.name} starts on {host.name}")
        process.start(main)

    def _master_ended(self, process: Process) -> None:
        self.network.died(process, is_noticed=process.host.is_up)
        self.schedulers.pop(process, None)
        self.masters.remove(process)
        self._may_start_at = self.world.now + self.world.random.uniform(0.5, 15)
        self.world.note(f"{process.name} ended: {process.result or process.error}")
        if process.error is not None and not isinstance(process.error, RunError | SiteError):
            self.world.fail(f"{process.name} ended by {process.error!r}", process.error)
        if isinstance(process.result, MasterOutcome):
            self.books.master_ended(process.result)
            self.finished = process.result.state == "finished" or self.books.found_nothing

    def step(self) -> None:
        """What others do every so often: Slurm starts tasks, a person starts a master."""
        self.cluster.step()
        self.faults.step()
        if self.guests is not None and not self.finished:
            self.guests.step()
        alive = [m for m in self.masters if not m.frozen]
        if not alive and not self.finished and self.world.now >= self._may_start_at:
            self._may_start_at = self.world.now + 20
            if not self.faults.keeps_master_away:
                self.folder_remove_stop()
                self.start_master()
        if not self.finished or self.cluster.running():
            self.world.after(STEP_S, self.step)

    def folder_remove_stop(self) -> None:
        """As `resume-search` does."""
        self.disk.files.take(str(self.folder.stop_request))

    # The whole -------------------------------------------------------------------------------------------------------
    def run(self) -> Outcome:
        """Go from the first draw to the end, and look at everything."""
        with self.disk.mounted(), watched(self), quiet(), _unhurried():
            try:
                self.disk.mkdir(str(self.folder.path))
                publish_text(self.folder.settings, "# Everybody is given the settings.\n")
                self.world.at(0.0, self.step)
                deadline = self.faults.until + 1200 + 4 * self.books.longest_s()
                self.world.run(lambda: self.finished and not self.cluster.running(), deadline)
                if not self.world.failures:
                    self._look_at_the_end()
            finally:
                self.world.close()
        return Outcome(
            self.world.seed,
            self.world.failures,
            self.world.bites,
            len(self.disk.lines(self.folder.results)),
            self.world.now,
            f"{self.world.digest()}-{self.disk.digest()[:16]}",
            self.world.error,
        )

    def _look_at_the_end(self) -> None:
        if not self.finished:
            self.world.fail(f"the search has not ended: {self.books.describe()}")
            return
        if self.cluster.running():
            self.world.fail(
                f"workers stay though the run has ended: {[t.process.name for t in self.cluster.running()]}"
            )
        self.books.look_at_results()
        if not self.faults.lines_were_lost:
            for difference in verify(self.folder, self.settings)[:3]:
                if "it is there 2 times" not in difference or not self.books.was_written_between:
                    self.world.fail(f"verify: {difference}")
        self.books.resume_from_prefixes()


@cache
def _base() -> Settings:
    """A problem with few hyperparameters: the models of `bohb` and `gp` begin early, and drawing costs little."""
    problem = FrozenProblem(name="virtual", module="virtual", metric=MetricSettings(name="error"), space=SPACE)
    settings = load_settings("digits", ["data.root=/tmp", "problem.use=virtual"])
    return changed(settings, {"problem.frozen": problem, "space": {}})


def _settings(chance: random.Random) -> Settings:
    """Settings of a search of 20 to 120 evaluations that nobody has tried so far."""
    rungs = chance.choice((1, 2, 3))
    scheduler = chance.choice(("brackets", "brackets", "asha"))
    method = "gp" if chance.random() < GP_SHARE else chance.choice(("hyperband", "hyperband", "random", "bohb"))
    search = _base().search.model_copy(
        update={
            "method": method,
            "scheduler": scheduler,
            "min_budget": 1.0,
            "max_budget": 3.0 ** (rungs - 1),
            "eta": 3.0,
            "iterations": chance.randint(
                # Random search has one rung, whatever the ladder.
                *{1: (20, 60), 2: (7, 24), 3: (3, 15 if scheduler == "brackets" else 9)}[
                    1 if method == "random" else rungs
                ]
            ),
            "promotion": chance.choice(("continue", "restart")),
            "min_points_in_model": None,
        }
    )
    workers = _base().workers.model_copy(
        update={
            "count": chance.randint(1, 8),
            "patience_s": chance.uniform(8, 20),
            "idle_timeout_min": chance.uniform(0.7, 3),
            "handback_margin_s": chance.uniform(1, 5),
        }
    )
    return _base().model_copy(update={"seed": chance.randrange(10**6), "search": search, "workers": workers})


@contextmanager
def quiet() -> Any:
    """The program's log says nothing, unless somebody listens."""
    loggers = [logging.getLogger("tandem"), logging.getLogger("tandem.worker")]
    level = loggers[0].level
    if level == logging.NOTSET:
        loggers[0].setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        loggers[0].setLevel(level)


@contextmanager
def _unhurried() -> Any:
    """Let masters look at the time less often than real ones: that costs most of a simulation."""
    before = master_loop.TICK_S, master_loop.STATUS_S, master_process.BEAT_S
    master_loop.TICK_S, master_loop.STATUS_S, master_process.BEAT_S = 0.5, 3.0, 2.0
    try:
        yield
    finally:
        master_loop.TICK_S, master_loop.STATUS_S, master_process.BEAT_S = before


def simulate(seed: int, trace: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed."""
    return Simulation(seed, trace).run()
