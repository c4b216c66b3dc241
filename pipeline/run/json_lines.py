"""Files of one JSON value a line: appended durably, read with a torn last line tolerated."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.bounds import LINE_BYTES, parse_json
from pipeline.errors import RunError
from pipeline.files import sync_folder


def read_json_lines(path: Path) -> list[Any]:
    """The values of every whole line; a last line without its newline is one that a crash tore, and is left out.

    Raises:
        RunError: a line before the last is not JSON; the text names file and line.
        FileNotFoundError: there is no such file.
    """
    return parse_json_lines(path.read_bytes(), path)


def parse_json_lines(content: bytes, path: Path) -> list[Any]:
    """As `read_json_lines`, of bytes that were read from `path`."""
    whole = content[: content.rfind(b"\n") + 1]
    values = []
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        try:
            if len(line) > LINE_BYTES:
                raise ValueError
            values.append(parse_json(line))
        except ValueError:
            raise RunError(
                f"{path}, line {number} is not JSON ({line[:60]!r}): the file was edited or the disk is damaged. "
                f"Restore it from a backup, or delete that line if what it recorded may be lost."
            ) from None
    return values


class JsonLinesWriter:
    """The one writer of a JSON-lines file: whole lines, each batch fsynced before `append` returns.

    Opening cuts a torn last line, so that nothing is ever appended to half a line, and makes the rest durable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        is_new = not path.exists()
        # Unbuffered: a buffer would keep what a full disk refused, and write it later.
        self._file = path.open("ab", buffering=0)
        if is_new:
            sync_folder(path.parent)
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        self.torn_bytes = len(content) - whole
        if self.torn_bytes:
            self._file.truncate(whole)
        self._size = whole
        # A writer before this one may have died between writing and syncing, and what is read counts from now on.
        os.fsync(self._file.fileno())

    def append(self, values: Iterable[Any], durable: bool = True) -> None:
        """Append a line per value and make them, and what was appended before, durable together.

        Args:
            durable: False: they may wait for the next durable append.

        Raises:
            ValueError: a value is not JSON (NaN included: hpbandster's loader would make it the incumbent).
            OSError: the disk is full or gone; what was written of this batch is cut again, so the file stays whole.
            RunError: somebody else has written to the file since, and nothing is written.
        """
        lines = "".join(json.dumps(value, allow_nan=False, separators=(", ", ": ")) + "\n" for value in values)
        before = os.fstat(self._file.fileno()).st_size
        if before != self._size:
            raise RunError(
                f"{self.path} has {before} bytes and had {self._size} when this master last wrote to it: another one "
                f"that was given up, or a hand, has changed it. `tandem resume-search` reads what is there and goes on."
            )
        content = lines.encode()
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            if durable:
                os.fsync(self._file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(before)
            raise
        self._size = before + len(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> JsonLinesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
