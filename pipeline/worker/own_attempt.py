"""One attempt with an objective of the user's own: what its child says, as order, curve and result."""

from __future__ import annotations

import contextlib
import logging
import math
import platform
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from pipeline.bounds import MAX_NUMBER
from pipeline.cluster.sharing import threads_for
from pipeline.errors import BrokenError, CrashedError, RunError
from pipeline.files import is_there
from pipeline.problems.description import Description, objectives_of
from pipeline.problems.freezing import data_folder
from pipeline.records import (
    CHECKPOINT_KEY,
    METRICS_KEY,
    NOTES_KEY,
    AttemptEnd,
    AttemptHeader,
    Evaluation,
    TrainResult,
    WorkerIdentity,
)
from pipeline.run.folder import RunFolder
from pipeline.run.lineage import await_lower_rung, candidates
from pipeline.run.lower_rungs import CLOCK_COLUMNS, LOWER_RUNGS_KEY, lower_rung_losses
from pipeline.settings import Settings, budget_ladder
from pipeline.storage.curves import read_attempt_table
from pipeline.worker.child_process import ChildProcess
from pipeline.worker.own_curve import OwnCurve
from tandem_trial.problem import Metric

log = logging.getLogger("tandem.worker")

_ANEW = "it begins anew: no checkpoint was saved before, or trial.load() is not called; what was trained is repeated"
# What travels with a result.
MAX_NOTES = 8


class OwnAttempt:
    """What is known of one attempt under way.

    Attributes:
        ended: the child's last message about it; None: it goes on.
        told: it knows that its budget is spent.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        settings: Settings,
        folder: RunFolder,
        identity: WorkerIdentity,
        problem: Description,
        device: str,
        gpus: int = 0,
    ) -> None:
        self.evaluation = evaluation
        self.ended: dict[str, Any] | None = None
        self.told = False
        self._settings = settings
        self._folder = folder
        self._identity = identity
        self._problem = problem
        self._objectives = objectives_of(settings)
        self._device = device
        self._gpus = gpus
        self._began = time.time()
        self._origin = "start"
        self._inherited_s = 0.0
        self._last: dict[str, float] = {}  # of each metric, in this attempt
        self._counters: dict[str, float] = {}
        self._notes: list[str] = []
        path = folder.attempt(evaluation.config_id, evaluation.budget, evaluation.attempt)
        self._curve = OwnCurve(path, problem.metrics)
        await_lower_rung(folder, evaluation)
        self._candidates = list(candidates(folder, evaluation))

    def order(self) -> dict[str, Any]:
        """What the child is to evaluate."""
        e, settings, folder = self.evaluation, self._settings, self._folder
        data = data_folder(settings)
        return {
            "config_id": list(e.config_id),
            "configuration": dict(e.configuration),
            "budget": e.budget,
            "budget_unit": settings.search.budget_unit,
            "attempt": e.attempt,
            "seed": e.seed,
            "is_largest": e.is_largest,
            "folder": str(folder.trial(e.config_id, e.budget, e.attempt)),
            "checkpoint": str(folder.checkpoint(e.config_id, e.budget, e.attempt)),
            "candidates": [{"path": str(c.path), "origin": c.origin} for c in self._candidates],
            "checkpoint_interval_s": settings.training.checkpoint_interval_s,
            "device": self._device,
            "gpus": self._gpus,
            "data": None if data is None else str(data),
        }

    def take(self, message: Mapping[str, Any], child: ChildProcess) -> None:
        """Take in what the child says."""
        if "row" in message:
            self._add(message["row"])
        elif "begin" in message:
            self._begin(message["begin"])
        elif "flush" in message:
            with _writing(self.evaluation):
                self._curve.flush()
            child.send(flushed=True)
        elif "told" in message:
            self.told = True
        elif "note" in message:
            self.note(str(message["note"]))
        elif "end" in message:
            self.ended = dict(message["end"])

    def note(self, text: str) -> None:
        """Say something that a person should know, in the log and with the result."""
        log.warning("evaluation %s: %s", self.evaluation.config_id, text)
        self._notes.append(text)

    @property
    def has_ended(self) -> bool:
        """Whether the child has said that it is over."""
        return self.ended is not None

    def write_when_due(self) -> None:
        """Write rows that have waited long enough."""
        with _writing(self.evaluation):
            self._curve.write_when_due()

    def _begin(self, said: Mapping[str, Any]) -> None:
        self._origin, self._inherited_s = str(said["origin"]), float(said["training_s"])
        self._curve.begin(self._header(), self._inherited_rows(int(said["rows"])))
        if self._candidates and self._origin == "start":
            self.note(_ANEW)

    def _inherited_rows(self, count: int) -> np.ndarray:
        nothing = self._curve.table
        source = next((c for c in self._candidates if c.origin == self._origin), None)
        if source is None or count == 0:
            return nothing
        path = self._folder.attempt(self.evaluation.config_id, source.budget, source.attempt)
        try:
            return read_attempt_table(path)[1][:count]
        except (OSError, RunError) as error:
            log.warning("the curve up to the checkpoint cannot be read: %s", error)
            return nothing

    def _add(self, row: Mapping[str, float]) -> None:
        own = {"attempt": self.evaluation.attempt, "rung": self.evaluation.budget}
        self._counters = {name: row[name] for name in row if name not in {m.name for m in self._problem.metrics}}
        self._last |= {m.name: row[m.name] for m in self._problem.metrics if m.name in row}
        self._curve.add({**row, **own})

    def _device_name(self) -> str:
        """As the built-in training calls it; the name of a GPU is the objective's to know."""
        threads = threads_for(self._settings)
        return f"CPU: {platform.machine()}, {threads} thread{'s' * (threads > 1)}" if self._device == "cpu" else "cuda"

    def _header(self) -> AttemptHeader:
        e = self.evaluation
        return AttemptHeader(
            run_id=self._folder.run_id,
            config_id=e.config_id,
            configuration=e.configuration,
            budget=e.budget,
            budget_unit=self._settings.search.budget_unit,
            attempt=e.attempt,
            seed=e.seed,
            started=self._began,
            inherited_training_s=self._inherited_s,
            continued_from=self._origin,
            dataset=self._problem.name,
            parameters=0,
            flops_per_image=0.0,
            device=self._device_name(),
            host=self._identity.host,
            worker=self._identity.name,
            slurm_job_id=self._identity.slurm_job_id,
            versions=_versions(),
            problem=self._problem.name,
        )

    # Ends ----------------------------------------------------------------------------------------------------------
    def result(self, asked: str) -> TrainResult:
        """What the child's end means.

        Raises:
            CrashedError, BrokenError: as the child says, or because the metric that counts was not reported.
        """
        assert self.ended is not None
        status = self.ended["status"]
        if status == "crashed":
            raise CrashedError(self.ended["kind"], self.ended["reason"])
        if status == "broken":
            raise BrokenError(self.ended["reason"])
        if status == "handed_back":
            return self.hand_back(self.ended.get("stop_reason") or asked)
        value = self._value(self._problem.metric)
        self._last |= {metric.name: self._value(metric) for metric in self._objectives}
        self._end("finished", "")
        return TrainResult("finished", self._problem.metric.loss(value), {**self._info(), **self._lower_rungs()})

    def _lower_rungs(self) -> dict[str, Any]:
        search, rows, metric = self._settings.search, self._curve.table, self._problem.metric
        below = [rung for rung in budget_ladder(search) if rung < self.evaluation.budget]
        losses = [metric.loss(value) for value in rows[metric.name].tolist()]
        return {LOWER_RUNGS_KEY: lower_rung_losses(rows[CLOCK_COLUMNS[search.budget_unit]].tolist(), losses, below)}

    def hand_back(self, reason: str) -> TrainResult:
        """It goes on elsewhere."""
        self._end("handed_back", reason)
        return TrainResult("handed_back", None, self._info(), reason)

    def _value(self, metric: Metric) -> float:
        """The last value of a metric that counts: of this attempt, or of an earlier one at the same evaluation."""
        name = metric.name
        if name in self._last:
            if not math.isfinite(self._last[name]):
                raise CrashedError("not_finite", f"{name} is {self._last[name]}")
            return self._last[name]
        rows = self._curve.table
        earlier = rows[name][(rows["rung"] == self.evaluation.budget) & np.isfinite(rows[name])]
        if len(earlier):
            return float(earlier[-1])
        reported = ", ".join(self._last) or "nothing"
        reason = f"the objective returned without reporting {name}; it reported {reported}"
        if self._settings.problem.command:
            line = f'{{"{name}": 0.5}}'
            reason += f"; a program adds lines such as {line} to the file $TANDEM_METRICS, or calls tandem_trial.report"
        raise CrashedError("bad_result", reason)

    @contextlib.contextmanager
    def failures_end_the_curve(self) -> Iterator[None]:
        """Write a failure into the attempt's file."""
        try:
            yield
        except CrashedError as error:
            self._end("crashed", str(error))
            raise
        except BrokenError as error:
            with contextlib.suppress(BrokenError):  # the disk that broke the attempt cannot take its end either
                self._end("broken", str(error))
            raise

    def _end(self, status: str, reason: str) -> None:
        if not self._curve.has_begun:
            self._curve.begin(self._header(), self._curve.table)
        if self._curve.left_out:
            self.note(f"{self._curve.left_out} rows are left out of the curve, which holds {self._curve.rows}")
        nan = math.nan
        with _writing(self.evaluation):
            self._curve.end(
                AttemptEnd(
                    status=status,
                    reason=reason,
                    ended=time.time(),
                    training_s=self._training_s(),
                    validation_loss=nan,
                    validation_error=nan,
                    test_loss=nan,
                    test_error=nan,
                    # The files hold no infinite numbers.
                    metrics={n: v if abs(v) <= MAX_NUMBER else nan for n, v in self._last.items()},
                )
            )

    def _training_s(self) -> float:
        return float(self._latest().get("training_s", self._inherited_s))

    def _latest(self) -> Mapping[str, Any]:
        """The newest counters."""
        return self.ended if self.ended is not None and "training_s" in self.ended else self._counters

    def _info(self) -> dict[str, Any]:
        e, latest, training_s = self.evaluation, self._latest(), self._training_s()
        phases = ("wall_s", "startup_s", "compile_s", "validation_s", "checkpoint_s")
        return {
            "attempt": e.attempt,
            "worker": self._identity.name,
            "host": self._identity.host,
            "device": self._device_name(),
            "epochs": latest.get("epoch", 0.0),
            "batches": latest.get("batches", 0),
            "training_s": training_s,
            "trained_here_s": training_s - self._inherited_s,
            **{name: latest.get(name, 0.0) for name in phases},
            "continued_from": self._origin,
            METRICS_KEY: dict(self._last),
            NOTES_KEY: self._notes[:MAX_NOTES],
            CHECKPOINT_KEY: is_there(self._folder.checkpoint(e.config_id, e.budget, e.attempt)),
        }


@contextlib.contextmanager
def _writing(evaluation: Evaluation) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = f"{evaluation.config_id} on {evaluation.budget:g}"
        raise BrokenError(f"cannot write the learning curve of {name}: {error}. Is the disk full?") from error


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    with contextlib.suppress(PackageNotFoundError):
        found["tandem"] = version("tandem-nas")
    return found
