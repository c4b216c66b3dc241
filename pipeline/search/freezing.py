"""Survivors of a rung that are not trained on, because a model holds them to be hopeless (`search.freeze_below`).

The idea of freeze-thaw (Swersky et al. 2014), by rungs: what is decided is not whether a training goes on to its next
epoch but whether it goes on to its next budget. Nothing is thawed: a rung is decided once, when it is complete.

As in `model_ranking`: whoever rebuilds a search believes what its files show, and `verify` asks the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from pipeline.records import ConfigId, config_name
from pipeline.search.brackets import ConfigGroup
from pipeline.search.model_ranking import ModelDecision
from pipeline.search.proposers import Proposer

# What another machine may make of the same results: of a chance.
AS_LIKELY = 0.01


class HopelessFrozen(ModelDecision):
    """Finds the survivors whose chance of beating the incumbent on the largest budget is too small.

    Args:
        least_chance: of those that are trained on.
    """

    def __init__(self, proposer: Proposer, groups: Callable[[], Sequence[ConfigGroup]], least_chance: float) -> None:
        super().__init__(proposer, groups)
        self._least_chance = least_chance

    def __call__(self, survivors: Sequence[ConfigId], budget: float) -> Set[ConfigId]:
        """As `brackets.Freezing`."""
        if not survivors:
            return frozenset()
        bracket = self._groups()[survivors[0][0]]
        above = bracket.budgets[bracket.budgets.index(budget) + 1]
        trained_on = {c for c in survivors if (c, above) in self.known}
        open_cases = set(survivors) - trained_on
        is_told = not open_cases or self._is_over(bracket, above)
        if is_told and not self.examines:
            return open_cases
        expected = self._proposer.expected([bracket.data[c].config for c in survivors], budget)
        if expected is None:
            chances = dict.fromkeys(survivors, 1.0)
        else:
            chances = dict(zip(survivors, expected.chances.tolist(), strict=True))
        self._examine(trained_on, open_cases if is_told else set(), chances, above)
        return open_cases if is_told else {c for c in open_cases if chances[c] < self._least_chance}

    def _is_over(self, bracket: ConfigGroup, budget: float) -> bool:
        """Whether the files have a result of this bracket on a higher budget: then no other one comes on this."""
        higher = [b for b in bracket.budgets if b > budget]
        return any((config_id, b) in self.known for config_id in bracket.data for b in higher)

    def _examine(
        self, trained_on: Set[ConfigId], frozen: Set[ConfigId], chances: dict[ConfigId, float], above: float
    ) -> None:
        for config_id in sorted(trained_on):
            if chances[config_id] < self._least_chance - AS_LIKELY:
                self.doubts.append(f"{config_name(config_id)}: was promoted to budget {above:g}, derived: frozen")
        for config_id in sorted(frozen):
            if chances[config_id] >= self._least_chance + AS_LIKELY:
                self.doubts.append(f"{config_name(config_id)}: was frozen, derived: promoted to budget {above:g}")
