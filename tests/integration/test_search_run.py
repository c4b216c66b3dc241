"""A search with real processes on this machine: master, workers, TLS; only the training is a surrogate."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest

from pipeline.run.history import read_history, read_journal
from pipeline.run.status import read_status
from pipeline.search.verify import verify
from tests.integration.support import events, finish, results_count, wait_until
from tests.integration.surrogate import (
    Processes,
    close_gate,
    make_run,
    open_gate,
    read_settings,
    start_master,
    start_worker,
)


def test_a_search_runs_to_its_end_and_hpbandsters_own_loader_reads_it(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=6")
    close_gate(folder)
    processes += [start_master(folder), *(start_worker(folder, f"w{i}") for i in range(3))]
    wait_until(lambda: len(events(folder, "dispatched")) == 3)
    open_gate(folder)
    finish(folder, processes)

    from hpbandster.core.result import logged_results_to_HBS_result

    loaded = logged_results_to_HBS_result(str(folder.path))
    assert len(loaded.get_all_runs()) == 40 == len(read_history(folder).results)
    assert loaded.get_incumbent_id() is not None
    assert verify(folder) == []
    status = read_status(folder)
    assert (status.state, status.finished, status.planned, status.lost) == ("finished", 40, 40, 0)
    # Keys are for their owner only.
    assert stat.S_IMODE(folder.tls.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.tls.iterdir()} == {0o600}


def test_a_search_whose_master_is_killed_again_and_again_goes_on_where_it_was(
    tmp_path: Path, processes: Processes
) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=6")
    workers = [start_worker(folder, f"w{i}", seconds=0.1) for i in range(2)]
    for target in (5, 20):
        master = start_master(folder)
        processes.append(master)
        wait_until(lambda target=target: results_count(folder) >= target)
        master.kill()
        master.wait()
    processes[:0] = [start_master(folder)]
    processes += workers
    assert processes[0].wait(60) == 0
    for worker in workers:
        assert worker.wait(60) == 0

    results = read_history(folder).results
    assert len(results) == 40
    assert len({(r.config_id, r.budget) for r in results}) == 40
    assert verify(folder) == []
    # Workers kept what they had: nothing had to be trained twice.
    assert events(folder, "returned", outcome="lost") == []


def test_what_a_worker_lost_while_there_was_no_master_is_in_the_books(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1", "workers.patience_s=6")
    close_gate(folder)
    processes += [start_master(folder), start_worker(folder, "w0")]
    wait_until(lambda: events(folder, "dispatched"))
    dispatched = events(folder, "dispatched")[0]["time"]
    for process in processes:
        process.kill()
    curve = folder.attempt((0, 0, 0), 1.0, 1)  # as if the worker had written a row, a second after it began
    curve.parent.mkdir(parents=True)
    curve.touch()
    os.utime(curve, (dispatched + 1, dispatched + 1))
    second = [start_master(folder), start_worker(folder, "w1")]
    processes += second
    open_gate(folder)
    finish(folder, second)
    (lost,) = events(folder, "returned", outcome="lost")
    assert lost["lost_s"] == pytest.approx(1, abs=0.01)  # not the time without a master
    assert read_status(folder).lost_s == pytest.approx(lost["lost_s"])


def test_a_finished_run_can_be_extended(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1")
    first = [start_master(folder), start_worker(folder, "w0")]
    finish(folder, first)
    before = folder.results.read_text()
    folder.settings.write_text(folder.settings.read_text().replace("iterations: 1", "iterations: 3"))
    assert read_settings(folder).search.iterations == 3
    second = [start_master(folder), start_worker(folder, "w0")]
    processes += second
    finish(folder, second)
    assert folder.results.read_text().startswith(before)
    assert len(read_history(folder).results) == 20
    assert verify(folder) == []


def test_a_killed_workers_evaluation_is_given_to_another_and_counts_as_lost(
    tmp_path: Path, processes: Processes
) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1")
    processes += [
        start_master(folder),
        start_worker(folder, "w0", seconds=30),
    ]
    wait_until(lambda: any(e["event"] == "dispatched" for e in read_journal(folder)))
    processes.append(start_worker(folder, "w1", seconds=0.05))
    wait_until(lambda: results_count(folder) >= 2)
    processes[1].kill()
    killed = time.time()
    assert processes[0].wait(60) == 0
    lost = events(folder, "returned", outcome="lost")
    assert len(lost) == 1
    assert lost[0]["worker"] == "w0"
    assert lost[0]["time"] - killed < 5
    assert all(r.exception is None for r in read_history(folder).results)


def test_a_second_master_is_refused_and_told_where_the_first_is(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=1")
    processes += [start_master(folder)]
    wait_until(folder.master_address.exists)
    second = start_master(folder)
    processes.append(second)
    assert second.wait(30) != 0
    log = (folder.logs / "master-.log").read_text()
    assert "A master is at work on" in log
    assert f"process {processes[0].pid}" in log
    processes.append(start_worker(folder, "w0"))
    assert processes[0].wait(30) == 0


def test_a_run_that_is_asked_to_stop_hands_back_and_can_be_resumed(tmp_path: Path, processes: Processes) -> None:
    folder = make_run(tmp_path / "run", "search.iterations=2")
    first = [start_master(folder), start_worker(folder, "w0", seconds=0.1)]
    processes += first
    wait_until(lambda: results_count(folder) >= 3)
    folder.stop_request.write_text(json.dumps({}))
    finish(folder, first, wait_s=15)
    assert read_status(folder).state == "stopped"
    stopped_with = results_count(folder)
    assert stopped_with < 17
    folder.stop_request.unlink()
    second = [start_master(folder), start_worker(folder, "w0", seconds=0.01)]
    processes += second
    finish(folder, second)
    assert len(read_history(folder).results) == 17
    assert verify(folder) == []
