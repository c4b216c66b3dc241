"""Derive every proposal and promotion of a run again from its files, and say where they differ."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from pipeline.records import Configuration, Value, config_name
from pipeline.run.folder import RunFolder
from pipeline.run.history import Draw, History, Result, read_history, read_journal
from pipeline.search.proposers import Proposal
from pipeline.search.replay import replay_order, take_as_promoted, underivable
from pipeline.search.search import Search
from pipeline.settings import Settings, load_settings

# Another processor may round the last digit of an exponential differently.
RELATIVE = 1e-9
# A model that climbs to the best configuration turns such a digit into another configuration, whose merit (a logarithm)
# is the same up to this much.
AS_GOOD = 0.01


def verify(folder: RunFolder, settings: Settings | None = None) -> list[str]:
    """Where a run's files differ from what its settings and results imply; empty: nowhere.

    Draws that had seen results which are lost (`replay.underivable`) are taken as they are.

    Args:
        settings: default: those in the run folder.

    Raises:
        RunError, SettingsError: the files cannot be read.
    """
    history = read_history(folder)
    search = Search(settings or load_settings(folder.settings), earlier=history.earlier)
    take_as_promoted(search, history)
    for decides in search.decides_by_model:
        decides.examines = True
    beyond = underivable(history, read_journal(folder))
    differences = list(_doubles(history))
    seen = 0
    for event in replay_order(history):
        name = config_name(event.config_id)
        try:
            if isinstance(event, Result):
                search.absorb(event)
                continue
            if event.config_id in beyond:
                search.take_in(event, may_be_early=True)
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
    return differences + [doubt for decides in search.decides_by_model for doubt in decides.doubts]


def _doubles(history: History) -> Iterator[str]:
    for draw, count in Counter(draw.config_id for draw in history.draws).items():
        if count > 1:
            yield f"{config_name(draw)}: the draw does not follow: it is there {count} times, and the first counts"
    for (config_id, budget), count in Counter((r.config_id, r.budget) for r in history.results).items():
        if count > 1:
            where = f"{config_name(config_id)}: the result on budget {budget:g}"
            yield f"{where} does not follow: it is there {count} times, and the first counts"


def _proposal_differences(search: Search, draw: Draw) -> list[str]:
    budget = float(draw.info.get("budget", math.nan))
    derived = search.plan(draw.config_id, budget)()
    expected = {"model_based_pick": derived.model_budget is not None, "model_budget": derived.model_budget}
    found = [
        f"{key} is {draw.info.get(key)!r}, derived: {value!r}"
        for key, value in expected.items()
        if draw.info.get(key) != value
    ]
    if not found and _is_as_good(draw.configuration, derived):
        return []
    return found + _configuration_differences(draw.configuration, derived.configuration)


def _is_as_good(stored: Configuration, derived: Proposal) -> bool:
    """Whether a model that looked for the best configuration holds the stored one to be as good as the derived one."""
    if derived.merit is None:
        return False
    return derived.merit(stored) >= derived.merit(derived.configuration) - AS_GOOD


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
