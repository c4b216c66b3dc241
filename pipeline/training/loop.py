"""One attempt at one evaluation: training in stretches, between them validation, rows and checkpoints."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from enum import Enum, auto

from torch import Tensor

from models.recipe import PAPER_CODE
from pipeline.errors import CrashedError
from pipeline.records import NOTES_KEY, Evaluation, TrainResult, derive_seed
from pipeline.run.folder import RunFolder, ensure_compile_cache
from pipeline.run.lower_rungs import CLOCK_COLUMNS, LOWER_RUNGS_KEY, lower_rung_losses
from pipeline.settings import Settings, budget_ladder
from pipeline.training.checkpoint import TrainingState, discard_previous, save_checkpoint
from pipeline.training.clock import BudgetClock, Fence
from pipeline.training.data import Split
from pipeline.training.device import autocast, synchroniser
from pipeline.training.finite import FiniteCheck
from pipeline.training.latency import LEAST_PASSES, measure_latency
from pipeline.training.measure import Measurement, measure
from pipeline.training.recorder import UNMEASURED, Latency, Recorder
from pipeline.training.schedule import schedule_for
from pipeline.training.trainer import Trainer, seed_device
from tandem_trial.clock import PhaseClock

# For the first decisions, before anything was measured: a checkpoint's bytes per parameter (weight and momentum), how
# fast they are written, and a forward pass's share of a training step.
CHECKPOINT_BYTES_PER_PARAMETER = 8
ASSUMED_WRITE_BYTES_PER_S = 200e6
ASSUMED_FORWARD_SHARE = 1 / 3
# Of all passes that measure the latency; and the metric's name.
MOST_LATENCY_S, LATENCY = 5.0, "latency_s"
# Taken from its cache, what is compiled still costs 5 to 9 s, for a tenth of speed: docs/performance.md.
COMPILING_MAY_PAY_FROM_S = 60.0
# Torch's own variable, which a user's environment may set.
COMPILE_CACHE = "TORCHINDUCTOR_CACHE_DIR"

log = logging.getLogger(__name__)


class Pause(Enum):
    """Why a stretch of training steps ended."""

    SPENT = auto()
    EPOCH = auto()
    CHECKPOINT = auto()
    STOP = auto()


class TrainingLoop:
    """Trains until the budget is spent or until it is stopped, and keeps the overhead within its share."""

    def __init__(
        self,
        evaluation: Evaluation,
        settings: Settings,
        folder: RunFolder,
        trainer: Trainer,
        recorder: Recorder,
        phases: PhaseClock,
        should_stop: Callable[[], str | None],
    ) -> None:
        """Go on from where trainer and recorder are; see `pipeline.training.train.train`."""
        self.evaluation = evaluation
        self.settings = settings
        self.folder = folder
        self.trainer = trainer
        self.data = trainer.data
        self.recorder = recorder
        self.phases = phases
        self.should_stop = should_stop
        self.stop_reason: str | None = None
        self.path = folder.checkpoint(evaluation.config_id, evaluation.budget, evaluation.attempt)
        self.autocast = autocast(settings, self.data.device)
        self.schedule = schedule_for(settings, evaluation.budget)
        self.clock = BudgetClock(phases, Fence(self.data.device), recorder.inherited_s)
        self.finite = FiniteCheck(self.data.device)
        self.batches_at_start = trainer.batches
        self.validations = 0
        self.saved_at_s = recorder.inherited_s
        self.saved_progress: tuple[int, int] | None = None
        self.notes: list[str] = []
        self.write_s = recorder.cost.parameters * CHECKPOINT_BYTES_PER_PARAMETER / ASSUMED_WRITE_BYTES_PER_S

    def run(self) -> TrainResult:
        """Train, then validate and leave the last checkpoint; or hand back when stopped before."""
        self._warm_up()
        if not self._train_to_budget():
            return self._hand_back()
        return self._finish()

    def _warm_up(self) -> None:
        compiles = self.settings.training.compile and self._is_long()
        # On a CPU without compiling there is nothing to choose, and a batch of a slow configuration is not for nothing.
        if not compiles and self.data.device.type != "cuda":
            return
        with self.phases.phase("compile"):
            if compiles:
                if COMPILE_CACHE not in os.environ:
                    os.environ[COMPILE_CACHE] = str(ensure_compile_cache(self.folder))
                self.trainer.compile()
            self.trainer.warm_up()

    def _is_long(self) -> bool:
        """Whether compiling can pay; where no clock decides the budget, the user alone knows."""
        in_seconds = self.settings.search.budget_unit == "seconds"
        return not in_seconds or self._target() - self._position() >= COMPILING_MAY_PAY_FROM_S

    def _train_to_budget(self) -> bool:
        """Train until the budget is spent; False when stopped before."""
        if self._position() >= self._target():
            return True
        # An attempt that was stopped during an epoch's validation owes the epoch's row.
        pause = Pause.EPOCH if self.trainer.at_epoch_end and not self._has_row() else None
        while True:
            match pause:
                case Pause.SPENT:
                    return True
                case Pause.STOP:
                    return False
                case Pause.EPOCH:
                    measured = self._validate() if self._can_afford_validation() else UNMEASURED
                    if measured is None:
                        return False
                    self.recorder.add_row(self.trainer, measured)
                    if self._checkpoint_is_due():  # an epoch may be a single batch
                        self._save()
                case Pause.CHECKPOINT:
                    self._save()
            with self.phases.phase("training"):
                pause = self._train_to_pause()

    def _has_row(self) -> bool:
        """Whether the curve's last row is about the last step."""
        rows = self.recorder.rows
        return bool(rows) and rows[-1].batches == self.trainer.batches

    def _train_to_pause(self) -> Pause:
        in_seconds = self.settings.search.budget_unit == "seconds"
        trainer, clock = self.trainer, self.clock
        while True:
            if self._is_stopped():
                return Pause.STOP
            trainer.step(self.schedule.factor(self._position()))
            spent = clock.step_done(self.evaluation.budget if in_seconds else math.inf)
            if not self.finite.check(trainer.loss_sum):
                raise CrashedError("not_finite", f"the training loss is not finite after {trainer.batches} batches")
            if spent or (not in_seconds and self._position() >= self._target()):
                return Pause.SPENT
            if trainer.at_epoch_end:
                return Pause.EPOCH
            if self._checkpoint_is_due():
                return Pause.CHECKPOINT

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
            case "batches" | "steps":
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
        # A checkpoint is not put off: what the next one takes must be left of the share.
        comes = self.saved_at_s + self._checkpoint_interval_s() < self.evaluation.budget
        reserved = self.write_s if comes else 0.0
        return spent + self._validation_estimate_s() + reserved <= share * self.clock.trained_here_s

    def _validation_estimate_s(self) -> float:
        if self.validations:
            return self.phases.seconds("validation") / self.validations
        trained_images = (self.trainer.batches - self.batches_at_start) * self.trainer.batch_size
        per_image = self.clock.trained_here_s / max(1, trained_images)
        return len(self.data.validation) * per_image * ASSUMED_FORWARD_SHARE

    def _checkpoint_is_due(self) -> bool:
        """After the setting's interval, or as long as keeps writing within its share: 20 times what it takes, at 5%."""
        return self.clock.training_s - self.saved_at_s >= self._checkpoint_interval_s()

    def _checkpoint_interval_s(self) -> float:
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

    def _measure_augmented(self) -> Measurement | None:
        """The validation set as the paper's code measures it: cropped, mirrored and cut out at random."""
        trainer = self.trainer
        seed_device(self.data.device, derive_seed(self.evaluation.seed, "augmented validation", trainer.batches))
        return self._measure(self.data.validation, trainer.augmenter.unmixed)

    def _measure(self, split: Split, prepare: Callable[[Tensor], Tensor] | None = None) -> Measurement | None:
        with self.phases.phase("validation"):
            return measure(
                self.trainer.model,
                split,
                self.data,
                self.recorder.cost.evaluation_batch(self.settings.training.validation_batch, self.trainer.batch_size),
                self.autocast,
                self._is_stopped,
                prepare,
            )

    def _measure_latency(self) -> bool:
        """Measure it within its share of the training time, or note why not; False when stopped in the middle.

        Where it is an objective, it is measured whatever it takes.
        """
        cost, most = self.recorder.cost, self.settings.training.latency_batch
        batch_size = cost.evaluation_batch(most, self.trainer.batch_size)
        share_s = min(MOST_LATENCY_S, self.settings.training.overhead_share * self.clock.training_s)
        pass_s = self._validation_estimate_s() * batch_size / len(self.data.validation)
        if LEAST_PASSES * pass_s > share_s and LATENCY not in self.settings.search.objectives:
            self._note(
                f"the latency was not measured: two passes of {batch_size} images take {LEAST_PASSES * pass_s:.2g} s, "
                f"more than {share_s:.2g} s (training.overhead_share of the training time, at most "
                f"{MOST_LATENCY_S:g} s; an objective is measured always)"
            )
            return True
        with self.phases.phase("validation"):
            latency_s = measure_latency(
                self.trainer.model,
                self.data.validation,
                self.data,
                batch_size,
                self.autocast,
                synchroniser(self.data.device),
                self._is_stopped,
                share_s,
            )
        if latency_s is None:
            return False
        self.recorder.latency = Latency(latency_s, batch_size)
        return True

    def _note(self, text: str) -> None:
        log.info("evaluation %s: %s", self.evaluation.config_id, text)
        self.notes.append(text)

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
            save_checkpoint(self.path, self.evaluation, state, *trainer.state_dicts(), self.folder.path)
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
        if not self._measure_latency():
            return self._hand_back()
        if self.settings.training.recipe == PAPER_CODE:
            augmented = self._measure_augmented()
            if augmented is None:
                return self._hand_back()
            self.recorder.augmented = augmented
        if self._wants_test():
            test = self._measure(self.data.test)
            if test is None:
                return self._hand_back()
            self.recorder.test = test
        self.recorder.end("finished")
        discard_previous(self.path)
        info = self.recorder.info(self.trainer)
        notes = {NOTES_KEY: self.notes} if self.notes else {}
        return TrainResult("finished", measured.error, {**info, LOWER_RUNGS_KEY: self._lower_rungs(), **notes})

    def _lower_rungs(self) -> list[list[float]]:
        search, rows = self.settings.search, self.recorder.rows
        below = [rung for rung in budget_ladder(search) if rung < self.evaluation.budget]
        clock = [getattr(row, CLOCK_COLUMNS[search.budget_unit]) for row in rows]
        return lower_rung_losses(clock, [row.validation_error for row in rows], below)

    def _wants_test(self) -> bool:
        wanted = self.settings.training.test
        return wanted == "all" or (wanted == "largest" and self.evaluation.is_largest)

    def _hand_back(self) -> TrainResult:
        reason = self.stop_reason or ""
        self._save()
        self.recorder.end("handed_back", reason)
        return TrainResult("handed_back", None, self.recorder.info(self.trainer), reason)
