"""Replay a run's draws and results: rebuild the search from its history, as it stood."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.errors import RunError
from pipeline.records import ConfigId, config_name
from pipeline.run.history import Draw, History, Result
from pipeline.search.proposers import Proposer
from pipeline.search.search import Search
from pipeline.settings import Settings

log = logging.getLogger("tandem.search")


def replay_order(history: History) -> Sequence[Draw | Result]:
    """Draws and results interleaved as they happened.

    A draw came after the results that it had seen, before the draws after it, and before its own results. The last two
    hold even where a disk has lost results and others have taken their places: `results_seen` of the draws before then
    counts lines that are gone. Of two draws with the same config_id (two masters in the same instant) the first counts.
    """
    events: list[Draw | Result] = []
    absorbed = 0
    drawn: set[ConfigId] = set()
    for draw, position in zip(history.draws, _positions(history), strict=True):
        events.extend(history.results[absorbed:position])
        absorbed = position
        if draw.config_id not in drawn:
            events.append(draw)
        drawn.add(draw.config_id)
    events.extend(history.results[absorbed:])
    return events


def _positions(history: History) -> list[int]:
    """How many of the results came before each draw: not more than a later draw had seen, nor any of its own."""
    first = {result.config_id: n for n, result in reversed(list(enumerate(history.results)))}
    position = len(history.results)
    positions = []
    for draw in reversed(history.draws):
        position = min(position, results_seen(draw), first.get(draw.config_id, position))
        positions.append(position)
    return positions[::-1]


def results_seen(draw: Draw) -> int:
    """Lines of results.json that were taken in when it was drawn, by its own account."""
    return draw.info.get("results_seen", 0)


def lost_results(history: History) -> int:
    """Results that draws had seen and the file does not hold (any more)."""
    return max(0, max(map(results_seen, history.draws), default=0) - len(history.results))


def underivable(history: History, journal: Iterable[Mapping[str, Any]]) -> set[ConfigId]:
    """Draws that nobody can derive again: they had seen results that the disk has lost, as the journal says."""
    losses = [(event["draws"], event["results"]) for event in journal if event["event"] == "results_lost"]
    return {
        draw.config_id
        for number, draw in enumerate(history.draws)
        if any(number < draws and results_seen(draw) > results for draws, results in losses)
    }


def rebuild(settings: Settings, history: History, proposer: Proposer | None = None) -> Search:
    """The search as its files say it stood: every bracket, promotion and observation.

    Args:
        proposer: instead of the settings' own, for whom nothing hangs on what is drawn next.

    Raises:
        RunError: the files do not fit together or not to the settings; the text says which line.
    """
    if lost := lost_results(history):
        log.warning("results.json has lost %d of its last lines; those evaluations are run again", lost)
    drawn = {draw.config_id for draw in history.draws}
    for number, result in enumerate(history.results, start=1):
        if result.config_id not in drawn:
            raise RunError(
                f"configs.json lacks the draw of {config_name(result.config_id)}, which line {number} of results.json "
                f"is about: it has lost lines. Restore it from a backup; `tandem collect-results` works as it is."
            )
    search = Search(settings, proposer, history.earlier)
    take_as_promoted(search, history)
    for event in replay_order(history):
        try:
            if isinstance(event, Draw):
                search.take_in(event, may_be_early=True)
            else:
                search.absorb(event)
        except (ValueError, TypeError) as error:
            raise RunError(
                f"{_line_of(event, history)} ({config_name(event.config_id)}) does not fit the run: {error}. The files "
                f"were edited, or the settings changed since; `tandem verify` lists every difference."
            ) from None
    return search


def take_as_promoted(search: Search, history: History) -> None:
    """Where a model decides who survives a rung: believe what results on the next budget show of it."""
    for decides in search.decides_by_model:
        decides.known = frozenset((result.config_id, result.budget) for result in history.results)


def _line_of(event: Draw | Result, history: History) -> str:
    file, lines = ("configs.json", history.draws) if isinstance(event, Draw) else ("results.json", history.results)
    return f"{file}, line {next(n for n, line in enumerate(lines, start=1) if line is event)}"
