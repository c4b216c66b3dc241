"""Publish files whole, append to them durably, and read what another process or host wrote.

Shared file systems cache: a new file may stay invisible for up to a minute, and a file replaced while it is read
can raise ESTALE. Whoever reads what another process wrote goes through `read_fresh`.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pipeline.bounds import JSON_BYTES, parse_json

T = TypeVar("T")


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path`, whole and fsynced, when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def publish_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a text file whole; `mode` holds from the first byte on."""
    with publish(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def publish_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Write a JSON file whole."""
    publish_text(path, json.dumps(value, indent=2) + "\n", mode)


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems refuse to sync a folder, and need none
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def is_there(path: Path) -> bool:
    """Whether a file is there, asked of its folder: NFS remembers for a minute that a name was absent."""
    try:
        with os.scandir(path.parent) as entries:
            return any(entry.name == path.name for entry in entries)
    except OSError:
        return False


def read_fresh(path: Path, read: Callable[[Path], T], wait_s: float = 5.0) -> T:
    """`read(path)`, tried again for a bounded time while the file is missing, replaced or half visible.

    Raises:
        OSError, ValueError: the last error, once `wait_s` has passed.
    """
    deadline = time.monotonic() + wait_s
    pause_s = 0.02
    while True:
        try:
            return read(path)
        except (OSError, ValueError):  # json.JSONDecodeError is a ValueError
            if time.monotonic() >= deadline:
                raise
            # Listing the folder makes NFS look again at names it has cached as absent.
            if path.parent.is_dir():
                list(path.parent.iterdir())
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)


def read_json(path: Path, wait_s: float = 5.0) -> Any:
    """A JSON file that another process may be publishing at this moment; errors as `read_fresh`."""
    return read_fresh(path, lambda p: parse_json(read_whole(p)), wait_s)


def read_whole(path: Path, most_bytes: int = JSON_BYTES) -> bytes:
    """What is in a file.

    Raises:
        ValueError: it is larger than anything that the program writes there.
    """
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it has more than {most_bytes} bytes, which the program never writes there")
    return content
