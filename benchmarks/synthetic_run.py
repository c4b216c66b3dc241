"""Write a run folder that looks like a real run's, from a simulated search, for tests and for trying the analysis."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np

from benchmarks.synthetic_search import Job, SimulatedSearch, Try, count_parameters, expected_error
from pipeline.files import publish_json, publish_text
from pipeline.records import AttemptEnd, AttemptHeader, Value, derive_seed
from pipeline.run.folder import RunFolder
from pipeline.run.history import Draw, Result, draw_line, result_line
from pipeline.run.json_lines import JsonLinesWriter
from pipeline.run.lower_rungs import LOWER_RUNGS_KEY, lower_rung_losses
from pipeline.settings import Settings, dump_settings
from pipeline.settings.space import build_space
from pipeline.storage.curves import ROW_COLUMNS, ROW_DTYPE, write_attempt

# A whole second, so that every time in a synthetic run is the same on every machine: 2026-01-01 00:00 UTC.
EPOCH_S = 1_767_225_600.0
DEVICES = ("NVIDIA A100-SXM4-40GB", "NVIDIA GeForce RTX 2080 Ti")
TEST_GAP = 0.004
Rows = np.ndarray


def write_synthetic_run(
    path: Path,
    settings: Settings,
    *,
    evaluations: int | None = None,
    seed: int = 0,
    max_rows: int = 60,
    devices: tuple[str, ...] = DEVICES,
) -> RunFolder:
    """Write all files of a run: settings, provenance, space, draws, results, journal, and an attempt's file each.

    Args:
        evaluations: stop when so many results are in, as a run that is still going on; None: run to the end.
        seed: of the simulation; the same seed writes the same run.
        max_rows: rows that one attempt adds to its curve, at most.
        devices: given to hosts in turn, two workers a host.
    """
    folder = RunFolder(path)
    workers = max(settings.workers.count, 1)
    search = SimulatedSearch(settings, seed, workers, evaluations)
    _write_run_files(folder, settings)
    with JsonLinesWriter(folder.configs) as configs:
        configs.append(
            draw_line(Draw(d.config_id, d.configuration, {
                "model_based_pick": d.model_budget is not None, "budget": d.draw_budget,
                "results_seen": d.results_seen, "model_budget": d.model_budget, "drawn": EPOCH_S + d.drawn_s,
            })) for d in search.draws
        )  # fmt: skip
    writer = _CurveWriter(folder, settings, search, devices, max_rows)
    for job in search.jobs:  # a rung's evaluations come after those it continues from
        writer.write(job)
    with JsonLinesWriter(folder.results) as results:
        results.append(result_line(writer.result(job)) for job in search.results)
    _write_journal(folder, search, workers, devices, is_over=evaluations is None)
    return folder


def _write_run_files(folder: RunFolder, settings: Settings) -> None:
    publish_text(folder.settings, dump_settings(settings))
    provenance = {
        "commit": "0" * 40, "dirty": False, "command": "synthetic", "host": "login",
        "python": platform.python_version(), "packages": {"numpy": np.__version__}, "time": EPOCH_S,
    }  # fmt: skip
    publish_json(folder.provenance, provenance)
    space = build_space(settings.space, settings.seed)
    publish_text(folder.configspace, json.dumps(space.to_serialized_dict(), indent=2) + "\n")


def worker_name(worker: int) -> str:
    """A worker's name."""
    return f"w{worker}"


def host_name(worker: int) -> str:
    """Two workers share a host."""
    return f"node{worker // 2 + 1}"


class _CurveWriter:
    """Writes attempts' files, remembering each evaluation's accepted rows for those that continue from it."""

    def __init__(
        self, folder: RunFolder, settings: Settings, search: SimulatedSearch, devices: tuple[str, ...], max_rows: int
    ) -> None:
        self.folder, self.settings, self.search = folder, settings, search
        self.devices, self.max_rows = devices, max_rows
        self._rows: dict[tuple[tuple[int, int, int], float], Rows] = {}
        self._ends: dict[tuple[tuple[int, int, int], float], AttemptEnd] = {}

    def device(self, worker: int) -> str:
        return self.devices[worker // 2 % len(self.devices)]

    def write(self, job: Job) -> None:
        rows = np.empty(0, dtype=ROW_DTYPE)
        for attempt in job.tries:
            inherited = self._inherited(job, attempt, rows)
            header = self._header(job, attempt)
            rows = np.concatenate([inherited, self._train(job, attempt)])
            if len(inherited) == len(rows) and attempt.outcome == "lost":
                continue  # lost before it began: no file
            end = self._end(job, attempt, rows)
            write_attempt(
                self.folder.attempt(job.config_id, job.budget, attempt.attempt), header, rows, end, durable=False
            )
            self._rows[job.config_id, job.budget] = rows
            if end is not None:
                self._ends[job.config_id, job.budget] = end

    def _inherited(self, job: Job, attempt: Try, before: Rows) -> Rows:
        if attempt.inherited_s == 0:
            return np.empty(0, dtype=ROW_DTYPE)
        if attempt.continued_from.startswith("rung") and job.lower is not None:
            before = self._rows[job.lower.config_id, job.lower.budget]
        return before[before["training_s"] <= attempt.inherited_s * (1 + 1e-9)]

    def _header(self, job: Job, attempt: Try) -> AttemptHeader:
        parameters = count_parameters(job.configuration)
        return AttemptHeader(
            run_id=self.folder.run_id,
            config_id=job.config_id,
            configuration=job.configuration,
            budget=job.budget,
            budget_unit=self.settings.search.budget_unit,
            attempt=attempt.attempt,
            seed=derive_seed(self.settings.seed, "training", *job.config_id),
            started=EPOCH_S + attempt.dispatched_s,
            inherited_training_s=attempt.inherited_s,
            continued_from=attempt.continued_from,
            dataset=self.settings.data.dataset,
            parameters=int(parameters),
            flops_per_image=60.0 * parameters,
            device=self.device(attempt.worker),
            host=host_name(attempt.worker),
            worker=worker_name(attempt.worker),
            slurm_job_id=f"100_{attempt.worker}",
            versions={"numpy": np.__version__},
            schedule=self.settings.training.schedule,
            precision="float32",
        )

    def _train(self, job: Job, attempt: Try) -> Rows:
        """The rows that the attempt itself trained."""
        trained = attempt.trained_to_s - attempt.inherited_s
        if trained <= 0:
            return np.empty(0, dtype=ROW_DTYPE)
        parameters = count_parameters(job.configuration)
        epoch_s = self.search.ladder[0] * (0.02 + 0.1 * parameters / 1e7)
        count = int(min(max(np.ceil(trained / epoch_s), 1), self.max_rows))
        seconds = attempt.inherited_s + trained * np.arange(1, count + 1) / count
        rows = np.zeros(count, dtype=ROW_DTYPE)
        rows["training_s"], rows["epoch"] = seconds, seconds / epoch_s
        rows["batches"] = np.ceil(rows["epoch"] * 700)
        done = seconds - attempt.inherited_s
        rows["wall_s"] = attempt.startup_s + 1.05 * done
        rows["startup_s"], rows["validation_s"], rows["checkpoint_s"] = attempt.startup_s, 0.04 * done, 0.01 * done
        rows["wall_time"] = EPOCH_S + attempt.dispatched_s + rows["wall_s"]
        rate = float(job.configuration["learning_rate"] or 0.0)
        rows["learning_rate"] = 0.5 * rate * (1 + np.cos(np.pi * np.minimum(seconds / job.budget, 1)))
        self._measure(job, rows)
        rows["images_per_s"], rows["peak_memory_mb"] = 45_000 / epoch_s, 300 + parameters / 1e4
        rows["attempt"], rows["rung"] = attempt.attempt, job.budget
        return rows

    def _measure(self, job: Job, rows: Rows) -> None:
        rng = np.random.default_rng(derive_seed(self.settings.seed, *job.config_id, str(job.budget)))
        space, ladder = self.search.space, self.search.ladder
        errors = np.array([expected_error(space, job.configuration, s, ladder) for s in rows["training_s"]])
        errors = np.clip(errors * (1 + 0.02 * rng.standard_normal(len(rows))), 0, 1)
        rows["validation_error"], rows["validation_loss"] = errors, 3.5 * errors
        rows["training_error"], rows["training_loss"] = 0.9 * errors, 3.2 * errors
        if len(rows) > 8:  # validation is thinned
            unmeasured = np.arange(len(rows)) % 3 == 1
            unmeasured[-1] = False
            rows["validation_error"][unmeasured] = rows["validation_loss"][unmeasured] = np.nan
        if job.loss is not None and np.isclose(rows["training_s"][-1], job.budget):
            rows["validation_error"][-1], rows["validation_loss"][-1] = job.loss, 3.5 * job.loss

    def _end(self, job: Job, attempt: Try, rows: Rows) -> AttemptEnd | None:
        if attempt.outcome in ("lost", "running"):
            return None
        is_tested = attempt.outcome == "finished" and job.budget == self.search.ladder[-1]
        error = float(rows["validation_error"][-1]) if len(rows) else float("nan")
        test = error + TEST_GAP if is_tested else float("nan")
        return AttemptEnd(
            status=attempt.outcome,
            reason=attempt.reason,
            ended=EPOCH_S + attempt.returned_s,
            training_s=attempt.trained_to_s,
            validation_loss=3.5 * error,
            validation_error=error,
            test_loss=3.5 * test,
            test_error=test,
        )

    def result(self, job: Job) -> Result:
        last = job.tries[-1]
        info = {**self._info(job, last), LOWER_RUNGS_KEY: self._lower_rungs(job)} if job.loss is not None else {}
        finished = EPOCH_S + (job.finished_s or 0.0)
        started = EPOCH_S + last.dispatched_s
        submitted = EPOCH_S + job.submitted_s
        return Result(job.config_id, job.budget, submitted, started, finished, job.loss, info, job.exception)

    def _lower_rungs(self, job: Job) -> list[list[float]]:
        rows = self._rows[job.config_id, job.budget]
        below = [rung for rung in self.search.ladder if rung < job.budget]
        return lower_rung_losses(rows["training_s"].tolist(), rows["validation_error"].tolist(), below)

    def _info(self, job: Job, last: Try) -> dict[str, Value]:
        rows, end = self._rows[job.config_id, job.budget], self._ends[job.config_id, job.budget]
        header, row = self._header(job, last), rows[-1]
        info: dict[str, Value] = {
            name: row[name].item()
            for name in ("epochs", "batches", "training_s", "wall_s", "startup_s", "compile_s", "validation_s",
                         "checkpoint_s", "training_loss", "validation_loss", "validation_error", "peak_memory_mb")
            if name in ROW_COLUMNS
        }  # fmt: skip
        info |= {"attempt": last.attempt, "epochs": row["epoch"].item()}
        info |= {name: getattr(header, name) for name in ("worker", "host", "device", "parameters", "flops_per_image")}
        info |= {"trained_here_s": end.training_s - last.inherited_s, "continued_from": last.continued_from}
        info |= {"latency_s": 1e-3 + 2e-9 * header.parameters, "latency_batch": 32}
        info |= {"augmented_validation_loss": None, "augmented_validation_error": None}
        tested = {"test_loss": end.test_loss, "test_error": end.test_error}
        return info | {name: None if np.isnan(value) else value for name, value in tested.items()}


def _write_journal(
    folder: RunFolder, search: SimulatedSearch, workers: int, devices: tuple[str, ...], is_over: bool
) -> None:
    events: list[tuple[float, int, dict[str, object]]] = []

    def note(time_s: float, event: str, **fields: object) -> None:
        events.append((time_s, len(events), {"time": EPOCH_S + time_s, "event": event, **fields}))

    note(0.0, "master_started", term=1, host="login", pid=1, address="login:9090")
    note(0.0, "workers_requested", count=workers)
    for worker in range(workers):
        device = devices[worker // 2 % len(devices)]
        names = {"worker": worker_name(worker), "host": host_name(worker), "device": device}
        note(0.0, "worker_joined", slurm_job_id=f"100_{worker}", **names)
        if is_over:
            note(search.ended_s, "worker_left", worker=worker_name(worker), reason="the run is done")
    for job in search.jobs:
        for attempt in job.tries:
            what = {"config_id": list(job.config_id), "budget": job.budget, "attempt": attempt.attempt}
            what["worker"] = worker_name(attempt.worker)
            note(attempt.dispatched_s, "dispatched", **what)
            if attempt.outcome != "running":
                how = _how_it_ended(job, attempt)
                note(attempt.returned_s, "returned", **what, host=host_name(attempt.worker), **how)
    if is_over:
        note(search.ended_s, "master_ended", term=1, reason="finished")
    with JsonLinesWriter(folder.journal) as journal:
        journal.append(event for _, _, event in sorted(events, key=lambda item: item[:2]))


def _how_it_ended(job: Job, attempt: Try) -> dict[str, object]:
    """What the journal says of a return besides who and what."""
    progressed: bool | None = None
    lost_s: float | None = None
    if attempt.outcome == "lost":
        kept = next((t.inherited_s for t in job.tries if t.attempt == attempt.attempt + 1), attempt.inherited_s)
        progressed, lost_s = kept > attempt.inherited_s, max(attempt.trained_to_s - kept, 0.0)
    return {"outcome": attempt.outcome, "reason": attempt.reason, "progressed": progressed, "lost_s": lost_s}
