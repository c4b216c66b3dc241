"""Publish files whole, append to them durably, and read what another process or host wrote.

Shared file systems cache: a new file may stay invisible for up to a minute, and a file replaced while it is read
can raise ESTALE. Whoever reads what another process wrote goes through `read_fresh`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pipeline.bounds import JSON_BYTES, parse_json

T = TypeVar("T")

_TEMPORARY = re.compile(r"(?P<name_and_host>\..+)\.(?P<process>\d+)\.tmp")


@contextmanager
def publish(path: Path, inside: Path | None = None) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path`, whole and fsynced, when the block ends well.

    Args:
        inside: a folder that must be there, such as the run's: one that was renamed must not come back as a ghost.

    Raises:
        FileNotFoundError: `inside` is not there.
    """
    if inside is not None and not inside.is_dir():
        raise FileNotFoundError(errno.ENOENT, "The folder is gone (was it renamed or moved?)", str(inside))
    if path.parent != inside:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def publish_text(path: Path, text: str, mode: int = 0o644, inside: Path | None = None) -> None:
    """Write a text file whole; `mode` holds from the first byte on; `inside` and errors as `publish`."""
    with publish(path, inside) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def publish_json(path: Path, value: Any, mode: int = 0o644, inside: Path | None = None, indent: int | None = 2) -> None:
    """Write a JSON file whole; `inside` and errors as `publish`. Without an indent it takes a fifth of the time."""
    publish_text(path, json.dumps(value, indent=indent) + "\n", mode, inside)


def sweep_temporaries(folder: Path, older_than_s: float) -> list[Path]:
    """Delete what processes that were killed while they published have left below a folder; returns what it was.

    A file goes when its process is of this host and dead, or when nobody has written it for `older_than_s`: of another
    host's processes nothing is known.
    """
    swept = []
    for path in folder.rglob(".*.tmp"):
        found = _TEMPORARY.fullmatch(path.name)
        if found is None:
            continue
        try:
            is_here = found["name_and_host"].endswith(f".{os.uname().nodename}")
            is_dead = is_here and not Path("/proc", found["process"]).exists()
            if is_dead or time.time() - path.lstat().st_mtime > older_than_s:
                path.unlink()
                swept.append(path)
        except OSError:  # another has swept it, or its folder is gone
            continue
    return swept


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
        return not is_absent(path)
    except OSError:
        return False


def is_absent(path: Path) -> bool:
    """Whether a file is certainly not there, asked as `is_there` does.

    Raises:
        OSError: its folder cannot be read now, which says nothing of the file.
    """
    try:
        with os.scandir(path.parent) as entries:
            return all(entry.name != path.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return True


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
            with contextlib.suppress(OSError):
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
