"""What has ended, in one or more folders of the same layout: this machine's results, and what the repository keeps."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.files import publish

KEPT = Path(__file__).parent / "kept"
# Under either folder: of every search of a size, and of every side's kills.
SEARCH = "{size}/{key}/search.json"
KILLS = "kills-{side}.json"


def stored(folders: Sequence[Path], place: str) -> list[Path]:
    """Records at a place, which may be a pattern; what a later folder has takes the place of an earlier one's."""
    found = {path.relative_to(folder): path for folder in folders for path in folder.glob(place)}
    return [found[name] for name in sorted(found)]


def keep(results: Path, kept: Path = KEPT) -> None:
    """Copy the records of what has ended to where the repository keeps them."""
    for place in (SEARCH.format(size="*", key="*"), KILLS.format(side="*")):
        for path in stored([results], place):
            with publish(kept / path.relative_to(results)) as temporary:
                shutil.copyfile(path, temporary)
