"""What a board shows of a run: an entry per evaluation, with its configuration, its curve and its result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.records import budget_name
from pipeline.storage.results import Results
from tandem_trial.problem import COUNTERS

# Of the counters, what is worth a curve of its own.
SHOWN_COUNTERS = ("epoch", "training_s")


@dataclass(frozen=True)
class BoardPoint:
    """A row of a curve.

    Attributes:
        step: optimiser steps (of a problem that counts none: the row's number).
        time: s since 1970 (UTC).
        values: what was measured at this row.
    """

    step: int
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class BoardEntry:
    """One evaluation.

    Attributes:
        name: "3-0-7 on 400".
        path: the same as a folder: "3-0-7/b400".
        configuration: the values of the hyperparameters, without inactive ones.
        facts: budget, bracket, worker and the like.
        metrics: what it measured last, and `loss`, what the search minimises, unless it crashed.
        status: finished, crashed, running, waiting or stopped.
        started, finished: s since 1970 (UTC); None: not known.
    """

    name: str
    path: str
    configuration: Mapping[str, int | float | str | bool]
    facts: Mapping[str, str | int | float | bool]
    metrics: Mapping[str, float]
    curve: tuple[BoardPoint, ...]
    status: str
    started: float | None
    finished: float | None

    @property
    def began(self) -> float:
        """`started`; where it is not known, the time of the first row, or 0."""
        return self.started or (self.curve[0].time if self.curve else 0.0)

    @property
    def ended(self) -> float:
        """`finished`; where it is not known, the time of the last row, or of the beginning."""
        return self.finished or (self.curve[-1].time if self.curve else self.began)


def board_entries(results: Results) -> Iterator[BoardEntry]:
    """Every evaluation that has begun, in the order of the file."""
    for number in range(len(results.evaluations)):
        row = results.evaluations.iloc[number]
        if row["status"] != "waiting":
            yield _entry(results, number, row)


def _entry(results: Results, number: int, row: Any) -> BoardEntry:
    budget, config_id = budget_name(float(row["budget"])), str(row["config_id"])
    metrics = {str(name): float(value) for name, value in results.metrics.iloc[number].items()} | {
        "loss": float(row["loss"])
    }
    return BoardEntry(
        name=f"{config_id} on {budget}",
        path=f"{config_id}/b{budget}",
        configuration=_configuration(results, int(row["configuration"])),
        facts={
            "run": results.run_id,
            "config_id": config_id,
            "budget": float(row["budget"]),
            "budget_unit": results.budget_unit,
            "bracket": int(row["iteration"]),
            "model_based": _is_model_based(results, int(row["configuration"])),
            "worker": str(row["worker"]),
            "device": str(row["device"]),
            "exception": str(row["exception"]),
        },
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        curve=tuple(_points(results, number)),
        status=str(row["status"]),
        started=_time(row["started"]),
        finished=_time(row["finished"]),
    )


def _configuration(results: Results, number: int) -> dict[str, int | float | str | bool]:
    if number < 0:
        return {}
    values = results.configurations.iloc[number][list(results.hyperparameters)]
    plain = {str(name): value.item() if hasattr(value, "item") else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if value != "" and value == value}


def _is_model_based(results: Results, number: int) -> bool:
    return number >= 0 and bool(results.configurations["model_based"].iloc[number])


def _time(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _points(results: Results, number: int) -> Iterator[BoardPoint]:
    curve = results.curve(number)
    names = [n for n in curve.columns if (n not in COUNTERS and n != "evaluation") or n in SHOWN_COUNTERS]
    for position, (_, row) in enumerate(curve.iterrows()):
        values = {name: float(row[name]) for name in names}
        step = int(row["batches"]) or position
        yield BoardPoint(step, float(row["wall_time"]), {n: v for n, v in values.items() if math.isfinite(v)})
