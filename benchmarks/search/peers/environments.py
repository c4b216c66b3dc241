"""An environment per peer, made from its pinned requirements.

    python -m benchmarks.search.peers.environments              make all that are missing
    python -m benchmarks.search.peers.environments smac dehb    these

Environments are in TANDEM_BENCH_PEERS (default ~/.cache/tandem-bench-search). A requirements file whose first line says
`# torch: linked` gets the PyTorch of this environment instead of one of its own: PyTorch alone is 5 GB.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
LINKED = "# torch: linked"


def peers() -> tuple[str, ...]:
    """Every peer that has a requirements file."""
    return tuple(sorted(path.stem for path in REQUIREMENTS.glob("*.txt")))


def folder_of(peer: str) -> Path:
    """Where a peer's environment is."""
    root = os.environ.get("TANDEM_BENCH_PEERS", str(Path.home() / ".cache" / "tandem-bench-search"))
    return Path(root) / peer


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment."""
    return folder_of(peer) / "bin" / "python"


def is_made(peer: str) -> bool:
    """Whether the environment is whole and of the present requirements."""
    stamp = folder_of(peer) / "made-from.txt"
    return stamp.is_file() and stamp.read_text() == (REQUIREMENTS / f"{peer}.txt").read_text()


def make(peer: str) -> None:
    """Make a peer's environment.

    Raises:
        subprocess.CalledProcessError: pip's own words are on standard error.
    """
    requirements = REQUIREMENTS / f"{peer}.txt"
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder_of(peer)], check=True)
    if requirements.read_text().startswith(LINKED):
        _link_torch(peer)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
    subprocess.run([python_of(peer), *install], check=True)
    (folder_of(peer) / "made-from.txt").write_text(requirements.read_text())


def _link_torch(peer: str) -> None:
    """Show the environment PyTorch and what it needs, and nothing else of this one."""
    links = folder_of(peer) / "linked"
    links.mkdir()
    for name in _needed_by("torch"):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "bin", "__pycache__"}:
            source = Path(str(distribution.locate_file(top))).resolve()
            if source.exists() and not (links / top).exists():
                (links / top).symlink_to(source)
    site = subprocess.run(
        [python_of(peer), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    (Path(site) / "linked.pth").write_text(f"{links}\n")


def _needed_by(root: str) -> set[str]:
    """A distribution and what it requires, of what is installed here."""
    found: set[str] = set()
    waiting = [root]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        try:
            requires = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            # PyTorch asks for CUDA's libraries as extras of one package.
            wanted = [r for r in requires if "extra ==" not in r or name == "cuda-toolkit"]
            waiting += [match.group() for r in wanted if (match := re.match(r"[\w.-]+", r))]
    return found


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", default=list(peers()))
    for peer in parser.parse_args().peers:
        if is_made(peer):
            print(f"{peer}: is there")
            continue
        print(f"{peer}: making {folder_of(peer)} ...", flush=True)
        make(peer)


if __name__ == "__main__":
    main()
