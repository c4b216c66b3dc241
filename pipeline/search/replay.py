"""Replay a run's draws and results: rebuild the search from its history, as it stood."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.errors import RunError
from pipeline.records import config_name
from pipeline.run.history import Draw, History, Result
from pipeline.search.search import Search
from pipeline.settings import Settings

log = logging.getLogger("tandem.search")


def replay_order(history: History) -> Sequence[Draw | Result]:
    """Draws and results interleaved as they happened: a draw came after the results that it had seen."""
    events: list[Draw | Result] = []
    absorbed = 0
    for draw in history.draws:
        seen = int(draw.info.get("results_seen", 0))
        events.extend(history.results[absorbed:seen])
        absorbed = max(absorbed, min(seen, len(history.results)))
        events.append(draw)
    events.extend(history.results[absorbed:])
    return events


def lost_results(history: History) -> int:
    """Results that draws had seen and the file does not hold (any more)."""
    seen = max((int(d.info.get("results_seen", 0)) for d in history.draws), default=0)
    return max(0, seen - len(history.results))


def rebuild(settings: Settings, history: History) -> Search:
    """The search as its files say it stood: every bracket, promotion and observation.

    Raises:
        RunError: the files do not fit together or not to the settings; the text says which line.
    """
    if lost := lost_results(history):
        log.warning("results.json has lost %d of its last lines; those evaluations are run again", lost)
    search = Search(settings)
    draws = results = 0
    for event in replay_order(history):
        try:
            if isinstance(event, Draw):
                draws += 1
                search.take_in(event)
                continue
            results += 1
            if (event.config_id, event.budget) in search.accepted:
                # The first result wins. (Two masters in the same instant could leave a second line.)
                search.results_seen += 1
                continue
            search.absorb(event)
        except (ValueError, TypeError) as error:
            file, line = ("configs.json", draws) if isinstance(event, Draw) else ("results.json", results)
            raise RunError(
                f"{file}, line {line} ({config_name(event.config_id)}) does not fit the run: {error}. The files were "
                f"edited, or the settings changed since; `tandem verify` lists every difference."
            ) from None
    return search
