"""A virtual Slurm: tasks that wait, start on hosts, and become workers; and what workers train."""

from __future__ import annotations

import random
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster import slurm
from pipeline.errors import BrokenError, CrashedError, SiteError
from pipeline.launch.slurm_backend import on_their_way
from pipeline.records import ConfigId, Evaluation, StartedWorkers, TrainResult, WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.run.status import read_status
from pipeline.settings import Settings
from pipeline.worker.worker import run_worker
from tests.simulation.network import Network, ProcessNetwork
from tests.simulation.world import EPOCH, Host, Killed, Process, World, current_process

# From a task's time limit to the end of its processes by force; a site may set Slurm's KillWait so short.
KILL_WAIT_S = 5.0
REFUSED = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying"


@dataclass(frozen=True)
class Nature:
    """What a configuration does to whoever trains it, on every attempt alike.

    Attributes:
        loss: its loss on budget 1.
        memory_gb: what it needs.
        trouble: "", "nan", "error", or "kills" (its worker).
    """

    loss: float
    memory_gb: float
    trouble: str

    @classmethod
    def of(cls, seed: int, config_id: ConfigId, trouble_share: float) -> Nature:
        chance = random.Random(f"{seed}/{config_id}")
        trouble = chance.choice(("nan", "error", "kills")) if chance.random() < trouble_share else ""
        return cls(chance.random(), 2.0 * 2 ** chance.uniform(0, 3.2), trouble)


class Task:
    """An array task: waits, runs as a worker, may be requeued.

    Attributes:
        excluded: nodes on which Slurm must not start it.
        started: when its process was, in s.
    """

    def __init__(self, number: int, ready_at: float, excluded: Set[str]) -> None:
        self.number = number
        self.excluded = excluded
        self.ready_at = ready_at
        self.restarts = 0
        self.process: Process | None = None
        self.started = 0.0
        self.signal: str | None = None

    def in_queue(self, now: float) -> slurm.Task:
        """As squeue shows it."""
        if self.process is None:
            return slurm.Task(str(self.number), "", "PENDING", "0:00", "Resources")
        minutes, seconds = divmod(int(now - self.started), 60)
        return slurm.Task(str(self.number), "", "RUNNING", f"{minutes}:{seconds:02d}", "", self.process.host.name)


class Cluster:
    """Nodes, tasks, and what the master asks for.

    Attributes:
        refuses, is_slow: sbatch fails; tasks wait for long.
        observe: called with the number of workers that a master is about to submit.
    """

    def __init__(self, world: World, network: Network, folder: RunFolder, settings: Settings, evaluate: Any) -> None:
        self.world, self.network, self.folder, self.settings = world, network, folder, settings
        self.evaluate = evaluate
        self.nodes: list[Host] = []
        self.tasks: list[Task] = []
        self.walltime_s = 1e9
        self.refuses = False
        self.is_slow = False
        self.observe: Callable[[int], None] = lambda lacking: None
        self._count = 0

    def request(self, count: int) -> StartedWorkers:
        """Ask for workers that are missing, less those that are on their way, as `SlurmBackend.start_workers` does."""
        master = current_process()
        assert master is not None
        counted, status = master.runtime.time(), read_status(self.folder)
        self.world.suspend(self.world.random.uniform(0.1, 2.0))
        if self.refuses:
            self.world.bite("slurm refuses")
            raise SiteError(REFUSED)
        queue = [task.in_queue(self.world.now) for task in self.tasks]
        lacking = max(0, count - len(on_their_way(queue, status, self.settings, counted, master.runtime.time())))
        self.observe(lacking)
        suspected = set() if status is None else set(status.suspected_nodes)
        excluded = suspected if {node.name for node in self.nodes} - suspected else set()
        return StartedWorkers(tuple(self.submit(excluded) for _ in range(lacking)))

    def submit(self, excluded: Set[str] = frozenset()) -> str:
        """Put a task into the queue; its id."""
        random = self.world.random
        wait_s = random.uniform(0.5, 4.0)
        if self.is_slow:
            self.world.bite("slurm delays")
            wait_s += random.uniform(5, 60)
        self._count += 1
        self.tasks.append(Task(self._count, self.world.now + wait_s, excluded))
        return str(self._count)

    def step(self) -> None:
        """Start the tasks whose turn it is."""
        for task in self.tasks:
            if task.process is None and self.world.now >= task.ready_at:
                free = [node for node in self.nodes if node.is_up and self._running_on(node) < node.slots]
                if free:
                    node = self.world.random.choice(free)
                    allowed = [other for other in (node, *free) if other.name not in task.excluded]
                    if allowed:
                        self._start(task, allowed[0])

    def running(self) -> list[Task]:
        """Tasks that are workers now."""
        return [task for task in self.tasks if task.process is not None]

    def _running_on(self, node: Host) -> int:
        return sum(task.process is not None and task.process.host is node for task in self.tasks)

    def _start(self, task: Task, node: Host) -> None:
        restarted = f"-r{task.restarts}" if task.restarts else ""
        process = task.process = Process(self.world, node, f"{node.name}-{task.number}{restarted}")
        task.signal, task.started = None, self.world.now
        end = EPOCH + self.world.now + self.walltime_s + node.clock_offset_s
        identity = WorkerIdentity(process.name, node.name, str(task.number))
        network = ProcessNetwork(self.network, process)
        self.world.note(f"{process.name} starts")
        process.on_death.append(lambda: self._ended(task, process))
        self.world.after(self.walltime_s + KILL_WAIT_S, lambda: self._time_is_up(task, process))

        def main() -> Any:
            self.world.suspend(self.world.random.uniform(0.2, 2.0))  # imports
            return run_worker(
                self.folder,
                identity,
                self.settings,
                should_stop=lambda: task.signal,
                allocation_end=end if self.walltime_s < 1e8 else None,
                evaluate=lambda evaluation, should_stop: self.evaluate(process, evaluation, should_stop),
                device="virtual",
                memory_mb=1000.0 * node.memory_gb,
                runtime=process.runtime,
                network=network,
            )

        process.start(main)

    def _time_is_up(self, task: Task, process: Process) -> None:
        if task.process is process and not process.is_dead:
            self.world.bite("killed at the time limit")
            process.kill()

    def _ended(self, task: Task, process: Process) -> None:
        """A worker's process is gone: requeued if its time was up or its node failed, else over."""
        self.network.died(process, is_noticed=process.host.is_up)
        task.process = None
        if process.error is not None and not isinstance(process.error, SiteError):
            self.world.fail(f"{process.name} ended by {process.error!r}", process.error)
        requeued = process.result in ("allocation_end", "signal USR2") or not process.host.is_up
        if process.result is None and process.host.is_up:
            requeued = self.world.random.random() < 0.3
        if requeued:
            self.world.bite("slurm requeues")
            task.restarts += 1
            task.ready_at = self.world.now + self.world.random.uniform(1, 40)
        else:
            self.tasks.remove(task)
            self.world.note(f"{process.name} left: {process.result}")


class Trainings:
    """What an evaluation is here: seconds that pass, checkpoints, and whatever its configuration and host do to it.

    Attributes:
        deaths: of workers, by what their configuration or their host did, for the books.
    """

    def __init__(self, world: World, folder: RunFolder, speed: float, trouble_share: float) -> None:
        self.world, self.folder, self.speed, self.trouble_share = world, folder, speed, trouble_share
        self.checkpoint_s = 2.0
        self.device_lost: set[Process] = set()

    def nature(self, config_id: ConfigId) -> Nature:
        return Nature.of(self.world.seed, config_id, self.trouble_share)

    def loss(self, config_id: ConfigId, budget: float) -> float:
        """Depends on configuration and budget alone."""
        return 0.05 + self.nature(config_id).loss / (1 + 0.1 * budget)

    def __call__(self, process: Process, evaluation: Evaluation, should_stop: Callable[[], str | None]) -> TrainResult:
        world, host = self.world, process.host
        nature = self.nature(evaluation.config_id)
        world.suspend(world.random.uniform(0.05, 0.5))
        if host.is_broken:
            world.bite("broken installation on a node")
            raise BrokenError("the data is missing")
        if nature.memory_gb > host.memory_gb:
            world.bite("out of memory on a small node")
            raise CrashedError("out_of_memory", f"{nature.memory_gb:.0f} GB do not fit into {host.memory_gb:.0f}")
        self._write(self.folder.attempt(evaluation.config_id, evaluation.budget, evaluation.attempt), 0.0)
        trained_s = self._resume(evaluation)
        while trained_s < evaluation.budget:
            reason = should_stop()
            if reason:
                self._checkpoint(evaluation, trained_s)
                return TrainResult("handed_back", None, {}, reason)
            step = min(self.checkpoint_s, evaluation.budget - trained_s)
            world.suspend(step * self.speed)
            trained_s += step
            self._misbehave(process, nature)
            if trained_s < evaluation.budget:
                self._checkpoint(evaluation, trained_s)
        self._checkpoint(evaluation, trained_s)
        info = {"training_s": trained_s}
        return TrainResult("finished", self.loss(evaluation.config_id, evaluation.budget), info)

    def _misbehave(self, process: Process, nature: Nature) -> None:
        if process in self.device_lost:
            self.world.bite("GPU lost")
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if nature.trouble == "nan":
            raise CrashedError("not_finite", "the loss is nan")
        if nature.trouble == "error":
            raise ZeroDivisionError("division by zero")
        if nature.trouble == "kills":
            self.world.bite("a configuration kills its worker")
            process.kill()
            raise Killed

    def _checkpoint(self, evaluation: Evaluation, trained_s: float) -> None:
        self._write(self.folder.checkpoint(evaluation.config_id, evaluation.budget, evaluation.attempt), trained_s)

    def _write(self, path: Path, trained_s: float) -> None:
        """Not as checkpoints are written, whose safety `tests/unit/training` sees to: it may be half when it dies."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{trained_s!r}\n", encoding="utf-8")

    def _resume(self, evaluation: Evaluation) -> float:
        candidates = [(evaluation.budget, number) for number in range(evaluation.attempt - 1, 0, -1)]
        if evaluation.continues is not None:
            candidates.append((evaluation.continues.budget, evaluation.continues.attempt))
        for budget, number in candidates:
            path = self.folder.checkpoint(evaluation.config_id, budget, number)
            if path.exists() and (text := path.read_text(encoding="utf-8")).endswith("\n"):
                return float(text)
        return 0.0
