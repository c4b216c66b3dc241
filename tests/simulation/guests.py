"""Stock hpbandster workers as guests: they know one master, deliver once, and wait for ever where an answer is lost."""

from __future__ import annotations

from typing import Any

import Pyro4.errors

from pipeline.records import ConfigId
from pipeline.rpc.master_address import MasterAddress, read_master_address, worker_prefix
from pipeline.rpc.server import NAMESERVER
from pipeline.run.folder import RunFolder
from tests.simulation.cluster import Trainings
from tests.simulation.network import Network, ProcessNetwork
from tests.simulation.world import Host, Killed, Process, World

# Pyro4's calls have no time limit of their own.
FOR_EVER_S = 1e9


class StockWorker:
    """hpbandster's `Worker`, as far as a master sees it."""

    def __init__(self, process: Process, trainings: Trainings) -> None:
        self._process = process
        self._trainings = trainings
        self._busy = False
        self._may_take = process.runtime.condition()
        self.ended = process.runtime.event()

    def is_busy(self) -> bool:
        return self._busy

    def start_computation(self, callback: Any, id: Any, config: Any, budget: float, working_directory: str) -> None:
        while self._busy:
            self._may_take.wait()
        self._busy = True
        result: dict[str, Any]
        try:
            result = {"result": self._compute((*id,), budget), "exception": None}
        except ArithmeticError as error:
            result = {"result": None, "exception": f"Traceback (most recent call last):\n{error!r}"}
        self._busy = False
        self._process.world.bite("a stock worker delivers")
        callback.register_result(id, result)
        self._may_take.notify_all()

    def shutdown(self) -> None:
        self.ended.set()

    def _compute(self, config_id: ConfigId, budget: float) -> dict[str, Any]:
        world, nature = self._process.world, self._trainings.nature(config_id)
        world.suspend(budget * self._trainings.speed)
        if nature.trouble == "kills":
            self._process.kill()
            raise Killed
        if nature.trouble == "error" or nature.memory_gb > self._process.host.memory_gb:
            raise ZeroDivisionError("division by zero")
        loss = float("nan") if nature.trouble == "nan" else self._trainings.loss(config_id, budget)
        return {"loss": loss, "info": {"by": "a guest"}}


class Guests:
    """Whoever starts stock workers, one after the other: each is ended by hand in the end, whatever became of it."""

    def __init__(self, world: World, network: Network, folder: RunFolder, trainings: Trainings, host: Host) -> None:
        self.world, self.network, self.folder, self.trainings, self.host = world, network, folder, trainings, host
        self.count = 0
        self.process: Process | None = None
        self._not_before = 0.0

    def step(self) -> None:
        """Perhaps start one."""
        if self.process is None and self.host.is_up and self.world.now >= self._not_before:
            self.count += 1
            process = self.process = Process(self.world, self.host, f"guest{self.count}")
            process.on_death.append(lambda: self._ended(process))
            self.world.after(self.world.random.uniform(10, 90), process.kill)
            process.start(lambda: self._main(process))

    def _ended(self, process: Process) -> None:
        self.network.died(process, is_noticed=process.host.is_up)
        self.process = None
        self._not_before = self.world.now + self.world.random.uniform(1, 10)

    def _main(self, process: Process) -> None:
        address = read_master_address(self.folder)
        if address is None:
            return
        try:
            self._work(process, address)
        except (Pyro4.errors.CommunicationError, OSError) as error:
            self.world.note(f"{process.name} gives up: {error!r}")

    def _work(self, process: Process, address: MasterAddress) -> None:
        network = ProcessNetwork(self.network, process)
        with network.proxy(address.dispatcher_uri, FOR_EVER_S) as dispatcher:
            dispatcher.trigger_discover_worker()
        worker = StockWorker(process, self.trainings)
        server = network.serve(self.host.address, None)
        name = f"{worker_prefix(self.folder.run_id)}{self.host.name}.{process.pid}"
        with network.proxy(f"PYRO:{NAMESERVER}@{address.location}", FOR_EVER_S) as nameserver:
            nameserver.register(name, server.register(worker, name))
        server.start()
        worker.ended.wait()
        server.shutdown()
