"""Turn what training did into the records of an attempt: header, rows, end and the result's info."""

from __future__ import annotations

import contextlib
import math
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from models.cost import Cost
from pipeline.errors import BrokenError
from pipeline.records import (
    INFO_KEYS,
    AttemptEnd,
    AttemptHeader,
    CurveSink,
    EpochRow,
    Evaluation,
    Value,
    WorkerIdentity,
)
from pipeline.settings import Settings
from pipeline.training.data import ImageData
from pipeline.training.device import device_name, peak_memory_mb, uses_bfloat16
from pipeline.training.measure import Measurement
from pipeline.training.trainer import Trainer
from tandem_trial.clock import PhaseClock

UNMEASURED = Measurement(math.nan, math.nan)
# Of the share that validations, checkpoints and rows have together: what rows of very short epochs may take of it.
ROWS_PART = 0.5
# A row is on disk after so long, however slow the disk: somebody may be watching the curve.
LONGEST_WAIT_S = 10.0


@dataclass(frozen=True)
class Latency:
    """Seconds that a forward pass takes, and of how many images."""

    seconds: float
    batch_size: int


class Recorder:
    """Writes one attempt's curve and remembers it.

    Attributes:
        cost: of the model.
        rows: the curve so far, over the whole chain. Those of epochs that are shorter than writing may take are
            written together: a killed process loses those since the last write, and a checkpoint has them all.
        inherited_s: budget clock at this attempt's start.
        validation, test: the last ones measured.
        latency: of the trained network; None: not measured (yet).
    """

    def __init__(
        self,
        evaluation: Evaluation,
        settings: Settings,
        run_id: str,
        data: ImageData,
        cost: Cost,
        curve: CurveSink,
        worker: WorkerIdentity,
        phases: PhaseClock,
    ) -> None:
        self._evaluation = evaluation
        self._settings = settings
        self._run_id = run_id
        self._data = data
        self.cost = cost
        self._curve = curve
        self._worker = worker
        self._phases = phases
        self._continued_from = "start"
        self._training_loss = math.nan
        self._unwritten: list[EpochRow] = []
        self._written_at_s = self._write_s = 0.0
        self.rows: list[EpochRow] = []
        self.inherited_s = 0.0
        self.validation = UNMEASURED
        self.augmented = UNMEASURED
        self.test = UNMEASURED
        self.latency: Latency | None = None

    def begin(self, origin: str, inherited: Sequence[EpochRow], inherited_s: float) -> None:
        """Open the curve; raises BrokenError when it cannot be written."""
        self._continued_from = origin
        self.inherited_s = inherited_s
        self.rows = list(inherited)
        if self.rows:
            self._training_loss = self.rows[-1].training_loss
        evaluation = self._evaluation
        header = AttemptHeader(
            run_id=self._run_id,
            config_id=evaluation.config_id,
            configuration=evaluation.configuration,
            budget=evaluation.budget,
            budget_unit=self._settings.search.budget_unit,
            attempt=evaluation.attempt,
            seed=evaluation.seed,
            started=time.time() - self._phases.wall_s,
            inherited_training_s=inherited_s,
            continued_from=origin,
            dataset=self._data.name,
            parameters=self.cost.parameters,
            flops_per_image=float(self.cost.flops_per_image),
            device=device_name(self._data.device),
            host=self._worker.host,
            worker=self._worker.name,
            slurm_job_id=self._worker.slurm_job_id,
            versions=versions(),
            schedule=self._settings.training.schedule,
            recipe=self._settings.training.recipe,
            threads=torch.get_num_threads(),
            precision="bfloat16" if uses_bfloat16(self._settings, self._data.device) else "float32",
        )
        with self._writing(), self._timed():
            self._curve.begin(header, self.rows)

    def add_row(self, trainer: Trainer, validation: Measurement) -> None:
        """Add a row for the batches since the last one, and write it when it is due.

        Raises:
            BrokenError: it cannot be written.
        """
        before_s, before_batches = (self.rows[-1].training_s, self.rows[-1].batches) if self.rows else (0.0, 0)
        clock = self._phases.reading()
        training_s = self.inherited_s + clock["training"]
        self._training_loss, training_error = trainer.take_means()
        seconds = training_s - before_s
        images = (trainer.batches - before_batches) * trainer.batch_size
        row = EpochRow(
            epoch=trainer.epoch,
            batches=trainer.batches,
            training_s=training_s,
            wall_s=clock["wall"],
            startup_s=clock["startup"],
            compile_s=clock["compile"],
            validation_s=clock["validation"],
            checkpoint_s=clock["checkpoint"],
            learning_rate=trainer.learning_rate,
            training_loss=self._training_loss,
            training_error=training_error,
            validation_loss=validation.loss,
            validation_error=validation.error,
            images_per_s=images / seconds if seconds > 0 else math.nan,
            peak_memory_mb=peak_memory_mb(self._data.device),
            attempt=self._evaluation.attempt,
            rung=self._evaluation.budget,
            wall_time=time.time(),
        )
        self.rows.append(row)
        self._unwritten.append(row)
        if self._is_due():
            self._write()

    def _is_due(self) -> bool:
        """Whether writing now keeps within its share, or has waited for long enough."""
        interval_s = self._write_s / (ROWS_PART * self._settings.training.overhead_share)
        return self._phases.wall_s - self._written_at_s >= min(interval_s, LONGEST_WAIT_S)

    def _write(self) -> None:
        with self._phases.phase("checkpoint"), self._writing(), self._timed():
            self._curve.add(*self._unwritten)
        self._unwritten.clear()

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        began_s = self._phases.wall_s
        yield
        self._written_at_s = self._phases.wall_s
        self._write_s = self._written_at_s - began_s

    @property
    def training_s(self) -> float:
        """Budget clock now."""
        return self.inherited_s + self._phases.seconds("training")

    def end(self, status: str, reason: str = "") -> None:
        """Write what is not written yet and how the attempt ended; raises BrokenError when it cannot be written."""
        if self._unwritten:
            self._write()
        with self._writing():
            self._curve.end(
                AttemptEnd(
                    status=status,
                    reason=reason,
                    ended=time.time(),
                    training_s=self.training_s,
                    validation_loss=self.validation.loss,
                    validation_error=self.validation.error,
                    test_loss=self.test.loss,
                    test_error=self.test.error,
                    metrics=self._costs(),
                )
            )

    def _costs(self) -> dict[str, float]:
        """What the model costs; its latency once it was measured."""
        costs: dict[str, float] = {
            "parameters": self.cost.parameters,
            "flops_per_image": float(self.cost.flops_per_image),
        }
        if self.latency is not None:
            costs |= {"latency_s": self.latency.seconds, "latency_batch": self.latency.batch_size}
        return costs

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            name = f"{self._evaluation.config_id} on {self._evaluation.budget:g}"
            raise BrokenError(f"cannot write the learning curve of {name}: {error}. Is the disk full?") from error

    def info(self, trainer: Trainer) -> dict[str, Value]:
        """The result's info, by `INFO_KEYS`; what was not measured is None."""
        clock = self._phases.reading()
        values: dict[str, Value] = {
            "attempt": self._evaluation.attempt,
            "worker": self._worker.name,
            "host": self._worker.host,
            "device": device_name(self._data.device),
            "epochs": trainer.epoch,
            "batches": trainer.batches,
            "training_s": self.inherited_s + clock["training"],
            "trained_here_s": clock["training"],
            "wall_s": clock["wall"],
            "startup_s": clock["startup"],
            "compile_s": clock["compile"],
            "validation_s": clock["validation"],
            "checkpoint_s": clock["checkpoint"],
            "training_loss": self._training_loss,
            "validation_loss": self.validation.loss,
            "validation_error": self.validation.error,
            "augmented_validation_loss": self.augmented.loss,
            "augmented_validation_error": self.augmented.error,
            "test_loss": self.test.loss,
            "test_error": self.test.error,
            "continued_from": self._continued_from,
            "peak_memory_mb": peak_memory_mb(self._data.device),
            **self._costs(),
        }
        return {key: _none_for_nan(values.get(key)) for key in INFO_KEYS}


def _none_for_nan(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Versions of what decides a training's outcome."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    with contextlib.suppress(PackageNotFoundError):
        found["tandem"] = version("tandem-nas")
    return found
