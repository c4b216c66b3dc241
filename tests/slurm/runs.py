"""A run on the test cluster, used as a person uses it: through the command line, from a host's shell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.files import publish_text
from pipeline.run.folder import RunFolder
from pipeline.run.history import Result, read_history, read_journal
from pipeline.run.identity import run_label
from pipeline.run.status import RunStatus, read_status
from tests.slurm.cluster import Cluster
from tests.slurm.gate import GATE
from tests.slurm.hosts import USER, wait_until

CHECKOUT = Path(__file__).parents[2]

# Digits and the smallest networks of the space: a batch takes milliseconds, so that a run is a matter of seconds.
SMALL = {
    "data.root": None,  # set by the fixture
    "space.nr_residual_blocks_1": [1, 2],
    "space.nr_residual_blocks_2": [1, 2],
    "space.nr_residual_blocks_3": [1, 2],
    "space.initial_filters": [8, 9],
    "space.widen_factor_1": [0.5, 1.0],
    "space.widen_factor_2": [0.5, 1.0],
    "space.widen_factor_3": [0.5, 1.0],
    "space.res_branches_1": [1, 2],
    "space.res_branches_2": [1, 2],
    "space.res_branches_3": [1, 2],
    "search.budget_unit": "batches",
    "search.min_budget": 1,
    "search.max_budget": 9,
    "search.iterations": 1,
    "training.device": "cpu",
    "training.threads": 1,
    "training.checkpoint_interval_s": 1,
    "workers.count": 2,
    "workers.patience_s": 15,
    "slurm.gpus_per_worker": 1,
    "slurm.cpus_per_worker": 1,
    "slurm.mem_gb": 0.5,
    "slurm.walltime_min": 10,
}

# Evaluations that wait at a gate, one in a bracket: `Run.let_through` opens it.
AT_GATE = {
    **{name: value for name, value in SMALL.items() if name.partition(".")[0] not in ("space", "data")},
    "problem.use": CHECKOUT / "tests/slurm/gate.py",
    "space": "{}",
    "search.method": "random",
    "search.max_budget": 1,
    "search.iterations": 2,
}
# A search from its submission to its end, on a machine that others keep busy.
LIMIT_S = 600


class Shell:
    """The shell of one of `USERS` on the login node, or on another host that may submit."""

    def __init__(self, cluster: Cluster, home: Path, data: Path, user: str = USER) -> None:
        self.cluster = cluster
        self.home = home
        self.user = user
        self._data = data

    def tandem(self, *arguments: str, host: str = "login", check: bool = True) -> str:
        """What `tandem ...` prints; standard error follows standard output."""
        done = self.cluster.run(
            host, sys.executable, "-m", "pipeline.cli", *arguments, check=check, user=self.user,
            env={"TANDEM_RESULTS": str(self.home / "results"), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        return done.stdout + done.stderr

    def settings(self, **changed: Any) -> list[str]:
        """`--set` options of a small run; in names of settings, a double underscore stands for the dot."""
        return self._options({**SMALL, "data.root": self._data}, changed)

    @staticmethod
    def _options(base: Mapping[str, Any], changed: Mapping[str, Any]) -> list[str]:
        values = {**base, **{name.replace("__", "."): value for name, value in changed.items()}}
        return [word for name, value in values.items() for word in ("--set", f"{name}={_yaml(value)}")]

    def submit(self, **changed: Any) -> Run:
        """Submit a small run that trains."""
        return self._submit(self.settings(**changed))

    def submit_at_gate(self, **changed: Any) -> Run:
        """Submit a run of as many evaluations as brackets, each of which waits for `Run.let_through`."""
        return self._submit(self._options(AT_GATE, changed))

    def submit_file(self, settings: Path, **changed: Any) -> Run:
        """Submit the search of a settings file."""
        return self._submit(["-p", str(settings), *self._options({}, changed)])

    def _submit(self, options: list[str]) -> Run:
        before = set(self.home.glob("results/*/settings.yaml"))
        said = self.tandem("submit-search", *options)
        (made,) = {path for path in self.home.glob("results/*/settings.yaml") if not path.parent.is_symlink()} - before
        return Run(self, RunFolder(made.parent), said)

    def hasten_requeued(self, name: str) -> None:
        """Let requeued jobs of a name start now: Slurm holds them back for two minutes, a person need not wait."""
        waiting = self.cluster.output(
            "login", "squeue", "-h", "-n", name, "-t", "PENDING", "-o", "%i|%r|%S"
        ).splitlines()
        for job, reason, start in (line.split("|") for line in waiting):
            if (
                reason == "BeginTime"
                and start != "N/A"
                and datetime.fromisoformat(start) > datetime.now() + timedelta(seconds=10)
            ):
                hasten = ("scontrol", "update", f"JobId={job}", "StartTime=now+3")
                self.cluster.run("login", *hasten, check=False, user=self.user)

    def state(self, job: str) -> str:
        """Slurm's state of a job, also of one that has ended."""
        return self.cluster.output("login", "squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()

    def end_masters(self) -> None:
        """Kill the masters on the login node of runs that have not ended; by the process ids they wrote down there."""
        for settings in self.home.glob("results/*/settings.yaml"):
            status = read_status(RunFolder(settings.parent))
            if status is not None and status.host == "login" and not status.has_ended:
                self.cluster.run("login", "kill", "-9", str(status.pid), check=False)

    def sbatch(self, *arguments: str, check: bool = True) -> str:
        """Submit a script of the checkout as a person does from there; returns the job's id."""
        words = ("sbatch", "--parsable", f"--chdir={self.home}", *arguments)
        environment = {"TANDEM_HOME": str(CHECKOUT), "TANDEM_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
        return self.cluster.output("login", *words, env=environment, check=check, user=self.user).strip()

    def scancel(self, *arguments: str) -> None:
        """Cancel or signal one's own jobs."""
        self.cluster.run("login", "scancel", *arguments, user=self.user)


def _yaml(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)


class Run:
    """A run that was submitted.

    Attributes:
        said: what `submit-search` printed.
    """

    def __init__(self, shell: Shell, folder: RunFolder, said: str = "") -> None:
        self.shell = shell
        self.folder = folder
        self.said = said
        self.name = f"tandem-{run_label(folder)}"
        self.master_name = f"tandem-master-{run_label(folder)}"

    def tandem(self, command: str, *arguments: str, host: str = "login") -> str:
        """What `tandem COMMAND` prints of this run."""
        return self.shell.tandem(command, str(self.folder.path), *arguments, host=host)

    def let_through(self, count: int = 1000) -> None:
        """Let the evaluations of the first so many brackets of a run at the gate end."""
        publish_text(self.folder.path / GATE, str(count))

    def worker_options(self) -> list[str]:
        """sbatch's options for a worker of this run that is submitted by hand."""
        return self.tandem("worker-options").split()

    @property
    def status(self) -> RunStatus | None:
        """What the master last said."""
        return read_status(self.folder)

    @property
    def results(self) -> tuple[Result, ...]:
        """Every result so far."""
        return read_history(self.folder).results

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The journal's events of a kind, oldest first."""
        return [event for event in read_journal(self.folder) if event["event"] == kind]

    def wait(self, condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
        """Wait for something to become true of this run, or say what the master and the workers logged."""
        try:
            wait_until(condition, limit_s, what, 0.2)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def wait_for_workers(self, count: int, limit_s: float = LIMIT_S) -> None:
        """Wait until so many workers train."""
        self.wait(lambda: len(self.training()) >= count, f"{count} workers training", limit_s)

    def training(self) -> dict[str, str]:
        """Host by name of the workers that train now."""
        return {w.name: w.host for w in (self.status.workers if self.status else ()) if w.state == "training"}

    def wait_for_end(self, state: str = "finished", limit_s: float = LIMIT_S) -> None:
        """Wait until the run has ended, and check how."""
        self.wait(lambda: self.status is not None and self.status.has_ended, "the run to end", limit_s)
        assert self.status is not None
        assert self.status.state == state, self.logs()
        self.wait(lambda: not self.queue(), "its tasks to leave the queue")

    def queue(self) -> dict[str, str]:
        """Slurm's state by task of this run's workers."""
        lines = self.shell.cluster.output("login", "squeue", "-hr", "-n", self.name, "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def logs(self) -> str:
        """The ends of every log of this run."""
        paths = [*sorted(self.folder.logs.glob("*.log")), *sorted(self.folder.jobs.glob("*.out"))]
        return "\n".join(f"--- {path}\n" + "\n".join(path.read_text().splitlines()[-25:]) for path in paths)

    def assert_each_evaluation_has_one_result(self) -> None:
        """No evaluation was lost, none counted twice."""
        keys = [(result.config_id, result.budget) for result in self.results]
        assert len(keys) == len(set(keys))
        assert self.status is not None
        assert len(keys) == self.status.planned
