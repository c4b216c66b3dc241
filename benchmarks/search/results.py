"""Results of searches: a file each, so that a comparison resumes and grows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.search.problem import Problem
from benchmarks.search.protocol import Trace
from pipeline.files import publish

# Changes when the protocol does: results of another one do not count.
PROTOCOL = 1
DIGITS = 6


@dataclass(frozen=True)
class Key:
    """Which search: the file's name."""

    problem: str
    method: str
    workers: int
    seed: int

    def path(self, folder: Path) -> Path:
        """Where its result is."""
        return folder / self.problem / self.method / f"w{self.workers}-s{self.seed}.json.gz"


def store(folder: Path, key: Key, problem: Problem, trace: Trace, full_budgets: float) -> None:
    """Write a search's result, whole."""
    content = {
        "protocol": PROTOCOL,
        "fingerprint": problem.fingerprint,
        "full_budgets": full_budgets,
        **{name: _rounded(value) for name, value in asdict(trace).items()},
    }
    with publish(key.path(folder)) as temporary:
        temporary.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))


def load(folder: Path, key: Key, problem: Problem, full_budgets: float) -> Trace | None:
    """The result of a search, or None: there is none of this protocol, this problem and at least this budget."""
    try:
        content = json.loads(gzip.decompress(key.path(folder).read_bytes()))
    except (OSError, ValueError, EOFError):
        return None
    head = content.pop("protocol"), content.pop("fingerprint")
    if head != (PROTOCOL, problem.fingerprint) or content.pop("full_budgets") < full_budgets:
        return None
    return Trace(**content)


def stored(folder: Path) -> Iterator[Key]:
    """Every search that has a file."""
    for path in sorted(folder.glob("*/*/w*-s*.json.gz")):
        workers, seed = path.name.removesuffix(".json.gz").split("-")
        yield Key(path.parents[1].name, path.parent.name, int(workers[1:]), int(seed[1:]))


def _rounded(value: object) -> object:
    if isinstance(value, list):
        return [None if v is None else float(f"{v:.{DIGITS}g}") for v in value]
    return value
