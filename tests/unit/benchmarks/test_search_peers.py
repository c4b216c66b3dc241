"""Peers as processes: the JSON lines, and how their failures are told. No peer's package is needed here."""

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.search.peers import client, environments
from benchmarks.search.peers.client import PeerMethod
from benchmarks.search.protocol import Simulation
from benchmarks.search.suite import problem

# As a peer's adapter is written, with Python's own library alone.
ADAPTER = """
import random

class Adapter:
    def __init__(self, start):
        print("packages may print")
        self.random, self.start, self.told = random.Random(start["seed"]), start, 0

    def ask(self):
        if self.start["method"].endswith("waits") and self.told == 0 and self.random is None:
            return None
        if self.start["method"].endswith("dies") and self.told == 2:
            raise ValueError("no more ideas")
        values = {h["name"]: self.random.uniform(h["lower"], h["upper"]) for h in self.start["space"]}
        if self.start["method"].endswith("waits"):
            self.random, self.told = None, 0
        return values, self.start["budgets"][-1], "handle"

    def tell(self, handle, loss, cost_s, curve):
        assert handle == "handle" and curve[-1] == [self.start["budgets"][-1], loss]
        self.random, self.told = self.random or random.Random(self.told), self.told + 1
"""


@pytest.fixture(autouse=True)
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in client.ADAPTERS.glob("s*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "adapter_mine.py").write_text(ADAPTER)
    monkeypatch.setattr(client, "ADAPTERS", tmp_path)
    monkeypatch.setattr(client, "python_of", lambda peer: sys.executable)


def simulate(name: str, seed: int = 0, workers: Any = 1) -> Any:
    about = problem("hartmann3")
    method = PeerMethod(about, f"mine.{name}", seed, workers)
    try:
        simulation = Simulation(about, method, seed, workers, 5.0)
        return simulation.run(), simulation
    finally:
        method.close()


def test_a_peer_is_asked_and_told_and_its_processor_time_counts() -> None:
    trace, _ = simulate("random")
    assert len(trace.spent) == 5
    assert trace.proposal_s > 0
    assert simulate("random")[0].loss == trace.loss
    assert simulate("random", seed=1)[0].loss != trace.loss


def test_a_peer_that_lets_a_worker_wait_is_asked_again_after_the_next_result() -> None:
    trace, simulation = simulate("waits", workers=3)
    assert len(trace.spent) == 5
    assert simulation.most_running == 1


def test_a_peer_that_dies_says_why() -> None:
    with pytest.raises(RuntimeError, match="no more ideas"):
        simulate("dies")


def test_every_peer_of_the_comparison_has_an_adapter_and_pinned_requirements() -> None:
    from benchmarks.search.methods import PEER_METHODS

    folder = environments.REQUIREMENTS.parent / "adapters"
    assert set(PEER_METHODS) == set(environments.peers())
    for peer in PEER_METHODS:
        assert (folder / f"adapter_{peer}.py").is_file()
        lines = (environments.REQUIREMENTS / f"{peer}.txt").read_text().splitlines()
        assert all("==" in line for line in lines if not line.startswith("#"))
