"""Write a collected run as plain tables: CSV for everybody, parquet for the long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.csv

from pipeline.files import publish
from pipeline.storage.results import Results

# Beyond this many rows (some 150 MB of text) the curves are written as parquet alone.
MAX_CSV_ROWS = 500_000


def write_tables(results: Results, folder: Path, max_csv_rows: int = MAX_CSV_ROWS) -> list[Path]:
    """Write evaluations, configurations, attempts, incumbents and learning curves into a folder.

    Returns:
        The files, each published whole.
    """
    written = [
        write_csv(evaluation_table(results), folder / "evaluations.csv"),
        write_csv(results.configurations, folder / "configurations.csv"),
        write_csv(results.attempts, folder / "attempts.csv"),
        write_csv(incumbent_table(results), folder / "incumbents.csv"),
    ]
    curves = curve_table(results)
    with publish(folder / "learning_curves.parquet") as temporary:
        curves.to_parquet(temporary, index=False)
    written.append(folder / "learning_curves.parquet")
    csv = folder / "learning_curves.csv"
    if len(curves) <= max_csv_rows:
        written.append(_write_long_csv(curves, csv))
    else:
        csv.unlink(missing_ok=True)  # an older one would not match the parquet
    return written


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    """Write one table as CSV (UTF-8, a header line, missing values empty), whole."""
    with publish(path) as temporary:
        table.to_csv(temporary, index=False)
    return path


def _write_long_csv(table: pd.DataFrame, path: Path) -> Path:
    """As `write_csv`, in a tenth of the time."""
    options = pyarrow.csv.WriteOptions(quoting_style="needed", quoting_header="none")
    with publish(path) as temporary:
        pyarrow.csv.write_csv(pyarrow.Table.from_pandas(table, preserve_index=False), temporary, options)
    return path


def evaluation_table(results: Results) -> pd.DataFrame:
    """Every evaluation with its metrics, its configuration's hyperparameters and whether a model proposed it."""
    columns = ["model_based", "model_budget", *results.hyperparameters]
    taken = {*results.evaluations, *columns}
    measured = results.metrics[[name for name in results.metrics if name not in taken]]
    table = results.evaluations.join(measured).join(results.configurations[columns], on="configuration")
    return table.drop(columns=["configuration", "curve_offset", "curve_length"])


def curve_table(results: Results) -> pd.DataFrame:
    """The learning curves, each row with its configuration, budget and evaluation's status.

    `trained_on_rung` is the rung that trained a row: a configuration that was promoted brings rows along.
    """
    curves = results.learning_curves.rename(columns={"rung": "trained_on_rung"})
    position = curves["evaluation"].to_numpy()
    for place, name in enumerate(("config_id", "budget", "status"), start=1):
        values = results.evaluations[name]
        if name != "budget":  # few distinct texts over a million rows
            values = values.astype("category")
        curves.insert(place, name, values.take(position).array)
    return curves


def active_values(results: Results, row: pd.Series) -> dict[str, Any]:
    """The hyperparameters of an evaluation, without those that a condition switched off."""
    values = {name: row[name] for name in results.hyperparameters}
    return {name: value for name, value in values.items() if not is_switched_off(value)}


def is_switched_off(value: Any) -> bool:
    """Whether a condition did so: such a hyperparameter is empty, or NaN where it is a number."""
    return value == "" or bool(pd.isna(value))


def incumbents(results: Results) -> pd.DataFrame:
    """The best finished evaluation of each budget, ascending; ties go to the lower config_id."""
    done = results.finished().sort_values(["budget", "loss", "iteration", "stage", "index"], kind="stable")
    return done.groupby("budget", sort=True).head(1)


def incumbent_table(results: Results) -> pd.DataFrame:
    """A row per budget: its incumbent, errors, size, when it was found, and its hyperparameters."""
    best = incumbents(results)
    columns = ["budget", "config_id", "loss", "test_error", "parameters", "training_s", "finished", "model_based"]
    table = best[[*columns, *results.hyperparameters]].reset_index(drop=True)
    count = results.finished().groupby("budget").size()
    table.insert(1, "evaluations", table["budget"].map(count).astype(np.int64))
    return table
