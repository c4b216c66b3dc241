"""Tables in HDF5: a group per table, a dataset per column, each with its unit and its description as attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pandas as pd

CHUNK_ROWS = 65_536
# A hundred times the longest search's learning curves.
MOST_VALUES = 10**9


@dataclass(frozen=True)
class Column:
    """A column of a stored table.

    Attributes:
        kind: "float" (NaN: not known), "int", "bool" or "text" ("": not known).
    """

    name: str
    kind: str
    description: str
    unit: str = ""


_DTYPES = {"float": np.dtype(np.float64), "int": np.dtype(np.int64), "bool": np.dtype(np.bool_)}
_MISSING: dict[str, Any] = {"float": np.nan, "int": 0, "bool": False, "text": ""}


def frame(columns: Sequence[Column], records: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """A data frame with exactly these columns and types; what a record lacks (or has as None) is missing."""
    rows = list(records)
    data = {}
    for column in columns:
        missing = _MISSING[column.kind]
        values = [missing if (value := row.get(column.name)) is None else value for row in rows]
        data[column.name] = pd.Series(values, dtype=_DTYPES.get(column.kind, object))
        if column.kind == "text":
            data[column.name] = data[column.name].astype("str")
    return pd.DataFrame(data, columns=[column.name for column in columns])


def completed(table: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """A table that was read, with the columns that an earlier version did not know yet, all missing.

    Raises:
        ValueError: a column holds values of another kind.
    """
    for column in columns:
        if column.name in table and not _is_of_kind(table[column.name], column.kind):
            raise ValueError(f"the column {column.name} does not hold values of the kind {column.kind}")
    lacking = [column for column in columns if column.name not in table]
    return pd.concat([table, frame(lacking, [{}] * len(table))], axis=1) if lacking else table


def _is_of_kind(values: pd.Series, kind: str) -> bool:
    if kind == "text":
        return bool(pd.api.types.is_string_dtype(values.dtype)) and values.dtype != object
    return values.dtype.kind in {"float": "fiu", "int": "iu", "bool": "b"}[kind]


def write_table(parent: Any, name: str, table: pd.DataFrame, columns: Sequence[Column], attributes: Any = None) -> None:
    """Write a data frame as the group `name`: all datasets have one length, compressed without loss."""
    group = parent.create_group(name, track_order=True)  # columns keep their order
    group.attrs["rows"] = len(table)
    for key, value in (attributes or {}).items():
        group.attrs[key] = value
    for column in columns:
        values = table[column.name].to_numpy()
        write_column(group, column, _encoded(values) if column.kind == "text" else values)


def write_column(group: Any, column: Column, values: np.ndarray) -> None:
    """Write one column; texts come as fixed-length UTF-8 bytes (variable-length ones do not compress)."""
    dtype = h5py.string_dtype("utf-8", max(values.dtype.itemsize, 1)) if values.dtype.kind == "S" else values.dtype
    options: dict[str, Any] = {}
    if len(values):
        chunk = (min(len(values), CHUNK_ROWS),)
        options = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "chunks": chunk}
    dataset = group.create_dataset(column.name, data=values.astype(dtype), dtype=dtype, **options)
    dataset.attrs["unit"] = column.unit
    dataset.attrs["description"] = column.description


def _encoded(values: np.ndarray) -> np.ndarray:
    encoded = [str(value).encode() for value in values]
    return np.array(encoded, dtype="S") if encoded else np.empty(0, dtype="S1")


def read_table(group: Any) -> pd.DataFrame:
    """The inverse of `write_table`.

    Raises:
        ValueError: the columns differ in length, or one has more values than any run.
    """
    columns = {name: _decoded(values_of(dataset)) for name, dataset in group.items() if hasattr(dataset, "dtype")}
    return pd.DataFrame(columns, copy=False)


def values_of(dataset: Any) -> Any:
    """The values of a dataset; raises ValueError before a damaged length fills the memory."""
    if dataset.size is None or dataset.size > MOST_VALUES:
        raise ValueError(f"{dataset.name} has {dataset.size} values")
    return dataset[()]


def _decoded(values: np.ndarray) -> Any:
    if values.dtype.kind != "S":
        return values
    # Decoding each distinct text once: a column has few of them.
    distinct, positions = np.unique(values, return_inverse=True)
    return pd.array(np.array([text.decode() for text in distinct], dtype=object)[positions], dtype="str")
