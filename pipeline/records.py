"""Frozen records that travel between the parts, and the columns of everything that is stored.

Fractions are errors in [0, 1]; seconds end in `_s`. A `budget` is in the run's budget unit, which is seconds unless
the setting `search.budget_unit` says epochs or batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from pipeline.bounds import (
    MAX_NUMBER,
    BudgetNumber,
    ColumnName,
    Count,
    Flag,
    Integer,
    Name,
    Number,
    NumberOrNan,
    PlainValue,
    Reason,
    Seconds,
    Time,
    checked,
)

# hpbandster's (iteration, stage, index).
ConfigId = tuple[Count, Count, Count]
# Plain Python values only: numpy's types do not survive Pyro4's serializer.
Value = PlainValue
Configuration = Mapping[ColumnName, Value]
# One configuration on one budget.
EvaluationKey = tuple[ConfigId, BudgetNumber]


def config_name(config_id: ConfigId) -> str:
    """`(3, 0, 7)` as `3-0-7`, the form used in file names, tables and on the command line."""
    return "-".join(str(part) for part in config_id)


def parse_config_name(name: str) -> ConfigId:
    """`3-0-7` as `(3, 0, 7)`.

    Raises:
        ValueError: the name does not have three whole numbers.
    """
    config_id: ConfigId = checked(ConfigId, [int(part) for part in name.split("-")])
    return config_id


def budget_name(budget: float) -> str:
    """A budget as file names and tables write it: shortest text that reads back as the same number."""
    return repr(int(budget)) if float(budget).is_integer() else repr(float(budget))


def budget_text(budget: float, unit: str) -> str:
    """A budget as a person reads it: `16.2 s`, `27 epochs`, `1 batch`; the number alone where the unit is not known."""
    short = "s" if unit == "seconds" else _ONE.get(unit, unit) if budget == 1 else unit
    return f"{budget_name(budget)} {short}".rstrip()


_ONE = {"batches": "batch", "epochs": "epoch", "steps": "step"}


def derive_seed(run_seed: int, *keys: int | str) -> int:
    """A seed in [0, 2**63) that depends on the run's seed and the keys alone (SHA-256, the same everywhere)."""
    text = "/".join(str(key) for key in (run_seed, *keys))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class LowerRung:
    """The evaluation that a promoted configuration continues from: its budget and its accepted attempt.

    Attributes:
        has_checkpoint: the attempt left one; False of an objective that saves none, so that nobody waits for it.
    """

    budget: BudgetNumber
    attempt: Count
    has_checkpoint: Flag = True


@dataclass(frozen=True)
class Evaluation:
    """One attempt at evaluating one configuration on one budget: all that a worker must know.

    Attributes:
        config_id: hpbandster's (iteration, stage, index).
        configuration: plain Python values by hyperparameter name.
        budget: in the run's budget unit, counted from the first step ever: a promoted configuration that continues
            from a lower rung trains only the difference.
        attempt: one try by one worker, numbered from 1.
        seed: seeds weights, data order, augmentation and regularisers; the same for every attempt and rung.
        continues: the lower rung whose last checkpoint training goes on from; None: from the start.
        is_largest: the budget is the largest of the ladder.
    """

    config_id: ConfigId
    configuration: Configuration
    budget: BudgetNumber
    attempt: Count
    seed: Integer
    continues: LowerRung | None = None
    is_largest: Flag = False

    def to_plain(self) -> dict[str, Any]:
        """As a dict of plain types, to travel or to be stored."""
        # By hand: dataclasses.asdict copies deeply, which is most of what a dispatch would cost.
        lower = self.continues
        return {
            "config_id": list(self.config_id),
            "configuration": dict(self.configuration),
            "budget": self.budget,
            "attempt": self.attempt,
            "seed": self.seed,
            "continues": None if lower is None else {**vars(lower)},
            "is_largest": self.is_largest,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_plain`; raises `BoundsError` on another form."""
        return checked(cls, plain)


def column(description: str, unit: str = "") -> Any:
    """A field of a stored row, with what a reader needs to know of it (written into the HDF5 file as attributes)."""
    return field(metadata={"description": description, "unit": unit})


@dataclass(frozen=True)
class EpochRow:
    """One row of a learning curve; the last row of an attempt may stand for a partial epoch.

    Counters are cumulative over the accepted chain (earlier attempts, and lower rungs where the configuration
    continued); a measurement that was not taken at this row (validation is thinned on short budgets) is NaN.
    """

    epoch: float = column("epochs of training data seen since the first step; fractional for a partial epoch", "epochs")
    batches: int = column("optimiser steps since the first step", "batches")
    training_s: float = column("budget clock: training since the first step, device synchronised", "s")
    wall_s: float = column("wall-clock time since this row's attempt began", "s")
    startup_s: float = column("of wall_s: imports, data onto the device, building the model, loading checkpoints", "s")
    compile_s: float = column("of wall_s: torch.compile and warming up", "s")
    validation_s: float = column("of wall_s: measuring on validation and test set", "s")
    checkpoint_s: float = column("of wall_s: writing checkpoints and curves", "s")
    learning_rate: float = column("learning rate of the last step")
    training_loss: float = column("mean loss over the batches since the previous row (with mixup where on)", "nats")
    training_error: float = column("mean error over those batches, labels weighted as mixed", "fraction")
    validation_loss: float = column("mean cross-entropy on the validation set; NaN: not measured at this row", "nats")
    validation_error: float = column("error on the validation set; NaN: not measured at this row", "fraction")
    images_per_s: float = column("training images per training second since the previous row", "1/s")
    peak_memory_mb: float = column("peak memory so far: of the device on CUDA, resident of the process on CPU", "MB")
    attempt: int = column("attempt that trained this row (an attempt's file also holds the rows it continued from)")
    rung: float = column("budget of the evaluation that trained this row", "budget unit")
    wall_time: float = column("when the row was written", "s since 1970 (UTC)")


@dataclass(frozen=True)
class AttemptHeader:
    """The attributes of an attempt's file: what was trained, where and with what."""

    run_id: Name
    config_id: ConfigId
    configuration: Configuration
    budget: BudgetNumber
    budget_unit: Name
    attempt: Count
    seed: Integer
    started: Time  # s since 1970 (UTC)
    inherited_training_s: Seconds  # budget clock at this attempt's start: 0, or what its checkpoint had
    continued_from: Name  # "start", "rung 3 attempt 1", or "attempt 2"
    dataset: Name
    parameters: Integer
    flops_per_image: Number  # forward pass, multiply and add counted apart
    device: Name
    host: Name
    worker: Name
    slurm_job_id: Name  # "" off Slurm
    versions: Mapping[Name, Name]
    schedule: Name = ""  # `training.schedule`; "" in files of versions that did not say
    precision: Name = ""  # "float32" or "bfloat16", as trained
    problem: Name = "image_classification"  # its name
    recipe: Name = ""  # `training.recipe`; "" in files of versions that had one only
    threads: Count = 0  # of the CPU: sums of floats depend on it; 0 in files of versions that did not say


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended; absent from the file of an attempt that is running or was killed.

    Attributes:
        status: "finished", "handed_back" (checkpointed and returned to the queue), "crashed" or "broken".
        reason: "" when finished; else `kind: reason`.
        training_s: budget clock at the end.
        test_loss, test_error: NaN unless measured (the search never sees them).
        metrics: the last value of each metric of a problem of the user's own; else what the model costs (parameters,
            flops_per_image, latency_s of latency_batch images).
    """

    status: Name
    reason: Reason
    ended: Time
    training_s: Seconds
    validation_loss: NumberOrNan
    validation_error: NumberOrNan
    test_loss: NumberOrNan
    test_error: NumberOrNan
    metrics: Mapping[Name, NumberOrNan] = field(default_factory=dict)


ATTEMPT_STATUSES = ("finished", "handed_back", "crashed", "broken")


class CurveSink(Protocol):
    """Where training writes an attempt's learning curve; `pipeline.storage` has the HDF5 one."""

    def begin(self, header: AttemptHeader, inherited: Sequence[EpochRow]) -> None:
        """Open the curve with the rows of the chain that this attempt continues (empty from the start)."""

    def add(self, *rows: EpochRow) -> None:
        """Add rows; they are durable when this returns."""

    def end(self, end: AttemptEnd) -> None:
        """Say how the attempt ended."""


@dataclass(frozen=True)
class WorkerIdentity:
    """Who trains: names for logs, curves and the journal.

    Attributes:
        name: unique within the run, fit for a file name.
        slurm_job_id: "123_4" for an array task, "" off Slurm.
    """

    name: Name
    host: Name
    slurm_job_id: Name = ""


# What stands in the journal as the device of a worker that was written for hpbandster itself.
STOCK_DEVICE = "stock hpbandster worker"


@dataclass(frozen=True)
class StartedWorkers:
    """What came of the master's request for workers.

    Attributes:
        jobs: ids of what was started; empty if enough are on their way.
        problem: what a person should know, or "".
        failing_nodes: nodes on which workers end before they join, with the reason.
    """

    jobs: tuple[str, ...] = ()
    problem: str = ""
    failing_nodes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainResult:
    """What `pipeline.training.train` returns.

    Attributes:
        loss: what the search minimises, the final validation error; None when handed back.
        info: plain values for results.json's info (see `INFO_KEYS`).
        status: "finished" or "handed_back".
        reason: why it was handed back.
    """

    status: str
    loss: float | None
    info: Mapping[str, Any]
    reason: str = ""


# results.json's info of a finished evaluation. `state` is a word DeepCAVE keeps for itself.
INFO_KEYS = (
    "attempt", "worker", "host", "device", "parameters", "flops_per_image", "epochs", "batches", "training_s",
    "trained_here_s", "wall_s", "startup_s", "compile_s", "validation_s", "checkpoint_s", "training_loss",
    "validation_loss", "validation_error", "augmented_validation_loss", "augmented_validation_error", "test_loss",
    "test_error", "latency_s", "latency_batch", "continued_from", "peak_memory_mb",
)  # fmt: skip

INFO_KINDS: Mapping[str, Any] = {name: Seconds if name.endswith("_s") else Number for name in INFO_KEYS} | {
    "attempt": Count,
    **dict.fromkeys(("worker", "host", "device", "continued_from"), str),
}


# Of what an objective of the user's own measured: a mapping, beside those of `INFO_KEYS` that apply.
METRICS_KEY = "metrics"
# Whether the attempt left a checkpoint: an objective of the user's own need not.
CHECKPOINT_KEY = "has_checkpoint"
# What a person should know of how the objective behaved: a list of texts.
NOTES_KEY = "notes"


def measured_values(info: Mapping[str, Any], names: Iterable[str]) -> dict[str, float]:
    """What a result says that it measured, of these metrics; what it does not know, or out of bounds, is left out."""
    own = info.get(METRICS_KEY)
    known = {**info, **own} if isinstance(own, Mapping) else info
    values = {name: known.get(name) for name in names}
    numbers = {n: v for n, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {n: float(v) for n, v in numbers.items() if abs(v) <= MAX_NUMBER}


def row_columns(record: type) -> list[tuple[str, str, str]]:
    """(name, unit, description) of every column of a row record, in order."""
    return [(f.name, str(f.metadata.get("unit", "")), str(f.metadata.get("description", ""))) for f in fields(record)]
