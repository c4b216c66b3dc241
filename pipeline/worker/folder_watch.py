"""Notice what an objective writes into its run's folder beside the folder of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.problems.freezing import COPIES
from pipeline.run.folder import RunFolder


class FolderWatch:
    """Looks at the run folder, without what Tandem itself keeps there, and at the problem's copies."""

    def __init__(self, folder: RunFolder) -> None:
        self._place = folder.path
        self._names = _names_of(folder)
        self._seen = dict(self._look())

    def news(self) -> list[str]:
        """What has come, or has changed, since this was last asked."""
        before, self._seen = self._seen, dict(self._look())
        return sorted(name for name, changed in self._seen.items() if before.get(name) != changed)

    def _look(self) -> Iterator[tuple[str, int]]:
        """Names with when each was changed (ns)."""
        with contextlib.suppress(OSError), os.scandir(self._place) as entries:
            for entry in entries:
                if entry.name not in self._names and not entry.name.startswith("."):
                    yield entry.name, entry.stat().st_mtime_ns
        with contextlib.suppress(OSError), os.scandir(self._place / COPIES) as entries:
            for entry in entries:
                if entry.is_file():
                    yield f"{COPIES}/{entry.name}", entry.stat().st_mtime_ns


def _names_of(folder: RunFolder) -> set[str]:
    """What Tandem itself has in a run folder."""
    named = [getattr(folder, name) for name, value in vars(RunFolder).items() if isinstance(value, property)]
    paths = [path for path in named if isinstance(path, Path) and folder.path in path.parents]
    paths += [folder.trial((0, 0, 0), 1.0, 1), folder.path / COPIES, folder.path / "retrained"]
    return {path.relative_to(folder.path).parts[0] for path in paths}
