"""Which checkpoints are of use: a function of what is on disk and of where the search stands.

A configuration that can still be promoted keeps the checkpoint of its accepted attempt on its highest budget. On the
budget that it is evaluated on now, every attempt keeps what it has written until a later one that was interrupted has
left a checkpoint. All else is useless, and so is everything where promotions start again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.records import ConfigId
from pipeline.search.brackets import ConfigGroup
from pipeline.search.search import Search

# With what is appended to the name of a previous one, and put before that of one being written.
_NAME = re.compile(r"(?P<writing>\.)?b(?P<budget>.+)-a(?P<attempt>\d+)\.pt(?P<suffix>.*)")


@dataclass(frozen=True)
class CheckpointFile:
    """A file that an attempt has left beside others of its configuration.

    Attributes:
        is_last: the attempt's last whole checkpoint; else the one before, or one being written.
    """

    name: str
    budget: float
    attempt: int
    is_last: bool


@dataclass(frozen=True)
class Standing:
    """Where a configuration stands.

    Attributes:
        is_over: it will not be trained any more.
        accepted: the attempt whose result counts, by budget.
        interrupted: the latest attempt that ended without a result, by budget.
    """

    is_over: bool = False
    accepted: Mapping[float, int] = field(default_factory=dict)
    interrupted: Mapping[float, int] = field(default_factory=dict)


def parse_checkpoint(name: str) -> CheckpointFile | None:
    """What a file in a configuration's folder of checkpoints is; None: no checkpoint."""
    found = _NAME.match(name)
    if found is None:
        return None
    is_last = not found["writing"] and not found["suffix"]
    return CheckpointFile(name, float(found["budget"]), int(found["attempt"]), is_last)


def useless(files: Iterable[CheckpointFile], standing: Standing, continues: bool) -> list[CheckpointFile]:
    """The checkpoints of one configuration that nothing will go on from.

    Args:
        continues: promoted configurations go on from their lower rung (`search.promotion`).
    """
    files = list(files)
    return [file for file in files if not _is_of_use(file, files, standing, continues)]


def _is_of_use(file: CheckpointFile, files: Collection[CheckpointFile], standing: Standing, continues: bool) -> bool:
    if standing.is_over:
        return False
    highest = max(standing.accepted, default=0.0)
    if file.budget <= highest:
        is_accepted = file.budget == highest and file.attempt == standing.accepted[highest]
        return continues and is_accepted and file.is_last
    return file.attempt >= _goes_on_from(file.budget, files, standing)


def _goes_on_from(budget: float, files: Collection[CheckpointFile], standing: Standing) -> int:
    """The attempt whose checkpoint the next one would go on from, among those that were interrupted; 0: none."""
    latest = standing.interrupted.get(budget, 0)
    return max((f.attempt for f in files if f.budget == budget and f.is_last and f.attempt <= latest), default=0)


def is_over(bracket: ConfigGroup, config_id: ConfigId) -> bool:
    """Whether a configuration of a bracket will not be trained any more."""
    return bool(bracket.data[config_id].status in ("TERMINATED", "CRASHED", "COMPLETED"))


def standing_of(search: Search, config_id: ConfigId, interrupted: Mapping[float, int]) -> Standing:
    """Where a configuration stands in a search; one that it has not drawn has no result."""
    accepted = {b: search.accepted[config_id, b].attempt for b in search.ladder if (config_id, b) in search.accepted}
    is_known = config_id[0] < len(search.iterations) and config_id in search.iterations[config_id[0]].data
    return Standing(is_known and is_over(search.iterations[config_id[0]], config_id), accepted, dict(interrupted))


def most_checkpoints(search: Search, running: int, interrupted: int, continues: bool) -> int:
    """The most checkpoints that may be on disk.

    Args:
        running: attempts under way: each has two and one that is being written, and what it goes on from has two.
        interrupted: evaluations that wait to go on: what they go on from has two.
    """
    alive = sum(not is_over(b, config_id) for b in search.open_brackets() for config_id in b.data)
    return (alive if continues else 0) + 5 * running + 2 * interrupted
