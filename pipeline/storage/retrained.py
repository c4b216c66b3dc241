"""Trainings on training plus validation data: the baselines of a data set and the incumbent of a run.

They are attempts' files (see `curves`) in `results/baselines/<dataset>/<budget>-<unit>-<schedule>/<model>-s<seed>.h5`,
whose folder ends with the recipe where that is not the default,
and `<run>/retrained/incumbent-s<seed>.h5` (of another configuration `3-0-7-s<seed>.h5`). A baseline's configuration has
"model", its name in the registry.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.records import ConfigId, budget_name, config_name
from pipeline.settings import Settings, budget_ladder
from pipeline.storage.curves import read_attempt_table

INCUMBENT = "incumbent"
# A training writes a row per epoch; one that has been silent for so long has died.
SILENT_S = 1800.0
# The poster's, by their names in models.registry, which imports torch.
BASELINES = ("resnet18", "shake_shake_26_2x32d", "shake_shake_26_2x64d", "shake_shake_26_2x96d")


def baseline_folder(results: Path, settings: Settings) -> Path:
    """Where the baselines lie that were trained as these settings train their incumbent: as long, on the same data."""
    search = settings.search
    how = f"{budget_name(budget_ladder(search)[-1])}-{search.budget_unit}-{settings.training.schedule}"
    if settings.training.recipe != "default":
        how += f"-{settings.training.recipe}"
    return results / "baselines" / settings.data.name / how


def baseline_path(results: Path, settings: Settings, model: str, seed: int) -> Path:
    """The curve of one baseline training."""
    return baseline_folder(results, settings) / f"{model}-s{seed}.h5"


def incumbent_path(run: Path, seed: int, config_id: ConfigId | None = None) -> Path:
    """The curve of one training of a run's incumbent, or of another configuration."""
    name = INCUMBENT if config_id is None else config_name(config_id)
    return run / "retrained" / f"{name}-s{seed}.h5"


def find_retrained(*folders: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """A row (see `schema.RETRAINED`) per readable file in the folders, and a warning per unreadable one."""
    rows, warnings = [], []
    for folder in folders:
        for path in sorted(folder.glob("*.h5")):
            try:
                rows.append(_row(path))
            except (RunError, FileNotFoundError) as error:
                warnings.append(str(error))
    return rows, warnings


def _row(path: Path) -> dict[str, Any]:
    header, table, end = read_attempt_table(path)
    names = ("dataset", "seed", "budget", "budget_unit", "parameters", "device")
    row: dict[str, Any] = {name: getattr(header, name) for name in names}
    model = str(header.configuration.get("model", INCUMBENT))
    last = float(table["wall_time"][-1]) if len(table) else header.started
    alive = "running" if time.time() - max(last, header.started) < SILENT_S else "died"
    row |= {"model": model, "status": end.status if end else alive, "file": str(path)}
    row["config_id"] = config_name(header.config_id) if model == INCUMBENT else ""
    row["training_s"] = float(table["training_s"][-1]) if len(table) else 0.0
    if end is not None:
        row |= {
            "reason": end.reason,
            "training_s": end.training_s,
            "test_error": end.test_error,
            "test_loss": end.test_loss,
        }
    return row
