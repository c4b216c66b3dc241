"""Train one configuration for one budget and report its learning curve."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from enum import Enum, auto

import torch

from models.cost import Cost
from models.registry import model_cost
from pipeline.errors import BrokenError, CrashedError, DataError
from pipeline.records import CurveSink, Evaluation, TrainResult, WorkerIdentity
from pipeline.run_folder import RunFolder
from pipeline.settings import Settings
from pipeline.training.checkpoint import TrainingState, discard_previous, find_resume_point, save_checkpoint
from pipeline.training.clock import BudgetClock, Fence, PhaseClock
from pipeline.training.data import ImageData, Split
from pipeline.training.device import autocast, memory_limit_bytes, set_up_device, synchroniser, uses_bfloat16
from pipeline.training.finite import FiniteCheck
from pipeline.training.measure import Measurement, measure
from pipeline.training.recorder import UNMEASURED, Recorder
from pipeline.training.schedule import schedule_for
from pipeline.training.trainer import Trainer

# For the first decisions, before anything was measured: a checkpoint's bytes per second, and a forward pass's share of
# a training step.
ASSUMED_WRITE_BYTES_PER_S = 200e6
ASSUMED_FORWARD_SHARE = 1 / 3

StopReason = Callable[[], str | None]


def never_stop() -> str | None:
    """No reason to stop before the budget is spent."""
    return None


def train(
    evaluation: Evaluation,
    settings: Settings,
    folder: RunFolder,
    data: ImageData,
    curve: CurveSink,
    worker: WorkerIdentity,
    should_stop: StopReason = never_stop,
) -> TrainResult:
    """Train until the evaluation's budget is spent, then validate.

    Goes on from the best checkpoint that the run folder holds for the evaluation. Checkpoints are written at
    intervals, when stopped and at the end, where the last one stays for a promotion.

    Args:
        evaluation: what to train, and how long.
        settings: the run's.
        folder: where checkpoints are.
        data: loaded once by the worker; its device trains.
        curve: receives header, rows and end.
        worker: for the records.
        should_stop: asked before every batch; a reason makes training write a checkpoint and hand the evaluation back.

    Returns:
        "finished" with the final validation error as its loss, or "handed_back" with the reason.

    Raises:
        CrashedError: the configuration's fault: too_large (before it is built), out_of_memory, not_finite, error.
        BrokenError: the installation's fault: a full disk, a failed device.
        The curve has ended with status crashed or broken by then.
    """
    phases = PhaseClock(synchroniser(data.device))
    set_up_device(settings, data.device)
    if data.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(data.device)
    try:
        cost = model_cost(evaluation.configuration, data.info.image_shape, data.info.classes)
    except ValueError as error:
        raise CrashedError("error", str(error)) from None
    recorder = Recorder(evaluation, settings, folder.run_id, data, cost, curve, worker, phases)
    attempt = _Attempt(evaluation, settings, folder, data, recorder, phases, should_stop)
    try:
        return attempt.run(cost)
    except CrashedError as error:
        recorder.end("crashed", str(error))
        raise
    except (BrokenError, DataError) as error:
        _end_if_possible(recorder, "broken", str(error))
        raise
    except Exception as error:
        failure = _classify(error)
        _end_if_possible(recorder, "crashed" if isinstance(failure, CrashedError) else "broken", str(failure))
        raise failure from error


def _classify(error: Exception) -> CrashedError | BrokenError:
    """Whose fault an unexpected error is."""
    text = " ".join(str(error).split())[:500]
    # A CPU's allocator raises a plain RuntimeError.
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in text:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return CrashedError("out_of_memory", text)
    if isinstance(error, torch.AcceleratorError):
        return BrokenError(f"the device failed: {text}")
    return CrashedError("error", f"{type(error).__name__}: {text}")


def _end_if_possible(recorder: Recorder, status: str, reason: str) -> None:
    # The disk that broke the attempt cannot take its end either; the first error is the one to tell.
    with contextlib.suppress(BrokenError):
        recorder.end(status, reason)


class _Pause(Enum):
    """Why a stretch of training steps ended."""

    SPENT = auto()
    EPOCH = auto()
    CHECKPOINT = auto()
    STOP = auto()


class _Attempt:
    """One attempt at one evaluation."""

    def __init__(
        self,
        evaluation: Evaluation,
        settings: Settings,
        folder: RunFolder,
        data: ImageData,
        recorder: Recorder,
        phases: PhaseClock,
        should_stop: StopReason,
    ) -> None:
        self.evaluation = evaluation
        self.settings = settings
        self.folder = folder
        self.data = data
        self.recorder = recorder
        self.phases = phases
        self.should_stop = should_stop
        self.stop_reason: str | None = None
        self.path = folder.checkpoint(evaluation.config_id, evaluation.budget, evaluation.attempt)
        self.autocast = autocast(settings, data.device)

    def run(self, cost: Cost) -> TrainResult:
        """See `train`."""
        refusal = too_large(cost, self.evaluation, self.settings, self.data)
        point = None if refusal else find_resume_point(self.folder, self.evaluation)
        state = point.state if point else TrainingState(0, 0.0, [], 0.0, 0.0, 0)
        self.recorder.begin(point.origin if point else "start", state.rows, state.training_s)
        if refusal:
            raise CrashedError("too_large", refusal)
        self.trainer = Trainer(self.evaluation, self.settings, self.data)
        if point:
            self.trainer.load(point)
            del point  # its weights are in the model now
        self.schedule = schedule_for(self.settings, self.evaluation.budget)
        self.clock = BudgetClock(self.phases, Fence(self.data.device), state.training_s)
        self.finite = FiniteCheck(self.data.device)
        self.saved_at_s = state.training_s
        self.batches_at_start = self.trainer.batches
        self.validations = 0
        self.saved_progress: tuple[int, int] | None = None
        self.write_s = cost.parameters * 8 / ASSUMED_WRITE_BYTES_PER_S
        self._warm_up()
        if not self._train_to_budget():
            return self._hand_back()
        return self._finish()

    def _warm_up(self) -> None:
        # On a CPU without compiling there is nothing to choose, and a batch of a slow configuration is not for nothing.
        if not self.settings.training.compile and self.data.device.type != "cuda":
            return
        with self.phases.phase("compile"):
            if self.settings.training.compile:
                self.trainer.compile(self.folder.compile_cache)
            self.trainer.warm_up()

    def _train_to_budget(self) -> bool:
        """Train until the budget is spent; False when stopped before."""
        if self._position() >= self._target():
            return True
        # An attempt that was stopped during an epoch's validation owes the epoch's row.
        pause = _Pause.EPOCH if self.trainer.at_epoch_end and not self._has_row() else None
        while True:
            match pause:
                case _Pause.SPENT:
                    return True
                case _Pause.STOP:
                    return False
                case _Pause.EPOCH:
                    measured = self._validate() if self._can_afford_validation() else UNMEASURED
                    if measured is None:
                        return False
                    self.recorder.add_row(self.trainer, measured)
                case _Pause.CHECKPOINT:
                    self._save()
            with self.phases.phase("training"):
                pause = self._train_to_pause()

    def _has_row(self) -> bool:
        """Whether the curve's last row is about the last step."""
        rows = self.recorder.rows
        return bool(rows) and rows[-1].batches == self.trainer.batches

    def _train_to_pause(self) -> _Pause:
        in_seconds = self.settings.search.budget_unit == "seconds"
        trainer, clock = self.trainer, self.clock
        while True:
            if self._is_stopped():
                return _Pause.STOP
            trainer.step(self.schedule.factor(self._position()))
            spent = clock.step_done(self.evaluation.budget if in_seconds else math.inf)
            if not self.finite.check(trainer.loss_sum):
                raise CrashedError("not_finite", f"the training loss is not finite after {trainer.batches} batches")
            if spent or (not in_seconds and self._position() >= self._target()):
                return _Pause.SPENT
            if trainer.at_epoch_end:
                return _Pause.EPOCH
            if clock.training_s - self.saved_at_s >= self._checkpoint_interval_s():
                return _Pause.CHECKPOINT

    def _is_stopped(self) -> bool:
        if self.stop_reason is None:
            self.stop_reason = self.should_stop()
        return self.stop_reason is not None

    def _position(self) -> float:
        """Training done since the first step ever, in budget units."""
        match self.settings.search.budget_unit:
            case "seconds":
                return self.clock.training_s
            case "epochs":
                return self.trainer.epoch
            case "batches":
                return float(self.trainer.batches)

    def _target(self) -> float:
        # Rungs that are no whole number of batches end with the batch that completes them.
        return self.evaluation.budget * (1 - 1e-9)

    # Overhead ------------------------------------------------------------------------------------------------------
    def _can_afford_validation(self) -> bool:
        """Whether another validation keeps validations and checkpoints within their share of the training time.

        Budgets that no clock decides are there to be reproduced, so no clock thins their validations either.
        """
        if self.settings.search.budget_unit != "seconds":
            return True
        share = self.settings.training.overhead_share
        spent = self.phases.seconds("validation") + self.phases.seconds("checkpoint")
        return spent + self._validation_estimate_s() <= share * self.clock.trained_here_s

    def _validation_estimate_s(self) -> float:
        if self.validations:
            return self.phases.seconds("validation") / self.validations
        trained_images = (self.trainer.batches - self.batches_at_start) * self.trainer.batch_size
        per_image = self.clock.trained_here_s / max(1, trained_images)
        return len(self.data.validation) * per_image * ASSUMED_FORWARD_SHARE

    def _checkpoint_interval_s(self) -> float:
        """The setting, or as long as a checkpoint's writing keeps within its share: 20 times at 5%."""
        training = self.settings.training
        return max(training.checkpoint_interval_s, self.write_s / training.overhead_share)

    # Measuring and saving ------------------------------------------------------------------------------------------
    def _validate(self) -> Measurement | None:
        """None when stopped in the middle."""
        measured = self._measure(self.data.validation)
        if measured is not None:
            self.validations += 1
            self.recorder.validation = measured
        return measured

    def _measure(self, split: Split) -> Measurement | None:
        with self.phases.phase("validation"):
            return measure(
                self.trainer.model,
                split,
                self.data,
                self.settings.training.validation_batch,
                self.autocast,
                self._is_stopped,
            )

    def _save(self) -> None:
        progress = (self.trainer.batches, len(self.recorder.rows))
        if progress == self.saved_progress:
            return
        before = self.phases.seconds("checkpoint")
        with self.phases.phase("checkpoint"):
            trainer = self.trainer
            state = TrainingState(
                batches=trainer.batches,
                training_s=self.clock.training_s,
                rows=self.recorder.rows,
                loss_sum=float(trainer.loss_sum),
                error_sum=float(trainer.error_sum),
                batches_in_sums=trainer.batches_in_sums,
            )
            save_checkpoint(self.path, self.evaluation, state, *trainer.state_dicts())
        self.write_s = self.phases.seconds("checkpoint") - before
        self.saved_at_s = state.training_s
        self.saved_progress = progress

    # Ends ----------------------------------------------------------------------------------------------------------
    def _finish(self) -> TrainResult:
        measured = self._validate()
        if measured is None:
            return self._hand_back()
        if not math.isfinite(measured.loss):
            raise CrashedError("not_finite", "the validation loss is not finite")
        # A curve that an earlier attempt completed stays as it is.
        if not self._has_row() or math.isnan(self.recorder.rows[-1].validation_error):
            self.recorder.add_row(self.trainer, measured)
        # After the row: a promotion continues the curve from this checkpoint.
        self._save()
        if self._wants_test():
            test = self._measure(self.data.test)
            if test is None:
                return self._hand_back()
            self.recorder.test = test
        self.recorder.end("finished")
        discard_previous(self.path)
        return TrainResult("finished", measured.error, self.recorder.info(self.trainer))

    def _wants_test(self) -> bool:
        wanted = self.settings.training.test
        return wanted == "all" or (wanted == "largest" and self.evaluation.is_largest)

    def _hand_back(self) -> TrainResult:
        reason = self.stop_reason or ""
        self._save()
        self.recorder.end("handed_back", reason)
        return TrainResult("handed_back", None, self.recorder.info(self.trainer), reason)


def too_large(cost: Cost, evaluation: Evaluation, settings: Settings, data: ImageData) -> str:
    """Why a configuration must not be built here, with its size; "" when it fits."""
    most = settings.training.max_parameters
    if cost.parameters > most:
        return f"{cost.parameters:,} parameters, training.max_parameters allows {most:,}"
    batch_size = evaluation.configuration.get("batch_size")
    activation_bytes = 2 if uses_bfloat16(settings, data.device) else 4
    need = cost.training_bytes(int(batch_size or 1), activation_bytes)
    limit = memory_limit_bytes(settings, data.device)
    if need > limit:
        return (
            f"{cost.parameters:,} parameters and a batch of {batch_size} need about {need / 1e9:.1f} GB, "
            f"{limit / 1e9:.1f} GB are allowed (training.memory_gb sets another limit)"
        )
    return ""
