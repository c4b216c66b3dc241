"""Names that a hyperparameter cannot have: they would be told apart neither in tables nor by a program."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.bounds import column_name
from pipeline.errors import SettingsError
from tandem_trial.command import GIVEN

# Columns of the tables that hyperparameters stand in, too (`pipeline.storage.schema`, and what the analysis adds).
COLUMNS = frozenset({
    "config_id", "iteration", "stage", "index", "configuration", "budget", "status", "loss", "exception", "crash_kind",
    "submitted", "started", "finished", "attempt", "attempts", "curve_offset", "curve_length", "worker", "host",
    "device", "continued_from", "seed", "parameters", "flops_per_image", "epochs", "batches", "training_s",
    "trained_here_s", "batches_here", "images_per_s", "overshoot", "wall_s", "startup_s", "compile_s", "validation_s",
    "checkpoint_s", "training_loss", "validation_loss", "validation_error", "augmented_validation_loss",
    "augmented_validation_error", "test_loss", "test_error", "latency_s", "latency_batch", "peak_memory_mb",
    "model_based", "draw_budget", "model_budget", "results_seen", "drawn",
})  # fmt: skip


def check_names(names: Iterable[str], metrics: Iterable[str], is_command: bool) -> None:
    """Make sure that hyperparameters can be told apart from all else.

    Raises:
        SettingsError: one of them cannot; the text says from what, and how to mend it.
    """
    measured, upper = set(metrics), dict[str, str]()
    for name in names:
        try:
            column_name(name)
        except ValueError as error:
            raise SettingsError(f"space.{name}: it should be {error}: tables have a column of this name") from None
        if name in measured:
            raise SettingsError(f"space.{name}: a metric has the same name; rename one of them")
        if name in COLUMNS:
            raise SettingsError(
                f"space.{name}: Tandem's tables have a column of this name; call it otherwise, own_{name} say"
            )
        if not is_command:
            continue
        if name in GIVEN:
            raise SettingsError(f"space.{name}: a command is given something else as {{{name}}}; call it otherwise")
        other = upper.setdefault(name.upper(), name)
        if other != name:
            raise SettingsError(f"space.{name}: the environment variable of {other} is the same; rename one of them")
