"""What a person wants to know before a search: how long with how many workers, and when the model begins."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from pipeline.planning.costs import SearchCost, search_cost
from pipeline.planning.disk import DiskNeed, disk_need
from pipeline.planning.simulation import Site, Timeline, simulate
from pipeline.problems.freezing import read_problem
from pipeline.problems.space import build_space
from pipeline.search.methods import make_proposer
from pipeline.search.proposers import Proposer, RandomProposer
from pipeline.settings import Settings

# Workers are worth having while this share of their time is spent at evaluations.
WORTHWHILE = 0.8
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# Results after which a model that has not begun is not waited for any longer, and draws that are tried after each.
MOST_OBSERVATIONS = 500
TRIES = 12
# Building the model, the last validation and the checkpoints; the data stays on the device. Searches with budgets of
# less than a minute have small models and data.
USUAL_OVERHEAD_S = 15.0
SMALL_OVERHEAD_S = 1.0


@dataclass(frozen=True)
class Staffing:
    """A search with so many workers.

    Attributes:
        wall: from its start to its last result, in budget units.
        utilisation: share of the workers' time in which they are at an evaluation.
    """

    workers: int
    wall: float
    utilisation: float


@dataclass(frozen=True)
class Advice:
    """All that is said of a search before it starts; times in budget units.

    Attributes:
        site: with the workers that the settings ask for.
        timeline: the search there.
        staffing: the same search with other numbers of workers, ascending.
        worthwhile: the most workers tried of whose time `WORTHWHILE` is spent at evaluations.
        observations: results on one budget that the model needs; None: the method has no model.
        disk: what lies on disk.
        model_from: evaluations that have ended when the model can first propose; None: it never can.
    """

    settings: Settings
    cost: SearchCost
    site: Site
    timeline: Timeline
    staffing: tuple[Staffing, ...]
    worthwhile: int
    observations: int | None
    model_from: int | None
    disk: DiskNeed


def site_of(settings: Settings, workers: int, overhead: float, absence: float) -> Site:
    """Where the search of these settings would run. Only budgets in seconds know time limits.

    Args:
        overhead: of an evaluation, in budget units.
        absence: from a job's end until the worker is back, in seconds.
    """
    if settings.search.budget_unit != "seconds" or settings.workers.where == "local":
        return Site(workers, overhead)
    return Site(workers, overhead, 60.0 * settings.slurm.walltime_min, settings.workers.handback_margin_s, absence)


def overhead_of(settings: Settings, overhead: float | None) -> float:
    """The overhead of an evaluation in budget units; None: what is usual, which only budgets in seconds know."""
    if overhead is not None:
        return overhead
    if settings.search.budget_unit != "seconds":
        return 0.0
    return USUAL_OVERHEAD_S if settings.search.min_budget >= 60 else SMALL_OVERHEAD_S


def advise(settings: Settings, workers: int, overhead: float, absence: float) -> Advice:
    """Everything about the search of these settings; see `site_of`.

    Raises:
        SettingsError: no search can end there.
    """
    site = site_of(settings, workers, overhead, absence)
    timeline = simulate(settings, site)
    staffing = _staffing(settings, timeline, site)
    enough = [s.workers for s in staffing if round(s.utilisation, 2) >= WORTHWHILE]
    observations = model_observations(settings)
    cost = search_cost(settings)
    return Advice(
        settings=settings,
        cost=cost,
        site=site,
        timeline=timeline,
        staffing=staffing,
        worthwhile=max(enough, default=1),
        observations=observations,
        model_from=None if observations is None else _reached(timeline, observations),
        disk=disk_need(settings, cost, timeline),
    )


def _staffing(settings: Settings, timeline: Timeline, site: Site) -> tuple[Staffing, ...]:
    found = [Staffing(site.workers, timeline.wall, timeline.utilisation)]
    for workers in COUNTS:
        if workers != site.workers:
            other = simulate(settings, Site(workers, site.overhead, site.allocation, site.margin, site.absence))
            found.append(Staffing(workers, other.wall, other.utilisation))
            if other.utilisation < WORTHWHILE / 2 and workers > site.workers:
                break
    return tuple(sorted(found, key=lambda s: s.workers))


def _reached(timeline: Timeline, observations: int) -> int | None:
    """How many evaluations have ended when one budget has so many results."""
    seen: Counter[float] = Counter()
    for number, (_, budget) in enumerate(timeline.finished, start=1):
        seen[budget] += 1
        if seen[budget] >= observations:
            return number
    return None


def model_observations(settings: Settings) -> int | None:
    """Results on one budget after which the method's model proposes; None: it has none, or needs too many.

    The proposer itself is asked: it is given results of configurations drawn at random until it proposes by model.
    """
    space = build_space(read_problem(settings))
    proposer, random = make_proposer(settings, space), RandomProposer(space, settings.seed)
    if isinstance(proposer, RandomProposer):
        return None
    for number in range(1, MOST_OBSERVATIONS + 1):
        config_id = (number, 0, 0)
        configuration = random.propose(config_id).configuration
        proposer.absorb(config_id, configuration, settings.search.max_budget, math.sin(number))
        if _proposes_by_model(proposer, number, settings.search.max_budget):
            return number
    return None


def _proposes_by_model(proposer: Proposer, number: int, budget: float) -> bool:
    """A share of the draws is random whatever is known, so that a few are tried."""
    tries = (proposer.plan((number, 0, i), budget, [])() for i in range(1, TRIES + 1))
    return any(proposal.model_budget is not None for proposal in tries)
