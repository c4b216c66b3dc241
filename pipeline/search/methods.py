"""The proposer of each `search.method`.

A further method is a class with the methods of `Proposer`, a line here and a name in `SearchSettings.method`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ConfigSpace import ConfigurationSpace

from pipeline.records import ConfigId
from pipeline.search.bohb import BohbProposer
from pipeline.search.brackets import bracket_shape
from pipeline.search.encoding import Encoding
from pipeline.search.gp import GpProposer
from pipeline.search.objectives import Objectives
from pipeline.search.priors import ExpertPriors
from pipeline.search.proposers import GivenFirst, Proposer, RandomProposer
from pipeline.search.scalarisation import RandomScalarisation
from pipeline.settings import Settings, budget_ladder


def make_proposer(settings: Settings, space: ConfigurationSpace, objectives: Objectives | None = None) -> Proposer:
    """The proposer that the settings ask for.

    Args:
        objectives: where they are several: what a model proposes for; None: there is one.

    Raises:
        SettingsError: an expert's value, or one to be tried first, does not lie in the space.
    """
    search = settings.search
    priors = ExpertPriors(Encoding(space), search.priors) if search.priors else None
    makers: Mapping[str, Callable[[], Proposer]] = {
        "bohb": lambda: BohbProposer(space, settings, priors),
        "gp": lambda: GpProposer(space, settings, priors),
        "hyperband": lambda: RandomProposer(space, settings.seed, priors),
        "random": lambda: RandomProposer(space, settings.seed, priors),
    }
    make = makers[search.method]
    is_model = search.method in ("bohb", "gp")
    proposer = RandomScalarisation(make, objectives, settings.seed) if objectives and is_model else make()
    if not search.try_first:
        return proposer
    first = GivenFirst(proposer, space, settings.seed, dict(zip(_first_ids(settings), search.try_first, strict=False)))
    first.check()
    return first


def _first_ids(settings: Settings) -> Iterator[ConfigId]:
    """The config_ids of a search's draws, in their order while nothing crashes."""
    ladder = budget_ladder(settings.search)
    for iteration in range(settings.search.iterations):
        of = 0 if settings.search.scheduler == "asha" else iteration
        for index in range(bracket_shape(ladder, settings.search.eta, of)[0][0]):
            yield iteration, 0, index
