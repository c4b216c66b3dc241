"""Where a run came from: commit, versions, host and command, as a plain dict for provenance.json."""

from __future__ import annotations

import getpass
import os
import platform
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pipeline
from pipeline.commits import commit_of

# What decides a run's numbers, and what its files were written with.
PACKAGES = (
    "ConfigSpace", "Pyro4", "h5py", "hpbandster", "matplotlib", "numpy", "pandas", "pydantic", "scikit-learn", "scipy",
    "submitit", "torch", "torchvision",
)  # fmt: skip


def provenance() -> dict[str, Any]:
    """Commit and dirty flag (None outside a checkout), package versions, Python, host, user, command and time."""
    commit, is_dirty = commit_of(Path(pipeline.__file__).parent)
    return {
        "tandem": pipeline.__version__,
        "commit": commit,
        "dirty": is_dirty,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "working_directory": str(Path.cwd()),
        "submitted": time.time(),
        "host": platform.node(),
        "user": _user(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Versions of the packages that matter, without importing them; an absent one is left out."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        return str(os.getuid())
