"""The scripts that a person submits by hand: in a checkout they are at hand, an installed package brings them along."""

from __future__ import annotations

import shlex
import sys
from importlib import metadata
from pathlib import Path

from pipeline.errors import SiteError

DISTRIBUTION = "tandem-nas"
NAMES = ("environment.sh", "master.sh", "worker.sh")
SITE = "site.sh"


def script_sources() -> dict[str, Path]:
    """Where each of `NAMES` is: in the checkout that this program runs from, else where pip has put it.

    Raises:
        SiteError: this installation has lost them.
    """
    beside = Path(__file__).parents[2] / "slurm"
    found = {name: beside / name for name in NAMES if (beside / name).is_file()}
    if not found:
        try:
            installed = metadata.files(DISTRIBUTION) or []
        except metadata.PackageNotFoundError:
            installed = []
        found = {f.name: Path(str(f.locate())).resolve() for f in installed if f.parts[-2:-1] == ("slurm",)}
    missing = [name for name in NAMES if name not in found or not found[name].is_file()]
    if missing:
        raise SiteError(
            f"This installation has no slurm/{missing[0]}; install {DISTRIBUTION} again, or use a checkout."
        )
    return found


def write_scripts(folder: Path) -> list[Path]:
    """Write the scripts to `folder`/slurm, with a site.sh that names this Python unless there is one already.

    Returns:
        What was written.

    Raises:
        SiteError: `folder` cannot be written.
    """
    target = folder / "slurm"
    try:
        target.mkdir(parents=True, exist_ok=True)
        written = []
        for name, source in script_sources().items():
            path = target / name
            if not path.exists() or not path.samefile(source):
                path.write_bytes(source.read_bytes())
                written.append(path)
        site = target / SITE
        if not site.exists():
            site.write_text(
                "# Sourced before anything else: the place for `module load` and the like.\n"
                f"TANDEM_PYTHON=${{TANDEM_PYTHON:-{shlex.quote(sys.executable)}}}\n",
                encoding="utf-8",
            )
            written.append(site)
    except OSError as error:
        raise SiteError(f"{target} cannot be written ({error.strerror}); go to a folder of yours.") from None
    return written
