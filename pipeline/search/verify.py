"""Derive every proposal and promotion of a run again from its files, and say where they differ."""

from __future__ import annotations

import math

from pipeline.records import Configuration, Value, config_name
from pipeline.run.folder import RunFolder
from pipeline.run.history import Draw, Result, read_history
from pipeline.search.replay import replay_order
from pipeline.search.search import Search
from pipeline.settings import Settings, load_settings

# Another processor may round the last digit of an exponential differently.
RELATIVE = 1e-9


def verify(folder: RunFolder, settings: Settings | None = None) -> list[str]:
    """Where a run's files differ from what its settings and results imply; empty: nowhere.

    Args:
        settings: default: those in the run folder.

    Raises:
        RunError, SettingsError: the files cannot be read.
    """
    search = Search(settings or load_settings(folder.settings))
    differences: list[str] = []
    seen = 0
    for event in replay_order(read_history(folder)):
        name = config_name(event.config_id)
        try:
            if isinstance(event, Result):
                search.absorb(event)
                continue
            claimed = event.info.get("results_seen")
            if not isinstance(claimed, int) or claimed < seen:
                differences.append(f"{name}: had seen {claimed} results, an earlier draw {seen}")
            seen = search.results_seen
            if claimed != seen:
                differences.append(f"{name}: had seen {claimed} results; results.json has {seen} of them")
            differences.extend(f"{name}: {d}" for d in _proposal_differences(search, event))
            search.take_in(event)
        except ValueError as error:
            kind = "result" if isinstance(event, Result) else "draw"
            on = f" on budget {event.budget:g}" if isinstance(event, Result) else ""
            differences.append(f"{name}: the {kind}{on} does not follow: {error}")
    return differences


def _proposal_differences(search: Search, draw: Draw) -> list[str]:
    budget = float(draw.info.get("budget", math.nan))
    derived = search.propose(draw.config_id, budget)
    found = [
        f"{key} is {draw.info.get(key)!r}, derived: {derived.info[key]!r}"
        for key in ("model_based_pick", "model_budget")
        if draw.info.get(key) != derived.info[key]
    ]
    return found + _configuration_differences(draw.configuration, derived.configuration)


def _configuration_differences(stored: Configuration, derived: Configuration) -> list[str]:
    return [
        f"{name} is {stored.get(name)!r}, derived: {derived.get(name)!r}"
        for name in sorted({*stored, *derived})
        if not _same(stored.get(name), derived.get(name))
    ]


def _same(stored: Value, derived: Value) -> bool:
    if isinstance(stored, float) and isinstance(derived, float):
        return math.isclose(stored, derived, rel_tol=RELATIVE)
    return stored == derived
