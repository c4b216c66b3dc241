"""The survivors of a rung where a model has a say in them (`search.promote_by: posterior` or `agreement`).

They follow from the results up to the one that completed the rung; without barriers, each from the results up to the
one that promoted it. On another machine, whose last digits differ, two configurations that are expected to be about as
good may change places. So whoever rebuilds a search from its files takes what they show to have been promoted, and
`verify` holds it to what the model expects, up to `AS_GOOD`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence, Set

from pipeline.records import ConfigId, EvaluationKey, config_name
from pipeline.search.brackets import ConfigGroup
from pipeline.search.proposers import Proposer

# Under `agreement`: a budget whose learnt correlation with the largest is below this misleads.
LEAST_AGREEMENT = 0.5
# What another machine may make of the same results: of expected losses, in standard deviations, and of correlations.
AS_GOOD = 0.01


class ModelDecision:
    """What a model decides of the configurations of a rung, unless the run's files show how it was decided.

    Args:
        proposer: the model, which has taken in all results of the rung.
        groups: the brackets, or what stands in their place, that have begun.

    Attributes:
        known: evaluations that the run's files have: their configurations were promoted so far.
        examines: whether the model is asked even where those tell.
        doubts: where they differ from the model, found by asking it.
    """

    def __init__(self, proposer: Proposer, groups: Callable[[], Sequence[ConfigGroup]]) -> None:
        self._proposer, self._groups = proposer, groups
        self.known: Set[EvaluationKey] = frozenset()
        self.examines = False
        self.doubts: list[str] = []


class ModelRanking(ModelDecision):
    """Ranks the configurations of a rung: by what the model expects of them on the largest budget, or by their
    losses while it expects nothing.

    Args:
        trusts_agreement: losses decide, too, where the model has learnt that the budget agrees with the largest.
    """

    def __init__(self, proposer: Proposer, groups: Callable[[], Sequence[ConfigGroup]], trusts_agreement: bool) -> None:
        super().__init__(proposer, groups)
        self._trusts_agreement = trusts_agreement
        # What, on another machine, may have been the best of those that waited.
        self._as_good: set[EvaluationKey] = set()

    def __call__(self, config_ids: Sequence[ConfigId], budget: float) -> list[ConfigId]:
        """As `brackets.Ranking`."""
        if not config_ids:
            return []
        bracket = self._groups()[config_ids[0][0]]
        above = bracket.budgets.index(budget) + 1
        places, budget_above = bracket.num_configs[above], bracket.budgets[above]
        promoted = {c for c in config_ids if (c, budget_above) in self.known}
        if len(promoted) >= places and not self.examines:
            return sorted(promoted)
        losses = {c: float(bracket.data[c].results[budget]["loss"]) for c in config_ids}
        merits, tolerance = self._merits(losses, budget)
        derived = sorted(config_ids, key=lambda c: (merits[c], c))
        order = sorted(derived, key=lambda c: c not in promoted)
        self._examine(order[:places], derived[:places], merits, tolerance, budget_above)
        return order

    def best_waiting(self, losses: Mapping[ConfigId, float], budget: float) -> ConfigId:
        """The best of the configurations that wait on a rung, by their losses there; see `asha.ModelRung`."""
        merits, tolerance = self._merits(losses, budget)
        best = min(merits, key=lambda c: (merits[c], c))
        if self.examines and tolerance:
            self._as_good.update((c, budget) for c, merit in merits.items() if merit <= merits[best] + tolerance)
        return best

    def was_promoted(self, config_id: ConfigId, budget: float, above: float) -> bool:
        """Whether the run's files show that a configuration was promoted, though it still waits here on a budget."""
        if (config_id, above) not in self.known:
            return False
        if self.examines and (config_id, budget) not in self._as_good:
            self.doubts.append(f"{config_name(config_id)}: was promoted to budget {above:g}; derived: not by then")
        return True

    def _merits(self, losses: Mapping[ConfigId, float], budget: float) -> tuple[Mapping[ConfigId, float], float]:
        """By what configurations are ranked, less is better, and how much of it another machine may see otherwise."""
        groups = self._groups()
        expected = self._proposer.expected([groups[c[0]].data[c].config for c in losses], budget)
        if expected is None:
            return losses, 0.0
        by_model = dict(zip(losses, expected.losses.tolist(), strict=True))
        if not self._trusts_agreement:
            return by_model, AS_GOOD
        lacking = LEAST_AGREEMENT - expected.agreement
        if abs(lacking) < AS_GOOD:
            return (by_model if lacking > 0 else losses), math.inf
        return (by_model, AS_GOOD) if lacking > 0 else (losses, 0.0)

    def _examine(
        self, kept: Collection[ConfigId], derived: Sequence[ConfigId], merits: Mapping[ConfigId, float],
        tolerance: float, budget: float,
    ) -> None:  # fmt: skip
        """Note the survivors that are worse than the worst that should have been one."""
        for config_id in sorted(set(kept) - set(derived)):
            if not tolerance or merits[config_id] > merits[derived[-1]] + tolerance:
                instead = ", ".join(config_name(c) for c in sorted(set(derived) - set(kept)))
                self.doubts.append(f"{config_name(config_id)}: was promoted to budget {budget:g}, derived: {instead}")
