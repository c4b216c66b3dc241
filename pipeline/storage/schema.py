"""The columns of results.h5, with their units and what they mean. results/README.md says it for readers."""

from __future__ import annotations

from pipeline.problems.description import Description
from pipeline.records import EpochRow, row_columns
from pipeline.storage.columns import Column
from pipeline.storage.curves import ROW_DTYPE, own_columns

RESULTS_SCHEMA = "tandem results 1"
_TIME = "s since 1970 (UTC)"
EVALUATION_STATUSES = ("finished", "crashed", "running", "waiting", "stopped")
ATTEMPT_STATUSES = ("finished", "crashed", "lost", "handed_back", "broken", "running", "unknown")

_ID = (
    Column("config_id", "text", "configuration: hpbandster's iteration-stage-index"),
    Column("iteration", "int", "bracket that drew the configuration"),
    Column("stage", "int", "rung of the bracket at which it was drawn"),
    Column("index", "int", "number within the rung"),
)

# Followed by a column per hyperparameter, in the subgroup `values`.
CONFIGURATIONS = (
    *_ID,
    Column("model_based", "bool", "proposed by the model, not drawn at random"),
    Column("draw_budget", "float", "budget of the rung it was drawn for", "budget unit"),
    Column("model_budget", "float", "budget whose observations the model was fitted on; NaN: random", "budget unit"),
    Column("results_seen", "float", "lines of results.json that the proposer had absorbed"),
    Column("drawn", "float", "when it was drawn", _TIME),
)

EVALUATIONS = (
    *_ID,
    Column("configuration", "int", "row of /configurations"),
    Column("budget", "float", "budget of the evaluation", "budget unit"),
    Column("status", "text", " | ".join(EVALUATION_STATUSES)),
    Column("loss", "float", "what the search minimises (see /run/problem); NaN unless finished"),
    Column("exception", "text", "`kind: reason` of a crash"),
    Column("crash_kind", "text", "kind of the crash"),
    Column("submitted", "float", "when it was queued", _TIME),
    Column("started", "float", "when its accepted attempt was dispatched", _TIME),
    Column("finished", "float", "when its result was recorded", _TIME),
    Column("attempt", "int", "accepted attempt (while it goes on: the latest); 0: none known"),
    Column("attempts", "int", "attempts known"),
    Column("curve_offset", "int", "first row in /learning_curves"),
    Column("curve_length", "int", "number of rows in /learning_curves"),
    Column("worker", "text", "worker of that attempt"),
    Column("host", "text", "its host"),
    Column("device", "text", "its device"),
    Column("continued_from", "text", "what that attempt continued from: `start`, `rung B attempt A` or `attempt A`"),
    Column("seed", "float", "seed of weights, data order and augmentation"),
    Column("parameters", "float", "trainable parameters of the model"),
    Column("flops_per_image", "float", "forward pass; multiply and add counted apart", "FLOP"),
    Column("epochs", "float", "epochs of training data seen since the first step", "epochs"),
    Column("batches", "float", "optimiser steps since the first step", "batches"),
    Column("training_s", "float", "budget clock since the first step", "s"),
    Column("trained_here_s", "float", "training of the accepted attempt alone", "s"),
    Column(
        "batches_here", "float", "optimiser steps on this budget: without those that a lower rung trained", "batches"
    ),
    Column("images_per_s", "float", "training images per training second on this budget", "1/s"),
    Column("overshoot", "float", "training beyond the budget, as a share of it; NaN: no budget in seconds", "fraction"),
    Column("wall_s", "float", "wall-clock time of the accepted attempt", "s"),
    Column("startup_s", "float", "of wall_s: imports, data, model, checkpoints read", "s"),
    Column("compile_s", "float", "of wall_s: torch.compile and warming up", "s"),
    Column("validation_s", "float", "of wall_s: measuring on validation and test set", "s"),
    Column("checkpoint_s", "float", "of wall_s: writing checkpoints and curves", "s"),
    Column("training_loss", "float", "mean training loss of the last row", "nats"),
    Column("validation_loss", "float", "cross-entropy on the validation set", "nats"),
    Column("validation_error", "float", "error on the validation set (while it goes on: the latest)", "fraction"),
    Column("augmented_validation_loss", "float", "cross-entropy on augmented validation images; NaN: as below", "nats"),
    Column(
        "augmented_validation_error",
        "float",
        "error on validation images that are cropped, mirrored and cut out as training's (the paper's code measures "
        "so); NaN: not measured; never shown to the search",
        "fraction",
    ),
    Column("test_loss", "float", "cross-entropy on the test set; NaN: not measured", "nats"),
    Column("test_error", "float", "error on the test set; NaN: not measured; never shown to the search", "fraction"),
    Column("latency_s", "float", "median time of a forward pass of latency_batch images on its device", "s"),
    Column("latency_batch", "float", "images of that forward pass", "images"),
    Column("peak_memory_mb", "float", "peak memory of the device (CUDA) or the process (CPU)", "MB"),
)

ATTEMPTS = (
    *_ID,
    Column("evaluation", "int", "row of /evaluations"),
    Column("budget", "float", "budget of the evaluation", "budget unit"),
    Column("attempt", "int", "one try by one worker, numbered from 1"),
    Column("accepted", "bool", "its rows are the evaluation's learning curve"),
    Column("outcome", "text", " | ".join(ATTEMPT_STATUSES)),
    Column("reason", "text", "why, unless finished"),
    Column("problem", "text", "what is wrong with its file; empty: nothing"),
    Column("file", "text", "its learning curve, relative to the run folder; empty: none was written"),
    Column("worker", "text", "who trained"),
    Column("host", "text", "where"),
    Column("device", "text", "on what"),
    Column("slurm_job_id", "text", "Slurm's job and array task; empty off Slurm"),
    Column("continued_from", "text", "`start`, `rung B attempt A` or `attempt A`"),
    Column("seed", "float", "seed of weights, data order and augmentation"),
    Column("parameters", "float", "trainable parameters of the model"),
    Column("dispatched", "float", "when the master handed it out", _TIME),
    Column(
        "started", "float", "when it began to occupy its worker: dispatched, or begun where that is not known", _TIME
    ),
    Column("ended", "float", "its end, or its last sign of life", _TIME),
    Column("inherited_training_s", "float", "budget clock when it began", "s"),
    Column("training_s", "float", "budget clock at its last row", "s"),
    Column("lost_s", "float", "training of it that no later attempt went on from, and that was not accepted", "s"),
    Column("wall_s", "float", "wall-clock time from `started` to `ended`", "s"),
    Column("startup_s", "float", "of wall_s: imports, data, model, checkpoints read, from `started` on", "s"),
    Column("compile_s", "float", "of wall_s: torch.compile and warming up", "s"),
    Column("validation_s", "float", "of wall_s: measuring on validation and test set", "s"),
    Column("checkpoint_s", "float", "of wall_s: writing checkpoints and curves", "s"),
    Column("rows", "int", "rows in its file, inherited ones included"),
)

LEARNING_CURVES = (
    *(
        Column(name, "int" if ROW_DTYPE[name].kind == "i" else "float", description, unit)
        for name, unit, description in row_columns(EpochRow)
    ),
)


def learning_curves(problem: Description) -> tuple[Column, ...]:
    """The columns of /learning_curves: of a problem of the user's own, the counters and its metrics."""
    if problem.is_built_in:
        return LEARNING_CURVES
    whole = {column.name for column in LEARNING_CURVES if column.kind == "int"}
    columns = own_columns(problem.metrics)
    return tuple(Column(name, "int" if name in whole else "float", text, unit) for name, unit, text in columns)


def metrics(problem: Description) -> tuple[Column, ...]:
    """The columns of /evaluations/metrics: what each evaluation measured last."""
    return tuple(Column(m.name, "float", m.title, "fraction" if m.percent else m.unit) for m in problem.metrics)


JOURNAL = (
    Column("time", "float", "when it happened", _TIME),
    Column("event", "text", "see pipeline/run/history.py"),
    Column("config_id", "text", "configuration concerned"),
    Column("budget", "float", "budget concerned", "budget unit"),
    Column("attempt", "float", "attempt concerned"),
    Column("worker", "text", "worker concerned"),
    Column("host", "text", "host concerned"),
    Column("slurm_job_id", "text", "Slurm's job and array task"),
    Column("device", "text", "device of a worker that joined"),
    Column("outcome", "text", "of a returned attempt"),
    Column("reason", "text", "why"),
    Column("term", "float", "number of the master's lease"),
    Column("count", "float", "workers asked for"),
)

# Trainings on training plus validation data, for the table of results: baselines and the incumbent.
RETRAINED = (
    Column("model", "text", "`incumbent`, or a baseline's name"),
    Column("config_id", "text", "the incumbent's configuration"),
    Column("dataset", "text", "what was trained on"),
    Column("seed", "float", "seed of the training"),
    Column("budget", "float", "budget of the training", "budget unit"),
    Column("budget_unit", "text", "seconds, epochs or batches"),
    Column("status", "text", "finished, crashed, ..., running, or died (silent for half an hour)"),
    Column("reason", "text", "why it did not finish: `kind: reason`"),
    Column("parameters", "float", "trainable parameters"),
    Column("training_s", "float", "budget clock at its last row", "s"),
    Column("test_error", "float", "error on the test set", "fraction"),
    Column("test_loss", "float", "cross-entropy on the test set", "nats"),
    Column("device", "text", "on what"),
    Column("file", "text", "its learning curve"),
)
