"""What a search knows, as typed records: hpbandster's configs.json and results.json, and the journal beside them.

configs.json   [config_id, configuration, config_info]; config_info: `DRAW_KEYS`
results.json   [config_id, budget, {submitted, started, finished}, {loss, info} or null, null or "kind: reason"]
journal.jsonl  {"time", "event", ...}; events and their fields: `JOURNAL_EVENTS`

hpbandster's own loader is strict: extras live only inside info and config_info, a crashed evaluation is a null
result, and losses are finite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.files import is_there, read_fresh
from pipeline.records import ConfigId, Configuration
from pipeline.run.folder import RunFolder
from pipeline.run.former_names import with_present_names
from pipeline.run.json_lines import read_json_lines

DRAW_KEYS = {
    "model_based_pick": "whether a model proposed it (hpbandster's own key)",
    "budget": "budget of the rung it was drawn for",
    "results_seen": "lines of results.json that the proposer had absorbed when it drew",
    "model_budget": "budget whose observations the model was fitted on; null for a random draw",
    "drawn": "when, s since 1970 (UTC)",
}

JOURNAL_EVENTS = {
    "master_started": ("term", "host", "pid", "address"),
    "master_ended": ("term", "reason"),
    "worker_joined": ("worker", "host", "slurm_job_id", "device"),
    "worker_left": ("worker", "reason"),
    "dispatched": ("config_id", "budget", "attempt", "worker"),
    # outcome: finished, crashed, lost, handed_back or broken; a crash that is not in results.json awaits a second node.
    # progressed: whether a lost attempt left a checkpoint (null otherwise); lost_s: training seconds that it lost.
    "returned": ("config_id", "budget", "attempt", "worker", "host", "outcome", "reason", "progressed", "lost_s"),
    "node_suspected": ("host", "reason"),
    "workers_requested": ("count",),
}


@dataclass(frozen=True)
class Draw:
    """A configuration that was drawn."""

    config_id: ConfigId
    configuration: Configuration
    info: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """An evaluation that ended.

    Attributes:
        submitted, started, finished: s since 1970 (UTC).
        loss: what the search minimises; None when crashed.
        info: see `pipeline.records.INFO_KEYS`; empty when crashed.
        exception: None, or "kind: reason" when crashed.
    """

    config_id: ConfigId
    budget: float
    submitted: float
    started: float
    finished: float
    loss: float | None
    info: Mapping[str, Any]
    exception: str | None


@dataclass(frozen=True)
class History:
    """All draws and results of a run, in the order in which they became durable."""

    draws: tuple[Draw, ...]
    results: tuple[Result, ...]


def draw_line(draw: Draw) -> list[Any]:
    """A line of configs.json."""
    return [list(draw.config_id), dict(draw.configuration), dict(draw.info)]


def result_line(result: Result) -> list[Any]:
    """A line of results.json."""
    times = {"submitted": result.submitted, "started": result.started, "finished": result.finished}
    value = None if result.loss is None else {"loss": result.loss, "info": dict(result.info)}
    return [list(result.config_id), result.budget, times, value, result.exception]


def parse_draw(line: Any) -> Draw:
    """The inverse of `draw_line`; raises ValueError, TypeError or KeyError on another form."""
    config_id, configuration, info = line
    if int(info.get("results_seen", 0)) < 0:
        raise ValueError("results_seen is negative")
    return Draw(_config_id(config_id), dict(configuration), dict(info))


def parse_result(line: Any) -> Result:
    """The inverse of `result_line`; raises ValueError, TypeError or KeyError on another form."""
    config_id, budget, times, value, exception = line
    return Result(
        config_id=_config_id(config_id),
        budget=float(budget),
        submitted=float(times["submitted"]),
        started=float(times["started"]),
        finished=float(times["finished"]),
        loss=None if value is None else float(value["loss"]),
        info={} if value is None else dict(value["info"]),
        exception=exception,
    )


def parse_event(line: Any) -> dict[str, Any]:
    """A line of journal.jsonl; raises ValueError, TypeError or KeyError on another form."""
    event = with_present_names(dict(line))
    missing = [name for name in ("time", *JOURNAL_EVENTS.get(event["event"], ())) if name not in event]
    if missing:
        raise ValueError(f"event {event['event']} lacks {', '.join(missing)}")
    return event


def read_history(folder: RunFolder, wait_s: float = 5.0) -> History:
    """Read configs.json and results.json of a run, going on or ended; a run that has drawn nothing yet is empty.

    Raises:
        RunError: a line is damaged; the text names file and line.
    """
    # Results first: every result's configuration was durable before it, so none is missing from the draws.
    results = _read(folder.results, parse_result, wait_s)
    return History(tuple(_read(folder.configs, parse_draw, wait_s)), tuple(results))


def read_journal(folder: RunFolder, wait_s: float = 5.0) -> list[dict[str, Any]]:
    """The journal's events, oldest first.

    Raises:
        RunError: a line is damaged, or of a version that wrote other fields; the text names file and line.
    """
    return _read(folder.journal, parse_event, wait_s)


def _read(path: Path, parse: Any, wait_s: float) -> list[Any]:
    if not is_there(path):
        return []
    parsed = []
    for number, line in enumerate(read_fresh(path, read_json_lines, wait_s), start=1):
        try:
            parsed.append(parse(line))
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{path}, line {number} does not have the form of such a line ({error!r})") from None
    return parsed


def _config_id(parts: Any) -> ConfigId:
    iteration, stage, index = parts
    return int(iteration), int(stage), int(index)
