"""What goes wrong, and when: a seed takes some kinds of faults, and lets them happen at random until it stops.

`KINDS` lists every kind that must have bitten somewhere when many seeds have run; a kind that never does is a fault of
the test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.world import Host, Process

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

# Kinds that bite inside the network, the disk, the cluster and the trainings, which tell themselves.
PASSIVE = (
    "message delayed",
    "message lost",
    "message doubled",
    "disk full",
    "disk answers EIO",
    "disk stalls",
    "death between file operations",
    "slurm refuses",
    "slurm delays",
    "slurm requeues",
    "out of memory on a small node",
    "a configuration kills its worker",
    "GPU lost",
    "broken installation on a node",
    "killed at the time limit",
    "a stock worker delivers",
    "a worker refuses",
)


class Faults:
    """The faults of one seed.

    Attributes:
        until: when they stop, in s; everything is mended then.
        keeps_master_away: nobody starts a master at present.
        lines_were_lost: whether acknowledged lines have been cut off a file.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.world = simulation.world
        chance = self.world.random
        self.until = chance.uniform(40, 200)
        self.keeps_master_away = False
        self.lines_were_lost = False
        self._interval_s = chance.uniform(4, 40)
        share = chance.choice((0.15, 0.3, 0.6))
        self._enabled = [act for act in self.events().values() if chance.random() < share]
        self._is_over = False
        if chance.random() < 0.2:
            simulation.network.loss = chance.uniform(0.002, 0.05)
        if chance.random() < 0.2:
            simulation.network.doubling = chance.uniform(0.01, 0.1)
        if chance.random() < 0.2:
            simulation.network.slowness = chance.uniform(0.01, 0.1)
        if chance.random() < 0.1:
            simulation.cluster.walltime_s = chance.uniform(15, 60)

    def events(self) -> dict[str, Callable[[], None]]:
        """What can happen at a moment, by kind."""
        return {
            "worker frozen for a moment": self.freeze_worker,
            "worker frozen beyond the patience": self.freeze_worker_for_long,
            "worker killed": self.kill_worker,
            "worker warned to leave": self.warn_worker,
            "worker preempted": self.preempt_worker,
            "worker takes nothing": self.let_worker_refuse,
            "node lost": self.lose_node,
            "GPU of a worker": self.lose_gpu,
            "node's installation": self.break_node,
            "network parted": self.part,
            "master paused": self.pause_master,
            "master killed": self.kill_master,
            "master dies at a file": self.doom_master,
            "worker dies at a file": self.doom_worker,
            "master superseded": self.supersede_master,
            "master's host lost": self.lose_login,
            "no master for long": self.keep_master_away,
            "lines lost": self.lose_lines,
            "full disk": self.fill_disk,
            "failing disk": self.fail_disk,
            "stalling disk": self.stall_disk,
            "clock of a host jumps": self.jump_clock,
            "slurm down": self.refuse,
            "slurm slow": self.slow_down,
            "stopped and resumed": self.stop,
        }

    def step(self) -> None:
        """Perhaps let something happen."""
        if self.world.now >= self.until:
            if not self._is_over:
                self._is_over = True
                self.mend()
            return
        if self._enabled and self.world.random.random() < 0.5 / self._interval_s:
            self.world.random.choice(self._enabled)()

    def mend(self) -> None:
        """From now on nothing goes wrong."""
        world, simulation = self.world, self.simulation
        world.note("--- faults stop")
        for process in list(world.processes):
            process.thaw()
        for host in world.hosts:
            host.is_up, host.is_broken = True, False
        simulation.network.loss = simulation.network.doubling = simulation.network.slowness = 0.0
        simulation.network.blocked.clear()
        simulation.network.refusing.clear()
        simulation.disk.is_full, simulation.disk.failing, simulation.disk.stalling = False, 0.0, 0.0
        simulation.disk.fatal.clear()
        simulation.cluster.refuses = simulation.cluster.is_slow = False
        simulation.cluster.walltime_s = 1e9
        simulation.trainings.device_lost.clear()
        self.keeps_master_away = False

    # What happens ----------------------------------------------------------------------------------------------------
    def _for(self, kind: str, low_s: float, high_s: float, undo: Callable[[], None]) -> None:
        self.world.bite(kind)
        self.world.after(self.world.random.uniform(low_s, high_s), undo)

    def _worker(self) -> Process | None:
        running = [t.process for t in self.simulation.cluster.running() if t.process and not t.process.frozen]
        return self.world.random.choice(running) if running else None

    def _master(self) -> Process | None:
        alive = [m for m in self.simulation.masters if not m.frozen]
        return alive[-1] if alive else None

    def freeze_worker(self) -> None:
        worker = self._worker()
        if worker is not None:
            worker.freeze()
            patience_s = self.simulation.settings.workers.patience_s
            self._for("worker frozen for a moment", 1, 0.9 * patience_s, worker.thaw)

    def freeze_worker_for_long(self) -> None:
        worker = self._worker()
        if worker is not None:
            worker.freeze()
            patience_s = self.simulation.settings.workers.patience_s
            self._for("worker frozen beyond the patience", patience_s + 1, 5 * patience_s, worker.thaw)

    def kill_worker(self) -> None:
        worker = self._worker()
        if worker is not None:
            self.world.bite("worker killed")
            worker.kill()

    def let_worker_refuse(self) -> None:
        worker = self._worker()
        if worker is not None:
            refusing = self.simulation.network.refusing
            refusing.add(worker)
            self._for("worker takes nothing", 5, 200, lambda: refusing.discard(worker))

    def warn_worker(self) -> None:
        self._signal("signal USR2", "worker warned to leave")

    def preempt_worker(self) -> None:
        self._signal("signal SIGTERM", "worker preempted")

    def _signal(self, reason: str, kind: str) -> None:
        tasks = self.simulation.cluster.running()
        if not tasks:
            return
        task = self.world.random.choice(tasks)
        process = task.process
        assert process is not None
        task.signal = reason
        self._for(kind, 5, 30, process.kill)

    def lose_node(self) -> None:
        nodes = [node for node in self.simulation.cluster.nodes if node.is_up]
        if nodes:
            self._power_off(self.world.random.choice(nodes), "node lost")

    def lose_login(self) -> None:
        master = self._master()
        if master is not None and all(login.is_up for login in self.simulation.logins):
            self._power_off(master.host, "master's host lost")
            self.simulation.disk.lose_unsynced(master.host)

    def _power_off(self, host: Host, kind: str) -> None:
        host.is_up = False
        for process in [p for p in self.world.processes if p.host is host]:
            process.kill()

        def boot() -> None:
            host.is_up = True

        self._for(kind, 5, 60, boot)

    def lose_gpu(self) -> None:
        worker = self._worker()
        if worker is not None:
            self.world.bite("GPU of a worker")
            self.simulation.trainings.device_lost.add(worker)

    def break_node(self) -> None:
        node = self.world.random.choice(self.simulation.cluster.nodes)
        node.is_broken = True

        def mend() -> None:
            node.is_broken = False

        self._for("node's installation", 5, 30, mend)

    def part(self) -> None:
        blocked = self.simulation.network.blocked
        node = self.world.random.choice(self.simulation.cluster.nodes).name
        pairs = {frozenset({node, login.name}) for login in self.simulation.logins}
        blocked |= pairs
        self._for("network parted", 2, 60, lambda: blocked.difference_update(pairs))

    def pause_master(self) -> None:
        master = self._master()
        if master is not None:
            master.freeze()
            self._for("master paused", 3, 90, master.thaw)

    def kill_master(self) -> None:
        master = self._master()
        if master is not None:
            self.world.bite("master killed")
            master.kill()

    def doom_master(self) -> None:
        master = self._master()
        if master is not None:
            self.world.bite("master dies at a file")
            self.simulation.disk.fatal[master] = self.world.random.randrange(60)

    def doom_worker(self) -> None:
        worker = self._worker()
        if worker is not None:
            self.world.bite("worker dies at a file")
            self.simulation.disk.fatal[worker] = self.world.random.randrange(20)

    def supersede_master(self) -> None:
        """The master stands still for longer than another watches its heart, and comes back."""
        master = self._master()
        if master is not None and len(self.simulation.masters) == 1:
            master.freeze()
            self.world.after(self.world.random.uniform(0, 2), self.simulation.start_master)
            self._for("master superseded", 6, 25, master.thaw)

    def keep_master_away(self) -> None:
        master = self._master()
        if master is not None:
            master.kill()
            self.keeps_master_away = True

            def come() -> None:
                self.keeps_master_away = False

            self._for("no master for long", 10, 120, come)

    def lose_lines(self) -> None:
        """A hand, or a file system, cuts lines off the end while no master is there."""
        if self.simulation.finished:
            return
        for master in list(self.simulation.masters):
            master.kill()
        folder, disk, random = self.simulation.folder, self.simulation.disk, self.world.random
        cut = disk.cut_lines(folder.journal, random.randrange(6))
        if random.random() < 0.6 and disk.cut_lines(folder.results, random.randrange(1, 4)):
            self.lines_were_lost = True
            cut += 1
        if cut:
            self.world.bite("lines lost")

    def fill_disk(self) -> None:
        disk = self.simulation.disk
        disk.is_full = True

        def free() -> None:
            disk.is_full = False

        self._for("full disk", 1, 30, free)

    def fail_disk(self) -> None:
        disk = self.simulation.disk
        disk.failing = self.world.random.choice((0.01, 0.1, 1.0))

        def mend() -> None:
            disk.failing = 0.0

        self._for("failing disk", 1, 15, mend)

    def stall_disk(self) -> None:
        disk = self.simulation.disk
        disk.stalling = self.world.random.choice((0.02, 0.1, 0.5))

        def mend() -> None:
            disk.stalling = 0.0

        self._for("stalling disk", 2, 30, mend)

    def jump_clock(self) -> None:
        self.world.bite("clock of a host jumps")
        host = self.world.random.choice(self.world.hosts)
        host.clock_offset_s += self.world.random.choice((-7200, -60, -3, 3, 60, 7200))

    def refuse(self) -> None:
        cluster = self.simulation.cluster
        cluster.refuses = True

        def mend() -> None:
            cluster.refuses = False

        self._for("slurm down", 5, 60, mend)

    def slow_down(self) -> None:
        cluster = self.simulation.cluster
        cluster.is_slow = True

        def mend() -> None:
            cluster.is_slow = False

        self._for("slurm slow", 5, 60, mend)

    def stop(self) -> None:
        """A person stops the run, and resumes it later."""
        if self._master() is not None:
            self.world.bite("stopped and resumed")
            self.simulation.disk.write_by_hand(self.simulation.folder.stop_request, b"{}")


def kinds() -> tuple[str, ...]:
    """Every kind of fault."""
    return (*Faults.events(Faults.__new__(Faults)), *PASSIVE)
