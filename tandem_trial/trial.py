"""What an objective holds of its attempt: configuration, budget clock, whether to stop, rows, checkpoint, folder."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tandem_trial.checkpoints import Progress, read_progress, seal, unpack
from tandem_trial.clock import Device, PhaseClock
from tandem_trial.problem import Metric
from tandem_trial.wire import ALIVE_S, Wire

SPENT = "the budget is spent"
# What numpy and others append to a name without asking is found, too.
_SAVING, _LOADED = "saving", "loaded"


class TrialError(Exception):
    """The objective uses its trial wrongly; the text says how to mend it."""


class NotFiniteError(Exception):
    """The metric that counts is NaN or infinite: the evaluation is a crash."""


class Trial:
    """One attempt at one evaluation.

    The budget clock starts with the first `should_stop()` or `step()`, and stands still in `validating()`, `report`
    and `save`. What comes before it is start-up, which no budget pays for.

    Attributes:
        configuration: values by hyperparameter; one that a condition switches off is absent.
        budget: how much is to be trained in all, in `budget_unit`: counted from the first step ever, so what a loaded
            checkpoint had is part of it.
        budget_unit: "seconds", "epochs" or "steps".
        is_largest: the budget is the largest of the search.
        seed: the same for every attempt and budget of a configuration.
        device: "cuda" or "cpu".
        gpus: how many there are for this trial; 0 on a CPU.
        data: the folder that `prepare_data` filled; None without one.
        folder: of this attempt alone, and the working directory while it is tried.
        config_id, attempt: which one this is, for messages.
    """

    def __init__(self, order: Mapping[str, Any], metrics: Mapping[str, Metric], wire: Wire) -> None:
        self.configuration: dict[str, Any] = dict(order["configuration"])
        self.budget: float = order["budget"]
        self.budget_unit: str = "steps" if order["budget_unit"] == "batches" else order["budget_unit"]
        self.is_largest: bool = order["is_largest"]
        self.seed: int = order["seed"]
        self.device: str = order["device"]
        self.gpus: int = order["gpus"]
        self.data: Path | None = None if order["data"] is None else Path(order["data"])
        self.folder = Path(order["folder"])
        self.config_id: tuple[int, ...] = tuple(order["config_id"])
        self.attempt: int = order["attempt"]
        self.epochs = 0.0
        self.steps = 0
        self._order = order
        self._metrics = metrics
        self._metric = next(iter(metrics.values()))
        self._wire = wire
        self._device = Device()
        self._clock = PhaseClock(self._device.synchronise)
        self._inherited_s = 0.0
        self._origin = "start"
        self._rows = 0
        self._notes: set[str] = set()
        self._has_begun = False
        self._has_asked = False
        self._is_over = False
        self._reason: str | None = None
        self._saved_at_s = 0.0
        self._saved_last = False
        self._last_read = 0.0
        self._longest_step_s = 0.0
        self._alive_at = time.monotonic()
        self.last: float | None = None

    def __getitem__(self, name: str) -> Any:
        """The value of a hyperparameter: `trial["learning_rate"]`."""
        try:
            return self.configuration[name]
        except KeyError:
            known = ", ".join(self.configuration)
            raise TrialError(f"the configuration has no {name!r}; it has: {known}") from None

    # The budget ----------------------------------------------------------------------------------------------------
    @property
    def training_s(self) -> float:
        """Training since the first step ever, in s."""
        return self._inherited_s + self._clock.seconds("training")

    @property
    def spent(self) -> float:
        """How much of the budget is trained, in `budget_unit`."""
        counted = {"seconds": self.training_s, "epochs": self.epochs, "steps": float(self.steps)}
        return counted[self.budget_unit]

    @property
    def remaining(self) -> float:
        """How much is left to train, in `budget_unit`."""
        return max(0.0, self.budget - self.spent)

    def step(self, count: int = 1) -> None:
        """Count steps (batches) that were trained."""
        self._begin()
        self.steps += count
        self._show_life()

    def epoch(self, count: float = 1) -> None:
        """Count epochs that were trained."""
        self._begin()
        self.epochs += count
        self._show_life()

    def should_stop(self) -> bool:
        """Whether to end now; ask before every batch, and save before returning. `stop_reason` says why."""
        if self.budget_unit == "seconds":  # where steps are counted, asking alone would go on for ever
            self._show_life()
        return self.check_stop()

    def check_stop(self) -> bool:
        """As `should_stop`, but no sign of life: for one who watches a program that may hang."""
        self._begin()
        self._has_asked = True
        if self._reason is None and self._is_spent():
            self._reason = SPENT
            self._wire.send(told=SPENT)
        self._reason = self._reason or self._wire.stop
        return self._reason is not None

    @property
    def stop_reason(self) -> str:
        """Why it shall stop, such as "the budget is spent" or what the worker must leave for; "" while it need not."""
        return self._reason or ""

    def _is_spent(self) -> bool:
        target = self.budget * (1 - 1e-9)
        if self.budget_unit != "seconds":
            return self.spent >= target
        self._device.fence()
        now = self.training_s
        self._longest_step_s = max(now - self._last_read, 0.9 * self._longest_step_s)
        if now + 4 * self._longest_step_s >= target:  # near the end, wait for every step: overshoot is one batch
            self._device.synchronise()
            now = self.training_s
        self._last_read = now
        return now >= target

    def _begin(self, has_trained: bool = False) -> None:
        if self._is_over:
            raise TrialError("this attempt has ended: a trial is of use within its objective only")
        if self._has_begun:
            return
        self._has_begun = True
        self._clock.enter("training")
        if has_trained:  # an objective without a loop: what it did before it reports was training
            self._clock.move("startup", "training")
        self._saved_at_s = self._last_read = self.training_s
        self._wire.send(begin={"origin": self._origin, "rows": self._rows, "training_s": self._inherited_s})

    def _show_life(self) -> None:
        now = time.monotonic()
        if now - self._alive_at >= ALIVE_S:
            self._alive_at = now
            self._wire.send(alive=True)

    # The learning curve --------------------------------------------------------------------------------------------
    def validating(self) -> AbstractContextManager[None]:
        """`with trial.validating():` measure without being charged for it."""
        self._begin()
        return self._clock.phase("validation")

    def report(self, **metrics: Any) -> None:
        """Add a row to the learning curve: any of the problem's metrics, by name.

        Raises:
            TrialError: a name is unknown, or a value is no number.
            NotFiniteError: the metric that counts is NaN or infinite; let it pass, and the evaluation is a crash.
        """
        self._begin(has_trained=True)
        self._show_life()
        with self._clock.phase("checkpoint"):
            values = {name: self._number(name, value) for name, value in metrics.items()}
            value = values.get(self._metric.name)
            if value is not None:
                if not math.isfinite(value):
                    raise NotFiniteError(f"{self._metric.name} is {value} after {self.training_s:.3g} s")
                self.last = value
            self._rows += 1
            self._wire.send(row={**self._counters(), **values})

    def _number(self, name: str, value: Any) -> float:
        if name not in self._metrics:
            known = ", ".join(self._metrics)
            raise TrialError(
                f"{name!r} was reported; the problem's metrics are: {known}. Problem(metrics=...) adds one"
            )
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            raise TrialError(f"{name} was reported as a {type(value).__name__}, which is no number") from None

    def _counters(self) -> dict[str, float]:
        seconds = self._clock.seconds
        return {
            "epoch": self.epochs,
            "batches": self.steps,
            "training_s": self.training_s,
            "wall_s": self._clock.wall_s,
            "startup_s": seconds("startup"),
            "compile_s": seconds("compile"),
            "validation_s": seconds("validation"),
            "checkpoint_s": seconds("checkpoint"),
            "wall_time": time.time(),
        }

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What may be reported, the metric that counts first."""
        return tuple(self._metrics)

    def note(self, text: str) -> None:
        """Write a line into the worker's log; the same one only once."""
        if text not in self._notes:
            self._notes.add(text)
            self._wire.send(note=text)

    # Checkpoints ---------------------------------------------------------------------------------------------------
    def load(self) -> Path | None:
        """The file or folder that was saved last of this configuration; None: train from the start.

        It may be of a smaller budget, of an earlier attempt, and from another node. From here on `spent`, `steps` and
        `epochs` are what they were when it was saved.

        Raises:
            TrialError: training has begun.
        """
        if self._has_begun:
            raise TrialError("trial.load() comes before the first trial.should_stop(), trial.step() and trial.report()")
        for candidate in self._order["candidates"]:
            path, target = Path(candidate["path"]), self.folder / _LOADED
            try:
                progress = read_progress(path)
                if progress.configuration != self.configuration or progress.seed != self.seed:
                    raise ValueError("it belongs to another configuration or seed")
                unpack(path, progress, target)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, TypeError) as error:
                self.note(f"checkpoint {path} is unusable ({error}); looking for an older one")
                continue
            self.epochs, self.steps, self._rows = progress.epochs, progress.steps, progress.rows
            self._inherited_s, self._origin = progress.training_s, candidate["origin"]
            return target
        return None

    def should_save(self) -> bool:
        """Whether a checkpoint is due: the interval has passed, or the trial shall stop."""
        if self._reason is not None:
            return not self._saved_last
        return self.training_s - self._saved_at_s >= float(self._order["checkpoint_interval_s"])

    @contextmanager
    def save(self) -> Iterator[Path]:
        """`with trial.save() as path:` write a file or a folder to `path`: the checkpoint that training goes on from.

        Raises:
            TrialError: nothing was written there.
        """
        self._begin()
        with self._clock.phase("checkpoint"):
            path = self.folder / _SAVING
            self._clear(path)
            yield path
            written = path if path.exists() else next(iter(self.folder.glob(f"{_SAVING}.*")), None)
            if written is None:
                raise TrialError("`with trial.save() as path:` ended, and nothing was written to that path")
            self._wire.flush()  # the rows up to here are on disk before a checkpoint says that they are
            target = Path(self._order["checkpoint"])
            target.parent.mkdir(parents=True, exist_ok=True)
            here = self.training_s
            counters = {"training_s": here, "epochs": self.epochs, "steps": self.steps, "rows": self._rows}
            seal(written, Progress(configuration=self.configuration, seed=self.seed, **counters), target)  # type: ignore[arg-type]
        self._saved_at_s = here
        self._saved_last = self._reason is not None

    def _clear(self, path: Path) -> None:
        for left in (path, *self.folder.glob(f"{path.name}.*")):
            if left.is_dir():
                shutil.rmtree(left)
            elif left.exists():
                left.unlink()

    # Its end, for the child ------------------------------------------------------------------------------------------
    def finish(self) -> dict[str, Any]:
        """What the worker is to know at the end; the trial is of no use afterwards."""
        self._begin(has_trained=True)
        with self._clock.phase("checkpoint"):
            self._clear(self.folder / _SAVING)
            self._clear(self.folder / _LOADED)
        self._is_over = True
        return {**self._counters(), "asked": self._has_asked, "spent": self.spent, "stop_reason": self.stop_reason}


def resident_mb() -> float:
    """Memory of this process, in MB (10^6 bytes); 0 where the system does not say."""
    try:
        with Path("/proc/self/statm").open(encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0
