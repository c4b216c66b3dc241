"""What a search knows, as typed records: hpbandster's configs.json and results.json, and the journal beside them.

configs.json   [config_id, configuration, config_info]; config_info: `DRAW_KEYS`
results.json   [config_id, budget, {submitted, started, finished}, {loss, info} or null, null or "kind: reason"]
journal.jsonl  {"time", "event", ...}; events and their fields: `JOURNAL_EVENTS`

hpbandster's own loader is strict: extras live only inside info and config_info, a crashed evaluation is a null
result, and losses are finite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Required

from annotated_types import Len
from pydantic import BeforeValidator, ConfigDict, with_config
from typing_extensions import TypedDict

from pipeline.bounds import (
    BudgetNumber,
    Count,
    Flag,
    Name,
    Number,
    Reason,
    Seconds,
    Time,
    aside,
    checked,
    within_bounds,
)
from pipeline.errors import RunError
from pipeline.files import is_absent, read_fresh
from pipeline.records import INFO_KINDS, ConfigId, Configuration, measured_values, parse_config_name
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
    # What a master found when it started: so many draws had seen more results than the so many lines that are left.
    "results_lost": ("draws", "results"),
    "workers_requested": ("count",),
}


@with_config(ConfigDict(extra="allow"))
class DrawInfo(TypedDict, total=False):
    """A draw's config_info: `DRAW_KEYS`, as far as the version that wrote it knew them."""

    model_based_pick: Flag
    budget: BudgetNumber
    results_seen: Count
    model_budget: BudgetNumber | None
    drawn: Time


@dataclass(frozen=True)
class Draw:
    """A configuration that was drawn."""

    config_id: ConfigId
    configuration: Configuration
    info: DrawInfo


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
    budget: BudgetNumber
    submitted: Time
    started: Time
    finished: Time
    loss: Number | None
    info: Mapping[str, Any]
    exception: Reason | None


@dataclass(frozen=True)
class EarlierResult:
    """A result of the run that this one starts from; a loss of None is a crash. `info`: its measured values."""

    configuration: Configuration
    budget: float
    loss: float | None
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """All draws and results of a run, in the order in which they became durable; and what it started from."""

    draws: tuple[Draw, ...]
    results: tuple[Result, ...]
    earlier: tuple[EarlierResult, ...] = ()

    def as_earlier(self, metrics: Sequence[str] = ()) -> list[list[Any]]:
        """The lines of a run that starts from this one: its results, after those it started from itself.

        Args:
            metrics: measured values that the run needs besides the loss.
        """
        configurations = {draw.config_id: draw.configuration for draw in self.draws}
        own = (EarlierResult(configurations[r.config_id], r.budget, r.loss, r.info) for r in self.results)
        return [
            [dict(e.configuration), e.budget, e.loss, *([measured_values(e.info, metrics)] if metrics else [])]
            for e in (*self.earlier, *own)
        ]


def _list_of_parts(config_id: Any) -> Any:
    """An earlier version wrote `3-0-7`."""
    return list(parse_config_name(config_id)) if isinstance(config_id, str) else config_id


@with_config(ConfigDict(extra="allow"))
class _JournalFields(TypedDict, total=False):
    """The fields of the journal's events, whichever has them."""

    time: Required[Time]
    event: Required[Name]
    term: Count
    host: Name
    pid: Count
    address: Name
    reason: Reason
    worker: Name
    slurm_job_id: Name
    device: Name
    config_id: Annotated[list[Count], BeforeValidator(_list_of_parts), Len(3, 3)]
    budget: BudgetNumber
    attempt: Count
    outcome: Name
    progressed: Flag | None
    lost_s: Seconds | None
    count: Count
    draws: Count
    results: Count


def draw_line(draw: Draw) -> list[Any]:
    """A line of configs.json; raises `BoundsError` where a reader would refuse it."""
    draw = within_bounds(draw)
    return [list(draw.config_id), dict(draw.configuration), dict(draw.info)]


def result_line(result: Result) -> list[Any]:
    """A line of results.json; raises `BoundsError` where a reader would refuse it."""
    result = within_bounds(result)
    times = {"submitted": result.submitted, "started": result.started, "finished": result.finished}
    value = None if result.loss is None else {"loss": result.loss, "info": aside(result.info, INFO_KINDS)}
    return [list(result.config_id), result.budget, times, value, result.exception]


def event_line(event: Mapping[str, Any]) -> dict[str, Any]:
    """A line of journal.jsonl; raises `BoundsError` where a reader would refuse it."""
    return dict(checked(_JournalFields, event))


def parse_draw(line: Any) -> Draw:
    """The inverse of `draw_line`; raises ValueError or TypeError on another form."""
    config_id, configuration, info = line
    return checked(Draw, {"config_id": config_id, "configuration": configuration, "info": info})


def parse_result(line: Any) -> Result:
    """The inverse of `result_line`; raises ValueError, TypeError or KeyError on another form."""
    config_id, budget, times, value, exception = line
    return checked(
        Result,
        {
            "config_id": config_id,
            "budget": budget,
            "submitted": times["submitted"],
            "started": times["started"],
            "finished": times["finished"],
            "loss": None if value is None else value["loss"],
            "info": {} if value is None else aside(value["info"], INFO_KINDS),
            "exception": exception,
        },
    )


def parse_earlier(line: Any) -> EarlierResult:
    """A line of earlier.json; raises ValueError, TypeError or KeyError on another form."""
    configuration, budget, loss, *measured = line
    return EarlierResult(
        checked(Configuration, configuration),
        checked(BudgetNumber, budget),
        checked(Number | None, loss),
        *(checked(Mapping[Name, Number], each) for each in measured),
    )


def parse_event(line: Any) -> dict[str, Any]:
    """A line of journal.jsonl; raises ValueError, TypeError or KeyError on another form."""
    event = event_line(with_present_names(dict(line)))
    missing = [name for name in JOURNAL_EVENTS.get(event["event"], ()) if name not in event]
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
    draws = _read(folder.configs, parse_draw, wait_s)
    return History(tuple(draws), tuple(results), tuple(_read(folder.earlier, parse_earlier, wait_s)))


def read_journal(folder: RunFolder, wait_s: float = 5.0) -> list[dict[str, Any]]:
    """The journal's events, oldest first.

    Raises:
        RunError: a line is damaged, or of a version that wrote other fields; the text names file and line.
    """
    return _read(folder.journal, parse_event, wait_s)


def devices_joined(journal: Iterable[Mapping[str, Any]]) -> set[str]:
    """What the workers that have joined said of their devices."""
    return {str(event.get("device", "")) for event in journal if event.get("event") == "worker_joined"}


def _read(path: Path, parse: Any, wait_s: float) -> list[Any]:
    if read_fresh(path, is_absent, wait_s):
        return []
    parsed = []
    for number, line in enumerate(read_fresh(path, read_json_lines, wait_s), start=1):
        try:
            parsed.append(parse(line))
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(
                f"{path}, line {number} does not have the form of such a line ({_said(error)}): the file was edited, "
                f"or the disk is damaged. Restore it from a backup."
            ) from None
    return parsed


def _said(error: Exception) -> str:
    """What an error says, also one of Python's own that names a key alone."""
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
