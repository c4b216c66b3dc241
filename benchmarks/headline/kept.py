"""What has ended, in one or more folders of the same layout: this machine's results, and what the repository keeps."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.files import publish

# As under a folder of results: SIZE/SIDE-seedN/search.json, kills-SIDE.json.
KEPT = Path(__file__).parent / "kept"
SEARCHES = "*/*/search.json"
KILLS = "kills-*.json"


def sources(results: Path, anew: bool) -> list[Path]:
    """Where to look: what is in a later folder takes the place of the same in an earlier one."""
    return [results] if anew else [KEPT, results]


def ended(folders: Sequence[Path], size_name: str) -> dict[str, Path]:
    """The record of every search of a size that has ended, by the search's name."""
    found = (path for folder in folders for path in sorted(folder.glob(f"{size_name}/*/search.json")))
    return {path.parent.name: path for path in found}


def keep(results: Path, kept: Path = KEPT) -> None:
    """Copy the records of what has ended to where the repository keeps them."""
    for pattern in (SEARCHES, KILLS):
        for path in results.glob(pattern):
            to = kept / path.relative_to(results)
            with publish(to) as temporary:
                shutil.copyfile(path, temporary)
