"""What kill -9 of a worker, and then of the master, costs each side in the middle of a search.

    python -m benchmarks.headline.kills stock
    python -m benchmarks.headline.kills bohb

Both search Fashion-MNIST with two workers on this machine. When two evaluations have ended, the worker that was given
work first is killed; when two more have ended, the master. Then a person does what each program offers: Tandem is
resumed (`tandem resume-search`); stock hpbandster is started again with what it logged as its `previous_result`, and a
worker is started by hand where none comes by itself. Times are wall time, on this machine as it is. Tandem is started
from its command line; stock runs in the processes of this benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.headline import run as searches
from benchmarks.headline.kept import KILLS, stored
from benchmarks.headline.protocol import PRESET, STOCK, TITLES, WORKERS, Key, Size, one_core_environment
from pipeline.files import publish_json, publish_text, read_json
from pipeline.run.folder import RunFolder, find_run
from pipeline.run.history import read_history, read_journal
from pipeline.run.json_lines import read_json_lines

# The first bracket has nine configurations on 10 s: it is open at both kills.
SIZE = Size(seconds=0, max_budget=90, clock="wall")
BEFORE_EACH_KILL = 2
# Of a busy machine; whatever has not happened by then is said not to have.
PATIENCE_S = 1800.0
# How long stock workers that outlived their master are waited for.
RETURN_S = 120.0
POLL_S = 0.2
# So little processor time in so long is the threads that wait for messages: there is no training.
IDLE_S, IDLE_SHARE = 30.0, 0.005
LINES = {
    "worker_training_lost_s": "worker killed: its time on the evaluation, lost, s",
    "worker_told": "what the search is told of its evaluation",
    "worker_repeated": "its evaluation",
    "worker_replaced": "a new worker",
    "master_results_kept": "master killed: results that the model still knows",
    "master_promotable": "configurations of open brackets that can still be promoted",
    "master_in_flight": "evaluations in flight that count after all",
    "master_next": "next result, from the command that starts the master again",
}


class NotHappenedError(Exception):
    """What was waited for did not happen in `PATIENCE_S`."""


def wait_for(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """The first true value of a condition; raises NotHappenedError."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(POLL_S)
    raise NotHappenedError


def logged(path: Path) -> list[Any]:
    """Lines of a log of either program; none before there is one."""
    return read_json_lines(path) if path.exists() else []


def kill(pid: int) -> float:
    """Send SIGKILL; returns when."""
    os.kill(pid, signal.SIGKILL)
    return time.time()


def is_idle(pid: int) -> bool:
    """Whether a process does next to nothing for a while; a busy one comes to its turn even on a busy machine."""
    before = searches.processor_s(pid)
    time.sleep(IDLE_S)
    return searches.processor_s(pid) - before < IDLE_SHARE * IDLE_S


# Stock hpbandster ----------------------------------------------------------------------------------------------------
def stock(folder: Path, data_root: Path) -> dict[str, str]:
    """What it costs stock hpbandster."""
    searches.begin(folder, SIZE, Key(STOCK, 0), data_root)
    results = folder / "run" / "results.json"
    processes = searches.start_all(folder, STOCK)
    try:
        wait_for(lambda: len(logged(results)) >= BEFORE_EACH_KILL)
        time.sleep(5.0)  # into the next evaluation
        killed = kill(processes[1].pid)
        row = _stock_worker_killed(folder, processes, results, killed)
        return row | _stock_master_killed(folder, processes, results)
    finally:
        searches.end(processes)


def _stock_worker_killed(
    folder: Path, processes: list[subprocess.Popen[bytes]], results: Path, killed: float
) -> dict[str, str]:
    def crash() -> Any:
        return next((line for line in logged(results) if line[3] is None), None)

    wait_for(lambda: crash() or is_idle(processes[2].pid))
    if (crashed := crash()) is None:
        return {
            "worker_training_lost_s": "all of its evaluation's",
            "worker_told": "nothing",
            "worker_repeated": "never ends: no new evaluation is given out to anybody, the search hangs",
            "worker_replaced": "of no use",
        }
    processes.append(searches.start(folder, "stock_worker", WORKERS, "any"))
    known = len(logged(results))
    wait_for(lambda: len(logged(results)) >= known + BEFORE_EACH_KILL)
    again = [line for line in logged(results) if line[:2] == crashed[:2] and line[3] is not None]
    return {
        "worker_training_lost_s": f"{killed - crashed[2]['started']:.0f}, all of it",
        "worker_told": "a crash: loss infinity, a bad configuration",
        "worker_repeated": "repeated" if again else "not repeated",
        "worker_replaced": "started by hand",
    }


def _stock_master_killed(folder: Path, processes: list[subprocess.Popen[bytes]], results: Path) -> dict[str, str]:
    kill(processes[0].pid)
    known = len(logged(results))
    in_flight = sum(p.poll() is None for p in processes[1:])
    lost = _without_result(folder)
    after = folder / "again" / "results.json"
    began = time.time()
    came_back = _stock_master_again(folder, processes, after)
    without_crashes = processes[-1].poll() is not None
    if without_crashes:  # WarmStartIteration takes the loss of a crash, None, for a number
        publish_text(results, "".join(f"{json.dumps(line)}\n" for line in logged(results) if line[3] is not None))
        came_back = _stock_master_again(folder, processes, after)
    if not came_back:
        processes.append(searches.start(folder, "stock_worker", WORKERS + 1, "any"))
        wait_for(lambda: logged(after))
    by_hand = f", from a new worker started by hand; those that lived had not come back after {RETURN_S:.0f} s"
    return {
        "master_results_kept": f"{_loaded(folder / 'run')} of {known}"
        + (": hpbandster does not start from a log that has a crash, which was removed by hand" * without_crashes),
        "master_promotable": f"0 of {known}: brackets begin anew",
        "master_in_flight": f"{_counted_after_all(folder, lost)} of {in_flight}",
        "master_next": f"after {logged(after)[0][2]['finished'] - began:.0f} s{'' if came_back else by_hand}",
    }


def _stock_master_again(folder: Path, processes: list[subprocess.Popen[bytes]], after: Path) -> bool:
    """Start it; whether the workers that live had a result before it ended, or they had been waited for long enough."""
    for pickle in folder.glob("HPB_run_*_pyro.pkl"):
        pickle.unlink()
    master = searches.start(folder, "stock_master")
    processes.append(master)
    with contextlib.suppress(NotHappenedError):
        wait_for(lambda: logged(after) or master.poll() is not None, RETURN_S)
    return bool(logged(after))


def _loaded(run: Path) -> int:
    from hpbandster.core.result import logged_results_to_HBS_result

    return len(logged_results_to_HBS_result(str(run)).get_all_runs())


def _without_result(folder: Path) -> list[Any]:
    """Configurations that the killed master had given out and that had not ended."""
    ended = [line[0] for line in logged(folder / "run" / "results.json")]
    return [line[1] for line in logged(folder / "run" / "configs.json") if line[0] not in ended]


def _counted_after_all(folder: Path, lost: Sequence[Any]) -> int:
    """Those of them of which the next master has a result."""
    again = [line[0] for line in logged(folder / "again" / "results.json")]
    return sum(line[1] in lost for line in logged(folder / "again" / "configs.json") if line[0] in again)


# Tandem --------------------------------------------------------------------------------------------------------------
def tandem(folder: Path, data_root: Path) -> dict[str, str]:
    """What it costs Tandem, started from the command line."""
    shutil.rmtree(folder, ignore_errors=True)
    options = [f"search.max_budget={SIZE.max_budget:g}", f"workers.count={WORKERS}", f"data.root={data_root}",
               "training.threads=1", "slurm.gpus_per_worker=0", "workers.where=local"]  # fmt: skip
    sets = [part for option in options for part in ("--set", option)]
    _command("submit-search", "--preset", PRESET, "--results", str(folder), *sets)
    run = find_run(folder, None)
    try:
        return _tandem_worker_killed(run) | _tandem_master_killed(run)
    finally:
        _command("stop-search", str(run.path))


def _command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pipeline.cli", *arguments], check=True, env=one_core_environment())


def _tandem_worker_killed(run: RunFolder) -> dict[str, str]:
    wait_for(lambda: len(read_history(run).results) >= BEFORE_EACH_KILL)
    time.sleep(5.0)  # into the next evaluation
    given = [event for event in read_journal(run) if event["event"] == "dispatched"][-WORKERS]
    killed = kill(_pid_of(given["worker"], run))

    def after(event: str) -> list[Mapping[str, Any]]:
        return [e for e in read_journal(run) if e["event"] == event and e["time"] > killed]

    lost = wait_for(lambda: [e for e in after("returned") if e["outcome"] == "lost"])[0]
    which = (tuple(lost["config_id"]), lost["budget"])
    again = wait_for(lambda: [e for e in after("dispatched") if (tuple(e["config_id"]), e["budget"]) == which])[0]
    joined = wait_for(lambda: after("worker_joined"))[0]
    result = wait_for(lambda: [r for r in read_history(run).results if (r.config_id, r.budget) == which])[0]
    return {
        "worker_training_lost_s": f"{lost['lost_s']:.0f}",
        "worker_told": "nothing" if result.exception is None else str(result.exception),
        "worker_repeated": f"given out again after {again['time'] - killed:.0f} s, and counts",
        "worker_replaced": f"by itself, after {joined['time'] - killed:.0f} s",
    }


def _tandem_master_killed(run: RunFolder) -> dict[str, str]:
    known = len(read_history(run).results)
    wait_for(lambda: len(read_history(run).results) >= known + BEFORE_EACH_KILL)
    master = [event for event in read_journal(run) if event["event"] == "master_started"][-1]
    kill(master["pid"])
    before = read_history(run).results
    events = read_journal(run)
    # A result is on disk before the journal says so.
    known_of = {(r.config_id, r.budget, r.info.get("attempt")) for r in before}
    over = {_attempt(e) for e in events if e["event"] == "returned"} | known_of
    in_flight = {_attempt(e) for e in events if e["event"] == "dispatched"} - over
    began = time.time()
    _command("resume-search", str(run.path))
    first = wait_for(lambda: read_history(run).results[len(before) :])[0]
    wait_for(lambda: in_flight <= {_attempt(e) for e in read_journal(run) if e["event"] == "returned"})
    counted = {(r.config_id, r.budget, r.info.get("attempt")) for r in read_history(run).results}
    rows = read_history(run).results[: len(before)]
    kept = sum(a == b for a, b in zip(before, rows, strict=True))
    return {
        "master_results_kept": f"{kept} of {len(before)}",
        "master_promotable": f"{kept} of {len(before)}",
        "master_in_flight": f"{len(in_flight & counted)} of {len(in_flight)}",
        "master_next": f"after {first.finished - began:.0f} s, from the workers that were there",
    }


def _attempt(event: Mapping[str, Any]) -> tuple[tuple[int, ...], float, int]:
    return tuple(event["config_id"]), event["budget"], event["attempt"]


def _pid_of(worker: str, run: RunFolder) -> int:
    """The process of a local worker: its name ends with its controller's number, its log is open in it."""
    log = run.worker_log(worker)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(descriptor.readlink() == log for descriptor in (process / "fd").iterdir()):
                return int(process.name)
    raise NotHappenedError


# The table -----------------------------------------------------------------------------------------------------------
def kill_lines(folders: Sequence[Path]) -> Iterator[str]:
    """The table of what the kills cost, of the sides that were tried."""
    places = {side: stored(folders, KILLS.format(side=side)) for side in (STOCK, "bohb")}
    rows = {side: read_json(path) for side, found in places.items() for path in found}
    if rows:
        yield "kill -9 in the middle, `python -m benchmarks.headline.kills stock` and `... bohb`, once each; wall time:"
        yield ""
        yield f"| | {' | '.join(TITLES[side] for side in rows)} |"
        yield "|---|" + "---|" * len(rows)
        for name, line in LINES.items():
            yield f"| {line} | {' | '.join(row[name] for row in rows.values())} |"
        yield ""


def main() -> None:
    """Kill, and keep what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=[STOCK, "bohb"])
    parser.add_argument("--results", type=Path, default=Path("results") / "headline")
    given = parser.parse_args()
    results = given.results.resolve()
    folder, data_root = results / f"kills-{given.side}", results / "data"
    searches.prepare(data_root)
    row = (stock if given.side == STOCK else tandem)(folder, data_root)
    publish_json(results / KILLS.format(side=given.side), row)
    print("\n".join(kill_lines([results])))


if __name__ == "__main__":
    main()
