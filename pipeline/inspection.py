"""What is known of one configuration of a run, and what its processes have logged."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.files import is_there
from pipeline.problems.description import describe
from pipeline.records import ConfigId, budget_text, config_name, parse_config_name
from pipeline.run.creation import read_settings
from pipeline.run.folder import RunFolder
from pipeline.run.history import Draw, History, Result, devices_joined, read_history, read_journal
from pipeline.run.status_view import duration, sparkline
from pipeline.storage.curves import read_attempt
from pipeline.wording import counted, value_text
from tandem_trial.problem import Metric

FOLLOW_S = 0.5


@dataclass(frozen=True)
class ShownConfiguration:
    """A configuration with all that became of it.

    Attributes:
        results: one per budget that it ended on.
        returns: the journal's "returned" events of its attempts, in order.
        metric: what the search is about.
        curves: its values by (budget, attempt), without those that were not measured; an attempt whose file could not
            be read is missing.
        traceback: the last one that was logged, where an attempt failed; empty if there is none.
    """

    draw: Draw
    results: tuple[Result, ...]
    returns: tuple[dict[str, Any], ...]
    metric: Metric
    budget_unit: str
    curves: dict[tuple[float, int], tuple[float, ...]]
    traceback: tuple[str, ...] = ()


def show_configuration(folder: RunFolder, name: str) -> ShownConfiguration:
    """Everything about a configuration.

    Raises:
        RunError: there is none of this name, or the run's files are damaged.
    """
    history = read_history(folder)
    draw = _known(history, folder, name)
    config_id = draw.config_id
    journal = read_journal(folder)
    returns = [e for e in journal if e["event"] == "returned" and tuple(e["config_id"]) == config_id]
    results = tuple(r for r in history.results if r.config_id == config_id)
    settings = read_settings(folder)
    metric = describe(settings, devices_joined(journal)).metric
    failed = any(r.loss is None for r in results) or any(e["outcome"] in ("crashed", "broken") for e in returns)
    traceback = last_traceback(ConfigurationLog(folder, name).new_lines()) if failed else []
    curves = _curves(folder, config_id, metric.name)
    return ShownConfiguration(
        draw, results, tuple(returns), metric, settings.search.budget_unit, curves, tuple(traceback)
    )


def _known(history: History, folder: RunFolder, name: str) -> Draw:
    """The draw of a configuration; raises RunError where there is none of this name."""
    config_id = _parse(name)
    draw = next((d for d in history.draws if d.config_id == config_id), None)
    if draw is None:
        last = config_name(history.draws[-1].config_id) if history.draws else "none yet"
        raise RunError(
            f"Run {folder.run_id} has no configuration {name!r} (iteration-stage-index); the last is {last}."
        )
    return draw


def is_configuration(name: str) -> bool:
    """Whether a name has the form of a configuration's id."""
    return _parse(name) is not None


def _parse(name: str) -> ConfigId | None:
    try:
        return parse_config_name(name)
    except ValueError:
        return None


def _curves(folder: RunFolder, config_id: ConfigId, column: str) -> dict[tuple[float, int], tuple[float, ...]]:
    curves = {}
    for path in sorted((folder.attempts / config_name(config_id)).glob("*.h5")):
        try:
            _, budget, attempt = folder.parse_attempt(path)
            _, rows, _ = read_attempt(path)
        except RunError:
            continue
        values = [float(v) for v in rows.get(column, ())]
        curves[budget, attempt] = tuple(v for v in values if v == v)
    return dict(sorted(curves.items()))


def configuration_lines(shown: ShownConfiguration) -> list[str]:
    """A configuration as a person reads it."""
    info, metric, unit = shown.draw.info, shown.metric, shown.budget_unit
    origin = "proposed by the model" if info.get("model_based_pick") else "drawn at random"
    seen = counted(info.get("results_seen", 0), "result")
    lines = [f"Configuration {config_name(shown.draw.config_id)}, {origin} after {seen}"]
    width = max((len(name) for name in shown.draw.configuration), default=0)
    lines += [f"  {name.ljust(width)}  {value_text(value, 6)}" for name, value in shown.draw.configuration.items()]
    for result in shown.results:
        end = (
            f"crashed, {result.exception}"
            if result.loss is None
            else f"{metric.title} {metric.text(metric.of_loss(result.loss))}"
        )
        took = duration(result.finished - result.started)
        lines.append(
            f"On {budget_text(result.budget, unit)}: {end} (attempt {result.info.get('attempt', '?')}, {took})"
        )
    for (budget, attempt), values in shown.curves.items():
        if values:
            ends = f"{metric.text(values[0])} {sparkline(values)} {metric.text(values[-1])}"
            lines.append(f"Curve on {budget_text(budget, unit)}, attempt {attempt}: {ends}")
    for event in shown.returns:
        if event["outcome"] != "finished":
            lines.append(
                f"Attempt {event['attempt']} on {budget_text(event['budget'], unit)}, "
                f"{event['worker']} on {event['host']}: " + ", ".join(filter(None, (event["outcome"], event["reason"])))
            )
    return lines + [f"  {line}" for line in shown.traceback]


def configuration_data(shown: ShownConfiguration) -> dict[str, Any]:
    """A configuration as JSON."""
    return {
        "config_id": list(shown.draw.config_id),
        "configuration": dict(shown.draw.configuration),
        "config_info": dict(shown.draw.info),
        "results": [
            {"budget": r.budget, "loss": r.loss, "exception": r.exception, "started": r.started, "finished": r.finished}
            for r in shown.results
        ],
        "returns": list(shown.returns),
        "curves": [
            {"budget": b, "attempt": a, "metric": shown.metric.name, "values": list(v)}
            for (b, a), v in shown.curves.items()
        ],
        "traceback": list(shown.traceback),
    }


# Logs ----------------------------------------------------------------------------------------------------------------
def log_path(folder: RunFolder, name: str | None) -> Path:
    """The log of a worker, or (None) of the master.

    Raises:
        RunError: there is none; the text names those that are there.
    """
    path = folder.master_log if name is None else folder.worker_log(name)
    if not is_there(path):
        known = sorted(p.stem.removeprefix("worker-") for p in folder.logs.glob("worker-*.log"))
        raise RunError(f"{path} is not there (yet). Workers with a log: {', '.join(known) or 'none'}.")
    return path


def follow(path: Path) -> Iterator[str]:
    """The lines of a growing file, those that are there first; goes on until nobody asks any more."""
    with path.open(encoding="utf-8", errors="replace") as file:
        rest = ""
        while True:
            text = file.readline()
            if not text:
                time.sleep(FOLLOW_S)
                continue
            rest += text
            if rest.endswith("\n"):
                yield rest.rstrip("\n")
                rest = ""


class ConfigurationLog:
    """What is logged while workers are at a configuration: their own lines, and what an objective of one's own prints.

    Raises:
        RunError: there is no such configuration.
    """

    def __init__(self, folder: RunFolder, name: str) -> None:
        self._folder = folder
        self._begins = f"evaluation {_known(read_history(folder), folder, name).config_id} on "
        self._read_to: dict[Path, int] = {}
        self._inside: set[Path] = set()

    def new_lines(self) -> list[str]:
        """Whole lines that were added since the last call, each after the name of its worker."""
        paths = sorted(self._folder.logs.glob("worker-*.log")) + sorted(self._folder.logs.glob("output-*.log"))
        return [f"{path.stem.partition('-')[2]}: {line}" for path in paths for line in self._new_lines(path)]

    def _new_lines(self, path: Path) -> Iterator[str]:
        with path.open("rb") as file:
            file.seek(self._read_to.get(path, 0))
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read_to[path] = self._read_to.get(path, 0) + len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            if _BEGINS.search(line) or " leaving: " in line:
                self._inside -= {path}
                self._inside |= {path} if self._begins in line else set()
            if path in self._inside:
                yield line


# A worker begins an evaluation, and so begins the share of its objective's output.
_BEGINS = re.compile(r"(^---|: ) ?evaluation \(\d+, \d+, \d+\) on ")


def configuration_log(folder: RunFolder, name: str) -> list[str]:
    """All of a `ConfigurationLog` up to now.

    Raises:
        RunError: there is no such configuration, or no worker has logged anything about it.
    """
    found = ConfigurationLog(folder, name).new_lines()
    if not found:
        raise RunError(f"No worker has logged anything about {name} in {folder.logs}.")
    return found


def follow_configuration(folder: RunFolder, name: str) -> Iterator[str]:
    """The lines of a `ConfigurationLog` as they come; goes on until nobody asks any more."""
    log = ConfigurationLog(folder, name)
    while True:
        yield from log.new_lines()
        time.sleep(FOLLOW_S)


def last_traceback(lines: Sequence[str]) -> list[str]:
    """The last traceback among the lines of a `ConfigurationLog`, without the name of its worker; [] if there is none.

    It ends before the next line that a log begins with a date, or another process's.
    """
    starts = [number for number, line in enumerate(lines) if line.partition(": ")[2].startswith("Traceback (")]
    if not starts:
        return []
    worker = lines[starts[-1]].partition(": ")[0]
    found: list[str] = []
    for line in lines[starts[-1] :]:
        name, _, text = line.partition(": ")
        if name != worker or _DATED.match(text) or text.startswith("---"):
            break
        found.append(text)
    return found


_DATED = re.compile(r"\d{4}-\d\d-\d\d ")
