"""A checkpoint of an objective: one file, whatever the objective wrote, with how far training had come at its end.

    content | JSON of a `Progress` | length of the JSON (8 bytes, big-endian) | MAGIC

The content is the objective's file as it stands, or a tar of its folder. So nothing is copied to save, and a
checkpoint is one name in one folder: published whole, linked, deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import tarfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MAGIC = b"TANDEMc1"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Progress:
    """How far training had come.

    Attributes:
        configuration, seed: whose checkpoint it is.
        training_s, epochs, steps: since the first step ever.
        rows: of the learning curve, over the whole chain.
        is_folder: the content is a tar of a folder.
        size, crc: of the content.
    """

    configuration: dict[str, Any]
    seed: int
    training_s: float
    epochs: float
    steps: int
    rows: int
    is_folder: bool = False
    size: int = 0
    crc: int = 0


def seal(written: Path, progress: Progress, target: Path) -> None:
    """Turn what an objective wrote into a checkpoint, published whole; the one that was there is kept as `.previous`.

    Args:
        written: a file or folder beside `target`; it is gone afterwards.

    Raises:
        OSError: it cannot be written.
    """
    is_folder = written.is_dir()
    if is_folder:
        packed = written.with_name(written.name + ".tar")
        with tarfile.open(packed, "w") as archive:
            archive.add(written, arcname=".")
        shutil.rmtree(written)
        written = packed
    size, crc = _measure(written)
    text = json.dumps({**asdict(progress), "is_folder": is_folder, "size": size, "crc": crc}).encode()
    with written.open("ab") as file:
        file.write(text + struct.pack(">Q", len(text)) + MAGIC)
        file.flush()
        os.fsync(file.fileno())
    # At no moment is there no whole checkpoint: the previous one is kept until this one has its name.
    if target.exists():
        target.replace(previous(target))
    written.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError:
        pass  # some network file systems refuse to sync a folder, and need none
    finally:
        os.close(folder)


def previous(path: Path) -> Path:
    """Where the checkpoint before `path` is kept."""
    return path.with_name(path.name + ".previous")


def read_progress(path: Path) -> Progress:
    """How far training had come when a checkpoint was written.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a checkpoint, or cut off.
    """
    with path.open("rb") as file:
        tail = 8 + len(MAGIC)
        end = file.seek(0, os.SEEK_END)
        if end < tail:
            raise ValueError("it is cut off")
        file.seek(end - tail)
        length, magic = struct.unpack(">Q8s", file.read(tail))
        if magic != MAGIC or length > end - tail:
            raise ValueError("it does not end like a checkpoint")
        file.seek(end - tail - length)
        progress = Progress(**json.loads(file.read(length)))
    if progress.size != end - tail - length:
        raise ValueError(f"its content has {end - tail - length} bytes instead of {progress.size}")
    return progress


def unpack(path: Path, progress: Progress, target: Path) -> None:
    """The content of a checkpoint as the objective wrote it: a file or a folder at `target`.

    Raises:
        OSError: it cannot be read or written.
        ValueError: its checksum differs.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    left, crc = progress.size, 0
    whole = target.with_name(target.name + ".tar") if progress.is_folder else target
    with path.open("rb") as source, whole.open("wb") as copy:
        while left and (chunk := source.read(min(left, _CHUNK))):
            crc, left = zlib.crc32(chunk, crc), left - len(chunk)
            copy.write(chunk)
    if left or crc != progress.crc:
        raise ValueError("its checksum differs")
    if progress.is_folder:
        with tarfile.open(whole) as archive:
            archive.extractall(target, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(target)
        whole.unlink()


def _measure(path: Path) -> tuple[int, int]:
    size = crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    return size, crc
