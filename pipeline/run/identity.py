"""Which run a folder is: a label that names its jobs, and that a copy of the folder does not keep.

The folder's name is not enough: two runs of different results folders may have the same, and `cp -r` makes another. The
label stands in the master's address, too, so that nobody joins the master of the folder that this one was copied from;
a copy that is resumed gets a label and certificates of its own.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.bounds import Integer, Name, checked
from pipeline.errors import RunError
from pipeline.files import publish_json, read_json
from pipeline.run.folder import RunFolder


@dataclass(frozen=True)
class Identity:
    """What makes a folder this run and no other.

    Attributes:
        label: unique among all runs; the folder's name is its first part.
        path: where the folder was.
        inode: which folder it was: a copy has another, one that was moved or is mounted elsewhere has not.
    """

    label: Name
    path: str
    inode: Integer


def make_identity(folder: RunFolder) -> None:
    """Give a run a label that no other has."""
    _publish(folder, f"{folder.run_id}-{secrets.token_hex(4)}")


def run_label(folder: RunFolder) -> str:
    """The run's label; the folder's name for a run of a version without labels.

    Raises:
        RunError: the file is damaged.
    """
    identity = _read(folder)
    return folder.run_id if identity is None else identity.label


def original_of(folder: RunFolder) -> Path | None:
    """Where the folder was that this one is a copy of; None: it is no copy, or has been resumed since."""
    identity = _read(folder)
    if identity is None or identity.path == str(folder.path) or identity.inode == folder.path.stat().st_ino:
        return None
    return Path(identity.path)


def require_no_copy(folder: RunFolder) -> None:
    """Raise RunError if the folder is a copy that was not resumed: whoever joined it would join its original."""
    original = original_of(folder)
    if original is not None:
        raise RunError(
            f"{folder.path} is a copy of the run in {original}. `tandem resume-search {folder.shell_path}` makes a run "
            f"of its own of it, which workers can join."
        )


def settle_identity(folder: RunFolder) -> None:
    """To be called before a master starts: a copy becomes a run of its own, and where the folder is now is noted."""
    identity = _read(folder)
    if identity is None:
        _publish(folder, folder.run_id)
    elif original_of(folder) is not None:
        shutil.rmtree(folder.tls, ignore_errors=True)
        folder.master_address.unlink(missing_ok=True)
        make_identity(folder)
    elif identity.path != str(folder.path):
        _publish(folder, identity.label)


def find_by_label(results: Path, label: str) -> RunFolder | None:
    """The run of this label in a folder of runs; its copies are passed over, and so are runs with a damaged label."""
    for path in sorted(results.iterdir()) if results.is_dir() else ():
        folder = RunFolder(path.resolve())
        if path.is_symlink() or not folder.settings.is_file():
            continue
        with suppress(RunError):
            if run_label(folder) == label and original_of(folder) is None:
                return folder
    return None


def _publish(folder: RunFolder, label: str) -> None:
    publish_json(folder.identity, asdict(Identity(label, str(folder.path), folder.path.stat().st_ino)))


def _read(folder: RunFolder) -> Identity | None:
    try:
        return checked(Identity, read_json(folder.identity, wait_s=0))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder.identity} cannot be read ({error}). If it is damaged, stop the run, remove it, and resume."
        ) from None
