"""Results that workers leave in the run folder when no master takes them; the next master reads them there."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from pipeline.bounds import Name, Number, checked, parse_json
from pipeline.files import publish_json, read_whole
from pipeline.rpc.messages import AttemptId, Outcome
from pipeline.run.folder import RunFolder

log = logging.getLogger("tandem.rpc")

# Those that have been told of: the folder is read every few seconds.
_damaged: set[Path] = set()


@dataclass(frozen=True)
class Undelivered:
    """How an attempt ended, and on which device: a master that hears of it judges it by that.

    Attributes:
        memory_mb: of the device; 0: unknown.
    """

    attempt: AttemptId
    outcome: Outcome
    worker: str
    host: str
    memory_mb: float = 0.0


def leave_result(folder: RunFolder, left: Undelivered) -> Path:
    """Leave a result in the run folder; returns where.

    Raises:
        OSError: the folder cannot be written.
    """
    path = undelivered_path(folder, left.attempt)
    content = {
        "attempt": left.attempt.to_plain(),
        "outcome": left.outcome.to_plain(),
        "worker": left.worker,
        "host": left.host,
        "memory_mb": left.memory_mb,
    }
    publish_json(path, content, inside=folder.path)
    return path


def read_undelivered(folder: RunFolder) -> list[Undelivered]:
    """Results that workers left in the run folder because no master took them.

    A damaged file is left where it is, and said so: its evaluation is run again.
    """
    found = []
    for path in sorted(folder.undelivered.glob("*.json")) if folder.undelivered.is_dir() else []:
        try:
            plain = parse_json(read_whole(path))
            left = Undelivered(
                AttemptId.from_plain(plain["attempt"]),
                Outcome.from_plain(plain["outcome"]),
                checked(Name, plain["worker"]),
                checked(Name, plain["host"]),
                checked(Number, plain.get("memory_mb", 0.0)),  # earlier versions did not say
            )
            found.append(left)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if path not in _damaged:
                log.warning("%s is damaged (%s); its evaluation is run again", path, error)
            _damaged.add(path)
    return found


def undelivered_path(folder: RunFolder, attempt: AttemptId) -> Path:
    """Where a worker leaves the result of an attempt when no master takes it."""
    return folder.undelivered / folder.attempt(*attempt.key, attempt.number).with_suffix(".json").relative_to(
        folder.attempts
    ).as_posix().replace("/", "-")
