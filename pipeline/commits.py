"""Which commit of a git repository a file or a folder stands at."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit_of(folder: Path, file: Path | None = None) -> tuple[str | None, bool | None]:
    """The commit that a folder's repository is at, and whether anything in it was changed since.

    Args:
        file: ask for changes of this file alone.

    Returns:
        (None, None) outside a repository.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    try:
        of = ("--", str(file)) if file is not None else ()
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", *of))
    except (OSError, subprocess.SubprocessError):
        return None, None
