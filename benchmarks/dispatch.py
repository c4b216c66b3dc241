"""How fast evaluations of a no-op objective are dispatched and collected: Tandem beside stock hpbandster.

Tandem runs as it always does: mutual TLS, every result fsynced before it is acknowledged, every draw before it is
dispatched. Stock hpbandster runs without TLS and without fsync, with two mends without which it does not get that far:
budgets and configurations as plain Python values (numpy 2), and thread pools of Pyro4 that fit the number of workers.

    python -m benchmarks.dispatch --workers 256 --evaluations 10000
    python -m benchmarks.dispatch --workers 1000 --evaluations 10000 --only tandem
    python -m benchmarks.dispatch --workers 256 --evaluations 3000 --sleep-ms 2000 --only tandem      # latency
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.stock import start_master

PRESET = "digits"
# Brackets of 81, 34, 15, 8 and 5 configurations and their promotions: 206 evaluations per five brackets.
SEARCH = {"method": "hyperband", "min_budget": 1.0, "max_budget": 81.0, "eta": 3.0}
JOIN_TIMEOUT_S = 120.0


# Tandem ----------------------------------------------------------------------------------------------------------
def make_tandem_run(path: Path, evaluations: int) -> None:
    from pipeline.files import publish_text
    from pipeline.run.folder import RunFolder
    from pipeline.search.brackets import planned_evaluations
    from pipeline.settings import budget_ladder, dump_settings, load_settings

    overrides = [f"search.{k}={v}" for k, v in SEARCH.items()]
    overrides += ["workers.count=0", "workers.patience_s=300", "workers.idle_timeout_min=10"]
    settings = load_settings(PRESET, overrides)
    iterations = 1
    while planned_evaluations(budget_ladder(settings.search), settings.search.eta, iterations) < evaluations:
        iterations += 1
    settings = load_settings(PRESET, [*overrides, f"search.iterations={iterations}"])
    path.mkdir(parents=True)
    publish_text(RunFolder(path).settings, dump_settings(settings))


def tandem_master(path: Path) -> None:
    from pipeline.master.process import run_master
    from pipeline.run.folder import RunFolder
    from pipeline.settings import load_settings

    folder = RunFolder(path)
    outcome = run_master(folder, load_settings(folder.settings), None, "127.0.0.1")
    print(json.dumps({"state": outcome.state, **usage()}), flush=True)


def tandem_workers(path: Path, first: int, count: int, sleep_ms: int) -> None:
    from pipeline.records import Evaluation, TrainResult, WorkerIdentity
    from pipeline.run.folder import RunFolder
    from pipeline.settings import load_settings
    from pipeline.worker.worker import run_worker

    folder = RunFolder(path)
    settings = load_settings(folder.settings)

    def no_op(evaluation: Evaluation, should_stop: Any) -> TrainResult:
        slept_s = nap(sleep_ms)
        return TrainResult("finished", 1.0 / (1.0 + evaluation.config_id[2]), {"slept_s": slept_s})

    def work(number: int) -> None:
        identity = WorkerIdentity(f"w{number}", f"host{number % 4}")
        run_worker(folder, identity, settings, evaluate=no_op, device="none")

    run_threads(work, range(first, first + count))


# Stock hpbandster ------------------------------------------------------------------------------------------------
def stock_master(path: Path, workers: int, evaluations: int) -> None:
    import Pyro4
    from hpbandster.optimizers import HyperBand

    from pipeline.search.brackets import planned_evaluations
    from pipeline.settings import budget_ladder, load_settings
    from pipeline.settings.space import build_space

    Pyro4.config.THREADPOOL_SIZE = 4 * workers + 64

    search = load_settings(PRESET, [f"search.{k}={v}" for k, v in SEARCH.items()]).search
    iterations = 1
    while planned_evaluations(budget_ladder(search), search.eta, iterations) < evaluations:
        iterations += 1
    master = start_master(HyperBand, "stock", build_space({}), search, path, path / "log")
    began = time.time()
    while master.dispatcher.number_of_workers() < workers and time.time() - began < JOIN_TIMEOUT_S:
        master.dispatcher.trigger_discover_worker()
        time.sleep(0.2)
    joined = master.dispatcher.number_of_workers()
    (path / "joined.json").write_text(json.dumps({"joined": joined, "time": time.time()}))
    began = time.time()
    result = master.run(n_iterations=iterations)
    count = len(result.get_all_runs())
    print(json.dumps({"joined": joined, "evaluations": count, "seconds": time.time() - began, **usage()}), flush=True)
    os._exit(0)  # its shutdown calls every worker in turn


def stock_workers(path: Path, first: int, count: int, sleep_ms: int) -> None:
    import Pyro4
    from hpbandster.core.worker import Worker

    Pyro4.config.THREADPOOL_SIZE = 64

    class NoOp(Worker):  # type: ignore[misc]
        def compute(self, config_id: Any, config: Any, budget: Any, working_directory: str) -> dict[str, Any]:
            nap(sleep_ms)
            return {"loss": 1.0 / (1.0 + config_id[2]), "info": {}}

    def work(number: int) -> None:
        worker = NoOp(run_id="stock", host="127.0.0.1", id=number, logger=logging.getLogger("stock"))
        worker.load_nameserver_credentials(str(path))
        for _ in range(20):  # a nameserver without a free thread refuses, and stock workers do not try again
            try:
                worker._run()
            except Exception:
                time.sleep(0.5)

    run_threads(work, range(first, first + count))


# Both ------------------------------------------------------------------------------------------------------------
def nap(mean_ms: int) -> float:
    """Sleep for about so long, not in step with others; returns how long it was, in s."""
    began = time.monotonic()
    if mean_ms:
        time.sleep(random.uniform(0.5, 1.5) * mean_ms / 1000)
    return time.monotonic() - began


def run_threads(work: Any, numbers: Sequence[int]) -> None:
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def usage() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": used.ru_utime + used.ru_stime, "memory_mb": used.ru_maxrss / 1024}


def start(role: str, *arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.dispatch", "--role", role, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def start_workers(role: str, path: Path, options: argparse.Namespace) -> list[subprocess.Popen[str]]:
    workers, processes = options.workers, options.processes
    shares = [workers // processes + (i < workers % processes) for i in range(processes)]
    return [start(role, path, sum(shares[:i]), share, options.sleep_ms) for i, share in enumerate(shares)]


def last_json(text: str) -> dict[str, Any]:
    value = json.loads(text.strip().splitlines()[-1])
    assert isinstance(value, dict)
    return value


def measure_tandem(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    from pipeline.run.folder import RunFolder
    from pipeline.run.history import read_history, read_journal
    from pipeline.search.verify import verify

    make_tandem_run(path, options.evaluations)
    began = time.time()
    master = start("tandem-master", path)
    others = start_workers("tandem-workers", path, options)
    output, _ = master.communicate()
    for other in others:
        other.terminate()
    folder = RunFolder(path)
    results = read_history(folder).results
    joins = [e["time"] for e in read_journal(folder) if e["event"] == "worker_joined"]
    first = min(r.submitted for r in results)
    # From the moment it was there to be given out until its result was there, less what it slept.
    latency = sorted(r.finished - r.submitted - r.info["slept_s"] for r in results if r.submitted > max(joins))
    return {
        **last_json(output),
        "joined": len(joins),
        "join_s": max(joins) - began,
        "joining_s": max(joins) - min(joins),
        "evaluations": len(results),
        "seconds": max(r.finished for r in results) - max(first, max(joins)),
        "seconds_in_all": max(r.finished for r in results) - first,
        "after_joins": sum(r.finished > max(joins) for r in results),
        "latency_ms": 1000 * latency[len(latency) // 2],
        "latency_95_ms": 1000 * latency[len(latency) * 95 // 100],
        "differences": len(verify(folder)),
    }


def measure_stock(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    path.mkdir(parents=True)
    began = time.time()
    master = start("stock-master", path, options.workers, options.evaluations)
    others = start_workers("stock-workers", path, options)
    output, _ = master.communicate()
    for other in others:
        other.terminate()
    joined = json.loads((path / "joined.json").read_text())
    return {**last_json(output), "join_s": joined["time"] - began}


def report(name: str, figures: dict[str, Any]) -> None:
    rate = figures.get("after_joins", figures["evaluations"]) / figures["seconds"]
    print(
        f"{name:<22} {figures['joined']:>5} joined in {figures['join_s']:5.1f} s"
        f"   {figures['evaluations']:>6} evaluations, {rate:5.0f} /s"
        f"   master: {figures['cpu_s']:5.1f} s CPU, {figures['memory_mb']:4.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--sleep-ms", type=int, default=0, help="what an evaluation sleeps: then latencies show")
    parser.add_argument("--processes", type=int, help="processes that hold the workers; default: one for each 64")
    parser.add_argument("--only", choices=["tandem", "stock"])
    parser.add_argument("--keep", type=Path, help="folder for the run folders; default: a temporary one")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.processes = options.processes or max(1, options.workers // 64)
    if options.role:
        path, *numbers = options.arguments
        roles = {
            "tandem-master": tandem_master,
            "tandem-workers": tandem_workers,
            "stock-master": stock_master,
            "stock-workers": stock_workers,
        }
        roles[options.role](Path(path), *map(int, numbers))
        return
    folder = options.keep or Path(tempfile.mkdtemp(prefix="dispatch-"))
    try:
        for name, measure in (("tandem", measure_tandem), ("stock", measure_stock)):
            if options.only in (None, name):
                figures = measure(folder / name, options)
                report("Tandem, TLS and fsync" if name == "tandem" else "stock, neither", figures)
                print(f"    {json.dumps(figures)}", flush=True)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
