"""A real master, a process of its own with TLS and fsync, under a thousand workers and on a long run's files.

    python -m benchmarks.scale joins --workers 1000
    python -m benchmarks.scale resume --evaluations 10000 --method gp --folder /tmp/long

`joins`: processes that are up, with a listener and a certificate each, and hold many workers. All of these register at
the same moment. Such a worker is real to the master, which dials back, pings it and gives it an evaluation. But it has
no threads of its own: on a cluster a thousand workers bring five hundred times the processors of this machine.

`resume`: a synthetic run of so many results (made first, which takes minutes, and kept in the folder), a worker that
waits for a master, and `tandem run-master`. Seconds are from the start of that process, imports included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import Pyro4

from benchmarks.dispatch import make_tandem_run
from benchmarks.synthetic_run import write_synthetic_run
from pipeline.files import publish_text
from pipeline.rpc.client import CALL_ERRORS
from pipeline.rpc.master_address import MasterAddress, read_master_address
from pipeline.rpc.network import PYRO, Server
from pipeline.run.folder import RunFolder
from pipeline.run.history import event_line, read_journal
from pipeline.run.json_lines import JsonLinesWriter
from pipeline.settings import dump_settings, load_settings

HOST = "127.0.0.1"
LIMIT_S = 300.0
REGISTER_S = 30.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
Answer = TypeVar("Answer")
SPAWN = multiprocessing.get_context("spawn")


class LightWorker:
    """What the master sees of a worker: it can be pinged, and takes an evaluation, which it never ends.

    Attributes:
        given_work: when it was given an evaluation, s since 1970; 0: not yet.
        tries: registrations that it took to join.
    """

    def __init__(self, number: int) -> None:
        self.name = f"w{number}"
        self.host = f"host{number % 250}"
        self.given_work = 0.0
        self.tries = 0
        self._holds: list[Any] | None = None
        self._line: Any = None

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def state(self) -> dict[str, Any]:
        """The master's ping."""
        return {"holds": self._holds}

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def start_computation(self, callback: Any, id: Any, evaluation: dict[str, Any]) -> dict[str, Any]:
        """Take an evaluation."""
        self._holds = [evaluation["config_id"], evaluation["budget"], evaluation["attempt"]]
        self.given_work = time.time()
        return {"accepted": True}

    @Pyro4.expose  # type: ignore[untyped-decorator]
    def shutdown(self, reason: str = "done") -> None:
        """Nothing is under way."""

    def join(self, master: MasterAddress, server: Server) -> None:
        """Register, and keep the connection."""
        uri = str(server.uriFor(self))
        introduction = {"name": self.name, "incarnation": self.name, "host": self.host, "uri": uri, "device": "none"}
        self._line = PYRO.proxy(master.dispatcher_uri, REGISTER_S)
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            self.tries += 1
            try:
                if self._line.register_worker(introduction).get("accepted"):
                    return
            except CALL_ERRORS:
                time.sleep(0.1)
        raise TimeoutError(f"{self.name} could not join")


def listening(folder: RunFolder, workers: list[LightWorker]) -> Server:
    """A listener for the workers of this process, with a certificate of the run."""
    PYRO.take_credentials(folder.tls, f"{workers[0].name}-and-others", [HOST])
    server = PYRO.serve(HOST, None)
    for worker in workers:
        server.register(worker)
    server.start()
    return server


# Joins -----------------------------------------------------------------------------------------------------------
def hold_workers(path: Path, numbers: range, all_up: Any, report: Any) -> None:
    """Be the process of some workers: up, then join all at once, and tell how it went."""
    folder = RunFolder(path)
    workers = [LightWorker(number) for number in numbers]
    server = listening(folder, workers)
    master = wait_for(lambda: read_master_address(folder), "the master's address")
    all_up.wait()
    began, used = time.time(), time.process_time()
    joined: list[float] = []

    def join(worker: LightWorker) -> None:
        worker.join(master, server)
        joined.append(time.time() - began)

    run_all([lambda w=worker: join(w) for worker in workers])  # type: ignore[misc]
    wait_for(lambda: all(worker.given_work for worker in workers), "work for everybody")
    report.put(
        {
            "joined": joined,
            "given_work": [worker.given_work - began for worker in workers],
            "tries": sum(worker.tries for worker in workers),
            "cpu_s": time.process_time() - used,
        }
    )
    all_up.wait()  # a process that leaves takes its workers with it


def run_all(actions: list[Callable[[], None]]) -> None:
    """Run the actions at the same time, each in a thread."""
    threads = [threading.Thread(target=action, daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure_joins(path: Path, workers: int, processes: int) -> None:
    make_tandem_run(path, 10_000)
    all_up, report = SPAWN.Barrier(processes + 1), SPAWN.Queue()
    shares = [range(workers * i // processes, workers * (i + 1) // processes) for i in range(processes)]
    with running_master(path) as master:
        wait_for(lambda: read_master_address(RunFolder(path)), "the master's address")
        others = [SPAWN.Process(target=hold_workers, args=(path, share, all_up, report)) for share in shares]
        for other in others:
            other.start()
        all_up.wait(LIMIT_S)
        before = cpu_s(master.pid)
        reports = [report.get(timeout=LIMIT_S) for _ in others]
        used = cpu_s(master.pid) - before
        all_up.wait(LIMIT_S)
        for other in others:
            other.join()
    joined = sorted(s for each in reports for s in each["joined"])
    given = sorted(s for each in reports for s in each["given_work"])
    print(
        f"{len(joined)} workers of {processes} processes joined within {joined[-1]:.1f} s "
        f"(median {joined[len(joined) // 2]:.1f}), all had work after {given[-1]:.1f} s; "
        f"{sum(each['tries'] for each in reports)} registrations; processor time: master {used:.1f} s, "
        f"workers {sum(each['cpu_s'] for each in reports):.1f} s; {load()}"
    )


# Resume ----------------------------------------------------------------------------------------------------------
def long_run(folder: RunFolder, evaluations: int, method: str) -> None:
    """A run of so many results in the folder, made unless it is there, as an orderly master left it."""
    overrides = ["search.iterations=1000000", "workers.count=32", "workers.where=local"]
    if not folder.results.exists():
        write_synthetic_run(folder.path, load_settings("cifar10-fast", overrides), evaluations=evaluations, max_rows=3)
    settings = load_settings("cifar10-fast", [*overrides, f"search.method={method}"])
    # Workers come by themselves.
    publish_text(folder.settings, dump_settings(settings).replace("count: 32", "count: 0"))
    under_way: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for event in read_journal(folder):
        if event["event"] in ("dispatched", "returned"):
            key = (*event["config_id"], event["budget"], event["attempt"])
            under_way[key] = event
    left = [event for event in under_way.values() if event["event"] == "dispatched"]
    with JsonLinesWriter(folder.journal) as journal:
        journal.append(
            event_line({**event, "event": "returned", "host": "h", "outcome": "handed_back", "reason": "",
                        "progressed": None, "lost_s": None}) for event in left
        )  # fmt: skip


def measure_resume(folder: RunFolder, evaluations: int, method: str) -> None:
    long_run(folder, evaluations, method)
    folder.master_address.unlink(missing_ok=True)
    beats = set(folder.masters.glob("*.beat"))
    worker = LightWorker(0)
    began = time.time()
    with running_master(folder.path) as master:
        wait_for(lambda: set(folder.masters.glob("*.beat")) - beats, "the first beat")
        beat_s, beat_cpu_s = time.time() - began, cpu_s(master.pid)
        address = wait_for(lambda: read_master_address(folder), "the master's address")
        worker.join(address, listening(folder, [worker]))
        wait_for(lambda: worker.given_work, "work")
        work_cpu_s = cpu_s(master.pid)
    print(
        f"{method}, {evaluations} results: the heart beats after {beat_s:.1f} s ({beat_cpu_s:.1f} s of processor "
        f"time), a worker has work after {worker.given_work - began:.1f} s ({work_cpu_s:.1f} s); {load()}"
    )


# Both ------------------------------------------------------------------------------------------------------------
@contextmanager
def running_master(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`tandem run-master` on a run; ended in order."""
    command = [sys.executable, "-m", "pipeline.cli", "run-master", str(path)]
    with (path / "benchmark.log").open("ab") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        master = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield master
        finally:
            master.terminate()
            master.wait(LIMIT_S)


def wait_for(look: Callable[[], Answer | None], what: str) -> Answer:
    """The first true answer."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {LIMIT_S:.0f} s")
        time.sleep(0.01)
    return found


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def load() -> str:
    """How busy the machine is."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["joins", "resume"])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--method", default="bohb")
    parser.add_argument("--folder", type=Path, help="of the long run; default: a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        if given.what == "joins":
            measure_joins(Path(temporary) / "run", given.workers, given.processes)
        else:
            path = (given.folder or Path(temporary)) / f"run-{given.evaluations}"
            measure_resume(RunFolder(path), given.evaluations, given.method)


if __name__ == "__main__":
    main()
