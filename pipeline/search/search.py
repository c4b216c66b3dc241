"""The search itself, without processes and files: brackets, the proposer, and what is to be evaluated next.

It takes the place of hpbandster's Master, which mixes this with threads. The master, `rebuild` and `verify` share it,
so that a search that is resumed or checked goes through the same code as one that runs.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from pipeline.problems.space import build_space
from pipeline.records import ConfigId, Configuration, Evaluation, EvaluationKey, LowerRung, derive_seed
from pipeline.run.history import DRAW_KEYS, Draw, DrawInfo, Result
from pipeline.search.brackets import Bracket, bracket_shape
from pipeline.search.methods import make_proposer
from pipeline.search.proposers import Proposer
from pipeline.settings import Settings, budget_ladder

log = logging.getLogger("tandem.search")


@dataclass(frozen=True)
class Accepted:
    """The accepted result of an evaluation.

    Attributes:
        loss: None when it crashed.
        attempt: the attempt that delivered it; 0 when unknown.
        training_s: budget clock at its end, lower rungs included where it continued; 0 when unknown.
    """

    loss: float | None
    attempt: int
    training_s: float


class Search:
    """Which evaluation is next, and what a result means.

    Attributes:
        proposer: proposes configurations.
        results_seen: lines of results.json that were taken in.
        iterations: brackets that have begun.
        draws: configurations drawn, in order.
        accepted: results by (config_id, budget).
        incumbents: the best configuration and its loss, by budget; ties go to the smaller config_id.
        model_based: draws that a model proposed.
        trained_s: training seconds of all accepted results, each second once.
    """

    def __init__(self, settings: Settings, proposer: Proposer | None = None) -> None:
        self.settings = settings
        self.ladder = budget_ladder(settings.search)
        self.proposer = proposer or make_proposer(settings, build_space(settings))
        self.results_seen = 0
        self.iterations: list[Bracket] = []
        self.draws: list[Draw] = []
        self.accepted: dict[EvaluationKey, Accepted] = {}
        self.incumbents: dict[float, tuple[ConfigId, float]] = {}
        self.model_based = 0
        self.trained_s = 0.0
        self._open: list[Bracket] = []
        self._new_draws: list[Draw] = []

    # Going on ----------------------------------------------------------------------------------------------------
    def next_evaluation(self, may_draw: bool = True) -> tuple[ConfigId, Configuration, float] | None:
        """The next evaluation to run, drawing a configuration if need be; None: wait for results, or done."""
        while True:
            self._open = [b for b in self._open if not b.is_finished]
            for bracket in self._open:
                run = bracket.get_next_run() if may_draw else bracket.next_queued()
                if run is not None:
                    config_id, configuration, budget = run
                    return config_id, configuration, float(budget)
            if not may_draw or len(self.iterations) >= self.settings.search.iterations:
                return None
            self._begin_bracket()

    def take_new_draws(self) -> list[Draw]:
        """Configurations drawn since the last call: they must be on disk before they are dispatched."""
        new, self._new_draws = self._new_draws, []
        return new

    def absorb(self, result: Result) -> None:
        """Take in a result, in the order of results.json; of two of the same evaluation the first one counts.

        Raises:
            ValueError: the search does not wait for this evaluation.
        """
        if (result.config_id, result.budget) in self.accepted:
            self.results_seen += 1  # two masters in the same instant could leave a second line
            return
        bracket = self._bracket_of(result.config_id)
        bracket.add_result(result.config_id, result.budget, result.loss)
        configuration = bracket.data[result.config_id].config
        self.proposer.absorb(result.config_id, configuration, result.budget, result.loss)
        self.results_seen += 1
        attempt, training_s = result.info.get("attempt") or 0, result.info.get("training_s") or 0.0
        accepted = Accepted(result.loss, int(attempt), float(training_s))
        self.accepted[result.config_id, result.budget] = accepted
        lower = self._lower_rung(result.config_id, result.budget)
        inherited = self.accepted[result.config_id, lower.budget].training_s if lower else 0.0
        self.trained_s += max(0.0, accepted.training_s - inherited)
        self._consider(result)
        bracket.promote_when_complete()

    def evaluation(self, config_id: ConfigId, configuration: Configuration, budget: float, attempt: int) -> Evaluation:
        """What a worker must know of one attempt."""
        return Evaluation(
            config_id=config_id,
            configuration=configuration,
            budget=budget,
            attempt=attempt,
            seed=derive_seed(self.settings.seed, "evaluation", *config_id),
            continues=self._lower_rung(config_id, budget),
            is_largest=budget == self.ladder[-1],
        )

    def propose(self, config_id: ConfigId, budget: float) -> Draw:
        """The draw of a config_id on its first budget, given the results taken in so far; nothing remembers it."""
        proposal = self.proposer.propose(config_id, budget)
        info: DrawInfo = {
            "model_based_pick": proposal.model_budget is not None,
            "budget": budget,
            "results_seen": self.results_seen,
            "model_budget": proposal.model_budget,
            "drawn": time.time(),
        }
        return Draw(config_id, proposal.configuration, info)

    # State -------------------------------------------------------------------------------------------------------
    @property
    def is_done(self) -> bool:
        """Whether every bracket has ended."""
        return len(self.iterations) >= self.settings.search.iterations and all(b.is_finished for b in self.iterations)

    def open_brackets(self) -> list[Bracket]:
        """Brackets that have begun and not ended."""
        return [b for b in self._open if not b.is_finished]

    def outstanding(self) -> list[tuple[ConfigId, Configuration, float]]:
        """Evaluations that have been scheduled and have no result, oldest bracket first."""
        return [entry for bracket in self.open_brackets() for entry in bracket.outstanding()]

    def most_parallel(self, limit: int) -> int:
        """How many evaluations may run side by side from now on, at most `limit`: more workers are of no use."""
        count = sum(b.most_parallel() for b in self.open_brackets())
        for iteration in range(len(self.iterations), self.settings.search.iterations):
            if count >= limit:
                break
            count += bracket_shape(self.ladder, self.settings.search.eta, iteration)[0][0]
        return min(count, limit)

    # Inside ------------------------------------------------------------------------------------------------------
    def _begin_bracket(self) -> None:
        number = len(self.iterations)
        counts, budgets = bracket_shape(self.ladder, self.settings.search.eta, number)
        bracket = Bracket(number, counts, budgets, self._draw)
        self.iterations.append(bracket)
        self._open.append(bracket)

    def _draw(self, config_id: ConfigId, budget: float) -> Draw:
        draw = self.propose(config_id, budget)
        self._note(draw)
        self._new_draws.append(draw)
        return draw

    def _consider(self, result: Result) -> None:
        best = self.incumbents.get(result.budget)
        if result.loss is not None and (best is None or (result.loss, result.config_id) < (best[1], best[0])):
            self.incumbents[result.budget] = result.config_id, result.loss

    def _note(self, draw: Draw) -> None:
        self.draws.append(draw)
        self.model_based += bool(draw.info["model_based_pick"])

    def _bracket_of(self, config_id: ConfigId) -> Bracket:
        if not 0 <= config_id[0] < len(self.iterations):
            raise ValueError(f"bracket {config_id[0]} has not begun")
        return self.iterations[config_id[0]]

    def _lower_rung(self, config_id: ConfigId, budget: float) -> LowerRung | None:
        if self.settings.search.promotion != "continue":
            return None
        below = [b for b in self.ladder if b < budget and (config_id, b) in self.accepted]
        return LowerRung(below[-1], self.accepted[config_id, below[-1]].attempt) if below else None

    # Rebuilding --------------------------------------------------------------------------------------------------
    def take_in(self, draw: Draw) -> None:
        """Take in a configuration that was drawn before.

        Raises:
            ValueError: the search would not have drawn this config_id now, or the line lacks what this version writes.
        """
        missing = [k for k in DRAW_KEYS if k not in draw.info]
        if missing:
            raise ValueError(f"its config_info lacks {', '.join(missing)}: another version wrote it")
        if draw.config_id[0] >= self.settings.search.iterations:
            raise ValueError(f"the run has {self.settings.search.iterations} brackets only")
        while len(self.iterations) <= draw.config_id[0]:
            self._begin_bracket()
        bracket = self.iterations[draw.config_id[0]]
        bracket.add_drawn(draw.config_id, draw.configuration, draw.info)
        if draw.info["budget"] != bracket.data[draw.config_id].budget:
            raise ValueError(f"it was drawn for budget {draw.info['budget']:g}, which is not that rung's")
        self._note(draw)
