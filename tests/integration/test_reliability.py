"""What a search survives: frozen and dying workers, bad nodes, broken installations, silent and foreign clients."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.analysis.summary import cards, facts
from pipeline.rpc.server import HANDSHAKE_S
from pipeline.rpc.tls import ensure_authority, issue_certificate
from pipeline.run.folder import RunFolder
from pipeline.run.history import read_history, read_journal
from pipeline.run.status import read_status
from pipeline.search.verify import verify
from pipeline.storage.collect import collect
from pipeline.storage.results import load_results
from tests.integration.support import events, finish, results_count, wait_until
from tests.integration.surrogate import Processes, close_gate, make_run, open_gate, start_master, start_worker


def worker_state(folder: RunFolder, name: str) -> str:
    status = read_status(folder)
    return next((w.state for w in status.workers if w.name == name), "absent") if status else "absent"


def address(folder: RunFolder) -> tuple[str, int]:
    wait_until(folder.master_address.exists)
    plain = json.loads(folder.master_address.read_text())
    return plain["address"], plain["port"]


def open_gate_when_busy(folder: RunFolder, count: int) -> None:
    """Let surrogates begin once so many workers have something to do."""
    wait_until(lambda: len(events(folder, "dispatched")) >= count)
    open_gate(folder)


def begin_together(folder: RunFolder, started: list, hosts: dict[str, str]) -> list:
    """Start a master and a worker per name on its host, and let them begin once each has an evaluation."""
    close_gate(folder)
    workers = [start_worker(folder, name, host=host) for name, host in hosts.items()]
    started += [start_master(folder), *workers]
    open_gate_when_busy(folder, len(workers))
    return workers


def fill(path: Path) -> None:
    """Take all the space that is left."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, bytes(512))
    os.close(descriptor)


def master_log(folder: RunFolder) -> str:
    return (folder.logs / "master-.log").read_text()


# Workers ---------------------------------------------------------------------------------------------------------
def test_a_frozen_worker_is_suspect_within_5_s_and_its_evaluation_goes_to_another(
    tmp_path: Path, processes: Processes
) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", "workers.patience_s=7")
    close_gate(folder)
    workers = [start_worker(folder, "frozen"), start_worker(folder, "lively", seconds=0.05)]
    processes += [start_master(folder), *workers]
    wait_until(lambda: len(events(folder, "dispatched")) == 2)
    workers[0].send_signal(signal.SIGSTOP)
    stopped = time.time()
    open_gate(folder)
    wait_until(lambda: worker_state(folder, "frozen") == "suspect", 10)
    # The status is published every second.
    assert time.time() - stopped < 6.5
    wait_until(lambda: events(folder, "returned", worker="frozen", outcome="lost"), 15)
    assert time.time() - stopped > 6
    assert processes[0].wait(20) == 0
    assert len(read_history(folder).results) == 13
    before = folder.results.read_text()
    workers[0].send_signal(signal.SIGCONT)
    # It finds no master any more, or reads first that the run has ended: it leaves what it has for a master that may
    # come, and frees its machine.
    assert workers[0].wait(40) == 0
    assert re.search("left: (no_master|done)$", (folder.logs / "worker-frozen.log").read_text(), re.MULTILINE)
    assert len(list(folder.undelivered.iterdir())) == 1
    assert folder.results.read_text() == before
    assert verify(folder) == []


def test_of_a_frozen_worker_that_returns_the_first_result_counts_and_only_that(
    tmp_path: Path, processes: Processes
) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", "workers.patience_s=6")
    workers = [start_worker(folder, "frozen", seconds=4)]
    processes += [start_master(folder), *workers]
    wait_until(lambda: events(folder, "dispatched", worker="frozen"))
    workers[0].send_signal(signal.SIGSTOP)
    wait_until(lambda: events(folder, "returned", worker="frozen", outcome="lost"), 15)
    workers.append(start_worker(folder, "lively", seconds=60))
    processes.append(workers[1])
    wait_until(lambda: events(folder, "dispatched", worker="lively", attempt=2))
    workers[0].send_signal(signal.SIGCONT)
    wait_until(lambda: results_count(folder) >= 2, 20)
    folder.stop_request.write_text("{}")
    finish(folder, processes)
    results = read_history(folder).results
    assert len({(r.config_id, r.budget) for r in results}) == len(results)
    given = events(folder, "dispatched", worker="frozen")[0]
    (counted,) = [r for r in results if ([*r.config_id], r.budget) == (given["config_id"], given["budget"])]
    assert counted.info["attempt"] == 1, "of the frozen worker: the other one would have taken a minute"


def test_a_worker_that_joins_late_has_work_within_half_a_second(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=3")
    processes += [start_master(folder), start_worker(folder, "early", seconds=1)]
    wait_until(lambda: results_count(folder) >= 1)
    late = start_worker(folder, "late", seconds=0.02)
    processes.append(late)
    wait_until(lambda: events(folder, "dispatched", worker="late"))
    joined = events(folder, "worker_joined", worker="late")[0]["time"]
    assert events(folder, "dispatched", worker="late")[0]["time"] - joined < 0.5
    assert processes[0].wait(60) == 0


def test_a_configuration_that_kills_its_workers_ends_as_crashed(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", trouble={"0-0-3": "die"})
    processes += [start_master(folder), *(start_worker(folder, f"w{i}") for i in range(4))]
    wait_until(lambda: len(events(folder, "returned", outcome="lost")) == 3, 60)
    processes.append(start_worker(folder, "late"))  # the fourth was of no use while there were three, and may have left
    assert processes[0].wait(90) == 0
    crashed = [r for r in read_history(folder).results if r.exception]
    assert [(r.config_id, r.loss) for r in crashed] == [((0, 0, 3), None)]
    assert crashed[0].exception.startswith("killed_its_worker: 3 attempts without progress on here")
    assert len(events(folder, "returned", outcome="lost")) == 3


def test_an_evaluation_that_calls_exit_is_a_crash_and_its_worker_goes_on(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", trouble={"0-0-3": "exit", "0-0-5": "not_finite"})
    processes += [start_master(folder), start_worker(folder, "w0")]
    finish(folder, processes)
    crashed = {r.config_id: r.exception for r in read_history(folder).results if r.exception}
    assert set(crashed) == {(0, 0, 3), (0, 0, 5)}
    assert crashed[0, 0, 3].startswith("error: SystemExit")
    assert crashed[0, 0, 5] == "not_finite: as the test wants it"
    assert verify(folder) == []


def test_a_worker_without_a_master_keeps_its_result_in_the_run_folder(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", "workers.idle_timeout_min=0.1")
    processes.append(start_master(folder))
    wait_until(folder.master_address.exists)  # which on a busy machine takes longer than the worker's patience
    worker = start_worker(folder, "w0", seconds=2)
    processes.append(worker)
    log = folder.logs / "worker-w0.log"
    wait_until(lambda: "evaluation (0, 0, 0)" in log.read_text())  # a dispatch is in the journal before it is made
    processes[0].kill()
    assert worker.wait(60) == 0
    assert "left: no_master" in log.read_text()
    assert len(list(folder.undelivered.glob("*.json"))) == 1
    second = [start_master(folder)]
    processes += second
    wait_until(lambda: results_count(folder) == 1)
    second.append(start_worker(folder, "w1"))
    finish(folder, second)
    assert list(folder.undelivered.glob("*.json")) == []
    first = next(r for r in read_history(folder).results if r.config_id == (0, 0, 0))
    assert first.info["worker"] == "w0"
    assert events(folder, "returned", outcome="lost") == []


def test_workers_that_the_search_cannot_use_any_more_leave_at_once(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", "search.min_budget=9")  # one bracket of one rung
    close_gate(folder)
    workers = [start_worker(folder, f"w{i}") for i in range(3)]
    processes += [start_master(folder), *workers]
    # One evaluation in all: two of the three are of no use.
    wait_until(lambda: sum(w.poll() is not None for w in workers) == 2)
    logs = [(folder.logs / f"worker-w{i}.log").read_text() for i in range(3)]
    assert sum("left: not_needed" in log for log in logs) == 2
    open_gate(folder)
    finish(folder, processes)


# Installations and nodes -----------------------------------------------------------------------------------------
def test_a_broken_installation_stops_the_run_with_its_cause_and_leaves_it_resumable(
    tmp_path: Path, processes: Processes
) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", trouble={"*": "broken"})
    close_gate(folder)
    first = [start_master(folder), *(start_worker(folder, f"w{i}") for i in range(2))]
    processes += first
    open_gate_when_busy(folder, 2)
    assert first[0].wait(30) == 1
    status = read_status(folder)
    assert status.state == "broken"
    assert "the data is missing" in status.message
    assert read_history(folder).results == ()
    for worker in first[1:]:
        assert worker.wait(60) == 0
    (folder.path / "trouble.json").unlink()
    second = [start_master(folder), start_worker(folder, "w0")]
    processes += second
    finish(folder, second)
    assert verify(folder) == []


def test_a_node_that_breaks_alone_is_left_out_and_no_configuration_suffers(
    tmp_path: Path, processes: Processes
) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=3", trouble={"@bad": "error"})
    workers = begin_together(folder, processes, {"b0": "bad", "g0": "good", "g1": "good"})
    assert processes[0].wait(60) == 0
    assert all(r.exception is None for r in read_history(folder).results)
    assert list(read_status(folder).suspected_nodes) == ["bad"]
    assert workers[0].wait(10) == 0
    assert "left: excluded" in (folder.logs / "worker-b0.log").read_text()
    assert verify(folder) == []


def test_a_crash_is_believed_once_a_second_node_agrees(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", trouble={"0-0-2": "error"})
    begin_together(folder, processes, {"a0": "a", "b0": "b"})
    finish(folder, processes)
    assert [r.config_id for r in read_history(folder).results if r.exception] == [(0, 0, 2)]
    assert {e["host"] for e in events(folder, "returned", outcome="crashed")} == {"a", "b"}
    assert read_status(folder).suspected_nodes == {}


def test_first_crashes_on_the_only_node_are_believed_once_something_finishes_there(
    tmp_path: Path, processes: Processes
) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", trouble={"0-0-0": "error", "0-0-1": "error"})
    processes += [start_master(folder), start_worker(folder, "w0")]
    finish(folder, processes)
    crashed = {r.config_id: r.exception for r in read_history(folder).results if r.exception}
    assert set(crashed) == {(0, 0, 0), (0, 0, 1)}
    assert crashed[0, 0, 0].startswith("error: RuntimeError: no such layer")
    assert read_status(folder).suspected_nodes == {}
    assert verify(folder) == []


def test_a_worker_whose_gpu_is_dead_leaves_and_another_one_goes_on(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", trouble={"@bad": "dead gpu"})
    begin_together(folder, processes, {"b0": "bad", "g0": "good"})
    finish(folder, processes)
    assert "left: device_lost" in (folder.logs / "worker-b0.log").read_text()
    returned = events(folder, "returned", worker="b0")
    assert [e["outcome"] for e in returned] == ["lost"]
    assert "illegal memory access" in returned[0]["reason"]
    assert all(r.exception is None for r in read_history(folder).results)


def test_a_configuration_that_kills_every_gpu_ends_as_crashed(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", trouble={"0-0-3": "dead gpu"})
    processes += [start_master(folder), *(start_worker(folder, f"w{i}") for i in range(4))]
    wait_until(lambda: len(events(folder, "returned", outcome="lost")) == 3, 60)
    processes.append(start_worker(folder, "late"))  # the fourth was of no use while there were three, and may have left
    assert processes[0].wait(60) == 0
    (crashed,) = [r for r in read_history(folder).results if r.exception]
    assert crashed.config_id == (0, 0, 3)
    assert crashed.exception.startswith("killed_its_worker: 3 attempts")


def test_a_full_disk_stops_the_run_without_damage(tmp_path: Path, processes: Processes) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        folder = make_run(small / "run", "search.iterations=2")
        processes += [start_master(folder), start_worker(folder, "w0", seconds=0.1)]
        wait_until(lambda: results_count(folder) >= 2)
        fill(small / "filler")
        assert processes[0].wait(30) == 1
        assert "No space is left for" in master_log(folder)
        assert "Traceback" not in master_log(folder)
        status = read_status(folder)  # there was room for the last words
        assert (status.state, "No space is left" in status.message) == ("broken", True)
        (small / "filler").unlink()
        second = [start_master(folder)]
        processes += second
        assert second[0].wait(60) == 0
        assert len(read_history(folder).results) == 17
        assert verify(folder) == []
    finally:
        for process in processes:
            process.kill()
            process.wait()
        subprocess.run(["umount", small], check=True)


# Clients ---------------------------------------------------------------------------------------------------------
def test_clients_that_connect_and_say_nothing_delay_nobody(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1")
    processes.append(start_master(folder))
    silent = [socket.create_connection(address(folder)) for _ in range(60)]
    began = time.time()
    processes.append(start_worker(folder, "w0"))
    finish(folder, processes)
    joined = events(folder, "worker_joined")[0]["time"]
    assert events(folder, "dispatched")[0]["time"] - joined < 0.5
    assert joined - began < 15  # imports, mostly
    for client in silent:
        client.close()


def test_a_silent_client_is_cut_off_after_the_deadline(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1")
    processes.append(start_master(folder))
    with socket.create_connection(address(folder)) as client:
        client.settimeout(60)
        began = time.monotonic()
        assert client.recv(1) == b""
        assert time.monotonic() - began > HANDSHAKE_S - 0.5


def test_who_has_no_certificate_of_the_run_is_refused(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1")
    processes.append(start_master(folder))
    where = address(folder)
    ensure_authority(tmp_path / "foreign", "foreign-0a1b")
    foreign = issue_certificate(tmp_path / "foreign", "intruder", ["127.0.0.1"])
    context = ssl.create_default_context(cafile=folder.tls / "authority.pem")
    for with_certificate in (False, True):
        if with_certificate:
            context.load_cert_chain(foreign.certificate, foreign.key)
        with (
            pytest.raises((ssl.SSLError, ConnectionError)),
            socket.create_connection(where, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.recv(1)  # in TLS 1.3 the refusal arrives with the first read
    with socket.create_connection(where, timeout=10) as plain:
        plain.sendall(b"PYRO" + bytes(60))
        # An alert of TLS at most, never an answer of Pyro's.
        assert not plain.recv(100).startswith(b"PYRO")


# As a job of the master begins, and the first thing that happens is a signal: before anything can listen to it.
TOO_EARLY = """
import os, signal, sys
from pathlib import Path
from pipeline.launch.tasks import MasterTask

def become(*arguments, execv=os.execv):
    os.kill(os.getpid(), int(sys.argv[2]))
    execv(*arguments)

os.execv = become
MasterTask(Path(sys.argv[1]))()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_that_comes_before_the_master_listens_ends_it_in_order(tmp_path: Path, number: int) -> None:
    folder = make_run(tmp_path / "run", "workers.count=0", "workers.where=local")
    folder.logs.mkdir()
    command = [sys.executable, "-c", TOO_EARLY, str(folder.path), str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    status = read_status(folder)
    assert status is not None
    assert (status.state, status.message) == ("left", f"signal {signal.Signals(number).name}")


STOCK_WORKER = """
import logging, sys
import numpy as np
from hpbandster.core.worker import Worker

class Stock(Worker):
    def compute(self, config_id, config, budget, working_directory):
        info = np.arange(3) if tuple(config_id) == (0, 0, 4) else {"by": "stock"}
        return {"loss": 7 + config["momentum"] / budget, "info": info}

Stock(run_id=sys.argv[1], nameserver=sys.argv[2], nameserver_port=int(sys.argv[3]), host="127.0.0.1",
      logger=logging.getLogger("stock")).run()
"""


def test_a_stock_hpbandster_worker_joins_with_pyros_own_variables_reports_its_loss_and_may_send_what_cannot_be_sent(
    tmp_path: Path, processes: Processes
) -> None:
    from pipeline.rpc.tls import stock_worker_environment

    folder = make_run(tmp_path / "run", "search.iterations=1", "workers.max_attempts=2")
    processes.append(start_master(folder))
    host, port = address(folder)
    credentials = issue_certificate(folder.tls, "stock", ["127.0.0.1"])
    script = Path(tmp_path / "stock.py")
    script.write_text(STOCK_WORKER)
    environment = {**os.environ, **stock_worker_environment(credentials)}
    with (tmp_path / "stock.log").open("w") as log:
        command = [sys.executable, str(script), folder.run_id, host, str(port)]
        processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    finish(folder, processes)
    results = read_history(folder).results
    assert len(results) == 13
    assert all(r.info["by"] == "stock" and r.info["attempt"] == 1 for r in results if r.loss is not None)
    assert verify(folder) == []
    (crashed,) = [r for r in results if r.loss is None]
    assert crashed.config_id == (0, 0, 4)
    assert str(crashed.exception).startswith("bad_result: 2 attempts without progress on ")
    assert "what compute returned cannot be sent" in str(crashed.exception)
    given_out = [e for e in read_journal(folder) if e["event"] == "dispatched" and e["config_id"] == [0, 0, 4]]
    assert len(given_out) == 2  # the network may have lost the first one's result
    # It is no image classification of Tandem's: what is known of it is its loss.
    status = read_status(folder)
    assert status is not None
    assert status.metric == "loss"
    assert {i.value[:2] for i in status.incumbents} == {"7."}
    collected = load_results(collect(folder))
    assert (collected.problem.metric.name, collected.problem.is_built_in) == ("loss", False)
    assert collected.metrics["loss"].min() == min(r.loss for r in results if r.loss is not None)
    said = " ".join(map(str, (*cards(collected), *facts(collected))))
    assert "loss" in said
    assert "validation error" not in said
    assert "nan" not in said
