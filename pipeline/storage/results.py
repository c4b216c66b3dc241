"""Read results.h5 as pandas tables: all that the analysis knows of a run."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import yaml

from pipeline.bounds import BudgetNumber, Time, checked, parse_json
from pipeline.errors import RunError, SettingsError
from pipeline.problems.description import Description
from pipeline.settings import validate_settings
from pipeline.storage import schema
from pipeline.storage.columns import completed, read_table


@dataclass(frozen=True)
class Results:
    """A collected run. Columns and units: pipeline/storage/schema.py.

    Attributes:
        budgets: the ladder, ascending, in budget units.
        configurations: a row per configuration; hyperparameters are the columns `hyperparameters` names.
        evaluations: a row per evaluation; `configuration` is its row in `configurations`.
        learning_curves: the long table, with the row of its evaluation as column `evaluation`.
        problem: what was searched: its name and its metrics.
        metrics: what each evaluation measured last, a column per metric of the problem, rows as in `evaluations`.
        retrained: trainings on training plus validation data.
        warnings: what the collection could not read.
        images: of the user's own: `classes`, `image_shape`, counts; empty of other data.
    """

    path: Path
    run_id: str
    collected: float
    dataset: str
    budget_unit: str
    budgets: tuple[float, ...]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    configspace: Mapping[str, Any]
    status: Mapping[str, Any]
    warnings: tuple[str, ...]
    hyperparameters: tuple[str, ...]
    configurations: pd.DataFrame
    evaluations: pd.DataFrame
    attempts: pd.DataFrame
    learning_curves: pd.DataFrame
    journal: pd.DataFrame
    retrained: pd.DataFrame
    problem: Description
    metrics: pd.DataFrame
    images: Mapping[str, Any] = field(default_factory=dict)

    def curve(self, evaluation: int) -> pd.DataFrame:
        """The learning curve of the evaluation in that row of `evaluations`."""
        offset = int(self.evaluations["curve_offset"].iloc[evaluation])
        return self.learning_curves.iloc[offset : offset + int(self.evaluations["curve_length"].iloc[evaluation])]

    def finished(self) -> pd.DataFrame:
        """The evaluations that have a loss, with their hyperparameters as further columns."""
        return self._finished.copy(deep=False)

    @cached_property
    def _finished(self) -> pd.DataFrame:
        done = self.evaluations[self.evaluations["status"] == "finished"]
        values = self.configurations[[*self.hyperparameters, "model_based"]]
        return done.join(values, on="configuration")


def load_results(path: Path) -> Results:
    """Load a results.h5.

    Raises:
        RunError: there is no such file, it is damaged, or another version's.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _load(file, path)
    except FileNotFoundError:
        raise RunError(f"No {path} yet: `tandem collect-results` makes it.") from None
    except RunError:
        raise
    except SettingsError as error:
        raise RunError(f"{path} cannot be read ({error}); `tandem collect-results` makes it anew.") from None
    except Exception as error:  # of a damaged file, h5py raises whatever comes up
        detail = " ".join(str(error).split())[:160]
        raise RunError(f"{path} is damaged ({detail}); `tandem collect-results` makes it anew.") from None


def _load(file: Any, path: Path) -> Results:
    if file.attrs.get("schema") != schema.RESULTS_SCHEMA:
        raise RunError(
            f"{path} has the schema {reprlib.repr(file.attrs.get('schema'))}, this version reads "
            f"{schema.RESULTS_SCHEMA!r}: `tandem collect-results` makes it anew."
        )
    run = file["run"]
    configurations = completed(read_table(file["configurations"]), schema.CONFIGURATIONS)
    values = read_table(file["configurations/values"])
    if len(values) != len(configurations) and len(values.columns):
        raise ValueError(f"{len(values)} rows of hyperparameters for {len(configurations)} configurations")
    evaluations = completed(read_table(file["evaluations"]), schema.EVALUATIONS)
    if not evaluations["configuration"].between(-1, len(configurations) - 1).all():
        raise ValueError("an evaluation is of a configuration that is not there")
    curves = read_table(file["learning_curves"])
    curves = completed(curves, [column for column in schema.LEARNING_CURVES if column.name in curves])
    lacking = [column for column in schema.LEARNING_CURVES if column.name not in curves]
    curves = curves.assign(**{column.name: np.nan for column in lacking})  # of a problem of the user's own
    # The table's rows lie in the order of the evaluations, without gaps.
    curves.insert(0, "evaluation", np.repeat(np.arange(len(evaluations)), evaluations["curve_length"]))
    return Results(
        path=path,
        run_id=str(file.attrs["run_id"]),
        collected=checked(Time, float(file.attrs["collected"])),
        dataset=str(file.attrs["dataset"]),
        budget_unit=str(file.attrs["budget_unit"]),
        budgets=tuple(checked(BudgetNumber, float(b)) for b in run["budgets"][()]),
        settings=validate_settings(yaml.safe_load(_text(run["settings"]))).model_dump(mode="json"),
        provenance=_json(run["provenance"]),
        configspace=_json(run["configspace"]),
        status=_json(run["status"]),
        warnings=tuple(text.decode() for text in run["warnings"][()]),
        hyperparameters=tuple(values.columns),
        configurations=pd.concat([configurations, values], axis=1, verify_integrity=True),
        evaluations=evaluations,
        attempts=completed(read_table(file["attempts"]), schema.ATTEMPTS),
        learning_curves=curves,
        journal=completed(read_table(file["journal"]), schema.JOURNAL),
        # An earlier version's has fewer columns.
        problem=Description.from_plain(_json(run["problem"]) if "problem" in run else {}),
        metrics=_metrics(file["evaluations"], evaluations),
        images=_json(run["images"]) if "images" in run else {},
        retrained=completed(read_table(file["retrained"]), schema.RETRAINED),
    )


def _metrics(group: Any, evaluations: pd.DataFrame) -> pd.DataFrame:
    if "metrics" in group:
        return read_table(group["metrics"])
    return evaluations[["validation_error", "validation_loss", "training_loss"]].copy()  # of an earlier version


def _text(dataset: Any) -> str:
    return str(dataset[()].decode())


def _json(dataset: Any) -> Mapping[str, Any]:
    text = _text(dataset)
    value = parse_json(text) if text else {}
    return value if isinstance(value, dict) else {"value": value}
