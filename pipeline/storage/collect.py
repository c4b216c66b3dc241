"""Merge a run folder into one file, results.h5, finished or not; the analysis reads nothing else.

Schema (every column is a dataset with the attributes `unit` and `description`; see pipeline/storage/schema.py):

    /                   attributes: schema, run_id, collected (s since 1970, UTC), dataset, budget_unit
    /run                texts: settings (YAML), provenance, configspace, problem and status (JSON), warnings (a text
                        each); budgets: the ladder, in budget units
    /configurations     a row per configuration drawn; /configurations/values has a column per hyperparameter
                        (NaN or "": inactive)
    /evaluations        a row per evaluation: those with a result in the order of results.json, then those in progress;
                        rows curve_offset .. curve_offset + curve_length of /learning_curves are its curve;
                        /evaluations/metrics has a column per metric of the problem: what was measured last
    /attempts           a row per attempt, superseded and lost ones included
    /learning_curves    one long table: the rows of every evaluation's accepted attempt (in progress: its latest)
    /journal            a row per event of the search
    /retrained          a row per training on training plus validation data: baselines and the incumbent
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.errors import CRASH_KINDS, RunError, SettingsError
from pipeline.files import publish, read_json
from pipeline.problems.description import Description, describe
from pipeline.records import INFO_KEYS, EvaluationKey, config_name, measured_values
from pipeline.run.folder import RunFolder
from pipeline.run.history import Draw, History, Result, devices_joined, read_history, read_journal
from pipeline.run.remarks import Remarks
from pipeline.settings import Settings, budget_ladder, load_settings
from pipeline.storage import schema
from pipeline.storage.cases import Conclusion, ResultKind, decide
from pipeline.storage.columns import Column, frame, write_column, write_table
from pipeline.storage.curves import ROW_COLUMNS
from pipeline.storage.gather import (
    NO_ROWS,
    FoundAttempt,
    event_config_id,
    facts,
    find_attempts,
    lost_seconds,
    mark,
)
from pipeline.storage.kept import Kept, read_kept
from pipeline.storage.retrained import baseline_folder, find_retrained
from pipeline.wording import counted

logger = logging.getLogger(__name__)

# results.json's info, as far as /evaluations has a column for it.
_INFO = tuple({column.name for column in schema.EVALUATIONS} & set(INFO_KEYS) - {"attempt"})


def collect(folder: RunFolder, baselines: Path | None = None) -> Path:
    """Build results.h5 of a run, going on or ended; published whole, so it may be read and rebuilt at any time.

    Damaged or missing files of attempts are named in warnings (logged, and kept in the file), never fatal: what the
    results.h5 before had of them is kept (`storage.kept`).

    Args:
        folder: the run.
        baselines: folder of baseline trainings; default: beside the run folder, see `retrained.baseline_folder`.

    Returns:
        The path of results.h5.

    Raises:
        RunError: the run folder lacks its settings, or one of its files other than those of attempts is damaged; or
            attempts have no file, and the results.h5 before, which may have their curves, cannot be read.
    """
    settings, kept = _settings(folder), read_kept(folder)
    history, journal = read_history(folder), kept.with_earlier_events(read_journal(folder))
    problem = describe(settings, devices_joined(journal))
    attempts, warnings = find_attempts(folder, journal)
    kept.add_unknown(attempts)
    evaluations, curves, attempt_rows, doubts = _evaluations(
        folder, history, attempts, _has_ended(journal), problem, kept
    )
    retrained, more = find_retrained(
        baselines if baselines is not None else baseline_folder(folder.path.parent, settings),
        folder.path / "retrained",
    )
    remarks = Remarks(history.results, with_crashes=not problem.is_built_in).lines()
    warnings = [*remarks, *warnings, *doubts, *more]
    for warning in warnings:
        logger.warning("%s", warning)
    with publish(folder.collected, folder.path) as temporary, h5py.File(temporary, "w", locking=False) as file:
        _write_run(file, folder, settings, problem, warnings, kept)
        _write_configurations(file, history.draws)
        write_table(file, "evaluations", frame(schema.EVALUATIONS, evaluations), schema.EVALUATIONS)
        columns = schema.metrics(problem)
        write_table(file["evaluations"], "metrics", frame(columns, [row["metrics"] for row in evaluations]), columns)
        write_table(file, "attempts", frame(schema.ATTEMPTS, attempt_rows), schema.ATTEMPTS)
        _write_curves(file, curves, schema.learning_curves(problem))
        write_table(file, "journal", frame(schema.JOURNAL, map(_journal_row, journal)), schema.JOURNAL)
        write_table(file, "retrained", frame(schema.RETRAINED, retrained), schema.RETRAINED)
    return folder.collected


def _settings(folder: RunFolder) -> Settings:
    try:
        return load_settings(folder.settings)
    except SettingsError as error:
        raise RunError(f"{folder.path} cannot be collected: {error}") from None


def _has_ended(journal: Sequence[Mapping[str, Any]]) -> bool:
    ends = [event["event"] for event in journal if event.get("event") in ("master_started", "master_ended")]
    return bool(ends) and ends[-1] == "master_ended"


def _evaluations(
    folder: RunFolder,
    history: History,
    attempts: dict[EvaluationKey, list[FoundAttempt]],
    run_has_ended: bool,
    problem: Description,
    kept: Kept,
) -> tuple[list[dict[str, Any]], list[np.ndarray], list[dict[str, Any]], list[str]]:
    """Rows of /evaluations and /attempts, the curves in the order of the evaluations, and warnings."""
    configurations = {draw.config_id: row for row, draw in enumerate(history.draws)}
    results, warnings = _results_by_evaluation(folder, history, attempts)
    evaluations: list[dict[str, Any]] = []
    curves: list[np.ndarray] = []
    attempt_rows: list[dict[str, Any]] = []
    offset = lacking = 0
    for key, result in results.items():  # in the order of results.json
        config_id, budget = key
        tried = attempts.get(key, [])
        conclusion = decide(_kind(result), _named(result), [facts(attempt) for attempt in tried], run_has_ended)
        mark(tried, conclusion)
        curve = next((a for a in tried if a.attempt == conclusion.curve), None)
        before = kept.evaluation(curve)
        if conclusion.lacks_curve and before is None:
            path = folder.attempt(config_id, budget, _named(result) or 1)
            if kept.is_unreadable:
                raise RunError(
                    f"{path} is gone, and its learning curve may stand in {folder.collected} alone, which cannot be "
                    f"read. Put a copy of that back, or move it away to collect without."
                )
            warnings.append(f"{path} is missing: that evaluation has a result but no learning curve")
        row = _evaluation_row(key, conclusion, result, curve)
        row |= {"metrics": _last_values(curve, result, problem)}
        rows = curve.rows if curve else NO_ROWS
        if before is not None:
            row, rows = kept.completed_evaluation(row, before), kept.curve(before)
        row |= {"configuration": configurations.get(config_id, -1), "attempts": len(tried)}
        row |= {"curve_offset": offset, "curve_length": len(rows)}
        curves.append(rows)
        offset += len(rows)
        gone = kept.lacking(tried)
        for attempt in tried:
            lost_s = lost_seconds(attempt, tried, result is not None)
            info = result.info if result is not None else {}
            attempt_row = _attempt_row(folder, attempt, len(evaluations), lost_s, info)
            attempt_rows.append(kept.completed_attempt(attempt_row, attempt, lacks_files=gone > 0))
        lacking += gone
        evaluations.append(row)
    if lacking:
        warnings.append(
            f"{counted(lacking, 'attempt')} of {folder.attempts} cannot be read there any more: what "
            f"{folder.collected.name} had of them is kept"
        )
    return evaluations, curves, attempt_rows, warnings


def _results_by_evaluation(
    folder: RunFolder, history: History, attempts: Iterable[EvaluationKey]
) -> tuple[dict[EvaluationKey, Result | None], list[str]]:
    """Every evaluation with its result, in the order of results.json, then those without one; and warnings."""
    warnings = []
    drawn = {draw.config_id for draw in history.draws}
    results: dict[EvaluationKey, Result | None] = {}
    for line in history.results:
        if results.setdefault((line.config_id, line.budget), line) is not line:
            name = f"{config_name(line.config_id)} on budget {line.budget:g}"
            warnings.append(f"{folder.results} has two results of {name}; the first counts")
    for key in sorted(attempts):
        if key[0] in drawn:
            results.setdefault(key, None)
        else:
            warnings.append(f"{config_name(key[0])} was tried on budget {key[1]:g}, but {folder.configs} lacks it")
    return results, warnings


def _kind(result: Result | None) -> ResultKind:
    if result is None:
        return ResultKind.NONE
    return ResultKind.CRASHED if result.loss is None else ResultKind.FINISHED


def _named(result: Result | None) -> int | None:
    """The attempt that a result names."""
    number = result.info.get("attempt") if result is not None else None
    return None if number is None else int(number)


def _evaluation_row(
    key: EvaluationKey, conclusion: Conclusion, result: Result | None, curve: FoundAttempt | None
) -> dict[str, Any]:
    row: dict[str, Any] = {**_id(key[0]), "budget": key[1], "status": conclusion.status}
    row |= {"attempt": curve.attempt if curve else 0, **_measured(curve)}
    if result is None:
        return row
    row |= {name: result.info[name] for name in _INFO if result.info.get(name) is not None}
    row |= {"submitted": result.submitted, "started": result.started, "finished": result.finished, "loss": result.loss}
    row |= {"exception": result.exception, "attempt": _named(result) or row["attempt"]}
    if result.loss is None:
        kind = (result.exception or "").partition(":")[0]
        row["crash_kind"] = kind if kind in CRASH_KINDS else "error"
    return row


def _measured(curve: FoundAttempt | None) -> dict[str, Any]:
    """What an attempt's own file says; results.json's info, where there is one, comes over it."""
    if curve is None or curve.header is None:
        return {"worker": curve.worker if curve else ""}
    header = curve.header
    names = ("worker", "host", "device", "continued_from", "seed")
    row: dict[str, Any] = {name: getattr(header, name) for name in names}
    # 0 of a problem that has none.
    row |= {"parameters": header.parameters or None, "flops_per_image": header.flops_per_image or None}
    if len(curve.rows):
        row |= {name: curve.rows[name][-1].item() for name in _INFO if name in ROW_COLUMNS}
        validated = curve.rows["validation_error"][~np.isnan(curve.rows["validation_error"])]
        row["validation_error"] = validated[-1].item() if len(validated) else None
    row["trained_here_s"] = curve.training_s - curve.inherited_s
    return row | throughput(curve.rows, curve.budget, header.budget_unit)


def throughput(rows: np.ndarray, budget: float, unit: str) -> dict[str, float]:
    """What a budget bought: batches and images per second on that rung, and how far training went beyond it.

    Args:
        rows: a curve, those of lower rungs included.
        unit: of the budget.
    """
    own = rows["rung"] == budget
    if not own.any():
        return {}
    first = int(np.flatnonzero(own)[0])
    before_s, before_batches = (rows["training_s"][first - 1], rows["batches"][first - 1]) if first else (0.0, 0)
    seconds = np.diff(rows["training_s"][first:], prepend=before_s)
    is_known = ~np.isnan(rows["images_per_s"][first:]) & (seconds > 0)
    images = (rows["images_per_s"][first:] * seconds)[is_known].sum()
    found = {"batches_here": float(rows["batches"][-1] - before_batches)}
    if is_known.any():
        found["images_per_s"] = float(images / seconds[is_known].sum())
    if unit == "seconds":
        found["overshoot"] = float(rows["training_s"][-1] / budget - 1)
    return found


def _attempt_row(
    folder: RunFolder, a: FoundAttempt, evaluation: int, lost_s: float, info: Mapping[str, Any]
) -> dict[str, Any]:
    row: dict[str, Any] = {**_id(a.config_id), "evaluation": evaluation, "lost_s": lost_s, "rows": len(a.rows)}
    row |= {name: getattr(a, name) for name in ("budget", "attempt", "accepted", "outcome", "reason", "problem")}
    row |= {"worker": a.worker, "dispatched": a.dispatched, "started": a.dispatched, "ended": a.returned}
    if a.path is not None:
        row["file"] = str(a.path.relative_to(folder.path))
    if a.header is None:  # lost before it wrote a file, it occupied its worker too
        if a.returned is not None and a.dispatched is not None:
            row["wall_s"] = a.returned - a.dispatched
        return row
    names = ("worker", "host", "device", "slurm_job_id", "continued_from", "seed", "parameters")
    row |= {name: getattr(a.header, name) for name in names}
    row |= {"inherited_training_s": a.inherited_s, "training_s": a.training_s}
    last = a.own_last_row()
    ends = [a.header.started, a.end.ended if a.end else None, last["wall_time"] if last is not None else None]
    row["ended"] = max(float(t) for t in ends if t is not None)
    # A process's first attempt imports torch and loads the data before its header is written.
    row["started"] = min(a.header.started, a.dispatched or a.header.started)
    row["wall_s"] = row["ended"] - row["started"]
    row["startup_s"] = a.header.started - row["started"]
    # The result of an accepted attempt knows of the last checkpoint and of the test, which came after the last row.
    named = ("startup_s", "compile_s", "validation_s", "checkpoint_s")
    phases = info if a.accepted and all(name in info for name in named) else last
    if phases is not None:
        row |= {name: float(phases[name]) for name in named[1:]}
        row["startup_s"] += float(phases["startup_s"])
    return row


def _id(config_id: tuple[int, int, int]) -> dict[str, Any]:
    iteration, stage, index = config_id
    return {"config_id": config_name(config_id), "iteration": iteration, "stage": stage, "index": index}


def _journal_row(event: Mapping[str, Any]) -> dict[str, Any]:
    names = {column.name for column in schema.JOURNAL}
    config_id = event_config_id(event)
    row = {name: value for name, value in event.items() if name in names}
    return row | {"config_id": config_name(config_id) if config_id else ""}


def _write_run(
    file: Any, folder: RunFolder, settings: Settings, problem: Description, warnings: list[str], kept: Kept
) -> None:
    file.attrs["schema"] = schema.RESULTS_SCHEMA
    file.attrs["run_id"] = folder.run_id
    file.attrs["collected"] = time.time()
    file.attrs["dataset"] = problem.name
    file.attrs["budget_unit"] = settings.search.budget_unit
    run = file.create_group("run")
    run["settings"] = folder.settings.read_text(encoding="utf-8")
    for name, path in (
        ("provenance", folder.provenance),
        ("configspace", folder.configspace),
        ("status", folder.status),
        ("images", folder.images),
    ):
        try:
            run[name] = json.dumps(read_json(path)) if path.exists() else kept.text(name)
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}). Move it away, and the rest can be collected.") from None
    run["problem"] = json.dumps(problem.to_plain())
    run["budgets"] = np.array(budget_ladder(settings.search))
    run["budgets"].attrs["unit"] = settings.search.budget_unit
    run.create_dataset("warnings", data=warnings, dtype=h5py.string_dtype(), shape=(len(warnings),))


def _write_configurations(file: Any, draws: Sequence[Draw]) -> None:
    rows = [
        {
            **_id(draw.config_id),
            "model_based": draw.info.get("model_based_pick"),
            "draw_budget": draw.info.get("budget"),
            "model_budget": draw.info.get("model_budget"),
            "results_seen": draw.info.get("results_seen"),
            "drawn": draw.info.get("drawn"),
        }
        for draw in draws
    ]
    write_table(file, "configurations", frame(schema.CONFIGURATIONS, rows), schema.CONFIGURATIONS)
    names = list(dict.fromkeys(name for draw in draws for name in draw.configuration))
    configurations = [draw.configuration for draw in draws]
    columns = [_hyperparameter_column(name, configurations) for name in names]
    write_table(file["configurations"], "values", frame(columns, map(dict, configurations)), columns)


def _hyperparameter_column(name: str, configurations: Sequence[Mapping[str, Any]]) -> Column:
    values = [c.get(name) for c in configurations]
    is_text = any(isinstance(value, str) for value in values)
    is_int = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    return Column(name, "text" if is_text else "int" if is_int else "float", "hyperparameter; NaN or empty: inactive")


def _write_curves(file: Any, curves: Sequence[np.ndarray], columns: Sequence[Column]) -> None:
    group = file.create_group("learning_curves", track_order=True)
    group.attrs["rows"] = sum(len(rows) for rows in curves)
    for column in columns:  # a column at a time: the long table is in memory once, not twice
        parts = [_values(rows, column.name) for rows in curves]
        write_column(group, column, np.concatenate(parts) if parts else _values(NO_ROWS, column.name))


def _values(rows: np.ndarray, name: str) -> np.ndarray:
    """A column of a curve; NaN in a file that lacks it."""
    return rows[name] if name in (rows.dtype.names or ()) else np.full(len(rows), np.nan)


def _last_values(curve: FoundAttempt | None, result: Result | None, problem: Description) -> dict[str, float]:
    """What an evaluation measured last, by metric: as its result says, else its attempt's file."""
    names = [metric.name for metric in problem.metrics]
    found: dict[str, float] = {}
    if result is not None and result.loss is not None:
        found[problem.metric.name] = problem.metric.of_loss(result.loss)
    for name in names if curve is not None and len(curve.rows) else ():
        values = _values(curve.rows, name)  # type: ignore[union-attr]
        measured = values[~np.isnan(values)]
        if len(measured):
            found[name] = measured[-1].item()
    if problem.is_built_in and curve is not None and curve.header is not None:
        found |= {"parameters": curve.header.parameters, "flops_per_image": curve.header.flops_per_image}
    return found if result is None else found | measured_values(result.info, names)
