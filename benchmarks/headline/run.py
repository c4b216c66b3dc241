"""Run one search of a side, and keep what it found."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.headline.processes import networks
from benchmarks.headline.protocol import PRESET, STOCK, Key, Size, cores, one_core_environment, settings_of
from benchmarks.headline.tested import measured_test_error
from pipeline.files import publish_json, publish_text
from pipeline.run.folder import RunFolder
from pipeline.run.json_lines import read_json_lines
from pipeline.settings import dump_settings, load_settings
from pipeline.training.data import prepare_data

SAMPLE_S = 0.25
TICKS = os.sysconf("SC_CLK_TCK")


class EndedEarlyError(Exception):
    """A process of a search ended before its time; says which, and where its output is."""


def prepare(data_root: Path) -> None:
    """Prepare the preset's data."""
    prepare_data(load_settings(PRESET, [f"data.root={data_root}"]).data)


def begin(folder: Path, size: Size, key: Key, data_root: Path) -> None:
    """Make a search's folder; what a killed one left is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "run").mkdir(parents=True)
    networks(folder).mkdir()
    publish_json(folder / "size.json", asdict(size))
    publish_text(RunFolder(folder / "run").settings, dump_settings(settings_of(size, key, data_root)))


def start(folder: Path, role: str, number: int = 0, core: int | str = "any") -> subprocess.Popen[bytes]:
    """Start one process of a search, its output in a file of the folder."""
    with (folder / f"{role}{number}.log").open("ab") as log:
        command = [sys.executable, "-m", "benchmarks.headline.processes", role, str(folder), str(number), str(core)]
        return subprocess.Popen(command, stdout=log, stderr=log, env=one_core_environment())


def start_all(folder: Path, side: str) -> list[subprocess.Popen[bytes]]:
    """Master and workers, each worker on a core of its own."""
    kind = "stock" if side == STOCK else "tandem"
    master = start(folder, f"{kind}_master")
    return [master, *(start(folder, f"{kind}_worker", i, core) for i, core in enumerate(cores()))]


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """The time is up: what is unfinished does not count on any side."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()


def processor_s(pid: int) -> float:
    """Processor time of a process so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def search(folder: Path, size: Size, key: Key, data_root: Path) -> None:
    """Search for the size's time, measure the incumbents' test errors, and publish `search.json`.

    Raises:
        EndedEarlyError: a process did.
    """
    begin(folder, size, key, data_root)
    began = time.time()
    processes = start_all(folder, key.side)
    try:
        samples = watch(folder, processes, size, began)
    finally:
        end(processes)
    evaluations = finished(folder / "run", samples)
    record = {
        "key": asdict(key),
        "size": asdict(size),
        "began": began,
        "wall_s": samples[-1][0],
        "processor_s": samples[-1][1],
        "master_processor_s": samples[-1][2],
        "evaluations": evaluations,
        "incumbents": incumbents(folder, evaluations, data_root),
        "curve_rows": curve_rows(folder, key.side, len(evaluations)),
    }
    publish_json(folder / "search.json", record)
    shutil.rmtree(networks(folder))


def watch(
    folder: Path, processes: Sequence[subprocess.Popen[bytes]], size: Size, began: float
) -> list[tuple[float, float, float]]:
    """Until the time is up: samples of wall time, the workers' mean processor time, the master's."""
    samples = [(0.0, 0.0, 0.0)]
    which = 1 if size.clock == "processor" else 0
    while samples[-1][which] < size.seconds:
        time.sleep(SAMPLE_S)
        for process in processes:
            if process.poll() is not None:
                raise EndedEarlyError(f"{process.args[3]} left with {process.returncode}: see the logs in {folder}")  # type: ignore[index]
        master, *workers = (processor_s(process.pid) for process in processes)
        samples.append((time.time() - began, float(np.mean(workers)), master))
    return samples


def finished(run: Path, samples: Sequence[tuple[float, float, float]]) -> list[dict[str, Any]]:
    """Evaluations in the order of their ends, with the time of both clocks; a crash has no error."""
    results = run / "results.json"
    wall, processor, _ = zip(*samples, strict=True)
    began = (run.parent / "size.json").stat().st_mtime
    evaluations = []
    for config_id, budget, times, result, _ in read_json_lines(results) if results.exists() else []:
        wall_s = times["finished"] - began
        evaluations.append({
            "config_id": config_id,
            "budget": budget,
            "wall_s": wall_s,
            "processor_s": float(np.interp(wall_s, wall, processor)),
            "validation_error": None if result is None else result["loss"],
        })  # fmt: skip
    return sorted(evaluations, key=lambda e: e["wall_s"])


def incumbents(folder: Path, evaluations: Sequence[dict[str, Any]], data_root: Path) -> list[dict[str, Any]]:
    """Evaluations with a lower validation error than all before them, on whichever budget, with their test error."""
    best, found = float("inf"), []
    for evaluation in evaluations:
        error = evaluation["validation_error"]
        if error is not None and error < best:
            best = error
            found.append({**evaluation, "test_error": measured_test_error(folder, evaluation, data_root)})
    return found


def curve_rows(folder: Path, side: str, evaluations: int) -> int:
    """Rows of learning curves on disk when the search ends; the published code keeps the last one of an evaluation."""
    if side == STOCK:
        return evaluations
    from pipeline.storage.curves import read_attempt

    rows = 0
    for path in RunFolder(folder / "run").attempts.rglob("*.h5"):
        header, columns, _ = read_attempt(path)
        rows += int((columns["rung"] == header.budget).sum())
    return rows
