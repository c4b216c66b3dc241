"""What is known of one configuration of a run, and what its processes have logged."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.files import is_there
from pipeline.problems.description import describe
from pipeline.records import ConfigId, budget_name, config_name, parse_config_name
from pipeline.run.creation import read_settings
from pipeline.run.folder import RunFolder
from pipeline.run.history import Draw, Result, devices_joined, read_history, read_journal
from pipeline.run.status_view import duration
from pipeline.storage.curves import read_attempt
from pipeline.wording import counted
from tandem_trial.problem import Metric

BARS = "▁▂▃▄▅▆▇█"
SPARKS = 40
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
    """

    draw: Draw
    results: tuple[Result, ...]
    returns: tuple[dict[str, Any], ...]
    metric: Metric
    curves: dict[tuple[float, int], tuple[float, ...]]


def show_configuration(folder: RunFolder, name: str) -> ShownConfiguration:
    """Everything about a configuration.

    Raises:
        RunError: there is none of this name, or the run's files are damaged.
    """
    history = read_history(folder)
    config_id = _parse(name)
    draw = next((d for d in history.draws if d.config_id == config_id), None)
    if config_id is None or draw is None:
        last = config_name(history.draws[-1].config_id) if history.draws else "none yet"
        raise RunError(
            f"Run {folder.run_id} has no configuration {name!r} (iteration-stage-index); the last is {last}."
        )
    journal = read_journal(folder)
    returns = [e for e in journal if e["event"] == "returned" and tuple(e["config_id"]) == config_id]
    results = tuple(r for r in history.results if r.config_id == config_id)
    metric = describe(read_settings(folder), devices_joined(journal)).metric
    return ShownConfiguration(draw, results, tuple(returns), metric, _curves(folder, config_id, metric.name))


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
    info, metric = shown.draw.info, shown.metric
    origin = "proposed by the model" if info.get("model_based_pick") else "drawn at random"
    seen = counted(info.get("results_seen", 0), "result")
    lines = [f"Configuration {config_name(shown.draw.config_id)}, {origin} after {seen}"]
    width = max((len(name) for name in shown.draw.configuration), default=0)
    lines += [f"  {name.ljust(width)}  {_value(value)}" for name, value in shown.draw.configuration.items()]
    for result in shown.results:
        end = (
            f"crashed, {result.exception}"
            if result.loss is None
            else f"{metric.title} {metric.text(metric.of_loss(result.loss))}"
        )
        took = duration(result.finished - result.started)
        lines.append(f"On {budget_name(result.budget)}: {end} (attempt {result.info.get('attempt', '?')}, {took})")
    for (budget, attempt), values in shown.curves.items():
        if values:
            ends = f"{metric.text(values[0])} {sparkline(values)} {metric.text(values[-1])}"
            lines.append(f"Curve on {budget_name(budget)}, attempt {attempt}: {ends}")
    for event in shown.returns:
        if event["outcome"] != "finished":
            lines.append(
                f"Attempt {event['attempt']} on {budget_name(event['budget'])}, {event['worker']} on {event['host']}: "
                + ", ".join(filter(None, (event["outcome"], event["reason"])))
            )
    return lines


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
    }


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def sparkline(values: tuple[float, ...]) -> str:
    """At most `SPARKS` bars, each as high as its value lies between the smallest and the largest."""
    shown = [values[i * len(values) // min(len(values), SPARKS)] for i in range(min(len(values), SPARKS))]
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((v - low) * scale)] for v in shown)


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


def configuration_log(folder: RunFolder, name: str) -> list[str]:
    """What workers have logged while they were at a configuration, each line after its worker's name.

    Raises:
        RunError: there is no such configuration, or no worker has logged anything about it.
    """
    shown = show_configuration(folder, name)
    begins = re.compile(rf"evaluation {re.escape(str(shown.draw.config_id))} on ")
    found = []
    for path in sorted(folder.logs.glob("worker-*.log")):
        is_inside = False
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if " evaluation (" in line or " leaving: " in line:
                is_inside = bool(begins.search(line))
            if is_inside:
                found.append(f"{path.stem.removeprefix('worker-')}: {line}")
    if not found:
        raise RunError(f"No worker has logged anything about {name} in {folder.logs}.")
    return found
