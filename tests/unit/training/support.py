"""What the tests of training share: a tiny configuration, the digits, a curve kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.records import AttemptEnd, AttemptHeader, EpochRow, Evaluation, LowerRung, TrainResult, WorkerIdentity
from pipeline.run.folder import RunFolder
from pipeline.settings import Settings, load_settings
from pipeline.training.data import ImageData, load_data, prepare_data
from pipeline.training.train import never_stop, train

TINY = {
    "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1, "nr_residual_blocks_3": 1, "initial_filters": 8,
    "widen_factor_1": 1.0, "widen_factor_2": 1.0, "widen_factor_3": 1.0,
    "res_branches_1": 2, "res_branches_2": 1, "res_branches_3": 2,
    "learning_rate": 0.1, "batch_size": 128, "weight_decay": 1e-4, "momentum": 0.9, "mixup_alpha": 0.3,
    "cutout_length": 2, "death_rate": 0.2,
}  # fmt: skip
# Columns that clocks and machines decide.
MEASURED = ("training_s", "wall_s", "startup_s", "compile_s", "validation_s", "checkpoint_s", "images_per_s",
            "peak_memory_mb", "wall_time")  # fmt: skip


class KeptCurve:
    """A CurveSink that keeps what it was given."""

    def __init__(self) -> None:
        self.header: AttemptHeader | None = None
        self.inherited: list[EpochRow] = []
        self.rows: list[EpochRow] = []
        self.ended: AttemptEnd | None = None

    def begin(self, header: AttemptHeader, inherited: Sequence[EpochRow]) -> None:
        self.header = header
        self.inherited = list(inherited)
        self.rows = list(inherited)

    def add(self, *rows: EpochRow) -> None:
        self.rows.extend(rows)

    def end(self, end: AttemptEnd) -> None:
        self.ended = end


class Bench:
    """Settings, data and a run folder to train in."""

    def __init__(self, root: Path, folder: Path, *overrides: str) -> None:
        self.settings: Settings = load_settings("digits", [f"data.root={root}", "training.threads=1", *overrides])
        prepare_data(self.settings.data)
        self.data: ImageData = load_data(self.settings.data, torch.device("cpu"))
        self.folder = RunFolder(folder)
        folder.mkdir(parents=True, exist_ok=True)

    def evaluation(
        self, budget: float, attempt: int = 1, continues: LowerRung | None = None, **values: Any
    ) -> Evaluation:
        configuration = {**TINY, **values}
        return Evaluation((0, 0, 0), configuration, budget, attempt, seed=5, continues=continues)

    def train(
        self, evaluation: Evaluation, should_stop: Callable[..., Any] = never_stop, curve: KeptCurve | None = None
    ) -> tuple[TrainResult, KeptCurve]:
        curve = curve or KeptCurve()
        worker = WorkerIdentity("worker-0", "here")
        result = train(evaluation, self.settings, self.folder, self.data, curve, worker, should_stop)
        return result, curve


def stop_after(batches: int) -> Callable[..., Any]:
    """A `should_stop` that gives its reason when asked for the (batches + 1)-th time."""
    asked = 0

    def should_stop() -> str | None:
        nonlocal asked
        asked += 1
        return "walltime" if asked > batches else None

    return should_stop


def without_clocks(rows: Sequence[EpochRow]) -> list[EpochRow]:
    """Rows without what clocks and attempts decide; NaN becomes -1, so that equal rows compare equal."""
    cleared: dict[str, Any] = dict.fromkeys(MEASURED, 0.0)
    kept = []
    for row in rows:
        row = replace(row, attempt=0, **cleared)
        unknown: dict[str, Any] = {k: -1.0 for k, v in vars(row).items() if v != v}
        kept.append(replace(row, **unknown))
    return kept
