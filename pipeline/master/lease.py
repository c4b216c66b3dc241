"""One master per run: a lease in the run folder with a number, its term, which works across hosts.

masters/000003.json   the lease of term 3, created exclusively; its successor replaces it by a note that it is over
masters/000003.beat   its heartbeat, renewed every `BEAT_S`

No file lock (shared file systems keep them badly) and no process id decides. Clocks of hosts differ, so a second
master does not compare times: it watches whether the heartbeat changes.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from pipeline.bounds import parse_json
from pipeline.errors import RunError
from pipeline.files import publish_json, read_json, read_whole, sync_folder
from pipeline.rpc.limits import is_shortage
from pipeline.run.folder import RunFolder
from pipeline.runtime import SYSTEM, Runtime

BEAT_S = 1.0
# A heartbeat that has not changed for this long has stopped. Long enough for a stalled file system's hiccup; a master
# that is paused for longer notices on waking that its term is over, and writes nothing more.
STOPPED_S = 6.0
# How long the lease's file may be unreadable before this master gives up; well below what a successor watches.
CHECK_S = 3.0
# A master that may open no more files cannot look, which says nothing of its lease. So it writes nothing, for so long.
SHORTAGE_S = 60.0


class LeaseLostError(RunError):
    """Another master has taken over; this one must not write any more."""


class LivingMasterError(RunError):
    """A living master holds the run; the text says where it is."""


class Lease:
    """The right to write a run's files.

    Attributes:
        term: number of this master, from 1.
    """

    def __init__(self, folder: RunFolder, term: int, runtime: Runtime = SYSTEM) -> None:
        self.term = term
        self._runtime = runtime
        self._path = _lease_path(folder, term)
        self._successor = _lease_path(folder, term + 1)
        self._beat_path = self._path.with_suffix(".beat")
        self._token = runtime.token()
        self._beats = 0
        self._claim()
        self.beat()

    def _claim(self) -> None:
        content = {"token": self._token, "host": platform.node(), "pid": os.getpid(), "started": self._runtime.time()}
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            raise LivingMasterError(
                f"Another master took over this run at this very moment ({self._path}). `tandem status` shows it."
            ) from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self._path.parent)

    def beat(self) -> None:
        """Renew the heartbeat."""
        self._beats += 1
        publish_json(
            self._beat_path,
            {"token": self._token, "beats": self._beats, "time": self._runtime.time()},
            inside=self._path.parent,
        )

    def check(self) -> None:
        """Make sure that this is still the newest master; to be called before every write.

        Raises:
            LeaseLostError: it is not, or the lease cannot be read.
            OSError: this process, or its machine, may open no more files.
        """
        try:
            holder = self._read_holder()
        except (OSError, ValueError, AttributeError) as error:  # the last: it is no mapping
            if is_shortage(error):
                raise
            raise LeaseLostError(f"The lease {self._path} cannot be read ({error}); this master stops.") from None
        if holder != self._token or self._successor.exists():
            raise LeaseLostError(
                f"Another master has taken over this run (the lease of term {self.term} is over); this one stops "
                f"without writing anything more."
            )

    def _read_holder(self) -> Any:
        deadline = self._runtime.monotonic() + SHORTAGE_S
        while True:
            try:
                # Opening revalidates even on file systems that cache folders, and the successor replaced this very
                # file. A passing error of the file system (ESTALE) is no reason to give up a run.
                return read_json(self._path, wait_s=CHECK_S).get("token")
            except OSError as error:
                if not is_shortage(error) or self._runtime.monotonic() >= deadline:
                    raise

    def end(self, reason: str) -> None:
        """Say that this master has ended, so that the next one need not watch its heartbeat."""
        publish_json(
            self._beat_path,
            {"token": self._token, "beats": -1, "time": self._runtime.time(), "ended": reason},
            inside=self._path.parent,
        )


def take_lease(folder: RunFolder, stopped_s: float = STOPPED_S, runtime: Runtime = SYSTEM) -> Lease:
    """Become the master of a run.

    Args:
        stopped_s: how long the previous master's heartbeat is watched before it counts as stopped.

    Raises:
        LivingMasterError: a living master holds the run.
    """
    folder.masters.mkdir(exist_ok=True)
    latest = _latest_term(folder)
    if latest:
        _wait_until_stopped(folder, latest, stopped_s, runtime)
        publish_json(_lease_path(folder, latest), {"token": None, "superseded_by": latest + 1})
    return Lease(folder, latest + 1, runtime)


def is_newest(folder: RunFolder, term: int) -> bool:
    """Whether no master came after that of a term, living or ended; False where that cannot be told."""
    # As in `Lease.check`: the successor replaced this very file, and opening it revalidates.
    is_its_own = _read(_lease_path(folder, term)).get("token") is not None
    return is_its_own and not _lease_path(folder, term + 1).exists()


def _wait_until_stopped(folder: RunFolder, term: int, stopped_s: float, runtime: Runtime) -> None:
    path = _lease_path(folder, term)
    first = _read(path.with_suffix(".beat"))
    deadline = runtime.monotonic() + stopped_s
    while "ended" not in first:
        if runtime.monotonic() > deadline:
            return
        runtime.sleep(0.2)
        now = _read(path.with_suffix(".beat"))
        if "ended" in now:
            return
        if now.get("beats") != first.get("beats") and now and first:
            holder = _read(path)
            raise LivingMasterError(
                f"A master is at work on {folder.path}: term {term}, process {holder.get('pid')} on "
                f"{holder.get('host')}. One run has one master. `tandem stop-search` ends it in order."
            )
        first = first or now


def _latest_term(folder: RunFolder) -> int:
    return max((int(p.stem) for p in folder.masters.glob("*.json") if p.stem.isdigit()), default=0)


def _lease_path(folder: RunFolder, term: int) -> Path:
    return folder.masters / f"{term:06d}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(read_whole(path))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
