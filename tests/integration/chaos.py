"""Disturb a search in every way that a cluster knows, at random moments, and see whether it is the same search.

Workers are killed, and stopped and continued; the master is killed and started again; clients connect and say nothing,
or nonsense; files are truncated, as a crash or a careless hand leaves them. The faults are drawn from a seed.

    python -m tests.integration.chaos                        # at least 200 evaluations and 50 faults per variant
    python -m tests.integration.chaos --variant bohb-many --seed 7

Variants: random (random proposals: the set of evaluations equals the undisturbed run's), bohb-one (one worker: the
sequences are identical), bohb-many (`tandem verify` finds nothing), trainer (as random, with real training).
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.rpc.master_address import read_master_address
from pipeline.run.folder import RunFolder
from pipeline.run.history import read_history, read_journal
from pipeline.search.verify import verify
from tests.integration.surrogate import make_run, read_settings, start_master, start_trainer, start_worker

VARIANTS = ("random", "bohb-one", "bohb-many", "trainer")
LIMIT_S = 900.0


@dataclass
class Chaos:
    """A search under fire.

    Attributes:
        faults: how many of each kind have happened.
        harmless: truncations cut no line that was acknowledged (what a crash leaves, not what a hand does).
    """

    folder: RunFolder
    workers: int
    seconds: float
    seed: int
    trains: bool = False
    harmless: bool = False
    master: subprocess.Popen | None = None
    living: dict[str, subprocess.Popen] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    stopped: dict[str, float] = field(default_factory=dict)
    silent: list[socket.socket] = field(default_factory=list)
    faults: Counter = field(default_factory=Counter)
    masters: int = 0
    started: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def run(self, faults: int, pause_s: float) -> None:
        """Run the search to its end, with `faults` faults on average `pause_s` apart (0: undisturbed)."""
        deadline = time.monotonic() + LIMIT_S
        self.start_master()
        while len(self.living) < self.workers:
            self.start_worker()
        due = time.monotonic() + pause_s
        try:
            while self.master.poll() is None or self.master.returncode != 0:
                assert time.monotonic() < deadline, "the search did not end in time"
                assert self.master.poll() in (None, 0, -signal.SIGKILL), "the master ended by an error"
                self.mend()
                if sum(self.faults.values()) < faults and time.monotonic() > due:
                    self.one_fault()
                    due = time.monotonic() + self.random.uniform(0.2, 1.8) * pause_s
                time.sleep(0.02)
        finally:
            self.end()

    def end(self) -> None:
        for client in self.silent:
            client.close()
        for process in [self.master, *self.living.values()]:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    # Keeping it going --------------------------------------------------------------------------------------------
    def start_master(self) -> None:
        self.masters += 1
        self.master = start_master(self.folder)

    def start_worker(self) -> None:
        name = f"w{self.started}"
        self.started += 1
        self.began[name] = time.monotonic()
        self.living[name] = start_trainer(self.folder, name) if self.trains else self._surrogate(name)

    def _surrogate(self, name: str) -> subprocess.Popen:
        return start_worker(self.folder, name, seconds=self.seconds)

    def mend(self) -> None:
        """What Slurm and people do: start again what has died, and let go on what was stopped."""
        if self.master.poll() not in (None, 0):
            self.start_master()
        for name, until in list(self.stopped.items()):
            if time.monotonic() > until:
                self.living[name].send_signal(signal.SIGCONT)
                del self.stopped[name]
        for name, process in list(self.living.items()):
            if process.poll() is not None:
                del self.living[name]
                self.stopped.pop(name, None)
        while self.master.poll() is None and len(self.living) < self.workers:
            self.start_worker()

    # Faults ------------------------------------------------------------------------------------------------------
    def one_fault(self) -> None:
        kinds = {
            self.kill_worker: 4,
            self.stop_worker: 4,
            self.kill_master: 2,
            self.connect_silently: 2,
            self.talk_nonsense: 1,
            self.spoil_published_file: 1,
        }
        fault = self.random.choices(list(kinds), list(kinds.values()))[0]
        fault()
        self.faults[fault.__name__] += 1

    def some_worker(self) -> str:
        """Rather one that has had the time to begin."""
        experienced = [name for name in self.living if time.monotonic() - self.began[name] > 3]
        return self.random.choice(sorted(experienced or self.living))

    def kill_worker(self) -> None:
        self.living[self.some_worker()].kill()

    def stop_worker(self) -> None:
        name = self.some_worker()
        self.living[name].send_signal(signal.SIGSTOP)
        # Sometimes within the run's patience, sometimes beyond.
        self.stopped[name] = time.monotonic() + self.random.uniform(0.2, 1.5) * 6

    def kill_master(self) -> None:
        self.master.kill()
        self.master.wait()
        if self.random.random() < 0.7:
            self.truncate()
        time.sleep(self.random.uniform(0, 1))

    def truncate(self) -> None:
        """Cut the end of a file, in the midst of a line; or leave half a line, as a crash does."""
        path = self.random.choice([self.folder.results, self.folder.configs, self.folder.journal])
        content = path.read_bytes() if path.exists() else b""
        if not content:
            return
        last = content[content.rstrip(b"\n").rfind(b"\n") + 1 :]
        cut = self.random.randrange(1, len(last))
        # A draw whose result is on disk is not the end of a file that anything but a hand could have cut.
        if self.harmless or path == self.folder.configs:
            path.write_bytes(content + last[:cut])
        else:
            path.write_bytes(content[:-cut])
        self.faults["truncate"] += 1

    def spoil_published_file(self) -> None:
        path = self.random.choice([self.folder.status, self.folder.master_address])
        if path.exists():
            path.write_bytes(path.read_bytes()[:40])

    def connect_silently(self) -> None:
        address = read_master_address(self.folder)
        if address is not None:
            for _ in range(5):
                try:
                    self.silent.append(socket.create_connection((address.address, address.port), timeout=1))
                except OSError:
                    return  # there is no master at this moment

    def talk_nonsense(self) -> None:
        self.connect_silently()
        for client in self.silent[-1:]:
            try:
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            except OSError:
                return


def settings_of(variant: str, iterations: int) -> list[str]:
    """Overrides for `make_run`."""
    common = [f"search.iterations={iterations}", "workers.patience_s=6", "workers.max_attempts=9"]
    method = "bohb" if variant.startswith("bohb") else "hyperband"
    if variant == "trainer":
        batches = ["search.budget_unit=batches", "search.min_budget=4", "search.max_budget=36"]
        common += [*batches, "training.threads=1", "training.checkpoint_interval_s=0.5", "training.test=never"]
    return [*common, f"search.method={method}"]


def evaluations_of(folder: RunFolder) -> set[tuple]:
    """(config_id, configuration, budget, loss) of every result; each evaluation may be there only once."""
    history = read_history(folder)
    configurations = {d.config_id: tuple(sorted(d.configuration.items())) for d in history.draws}
    evaluations = [(r.config_id, configurations[r.config_id], r.budget, r.loss) for r in history.results]
    assert len({e[::2] for e in evaluations}) == len(evaluations), "an evaluation is there twice"
    return set(evaluations)


def sequence_of(folder: RunFolder) -> tuple[list, list]:
    """Draws and results in order."""
    history = read_history(folder)
    draws = [(d.config_id, dict(d.configuration)) for d in history.draws]
    return draws, [(r.config_id, r.budget, r.loss) for r in history.results]


def disturbed_and_undisturbed(
    path: Path, variant: str, iterations: int, faults: int, seed: int, pause_s: float, seconds: float
) -> tuple[Chaos, Chaos]:
    """Run the search twice; both have ended well when this returns, and what the variant promises was checked.

    Args:
        pause_s: between faults, on average.
        seconds: that an evaluation sleeps in the disturbed search.
    """
    runs = []
    for name, count in (("undisturbed", 0), ("disturbed", faults)):
        overrides = settings_of(variant, iterations)
        if variant == "trainer":
            overrides.append(f"data.root={path / 'data'}")
        folder = make_run(path / name, *overrides)
        if variant == "trainer":
            from pipeline.training.data import prepare_data

            prepare_data(read_settings(folder).data)
        chaos = Chaos(
            folder,
            workers={"bohb-one": 1, "trainer": 2}.get(variant, 3),
            seconds=seconds if count else 0.01,
            seed=seed,
            trains=variant == "trainer",
            harmless=variant.startswith("bohb"),
        )
        chaos.run(count, pause_s)
        runs.append(chaos)
    undisturbed, disturbed = runs
    before, after = evaluations_of(undisturbed.folder), evaluations_of(disturbed.folder)
    if variant in ("random", "trainer"):
        assert after == before, f"differences: {sorted(after ^ before)[:3]}"
    if variant == "bohb-one":
        assert sequence_of(disturbed.folder) == sequence_of(undisturbed.folder)
    if variant != "random" and variant != "trainer":
        assert verify(disturbed.folder) == []
    return undisturbed, disturbed


def report(variant: str, chaos: Chaos, seconds: float) -> str:
    journal = read_journal(chaos.folder)
    outcomes = Counter(e["outcome"] for e in journal if e["event"] == "returned")
    count = len(read_history(chaos.folder).results)
    faults = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in sorted(chaos.faults.items()))
    return (
        f"{variant}: {count} evaluations, {sum(chaos.faults.values())} faults ({faults}), {chaos.masters} masters, "
        f"{chaos.started} workers, {outcomes['lost']} attempts lost, {seconds:.0f} s: as undisturbed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--iterations", type=int, default=32, help="brackets; 32 are 213 evaluations")
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    for variant in [options.variant] if options.variant else VARIANTS:
        path = (options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))) / variant
        began = time.monotonic()
        iterations = 5 if variant == "trainer" and options.iterations == 32 else options.iterations
        pause_s = 1.5 if variant == "trainer" else 0.9
        seconds = 0.25 if variant == "bohb-one" else 0.7
        _, chaos = disturbed_and_undisturbed(path, variant, iterations, options.faults, options.seed, pause_s, seconds)
        print(report(variant, chaos, time.monotonic() - began), flush=True)
        if options.keep is None:
            shutil.rmtree(path.parent)


if __name__ == "__main__":
    sys.exit(main())
