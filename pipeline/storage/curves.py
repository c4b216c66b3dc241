"""Learning curves: one HDF5 file per attempt, replaced whole with every write, readable at any moment.

A killed writer costs no row that was written: what is on disk is always the last whole file. Its schema:

    /                       attributes: the fields of `records.AttemptHeader` (configuration and versions as JSON), once
                            ended those of `records.AttemptEnd` with the prefix `end_`; and `record`, all of them as one
                            JSON text, because reading so many attributes takes longer than reading a curve
    /learning_curve         a row per epoch, one compound element each, fields as in `records.EpochRow`, or the counters
                            among them and a problem's own metrics; attributes `columns`, `units` and `descriptions`, a
                            text per field, in the order of the fields

After HDF5's own bytes, which say where they end, comes a seal: `SEAL` and the SHA-256 of all before it. Of some damaged
bytes the HDF5 library never comes back, so they must not get that far.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, fields
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.bounds import checked, parse_json, within_bounds
from pipeline.errors import RunError
from pipeline.files import publish
from pipeline.records import AttemptEnd, AttemptHeader, EpochRow, row_columns
from pipeline.storage.columns import values_of
from tandem_trial.problem import COUNTERS, Metric

CURVE_SCHEMA = "tandem learning curve 1"
ROW_COLUMNS = tuple(name for name, _, _ in row_columns(EpochRow))
# Counters are exact as 64-bit integers; everything else is a double. Field types are texts: see `annotations`.
ROW_DTYPE: np.dtype[Any] = np.dtype([(f.name, np.int64 if f.type == "int" else np.float64) for f in fields(EpochRow)])
_JSON_FIELDS = ("configuration", "versions", "metrics")
# By which a file that is made in memory grows.
_MEMORY_STEP_BYTES = 1 << 16
SEAL = b"tandem sha256 "
# Name, unit and description of a column.
CurveColumn = tuple[str, str, str]
IMAGE_COLUMNS: tuple[CurveColumn, ...] = tuple(row_columns(EpochRow))

Rows = dict[str, np.ndarray]


def own_columns(metrics: Sequence[Metric]) -> tuple[CurveColumn, ...]:
    """The columns of a problem of the user's own: the counters that every curve has, and its metrics."""
    counters = tuple(column for column in IMAGE_COLUMNS if column[0] in COUNTERS)
    return (*counters, *((m.name, "fraction" if m.percent else m.unit, m.title) for m in metrics))


def row_dtype(columns: Sequence[CurveColumn]) -> np.dtype[Any]:
    """The type of a row with these columns: counters are exact as 64-bit integers, all else is a double."""
    whole = {name for name in ROW_COLUMNS if ROW_DTYPE[name].kind == "i"}
    return np.dtype([(name, np.int64 if name in whole else np.float64) for name, _, _ in columns])


class AttemptFile:
    """The curve of one attempt (a `records.CurveSink`); rows are durable when `add` returns.

    The whole file is written anew each time (a few milliseconds, where an epoch takes seconds): only so is it
    never seen half written, by a reader now or after a power cut.

    Args:
        run: the run's folder, which is not made again when it is gone; None: the file belongs to no run.
    """

    def __init__(self, path: Path, run: Path | None = None) -> None:
        self.path = path
        self._run = run
        self._header: AttemptHeader | None = None
        # Filled up to `_count`, and doubled when full: converting every row again costs more than writing them.
        self._rows = np.empty(0, ROW_DTYPE)
        self._count = 0
        self._end: AttemptEnd | None = None

    def begin(self, header: AttemptHeader, inherited: Sequence[EpochRow]) -> None:
        """Open the curve with the rows of the chain that this attempt continues (empty from the start)."""
        self._header = header
        self._rows = as_table(inherited)
        self._count = len(self._rows)
        self._end = None
        self._write()

    def add(self, *rows: EpochRow) -> None:
        """Add rows; they are durable when this returns.

        Raises:
            RunError: the curve has not begun, or has ended.
        """
        self._require_open()
        for row in rows:
            if self._count == len(self._rows):
                self._rows = np.concatenate([self._rows, np.empty(max(self._count, 64), ROW_DTYPE)])
            self._rows[self._count] = astuple(row)
            self._count += 1
        self._write()

    def end(self, end: AttemptEnd) -> None:
        """Say how the attempt ended.

        Raises:
            RunError: the curve has not begun, or has ended.
        """
        self._require_open()
        self._end = end
        self._write()

    def _require_open(self) -> None:
        if self._header is None or self._end is not None:
            state = "has not begun" if self._header is None else "has ended"
            raise RunError(f"The learning curve {self.path} {state}: nothing can be added to it.")

    def _write(self) -> None:
        if self._header is not None:
            write_attempt(self.path, self._header, self._rows[: self._count], self._end, inside=self._run)


def as_table(rows: Sequence[EpochRow]) -> np.ndarray:
    """Rows as an array of `ROW_DTYPE`."""
    return np.array([astuple(row) for row in rows], dtype=ROW_DTYPE)


def write_attempt(
    path: Path,
    header: AttemptHeader,
    rows: Sequence[EpochRow] | np.ndarray,
    end: AttemptEnd | None = None,
    durable: bool = True,
    columns: Sequence[CurveColumn] = IMAGE_COLUMNS,
    inside: Path | None = None,
) -> None:
    """Write an attempt's file whole.

    Args:
        rows: records, or an array of `row_dtype(columns)`.
        inside: see `publish`.
        durable: fsync before the name appears; without it (synthetic runs) a power cut may lose the file.
    """
    table = rows if isinstance(rows, np.ndarray) else as_table(rows)
    if durable:
        with publish(path, inside) as temporary:
            _write_file(temporary, header, table, end, columns)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_file(path, header, table, end, columns)


def _write_file(
    path: Path, header: AttemptHeader, table: np.ndarray, end: AttemptEnd | None, columns: Sequence[CurveColumn]
) -> None:
    header, end = within_bounds(header), None if end is None else within_bounds(end)
    record = json.dumps({"header": asdict(header), "end": None if end is None else asdict(end)})
    image = _image(
        str(path),
        {"schema": CURVE_SCHEMA, **header_attributes(header), **end_attributes(end), "record": record},
        table,
        {name: [column[i] for column in columns] for i, name in enumerate(("columns", "units", "descriptions"))},
    )
    path.write_bytes(image + SEAL + hashlib.sha256(image).digest())


def _has_broken_seal(content: bytes) -> bool:
    """Whether a file is not what was written; files of earlier versions have no seal, and cannot tell."""
    image, label, digest = content[: -len(SEAL) - 32], content[-len(SEAL) - 32 : -32], content[-32:]
    return label == SEAL and hashlib.sha256(image).digest() != digest


def _image(name: str, attributes: Mapping[str, Any], table: np.ndarray, of_table: Mapping[str, Any]) -> bytes:
    """The bytes of an HDF5 file, made in memory: in 0.6 of the CPU time that `h5py.File` takes on disk.

    Args:
        name: unique among the files that are being made at the same time.
        attributes, of_table: attributes of the file and of its table, the learning curve.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(_MEMORY_STEP_BYTES, False)
    file = h5py.File(h5py.h5f.create(name.encode(), h5py.h5f.ACC_TRUNC, fapl=access))
    with file:
        _set_attributes(file.id, attributes)
        _set_attributes(file.create_dataset("learning_curve", data=table).id, of_table)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _set_attributes(place: Any, attributes: Mapping[str, Any]) -> None:
    """Give a new file or dataset its attributes: texts, numbers, and lists of either.

    By the low-level calls: `h5py.AttributeManager` looks first whether there is one of the name, for each.
    """
    for name, value in attributes.items():
        plain = np.asarray(value)
        if plain.dtype.kind == "U":
            plain = plain.astype(object)
        stored, given = _types(plain.dtype)
        attribute = h5py.h5a.create(place, name.encode(), stored, h5py.h5s.create_simple(plain.shape))
        attribute.write(plain, mtype=given)


@cache
def _types(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """HDF5's type of an array as it is stored and as it is given; objects are texts. To make them is slow."""
    dtype = h5py.string_dtype() if dtype.kind == "O" else dtype
    return h5py.h5t.py_create(dtype, logical=True), h5py.h5t.py_create(dtype)


def header_attributes(header: AttemptHeader) -> dict[str, Any]:
    """A header as HDF5 attributes: numbers and texts, the config_id as three whole numbers, mappings as JSON."""
    return _with_texts(asdict(header))


def end_attributes(end: AttemptEnd | None) -> dict[str, Any]:
    """How an attempt ended as HDF5 attributes; none while it goes on."""
    return {} if end is None else {f"end_{name}": value for name, value in _with_texts(asdict(end)).items()}


def _with_texts(attributes: dict[str, Any]) -> dict[str, Any]:
    return {n: json.dumps(dict(value)) if n in _JSON_FIELDS else value for n, value in attributes.items()}


def read_attempt(path: Path) -> tuple[AttemptHeader, Rows, AttemptEnd | None]:
    """Header, rows (an array per column, all of the same length) and end (None: running or killed).

    Raises:
        FileNotFoundError: there is no such file.
        RunError: the file is damaged or is not an attempt's.
    """
    header, table, end = read_attempt_table(path)
    return header, {name: table[name] for name in table.dtype.names or ()}, end


def read_attempt_table(path: Path) -> tuple[AttemptHeader, np.ndarray, AttemptEnd | None]:
    """As `read_attempt`, with the rows as one array: of `ROW_DTYPE`, or of a problem's own columns."""
    with _opened(path) as file:
        record = parse_json(file.attrs["record"])
        table = values_of(file["learning_curve"])
        names = table.dtype.names or ()
        if set(names) != set(ROW_COLUMNS) and not set(COUNTERS) <= set(names):
            raise ValueError("its columns are not those of a learning curve")
        dtype = ROW_DTYPE if set(names) == set(ROW_COLUMNS) else row_dtype([(name, "", "") for name in names])
        header = checked(AttemptHeader, record["header"])
        end = None if record["end"] is None else checked(AttemptEnd, record["end"])
        return header, table.astype(dtype, copy=False), end


def widened(table: np.ndarray) -> np.ndarray:
    """Rows with every column of `ROW_COLUMNS`, NaN where they lack one, and their own beside them."""
    if table.dtype == ROW_DTYPE:
        return table
    names = table.dtype.names or ()
    wide = np.empty(
        len(table), row_dtype([*IMAGE_COLUMNS, *((name, "", "") for name in names if name not in ROW_COLUMNS)])
    )
    for name in wide.dtype.names or ():
        wide[name] = table[name] if name in names else np.nan
    return wide


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        if _has_broken_seal(path.read_bytes()):
            raise ValueError("its bytes are not those that were written: their checksum differs")
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except FileNotFoundError:
        raise
    except Exception as error:  # of a damaged file, h5py raises whatever comes up
        detail = " ".join(str(error).split())
        raise RunError(f"{path} is damaged or is not the file of an attempt ({detail[:160]})") from None
