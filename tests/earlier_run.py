"""The run folder of a search by version 0.1.0, whose master and workers were killed."""

from __future__ import annotations

import tarfile
from pathlib import Path

from pipeline.run.folder import RunFolder

ARCHIVE = Path(__file__).parent / "data" / "run-of-0.1.0.tar.xz"


def unpack_earlier_run(place: Path) -> RunFolder:
    """The run, in an empty folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(place, filter="data")
    return RunFolder(next(place.iterdir()))
