"""The proposer of each `search.method`.

A further method is a class with the methods of `Proposer`, a line here and a name in `SearchSettings.method`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ConfigSpace import ConfigurationSpace

from pipeline.search.bohb import BohbProposer
from pipeline.search.gp import GpProposer
from pipeline.search.proposers import Proposer, RandomProposer
from pipeline.settings import Settings


def make_proposer(settings: Settings, space: ConfigurationSpace) -> Proposer:
    """The proposer that `search.method` asks for."""
    makers: Mapping[str, Callable[[], Proposer]] = {
        "bohb": lambda: BohbProposer(space, settings),
        "gp": lambda: GpProposer(space, settings),
        "hyperband": lambda: RandomProposer(space, settings.seed),
        "random": lambda: RandomProposer(space, settings.seed),
    }
    return makers[settings.search.method]()
